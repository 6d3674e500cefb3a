"""The command line: parse, call, print; one file per command.

Start-up is light: a command imports what it works with when it runs.
"""

from aurora_swarm.cli.app import main

__all__ = ["main"]
