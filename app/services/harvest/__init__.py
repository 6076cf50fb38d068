"""Harvests: what is asked for, what it will cost, what of it is wrong."""
