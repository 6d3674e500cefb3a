"""OpenCode as the runtime of coding agents: one process per agent, at a server of the fleet."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from aurora_swarm.agents.coding.change import CodeChange
from aurora_swarm.agents.coding.events import Progress
from aurora_swarm.agents.coding.workplace import Workplace, workplace
from aurora_swarm.errors import AgentError, AgentTimeoutError, UsageError
from aurora_swarm.values.outcome import AgentResult

_PROVIDER = "aurora"
_LONGEST_EVENT = 32_000_000
_KEPT_BYTES = 4096
_END_S = 2.0
_QUIET = {
    # It works where nothing but the model's server can be reached, and asks nobody else even where it could.
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
    "OPENCODE_DISABLE_SHARE": "1",
    "OPENCODE_PURE": "1",
    # What lies in the folder must not send the agent to another server, or allow it more.
    "OPENCODE_DISABLE_PROJECT_CONFIG": "1",
    "OPENCODE_DISABLE_CLAUDE_CODE": "1",
}


class _Server(msgspec.Struct, frozen=True):
    """Whom an agent asks."""

    url: str
    model: str
    api_key: str


class OpenCode:
    """Runs coding agents, each on a copy of a folder of its own.

    An agent reads and edits its copy; the original is never written to. It does not run commands and does not fetch
    pages unless it may. What it may not do is refused by OpenCode itself: an agent that runs commands has all the
    rights of the user who started it.

    Args:
        command: The program and its first words.
        folder: What the agents work on; None for an empty folder.
        leave_out: Patterns of names that are not copied.
        keep: Folder where the agents' copies stay, each in a folder of its own; None removes them.
        allow_commands: Whether agents may run commands.
        allow_web: Whether agents may fetch pages.
        context: Tokens of the model's context.
        max_tokens: Tokens of one turn's answer at most.
        env: Further environment variables; PATH and LANG are all that is inherited.

    Raises:
        UsageError: A value cannot be used.
    """

    def __init__(
        self,
        command: str | Sequence[str] = "opencode",
        *,
        folder: str | Path | None = None,
        leave_out: Sequence[str] = (".git",),
        keep: str | Path | None = None,
        allow_commands: bool = False,
        allow_web: bool = False,
        context: int = 32_768,
        max_tokens: int = 4096,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.command = (command,) if isinstance(command, str) else tuple(command)
        self.folder = None if folder is None else Path(folder).absolute()
        self.leave_out = tuple(leave_out)
        self.keep = None if keep is None else Path(keep).absolute()
        self.allow_commands = allow_commands
        self.allow_web = allow_web
        self.context = context
        self.max_tokens = max_tokens
        self.env = dict(env or {})
        self._check_values()

    def check(self) -> None:
        """Make sure that agents can be run, before any is.

        Raises:
            UsageError: A program or the folder is missing.
        """
        if shutil.which(self.command[0]) is None:
            raise UsageError(f"there is no program {self.command[0]}", remedy="npm install --global opencode-ai")
        if shutil.which("git") is None:
            raise UsageError("there is no program git", remedy="install it: it tells what an agent changed")
        for path in (self.folder, self.keep):
            if path is not None and not path.is_dir():
                raise UsageError(f"{path} is no folder", remedy="give a folder that exists")

    def determinant(self) -> bytes:
        """What of the runtime determines an agent's answer, as bytes for a content key; not the files' contents."""
        allowed = [self.allow_commands, self.allow_web]
        told = [self.command, str(self.folder), self.leave_out, allowed, self.context, self.max_tokens]
        return json.dumps(told).encode()

    async def run(
        self,
        task: str,
        *,
        endpoint_url: str,
        model: str,
        timeout_s: float = 1800.0,
        api_key: str = "",
        index: int = 0,
        key: str = "",
    ) -> AgentResult[CodeChange]:
        """Run one agent to its end.

        Args:
            task: What it is to do; sent unchanged.
            endpoint_url: An OpenAI-compatible server that calls tools by its own protocol.
            model: The model's name there.
            timeout_s: Seconds for the agent.
            api_key: For the server; empty where it wants none.
            index: Position of its input.
            key: Content key of its input.

        Returns:
            Its result; whatever fails is in it. Cancelling ends the process and all that it started, and is not
            swallowed.

        Raises:
            UsageError: As from `check`.
        """
        self.check()
        began = asyncio.get_running_loop().time()
        seen = Progress()
        change: CodeChange | None = None
        error: AgentError | None = None
        clock = asyncio.timeout(timeout_s)
        try:
            async with clock, workplace(self.folder, self.leave_out, self.keep) as place:
                await self._work(task, place, _Server(endpoint_url, model, api_key), seen)
                change = CodeChange(text=seen.text, diff=await place.diff())
        except AgentError as failed:
            error = failed
        except TimeoutError:
            if not clock.expired():
                raise
            problem = f"the coding agent took longer than {timeout_s:g} s"
            remedy = "allow more, and see whether its server answers: OpenCode asks a failing one without end"
            error = AgentTimeoutError(problem, remedy=remedy)
        return AgentResult(
            index=index,
            key=key,
            ok=change is not None,
            output=change,
            error=error,
            text=seen.text,
            attempts=seen.turns,
            turns=seen.turns,
            usage=seen.usage,
            tool_calls=seen.tool_calls,
            tools_executed=seen.tool_calls,
            latency_s=asyncio.get_running_loop().time() - began,
            endpoint=endpoint_url,
        )

    async def _work(self, task: str, place: Workplace, server: _Server, seen: Progress) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *self.command,
                # A title of our own, or the model would be asked for one.
                *("run", "--format", "json", "--title", "task", "--model", f"{_PROVIDER}/{server.model}"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=_LONGEST_EVENT,
                env=self._environment(place, server),
                cwd=place.folder,
                start_new_session=True,
            )
        except OSError as error:
            raise AgentError(f"{self.command[0]} cannot be started: {error.strerror or error}") from error
        try:
            said = await _followed(process, task, seen)
        finally:
            await _ended(process)
        if seen.failure or process.returncode != 0:
            why = seen.failure or said or f"exit code {process.returncode}"
            raise AgentError(f"the coding agent failed: {why}")
        if not seen.turns:
            raise AgentError(
                "the coding agent ended without a turn", remedy=f"see what it says: {said}" if said else ""
            )

    def _environment(self, place: Workplace, server: _Server) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        # The key goes where only processes of this user look, not on the command line.
        told = json.dumps(self._configuration(server))
        return inherited | _QUIET | {"HOME": str(place.home), "OPENCODE_CONFIG_CONTENT": told} | self.env

    def _configuration(self, server: _Server) -> dict[str, Any]:
        base = server.url.rstrip("/")
        model = f"{_PROVIDER}/{server.model}"
        commands, web = ("allow" if allowed else "deny" for allowed in (self.allow_commands, self.allow_web))
        return {
            "model": model,
            "small_model": model,
            "enabled_providers": [_PROVIDER],
            "share": "disabled",
            "autoupdate": False,
            "permission": {
                "edit": "allow",
                "bash": commands,
                "webfetch": web,
                "websearch": web,
                "external_directory": "deny",
            },
            "provider": {
                _PROVIDER: {
                    "npm": "@ai-sdk/openai-compatible",
                    "options": {
                        "baseURL": base if base.endswith("/v1") else f"{base}/v1",
                        "apiKey": server.api_key or "none",
                    },
                    "models": {server.model: {"limit": {"context": self.context, "output": self.max_tokens}}},
                }
            },
        }

    def _check_values(self) -> None:
        if not self.command or not self.command[0]:
            raise UsageError("OpenCode: command is empty", remedy="give the program, for example 'opencode'")
        for name in ("context", "max_tokens"):
            if getattr(self, name) < 1:
                raise UsageError(f"OpenCode: {name} is {getattr(self, name)}", remedy="give at least 1")


async def _followed(process: asyncio.subprocess.Process, task: str, seen: Progress) -> str:
    """Give it the task and see what it does, to its end; returns the last line of its complaints."""
    assert process.stdin is not None
    assert process.stdout is not None
    complaints = asyncio.create_task(_last_line(process))
    try:
        with suppress(ConnectionError):
            process.stdin.write(task.encode("utf-8", "replace"))
            await process.stdin.drain()
        process.stdin.close()
        while line := await process.stdout.readline():
            seen.see(line)
        await process.wait()
        return await complaints
    except ValueError as error:
        raise AgentError(f"the coding agent said more than {_LONGEST_EVENT} bytes at a time") from error
    finally:
        complaints.cancel()
        await asyncio.wait({complaints})


async def _last_line(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    kept = b""
    while piece := await process.stderr.read(_KEPT_BYTES):
        kept = (kept + piece)[-_KEPT_BYTES:]
    lines = kept.decode(errors="replace").strip().splitlines()
    return lines[-1].strip()[:500] if lines else ""


async def _ended(process: asyncio.subprocess.Process) -> None:
    """End it, and whatever it started in its group, at once; it has nothing to tidy up that we keep."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    # Not for ever: what has left the group may hold the pipes.
    with suppress(TimeoutError):
        async with asyncio.timeout(_END_S):
            for stream in (process.stdout, process.stderr):
                while stream is not None and await stream.read(2**16):
                    pass
            await process.wait()
