"""What turns texts into vectors: one kind per file. `embedders.open.open_embedder` opens one by name."""
