"""What runs in an actor of Ray: a worker, and nothing that Ray would have to carry."""

from __future__ import annotations

import sys

from aurora_swarm.engines.calling import called


class RayWorker:
    """Calls a worker. What the worker writes goes to standard error: standard output is the results' own."""

    def __init__(self) -> None:
        sys.stdout = sys.stderr

    def work(self, function: str, argument: str) -> None:
        """Run a worker to its end; called again by Ray where the actor was restarted."""
        called(function, argument)
