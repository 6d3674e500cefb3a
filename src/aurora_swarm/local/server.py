"""An embedded server: a child process that serves one model and dies with its parent."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import deque
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from aurora_swarm.errors import ModelUnavailableError, UsageError
from aurora_swarm.values.endpoint import AgentEndpoint

_START_S = 60.0
_END_S = 1.0
_KEPT_LINES = 20


class LocalConfig(msgspec.Struct, frozen=True):
    """What to serve, and how.

    Args:
        model: The GGUF file.
        name: What the model is called.
        slots: Sequences at a time.
        context: Tokens of context per slot.
        threads: Threads that compute; None for all cores.
        port: TCP port on 127.0.0.1; 0 for a free one.
    """

    model: Path
    name: str
    slots: int = 4
    context: int = 2048
    threads: int | None = None
    port: int = 0


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
        self._log: deque[str] = deque(maxlen=_KEPT_LINES)
        self._reading: asyncio.Task[None] | None = None
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

    async def wait_dead(self) -> int:
        """Wait until the child has ended; its exit code."""
        assert self._process is not None
        return await self._process.wait()

    async def aclose(self) -> None:
        """End the child and wait until it is gone. May be called twice; cancelling still ends it."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), _END_S)
        except TimeoutError:
            process.kill()
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
            if self._reading is not None:
                self._reading.cancel()
                await asyncio.gather(self._reading, return_exceptions=True)

    async def _start(self) -> None:
        # A session of its own: Ctrl-C in a terminal reaches us, and we end the child in order.
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "aurora_swarm.local.child",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self._reading = asyncio.create_task(self._read_log(self._process))
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(self._as_line())
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), _START_S)
        except TimeoutError:
            raise self._failed(f"did not answer within {_START_S:g} s") from None
        self._endpoint = await self._understand(line)

    async def _understand(self, line: bytes) -> AgentEndpoint:
        told = json.loads(line) if line.strip() else {}
        if "address" not in told:
            await asyncio.sleep(0.1)
            raise self._failed(told.get("error") or "ended before it listened")
        _, _, port = told["address"].rpartition(":")
        return AgentEndpoint("127.0.0.1", int(port), {"model": self.config.name})

    def _as_line(self) -> bytes:
        config = self.config
        told = {
            "model": str(config.model),
            "name": config.name,
            "slots": config.slots,
            "context": config.context,
            "threads": config.threads or os.cpu_count() or 1,
            "port": config.port,
        }
        return json.dumps(told).encode() + b"\n"

    def _failed(self, why: str) -> ModelUnavailableError:
        log = "\n".join(self._log)
        if "bind" in log or "bind" in why:
            return ModelUnavailableError(
                f"port {self.config.port} on 127.0.0.1 is in use", remedy="give another port, or 0 for a free one"
            )
        last = next((line for line in reversed(self._log) if " E " in line), "")
        return ModelUnavailableError(
            f"{self.config.model}: the embedded server {why}" + (f" ({last.strip()[:200]})" if last else ""),
            remedy="check that the file is a whole GGUF model that llama.cpp knows",
        )

    async def _read_log(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while line := await process.stderr.readline():
            self._log.append(line.decode(errors="replace").rstrip())


async def start_servers(configs: list[LocalConfig], stack: AsyncExitStack) -> list[LocalServer]:
    """Start several servers at once; the stack ends them.

    Raises:
        ModelUnavailableError: One did not start; the others are ended by the stack.
    """
    servers = [LocalServer(config) for config in configs]
    started = await asyncio.gather(*(stack.enter_async_context(s) for s in servers), return_exceptions=True)
    for result in started:
        if isinstance(result, BaseException):
            raise result
    return servers
