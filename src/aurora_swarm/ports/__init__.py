"""What we need of the world: one Protocol per file, its contract in the docstring."""
