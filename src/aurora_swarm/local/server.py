"""An embedded server: a child process that serves one model and dies with its parent."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from aurora_swarm.errors import ModelUnavailableError, UsageError
from aurora_swarm.values.endpoint import AgentEndpoint

_END_S = 1.0
_SPIN = "1000"
"""Turns for which llama.cpp's threads (GNU OpenMP) wait busily for each other. With the library's own number, two
threads on two cores that other processes used too took 9 to 46 s for what took one thread 6 s; with this one, 7 to 9.
"""
_KEPT_BYTES = 8192
_OTHER_PORT = "give another port, or 0 for a free one"


class LocalConfig(msgspec.Struct, frozen=True):
    """What to serve, and how.

    Args:
        model: The GGUF file.
        name: What the model is called.
        slots: Sequences at a time.
        context: Tokens of context per slot.
        threads: Threads that compute; None for all cores.
        port: TCP port on 127.0.0.1; 0 for a free one.
        start_timeout_s: Seconds that loading the model may take.
        embeddings: Whether it also makes vectors, each that of its text's last token.
    """

    model: Path
    name: str
    slots: int = 4
    context: int = 2048
    threads: int | None = None
    port: int = 0
    start_timeout_s: float = 60.0
    embeddings: bool = False


class LocalServer:
    """One embedded OpenAI-compatible server; use it as ``async with LocalServer(config) as server:``.

    The child ends when the context is left, and also when this process dies in whatever way.

    Args:
        config: What to serve.

    Raises:
        UsageError: A number is out of range.
    """

    def __init__(self, config: LocalConfig) -> None:
        for name in ("slots", "context"):
            if getattr(config, name) < 1:
                raise UsageError(f"{name} is {getattr(config, name)}", remedy=f"give {name} a value of at least 1")
        if not 0 <= config.port <= 65535:
            raise UsageError(f"port {config.port} is out of range", remedy="give a port from 1 to 65535, or 0 for any")
        self.config = config
        self._process: asyncio.subprocess.Process | None = None
        self._log = b""
        self._reading: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._endpoint: AgentEndpoint | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @property
    def endpoint(self) -> AgentEndpoint:
        """Where it listens.

        Raises:
            UsageError: It has not been started.
        """
        if self._endpoint is None:
            raise UsageError("the embedded server is not running", remedy="use: async with LocalServer(config)")
        return self._endpoint

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is a child."""
        return self._process.pid if self._process else None

    @property
    def alive(self) -> bool:
        """Whether the child runs."""
        return self._process is not None and self._process.returncode is None

    async def wait_dead(self) -> ModelUnavailableError:
        """Wait until the child has ended, by `aclose` or by itself.

        Returns:
            How it ended, as the error to show when nobody ended it on purpose.

        Raises:
            UsageError: It has not been started.
        """
        if self._process is None:
            raise UsageError("the embedded server is not running", remedy="use: async with LocalServer(config)")
        return self._failed(_how_it_ended(await self._process.wait()))

    async def aclose(self) -> None:
        """End the child and wait until it is gone. May be called twice; cancelling kills it at once."""
        if self._process is None:
            return
        if self._ending is None:
            self._ending = asyncio.create_task(self._end(self._process))
        try:
            await asyncio.shield(self._ending)
        except asyncio.CancelledError:
            if self.alive:
                self._process.kill()
            await asyncio.wait({self._ending})
            raise

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), _END_S)
        except TimeoutError:
            # It loads a model and lets no other thread run; it has nothing to tidy up.
            if process.returncode is None:
                process.kill()
            await process.wait()
        await self._end_of_log()

    async def _start(self) -> None:
        if problem := _problem_of(self.config.port):
            raise ModelUnavailableError(problem, remedy=_OTHER_PORT)
        # A session of its own: Ctrl-C in a terminal reaches us, and we end the child.
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "aurora_swarm.local.child",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            env={"GOMP_SPINCOUNT": _SPIN, **os.environ},
        )
        self._reading = asyncio.create_task(self._read_log(self._process))
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(self._as_line())
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), self.config.start_timeout_s)
        except TimeoutError:
            raise self._failed(f"did not answer within {self.config.start_timeout_s:g} s") from None
        self._endpoint = await self._understand(line, self._process)

    async def _understand(self, line: bytes, process: asyncio.subprocess.Process) -> AgentEndpoint:
        told = json.loads(line) if line.endswith(b"\n") else {}
        if "address" not in told:
            await self._end_of_log()
            raise self._failed(told.get("error") or _how_it_ended(await process.wait()))
        _, _, port = told["address"].rpartition(":")
        tags = {"model": self.config.name, "slots": str(self.config.slots)}
        return AgentEndpoint("127.0.0.1", int(port), tags)

    def _as_line(self) -> bytes:
        config = self.config
        told = {
            "model": str(config.model),
            "name": config.name,
            "slots": config.slots,
            "context": config.context,
            "threads": config.threads or _cores(),
            "port": config.port,
            "embeddings": config.embeddings,
        }
        return json.dumps(told).encode() + b"\n"

    def _failed(self, why: str) -> ModelUnavailableError:
        if not self.alive and (problem := _problem_of(self.config.port)):  # somebody was quicker
            return ModelUnavailableError(problem, remedy=_OTHER_PORT)
        log = self._log.decode(errors="replace")
        errors = [line.partition(" E ")[2].strip() for line in log.splitlines() if " E " in line]
        # The first error is the cause; llama.cpp then reports the same failure once per layer of its own.
        said = f" ({' '.join(errors[0].split())[:300]})" if errors else ""
        return ModelUnavailableError(
            f"{self.config.model}: the embedded server {why}{said}",
            remedy="check that the file is a whole GGUF model that llama.cpp knows, and that it fits into memory",
        )

    async def _read_log(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while chunk := await process.stderr.read(_KEPT_BYTES):
            self._log = (self._log + chunk)[-_KEPT_BYTES:]

    async def _end_of_log(self) -> None:
        """Read what the child said last; not for ever, since whoever inherited its pipe may live on."""
        if self._reading is not None:
            await asyncio.wait({self._reading}, timeout=_END_S)
            self._reading.cancel()
            await asyncio.wait({self._reading})


def _problem_of(port: int) -> str:
    """Why nobody can listen on this port of 127.0.0.1 now; empty where one can.

    Asked before the model is loaded, which takes seconds; and not read from the engine's log, which a thread of its own
    writes, so that the child may end before the line about the port is out.
    """
    with socket.socket() as probe:
        # Without it, connections that a server left a moment ago would count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
            return f"port {port} on 127.0.0.1 {why}"
    return ""


def _how_it_ended(code: int) -> str:
    return f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended (exit code {code})"


def _cores() -> int:
    """Cores that this process may use: a container or a batch system often grants fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


async def start_servers(configs: Sequence[LocalConfig], stack: AsyncExitStack) -> list[LocalServer]:
    """Start several servers at once; the stack ends them.

    Args:
        configs: What to serve. Those that leave the number of threads open share the cores evenly.
        stack: Owns the servers.

    Returns:
        The servers, in the order of `configs`.

    Raises:
        ModelUnavailableError: One did not start; the others are ended by the stack.
    """
    share = max(1, _cores() // max(1, len(configs)))
    servers = [LocalServer(msgspec.structs.replace(c, threads=c.threads or share)) for c in configs]
    started = await asyncio.gather(*(stack.enter_async_context(s) for s in servers), return_exceptions=True)
    for result in started:
        if isinstance(result, BaseException):
            raise result
    return servers
