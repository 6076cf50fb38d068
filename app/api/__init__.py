"""The REST API under /api/v1: thin translations of the services to JSON."""
