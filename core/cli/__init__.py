"""The ``sparsight`` command: starts the processes, submits harvests, watches jobs."""
