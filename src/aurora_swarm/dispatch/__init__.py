"""Who asks whom, and when."""
