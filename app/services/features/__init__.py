"""Models, SAEs and features: found, read and exported."""
