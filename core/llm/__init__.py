"""Any OpenAI-compatible endpoint: what it can do, requests, retries, budget, cache and ledger."""
