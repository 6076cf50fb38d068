"""Tables, one group a file."""
