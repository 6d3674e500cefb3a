"""What runs in an actor of Ray: a worker, and nothing that Ray would have to carry."""

from __future__ import annotations

import os
import sys
import threading
import time

from aurora_swarm.engines.calling import called

_LOOK_S = 1.0


class RayWorker:
    """Calls a worker, and ends with the raylet that began it.

    Ray itself leaves a worker that is busy alive when its raylet is killed, for as long as its work lasts.

    What the worker writes goes to standard error: standard output is the results' own.
    """

    def __init__(self) -> None:
        sys.stdout = sys.stderr
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()

    def work(self, function: str, argument: str) -> None:
        """Run a worker to its end; called again by Ray where the actor was restarted."""
        called(function, argument)


def _end_with(raylet: int) -> None:
    while os.getppid() == raylet:
        time.sleep(_LOOK_S)
    os._exit(1)
