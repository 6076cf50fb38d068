"""Explain, simulate and score: records in, messages out; answers in, values out."""
