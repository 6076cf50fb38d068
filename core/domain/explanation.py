"""Explanations and their scores."""

Number = float | int
"""A real number as a caller may write it; 2 is as good as 2.0."""
