"""Features explained and explanations scored against stored endpoints, results into the tables."""
