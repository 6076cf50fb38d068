"""Labels and tags: written by people, given to many features at once, as files."""
