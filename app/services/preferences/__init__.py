"""Preference sets: uploads, their rows, and the features that tell chosen from rejected."""
