"""Jobs on PostgreSQL: submit, cancel, resume, and what follows when an attempt dies."""
