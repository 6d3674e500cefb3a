"""What agents share: vector stores, embedders, and texts cut into passages."""
