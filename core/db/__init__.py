"""The database: tables, bulk loading, and the only SQL of the product."""
