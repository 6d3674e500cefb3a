"""A tool that runs Python code of the model's. Off until somebody turns it on: ``PYTHON_EVAL.enabled()``."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from aurora_swarm.errors import ToolDefinitionError, ToolFailedError
from aurora_swarm.tools.confined import CANNOT_CONFINE
from aurora_swarm.tools.definition import Tool

_PROGRAM = (sys.executable, "-I", "-S", "-u", str(Path(__file__).with_name("confined.py")))
_PIECE = 65536
_WAITING_S = 300.0
_LEAST_MB = 64
_END_S = 2.0
_OFF = "python_eval is off, because it runs code that a model wrote"
_TURN_ON = "turn it on with Tool.python_eval.enabled(), and read its page in the documentation first"
_slots: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


class CodeArguments(BaseModel):
    """Parameters of ``python_eval``."""

    model_config = ConfigDict(extra="forbid")
    code: str = Field(description="The program; the value of its last line is shown.", max_length=20_000)


class Bounds(msgspec.Struct, frozen=True):
    """What the code may use.

    Args:
        cpu_s: Seconds of processor time.
        wall_s: Seconds from start to end.
        memory_bytes: Address space.
        max_output_bytes: What it may print; it is ended when it prints more.
        confine: Whether the kernel must keep it from files, network, and other processes. Where the kernel cannot,
            nothing is run.
    """

    cpu_s: int = 5
    wall_s: float = 10.0
    memory_bytes: int = 512 * 2**20
    max_output_bytes: int = 100_000
    confine: bool = True


class PythonEvalTool(Tool[..., Coroutine[Any, Any, str]]):
    """The tool; off unless it has bounds.

    Args:
        bounds: What the code may use; None for off.
        max_chars: Characters of its output that the model is shown.
    """

    def __init__(self, bounds: Bounds | None, max_chars: int = 10_000) -> None:
        self.bounds = bounds
        super().__init__(
            run_code,
            name="python_eval",
            description="Runs a Python program (standard library, no files, no network) and returns what it prints.",
            arguments=CodeArguments,
            # Behind its bounds it changes nothing; what it says may differ from time to time all the same.
            effect="idempotent" if bounds is not None and bounds.confine else "effect",
            timeout_s=(bounds.wall_s if bounds else 0.0) + _WAITING_S,
            max_chars=max_chars,
        )

    def enabled(
        self,
        *,
        cpu_s: int = 5,
        timeout: float = 10.0,
        memory_mb: int = 512,
        max_chars: int = 10_000,
        confine: bool = True,
    ) -> PythonEvalTool:
        """A copy that runs code.

        Args:
            cpu_s: Seconds of processor time per program.
            timeout: Seconds per program.
            memory_mb: Mebibytes of address space per program.
            max_chars: Characters of output that the model is shown.
            confine: Whether the kernel must keep programs from files, network and other processes (Linux with
                Landlock and seccomp). Without it only time, memory and output are bounded: for code that you would
                run yourself.

        Raises:
            ToolDefinitionError: A number is out of range, or the kernel of this machine cannot confine.
        """
        least = {"cpu_s": 1, "timeout": 0.1, "memory_mb": _LEAST_MB, "max_chars": 1}
        for name, value in (("cpu_s", cpu_s), ("timeout", timeout), ("memory_mb", memory_mb), ("max_chars", max_chars)):
            if not value >= least[name]:
                raise ToolDefinitionError(f"python_eval: {name} is {value}", remedy=f"give at least {least[name]}")
        bounds = Bounds(cpu_s, timeout, memory_mb * 2**20, max(4 * max_chars, 1), confine)
        _try_out(bounds)
        return PythonEvalTool(bounds, max_chars)

    def determinant(self) -> bytes:
        """What determines an answer; the bounds too.

        Raises:
            ToolDefinitionError: It is off.
        """
        if self.bounds is None:
            raise ToolDefinitionError(_OFF, remedy=_TURN_ON)
        return super().determinant() + msgspec.json.encode(self.bounds)

    def call_arguments(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the function is called with: the model's code, and the bounds."""
        return {**values, "bounds": self.bounds}


