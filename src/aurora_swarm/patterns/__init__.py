"""Many minds, one shape: how prompts and answers move through a fleet."""
