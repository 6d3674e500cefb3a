"""``python -m aurora_swarm`` is the same as ``aurora-swarm``."""

import sys

from aurora_swarm.cli import main

if __name__ == "__main__":
    sys.exit(main())
