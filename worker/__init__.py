"""The process that runs models: capture, encode, harvest, explain, align."""
