"""Tools of runs that several processes share: they are found by name where the workers are."""

import os
import signal
from pathlib import Path

from aurora_swarm import Tool


@Tool.define(effect="idempotent")
def look_up(key: str) -> str:
    """Look something up; one that is told to kills its process."""
    if key.startswith("poison"):
        os.kill(os.getpid(), signal.SIGKILL)
    log = os.environ.get("LOOKED_UP")
    if log:
        with Path(log).open("a") as file:
            file.write(f"{os.getpid()} {key}\n")
    return f"found {key}"
