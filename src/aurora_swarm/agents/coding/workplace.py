"""A copy of a folder for one agent, and what the agent changed in it."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from aurora_swarm.errors import AgentError

_MAX_DIFF_BYTES = 20_000_000


class Workplace:
    """Where one agent works. Made by `workplace`.

    Attributes:
        folder: The agent's copy.
        home: Its home folder, empty at first.
    """

    def __init__(self, root: Path) -> None:
        self.folder = root / "work"
        self.home = root / "home"
        self._base = root / "base"
        self._tree = ""

    async def fill(self, source: Path | None, leave_out: Sequence[str]) -> None:
        """Copy the source, and note how it is.

        Raises:
            AgentError: It cannot be copied.
        """
        self.home.mkdir()
        try:
            await _copied(source, self.folder, leave_out)
        except (OSError, shutil.Error) as error:
            raise AgentError(f"{source} cannot be copied: {str(error)[:300]}") from error
        await self._git("init", "--quiet", "--bare", str(self._base), has_tree=False)
        self._tree = await self._recorded()

    async def diff(self) -> str:
        """What has changed since `fill`, as a patch; also files that a ``.gitignore`` names.

        Raises:
            AgentError: It is too large, or the folder cannot be read.
        """
        tree = await self._recorded()
        if tree == self._tree:
            return ""
        options = ("--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames")
        patch = await self._git("diff-tree", "-r", "-p", *options, self._tree, tree)
        if len(patch) > _MAX_DIFF_BYTES:
            raise AgentError(f"the agent changed {len(patch)} bytes", remedy=f"{_MAX_DIFF_BYTES} are the most")
        return patch.decode("utf-8", "replace")

    async def _recorded(self) -> str:
        await self._git("add", "--all", "--force", ".")
        return (await self._git("write-tree")).decode().strip()

    async def _git(self, *words: str, has_tree: bool = True) -> bytes:
        # Neither the user's configuration nor what the agent writes about git into its folder has a say here.
        env = {
            "PATH": os.environ.get("PATH", os.defpath),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "LC_ALL": "C",
        }
        if has_tree:
            env |= {"GIT_DIR": str(self._base), "GIT_WORK_TREE": str(self.folder)}
        process = await asyncio.create_subprocess_exec(
            "git",
            "-c",
            "core.autocrlf=false",
            "-c",
            "core.bare=false",
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=env,
            cwd=self.folder,
        )
        try:
            output, said = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            raise AgentError(f"git {words[0]} failed in the agent's folder: {said.decode(errors='replace')[:300]}")
        return output


async def _copied(source: Path | None, target: Path, leave_out: Sequence[str]) -> None:
    """Copy on a thread. Cancelling stops it between two files, and waits for that: who cleans up must be the last."""
    stop = threading.Event()

    def copy_file(one: str, other: str) -> object:
        if stop.is_set():
            raise OSError("stopped")
        return shutil.copy2(one, other)

    def copy() -> None:
        if source is None:
            target.mkdir()
        else:
            ignore = shutil.ignore_patterns(*leave_out)
            shutil.copytree(source, target, symlinks=True, ignore=ignore, copy_function=copy_file)

    copying = asyncio.ensure_future(asyncio.to_thread(copy))
    try:
        await asyncio.shield(copying)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait({copying})
        if not copying.cancelled():
            copying.exception()  # seen; it was stopped
        raise


@asynccontextmanager
async def workplace(
    source: Path | None, leave_out: Sequence[str], keep: Path | None
) -> AsyncGenerator[Workplace, None]:
    """A copy of a folder for as long as the block lasts.

    Args:
        source: The folder; None for an empty one.
        leave_out: Patterns of names that are not copied.
        keep: An existing folder where copies stay; None removes them when the block ends.

    Raises:
        AgentError: It cannot be copied.
    """
    root = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="agent-", dir=keep))
    try:
        place = Workplace(root)
        await place.fill(source, leave_out)
        yield place
    finally:
        if keep is None:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, root, ignore_errors=True))
