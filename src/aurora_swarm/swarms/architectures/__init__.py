"""Ways for agents to work on one task: each a short module on the patterns, with the roles by name."""
