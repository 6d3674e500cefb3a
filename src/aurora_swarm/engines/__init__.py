"""Where work runs: in this process, in several, or on a Ray cluster. Knows nothing of what the work is.

`engines.open.open_engine` opens an engine by name.
"""
