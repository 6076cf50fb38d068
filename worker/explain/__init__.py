"""Runs of explanations: many features explained and scored, bounded, counted and resumable."""