async def run_code(code: str, bounds: Bounds | None) -> str:
    """Run a program in a process of its own: no environment, an empty folder, its bounds.

    Not more programs run at a time than there are cores; further ones wait. Cancelling kills the program.

    Args:
        code: The program.
        bounds: What it may use; None runs nothing.

    Returns:
        What it printed, the value of its last line, and the traceback of what it raised.

    Raises:
        ToolFailedError: It is off, it reached a bound, or it cannot be confined here.
    """
    if bounds is None:
        raise ToolFailedError(_OFF, remedy=_TURN_ON)
    slots = _slots.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(os.cpu_count() or 1))
    async with slots:
        with tempfile.TemporaryDirectory(prefix="aurora-swarm-") as folder:
            return await _run_in(folder, code, bounds)


async def _run_in(folder: str, code: str, bounds: Bounds) -> str:
    process = await asyncio.create_subprocess_exec(
        *_PROGRAM,
        _told(bounds),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={},
        cwd=folder,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(bounds.wall_s):
            output = await _spoken_with(process, code, bounds.max_output_bytes)
            # What it left running in its group keeps the pipe open, and is not waited for.
            ended = await process.wait() if len(output) <= bounds.max_output_bytes else None
    except TimeoutError:
        raise ToolFailedError(f"it took longer than {bounds.wall_s:g} s") from None
    finally:
        await _killed(process)
    text = output[: bounds.max_output_bytes].decode(errors="replace")
    if ended is None:
        raise ToolFailedError(f"it printed more than {bounds.max_output_bytes} bytes; it began: {text[:200]}")
    if ended == CANNOT_CONFINE:
        raise ToolFailedError(f"this machine cannot confine it: {text.strip()}")
    if ended < 0:
        raise ToolFailedError(f"{_why(-ended, bounds)}; it printed: {text[:200]}")
    return text or "(it printed nothing)"


async def _spoken_with(process: asyncio.subprocess.Process, code: str, most: int) -> bytes:
    """Give the program its code, and take what it prints, up to one piece more than it may print."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(ConnectionError):
        process.stdin.write(code.encode("utf-8", "replace"))
        await process.stdin.drain()
    process.stdin.close()
    output = b""
    while len(output) <= most and (piece := await process.stdout.read(_PIECE)):
        output += piece
    return output


async def _killed(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    assert process.stdout is not None
    # Not for ever: what has left the group, which nothing but confinement prevents, may hold the pipe.
    with suppress(TimeoutError):
        async with asyncio.timeout(_END_S):
            while await process.stdout.read(_PIECE):
                pass
            await process.wait()


def _why(number: int, bounds: Bounds) -> str:
    if number in {signal.SIGXCPU, signal.SIGKILL}:
        return f"it was ended: it used more than {bounds.cpu_s} s of processor time"
    if number == signal.SIGXFSZ:
        return "it was ended: it wrote to a file"
    return f"it was ended ({signal.Signals(number).name})"


def _told(bounds: Bounds) -> str:
    return json.dumps({"cpu_s": bounds.cpu_s, "memory_bytes": bounds.memory_bytes, "confine": bounds.confine})


def _try_out(bounds: Bounds) -> None:
    """Run an empty program, so that what cannot work is known before a model is asked."""
    tried = subprocess.run(  # noqa: S603 - the same command as ever
        [*_PROGRAM, _told(bounds)], input=b"", env={}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    said = tried.stdout.decode(errors="replace").strip()
    if tried.returncode == CANNOT_CONFINE:
        raise ToolDefinitionError(
            f"python_eval: the kernel of this machine cannot confine programs: {said}",
            remedy="run it on Linux 5.13 or newer, or with confine=False for code that you would run yourself",
        )
    if tried.returncode != 0:
        last = said.splitlines()[-1] if said else f"exit code {tried.returncode}"
        raise ToolDefinitionError(f"python_eval: Python does not start within its bounds: {last}", remedy="give more")


PYTHON_EVAL = PythonEvalTool(None)
