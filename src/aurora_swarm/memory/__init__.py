"""What agents share: texts with vectors, found by their meaning.

`memory.open.open_store` opens a store by URL.
"""
