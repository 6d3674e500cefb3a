"""One copy of a worker in a process of its own: ``python -m aurora_swarm.engines.worker package.module:function``.

The argument is the first line of standard input, as JSON: a command line can be read by everybody on the machine. The
parent keeps the other end open: when it closes, by will or by death, this process and all that it started end at once.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import select
import signal
import sys
import threading
from collections.abc import Coroutine
from pathlib import Path
from types import FrameType
from typing import Any

from aurora_swarm.engines.calling import found
from aurora_swarm.errors import AuroraSwarmError, EngineError, UsageError

OF_NO_USE = 78
"""Exit code where beginning it again is of no use; the last line that was said tells why."""

_LOOK_S = 1.0


def main() -> int:
    """Read the argument, work, and end with the parent.

    SIGTERM cancels a worker that is a coroutine function, so that it gives back what it holds; any other one is ended.
    """
    parent = os.getppid()
    argument = json.loads(sys.stdin.buffer.readline())
    guard = os.dup(0)
    with Path(os.devnull).open("rb") as nothing:  # what the worker starts must not hold or read the pipe
        os.dup2(nothing.fileno(), 0)
    threading.Thread(target=_end_with, args=(parent, guard), daemon=True).start()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        work = found(sys.argv[1])(argument)
        if inspect.iscoroutine(work):
            asyncio.run(_until_terminated(work))
    except AuroraSwarmError as error:
        print(f"{error}{'; ' if error.remedy else ''}{error.remedy}", file=sys.stderr, flush=True)  # noqa: T201
        return OF_NO_USE if isinstance(error, (EngineError, UsageError)) else 1
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    return 0


async def _until_terminated(work: Coroutine[Any, Any, object]) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await work


def _terminate(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


def _end_with(parent: int, guard: int) -> None:
    """Wait for the end of the pipe, or for another parent: a process that was forked from it may hold the pipe open."""
    while os.getppid() == parent:
        readable, _, _ = select.select([guard], [], [], _LOOK_S)
        if readable and not os.read(guard, 4096):
            break
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
