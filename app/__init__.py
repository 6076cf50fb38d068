"""The web process: pages and REST over the database; it never loads a model."""
