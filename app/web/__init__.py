"""Pages: thin routes over services, templates, and what turns values into HTML."""
