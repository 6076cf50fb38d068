"""All queries: a session and plain values in, domain values out."""
