"""The training loop: optimizer, processes, checkpoints, metrics and evaluations."""
