"""Contrasts: features on chosen against rejected answers."""
