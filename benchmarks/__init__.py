"""Measurements of the product: each package is a command that prints a table."""
