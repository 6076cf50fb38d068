"""Explanations and scores: asked live or in runs, through endpoints."""
