"""Sparse autoencoders: loading from each format, encoding and decoding."""
