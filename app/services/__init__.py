"""What a person can do, once, for pages and JSON alike."""
