"""Drifts: what moved between an aligned model and its base."""
