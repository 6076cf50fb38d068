"""Foreign file formats on one side, domain values on the other."""
