"""Tools that reach the web, and what keeps them from reaching anything else."""
