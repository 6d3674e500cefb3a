"""A program that runs Python code which it does not trust, in bounds that the kernel keeps.

Run as ``python -I -S confined.py BOUNDS``; the code comes on standard input, what it prints goes to standard output.
It needs nothing but the standard library, because that is all that it lets itself read.

On Linux the kernel then refuses: every read of a file outside the standard library and every change of a file
(Landlock), sockets, new processes, signals to other processes and looking into them (seccomp), and what only root may
do (no capabilities). It stays so for whatever the code does, machine code included.
"""

from __future__ import annotations

import ast
import ctypes
import itertools
import json
import linecache
import os
import platform
import resource
import struct
import sys
import traceback
from types import CodeType
from typing import Any

CANNOT_CONFINE = 97
"""Exit code when the kernel lacks what confines; the code has not been run."""

_NAME = "<code>"
_DENY, _NO_SUCH, _ALLOW, _KILL = 0x0005_0001, 0x0005_0026, 0x7FFF_0000, 0x8000_0000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_THREAD = 0x0001_0000
_X32 = 0x4000_0000
_READ_FILE, _READ_DIR = 4, 8
_ELSEWHERE = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local/lib", "/usr/share/zoneinfo", "/etc/ld.so.cache")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")

# Architecture, clone, clone3, and the calls that are refused. First lines: sockets, programs, signals, other processes,
# what only root uses, and of files what Landlock does not look after (owner, mode, times, attributes); then memory that
# outlives a process and the priorities of others; last what is numbered alike everywhere.
_SYSTEMS: dict[str, tuple[int, int, int, tuple[tuple[int, ...], ...]]] = {
    "x86_64": (
        0xC000_003E,
        56,
        435,
        (
            (41, 57, 58, 59, 62, 76, 101, 129, 200, 234, 240, 248, 249, 250, 272, 297, 298, 302, 308, 310, 311),
            (321, 322, 323, 90, 91, 92, 93, 94, 132, 188, 189, 190, 197, 198, 199, 235, 260, 261, 268, 280),
            (29, 64, 68, 141, 142, 144, 203, 251, 314),
            (424, 425, 434, 438, 440, 452, 463, 466),
        ),
    ),
    "aarch64": (
        0xC000_00B7,
        220,
        435,
        (
            (198, 221, 129, 45, 117, 138, 130, 131, 180, 217, 218, 219, 97, 240, 241, 261, 268, 270, 271, 280),
            (281, 282, 52, 53, 54, 55, 5, 6, 7, 14, 15, 16, 88),
            (194, 190, 186, 140, 118, 119, 122, 30, 274),
            (424, 425, 434, 438, 440, 452, 463, 466),
        ),
    ),
}


def main() -> None:
    """Read the code, go behind bounds, run it."""
    bounds = json.loads(sys.argv[1])
    source = sys.stdin.read()
    _limit(bounds)
    if bounds["confine"]:
        try:
            _confine()
        except OSError as error:
            _say(str(error))
            sys.stdout.flush()
            os._exit(CANNOT_CONFINE)
    _run(source)
    sys.stdout.flush()
    os._exit(0)


def _limit(bounds: dict[str, Any]) -> None:
    limits = {
        resource.RLIMIT_CPU: bounds["cpu_s"],
        resource.RLIMIT_AS: bounds["memory_bytes"],
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }
    if not bounds["confine"]:
        # All that there is then against a multitude of processes; the kernel does not hold root to it.
        limits[resource.RLIMIT_NPROC] = 0
    for which, most in limits.items():
        resource.setrlimit(which, (most, most))


def _confine() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if sys.platform != "linux" or platform.machine() not in _SYSTEMS:
        raise OSError(f"{sys.platform} on {platform.machine()} is not supported")
    # End with the one who asked, whatever ends him; and gain nothing by programs that run as root.
    _checked(libc.prctl(1, 9, 0, 0, 0), "parent-death signal")
    _checked(libc.prctl(38, 1, 0, 0, 0), "no_new_privs")
    _restrict_files(libc)
    _drop_capabilities(libc)
    _restrict_calls(libc)


