"""Make `.venv` ready: the pinned packages of one set, then the project itself.

Runs on the system's Python with the standard library alone::

    python3 scripts/bootstrap.py {runtime,dev}

A set is a lock file in `requirements/`; every package in it is checked against its hashes. Nothing is done when
the set stands already. Which package index is asked is the business of pip's own configuration. No part of it is
silent for more than a few seconds.
"""

from __future__ import annotations

import hashlib
import os
import queue
import re
import shlex
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
FLOOR = (3, 11)
HEARTBEAT_S = 4.0
SETS = ("runtime", "dev")  # each holds all of the one before it
KEPT_LINES = 40

# What deserves a line of its own among all that pip says; the rest is named by the heartbeat only.
_TELLING = re.compile(r"(Downloading|Building|Installing collected packages|ERROR|WARNING: Retry)")


def say(text: str) -> None:
    """Print one line at once, for readers behind a pipe too."""
    print(f"bootstrap: {text}", flush=True)


def condensed(line: str) -> str:
    """One line of pip's output as it is shown, or nothing when it is not worth a line."""
    line = line.strip()
    if line.startswith("Installing collected packages"):
        return f"unpacking {line.count(',') + 1} packages"
    return line if _TELLING.match(line) else ""


def run(what: str, *command: str) -> None:
    """Run a command, showing what it tells and a heartbeat when it tells nothing.

    Args:
        what: The activity, for the heartbeat: "installing".
        command: The command line.

    Raises:
        SystemExit: The command failed; its last lines have been printed.
    """
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_pump, args=(process, lines), daemon=True).start()
    seen = _show(what, lines, started)
    if process.wait() != 0:
        print("\n".join(seen[-KEPT_LINES:]), file=sys.stderr, flush=True)
        sys.exit(
            f"bootstrap: {what} failed (exit code {process.returncode}); the command was:\n  {shlex.join(command)}"
        )


def _pump(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    for line in process.stdout or ():
        lines.put(line)
    lines.put(None)


def _show(what: str, lines: queue.Queue[str | None], started: float) -> list[str]:
    seen: list[str] = []
    spoken = time.monotonic()
    while True:
        try:
            line = lines.get(timeout=max(0.0, spoken + HEARTBEAT_S - time.monotonic()))
        except queue.Empty:
            line = ""
        if line is None:
            return seen
        seen += [line.rstrip()] if line else []
        text = condensed(line)
        if not text and time.monotonic() - spoken >= HEARTBEAT_S:
            text = f"still {what} ... {time.monotonic() - started:.0f} s"
        if text:
            say(text)
            spoken = time.monotonic()


def wanted_stamp(name: str) -> str:
    """What `.venv` must have been made from: Python's version, the lock and the project's metadata."""
    made_of = hashlib.sha256(sys.version.encode())
    for path in (ROOT / "requirements" / f"{name}.txt", ROOT / "pyproject.toml"):
        made_of.update(path.read_bytes())
    return made_of.hexdigest()


def stamp_of(name: str) -> Path:
    """Where the stamp of a set lies."""
    return VENV / f".bootstrap-{name}"


def is_ready(name: str) -> bool:
    """Whether `.venv` holds this set or a larger one already."""
    enough = SETS[SETS.index(name) :]
    return PYTHON.exists() and any(
        stamp_of(one).exists() and stamp_of(one).read_text() == wanted_stamp(one) for one in enough
    )


def make_venv() -> None:
    """Create `.venv` with the Python that runs this, unless a working one of the same version is there."""
    have = ".".join(map(str, sys.version_info[:2]))
    if PYTHON.exists() and _version_of(PYTHON) == have:
        return
    say(f"creating .venv with Python {have}")
    run("creating .venv", sys.executable, "-m", "venv", "--clear", str(VENV))


def _version_of(python: Path) -> str:
    asked = [str(python), "-c", "import sys; print(*sys.version_info[:2], sep='.')"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def install(name: str) -> None:
    """Install the locked packages of a set and the project over them."""
    # pip compiles bytecode in one silent go that takes longer than all the rest; Python does it at the first import.
    pip = (str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-compile", "--progress-bar=off")
    say(f"installing the pinned packages of requirements/{name}.txt (hashes are checked)")
    run("installing packages", *pip, "--require-hashes", "-r", f"requirements/{name}.txt")
    say("installing aurora-swarm itself, editable")
    run("installing aurora-swarm", *pip, "--no-deps", "--no-build-isolation", "-e", ".")


def main(arguments: list[str]) -> None:
    """Bring `.venv` to the state that a set asks for."""
    if sys.version_info < FLOOR:
        wanted = "{}.{}".format(*FLOOR)
        sys.exit(f"bootstrap: Python {wanted} or newer is needed; {sys.executable} is {sys.version.split()[0]}")
    if len(arguments) != 1 or arguments[0] not in SETS:
        sys.exit(f"usage: python3 scripts/bootstrap.py {{{','.join(SETS)}}}")
    name = arguments[0]
    if is_ready(name):
        return
    started = time.monotonic()
    os.environ.pop("PYTHONHOME", None)  # would point the new Python at the old one's library
    make_venv()
    for one in SETS:
        stamp_of(one).unlink(missing_ok=True)  # a broken install must not pass for a whole one
    install(name)
    stamp_of(name).write_text(wanted_stamp(name))
    say(f"ready in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)  # pip got the signal too; the next run starts over, because no stamp was written
