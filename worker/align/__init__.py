"""Preference optimisation: losses, divergences, reference caches and the training process."""
