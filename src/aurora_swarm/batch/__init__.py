"""A list in, a list out."""
