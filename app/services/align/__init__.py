"""Alignment runs: what can be chosen, what is checked before a launch, what a run tells."""
