"""The journal and the shards of a run in Redis."""