def _restrict_files(libc: ctypes.CDLL) -> None:
    """Landlock: read what Python needs, nothing else."""
    version = libc.syscall(444, None, ctypes.c_size_t(0), 1)
    _checked(version, "Landlock")
    every_access = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1
    handled = struct.pack("QQQ", every_access, 3, 3)[: 8 if version < 4 else 16 if version < 6 else 24]
    rules = libc.syscall(444, handled, ctypes.c_size_t(len(handled)), 0)
    _checked(rules, "Landlock rules")
    libraries = (os.path.dirname(os.__file__), f"{sys.base_prefix}/lib")  # noqa: PTH120 - pathlib is slow to load
    for path in {*libraries, *_ELSEWHERE, *_DEVICES}:
        if os.path.exists(path):  # noqa: PTH110
            _allow(libc, rules, path)
    _checked(libc.syscall(446, rules, 0), "Landlock")
    os.close(rules)


def _allow(libc: ctypes.CDLL, rules: int, path: str) -> None:
    place = os.open(path, os.O_PATH)
    access = _READ_FILE | (_READ_DIR if os.path.isdir(path) else 0)  # noqa: PTH112
    _checked(libc.syscall(445, rules, 1, struct.pack("=Qi", access, place), 0), f"Landlock rule for {path}")
    os.close(place)


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    _checked(libc.capset(struct.pack("Ii", 0x2008_0522, 0), bytes(24)), "dropping capabilities")


def _restrict_calls(libc: ctypes.CDLL) -> None:
    """Seccomp: refuse what Landlock does not know; threads of one's own are allowed, other processes are not."""
    architecture, clone, clone3, denied = _SYSTEMS[platform.machine()]
    program = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    program += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _KILL)]
    for number in itertools.chain.from_iterable(denied):
        program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _DENY)]
    # The C library falls back to clone, whose flags can be seen here.
    program += [(_EQUAL, 0, 1, clone3), (_RETURN, 0, 0, _NO_SUCH)]
    program += [(_EQUAL, 1, 0, clone), (_RETURN, 0, 0, _ALLOW), (_LOAD, 0, 0, 16)]
    program += [(_ANY_BIT, 0, 1, _THREAD), (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _DENY)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    whole = struct.pack("HP", len(program), ctypes.addressof(code))
    _checked(libc.prctl(22, 2, whole, 0, 0), "seccomp")


def _checked(result: int, what: str) -> None:
    if result < 0:
        raise OSError(f"{what}: {os.strerror(ctypes.get_errno())}")


def _run(source: str) -> None:
    """Run the code as the interactive interpreter would: the value of a last expression is shown."""
    linecache.cache[_NAME] = (len(source), None, source.splitlines(keepends=True), _NAME)
    names: dict[str, Any] = {"__name__": "__main__"}
    try:
        body, last = _compiled(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        _say("".join(traceback.format_exception_only(error)))
        return
    try:
        exec(body, names)  # noqa: S102 - that is what this program is for
        if last is not None:
            value = eval(last, names)  # noqa: S307
            if value is not None:
                _say(f"{value!r}\n")
    except MemoryError:
        names.clear()
        _say("MemoryError\n")
    except BaseException as error:  # noqa: BLE001 - whatever it is, whoever wrote the code is told
        frames = error.__traceback__.tb_next if error.__traceback__ else None
        _say("".join(traceback.format_exception(type(error), error, frames, limit=-10)))


def _say(text: str) -> None:
    """To whoever asked, whatever the code has made of ``print``; half a surrogate pair stays visible."""
    sys.__stdout__.write(text.encode("utf-8", "backslashreplace").decode())  # type: ignore[union-attr]


def _compiled(source: str) -> tuple[CodeType, CodeType | None]:
    tree = ast.parse(source, _NAME)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    value = compile(ast.Expression(last.value), _NAME, "eval") if isinstance(last, ast.Expr) else None
    return compile(tree, _NAME, "exec"), value


if __name__ == "__main__":
    main()
