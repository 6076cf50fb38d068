"""Bodies of the API's answers and requests."""
