"""Code of a model's: run in a process of its own, within its bounds, which the kernel keeps."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from aurora_swarm.errors import ToolDefinitionError, ToolFailedError
from aurora_swarm.tools.pool import ToolPool
from aurora_swarm.tools.python_eval import PYTHON_EVAL, Bounds, run_code
from aurora_swarm.values.message import ToolCall


def _confines() -> bool:
    try:
        PYTHON_EVAL.enabled()
    except ToolDefinitionError:
        return False
    return True


CONFINES = _confines()
here = [
    pytest.mark.platform,
    pytest.mark.skipif(not CONFINES, reason="the kernel has no Landlock or no seccomp"),
]
pytestmark = here
BOUNDS = Bounds(cpu_s=1, wall_s=5.0, memory_bytes=256 * 2**20, max_output_bytes=10_000)


async def test_what_is_printed_and_the_value_of_the_last_line_come_back() -> None:
    assert await run_code("print('six')\n2 * 3", BOUNDS) == "six\n6\n"
    assert await run_code("x = 1", BOUNDS) == "(it printed nothing)"
    assert await run_code("import math, json, decimal, datetime, statistics\nmath.isqrt(10)", BOUNDS) == "3\n"
    assert (
        await run_code("'h\N{LATIN SMALL LETTER E WITH ACUTE}'", BOUNDS) == "'h\N{LATIN SMALL LETTER E WITH ACUTE}'\n"
    )


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def broken(:", "SyntaxError: invalid syntax"),
        ("def f(): f()\nf()", "RecursionError: maximum recursion depth exceeded"),
        ("import sys; sys.exit('done')", "SystemExit: done"),
        ("'\\ud800'.encode()", "UnicodeEncodeError"),
        ("(" * 5000, "SyntaxError: too many nested parentheses"),
        ("\0", "null bytes"),
    ],
)
async def test_what_it_raises_comes_back_as_text(code: str, said: str) -> None:
    text = await run_code(code, BOUNDS)
    assert said in text
    assert "confined.py" not in text


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("while True: pass", "more than 1 s of processor time"),
        ("import time; time.sleep(60)", "took longer than 1 s"),
        ("while True: print('x' * 1000)", "printed more than 10000 bytes"),
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
    ],
)
async def test_what_reaches_a_bound_is_ended_and_says_which(code: str, said: str) -> None:
    bounds = Bounds(cpu_s=1, wall_s=1.0 if "sleep" in code else 20.0, max_output_bytes=10_000)
    with pytest.raises(ToolFailedError, match=said):
        await run_code(code, bounds)


async def test_a_memory_bomb_gets_no_memory() -> None:
    assert await run_code("x = []\nwhile True: x.append(' ' * 10**6)", BOUNDS) == "MemoryError\n"
    assert "MemoryError" in await run_code("'x' * 10**12", BOUNDS)


REFUSED = {
    "fork": "import os; os.fork()",
    "fork bomb": "import os\nfor _ in range(50): os.fork()",
    "another program": "import subprocess; subprocess.run(['true'])",
    "socket": "import socket; socket.socket()",
    "address": "import socket; socket.create_connection(('127.0.0.1', 9))",
    "write": "open('new', 'w')",
    "cut": "import os; os.truncate(VICTIM, 0)",
    "append": "open(VICTIM, 'a')",
    "read": "open(VICTIM).read()",
    "delete": "import os; os.remove(VICTIM)",
    "rename": "import os; os.rename(VICTIM, VICTIM + 'x')",
    "mode": "import os; os.chmod(VICTIM, 0)",
    "times": "import os; os.utime(VICTIM)",
    "link": "import os; os.link(VICTIM, 'x')",
    "list": "import os; os.listdir('/')",
    "parent's environment": "import os; open(f'/proc/{os.getppid()}/environ').read()",
    "parent's memory": "import os; open(f'/proc/{os.getppid()}/mem')",
    "kill": "import os, signal; os.kill(os.getppid(), signal.SIGKILL)",
    "more time": "import resource; resource.setrlimit(resource.RLIMIT_CPU, (100, 100))",
    "raw call": (
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "if libc.socket(2, 1, 0) < 0: raise PermissionError(ctypes.get_errno())"
    ),
}


@pytest.mark.parametrize("code", REFUSED.values(), ids=REFUSED)
async def test_files_network_and_other_processes_are_out_of_reach(code: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("kept")
    text = await run_code(f"VICTIM = {str(victim)!r}\n{code}", BOUNDS)
    assert "Error" in text
    assert "not permitted" in text or "denied" in text or "PermissionError" in text or "not allowed" in text
    assert victim.read_text() == "kept"


async def test_threads_of_its_own_are_allowed() -> None:
    code = "import threading\nx = []\nt = threading.Thread(target=x.append, args=(1,)); t.start(); t.join()\nx"
    assert await run_code(code, BOUNDS) == "[1]\n"


async def test_it_finds_none_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AURORA_SWARM_API_KEY", "canary-of-ours")
    found = await run_code("import os\nos.environ, open('/proc/self/environ').read() if 0 else ''", BOUNDS)
    assert "environ(" in found
    assert "canary" not in found


async def test_cancelling_ends_the_program() -> None:
    before = set(Path("/proc").iterdir())
    call = asyncio.create_task(run_code("import time; time.sleep(60)", Bounds(wall_s=60.0)))
    await asyncio.sleep(0.3)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not [each for each in set(Path("/proc").iterdir()) - before if _is_program(each)]


def _is_program(process: Path) -> bool:
    try:
        return b"confined.py" in (process / "cmdline").read_bytes()
    except OSError:
        return False


async def test_without_confinement_time_memory_and_output_are_bounded_still() -> None:
    bounds = Bounds(cpu_s=1, wall_s=20.0, memory_bytes=256 * 2**20, max_output_bytes=1000, confine=False)
    assert await run_code("open('/proc/self/status').read()[:5]", bounds) == "'Name:'\n"
    assert await run_code("'x' * 10**12", bounds) == "MemoryError\n"
    with pytest.raises(ToolFailedError, match="processor time"):
        await run_code("while True: pass", bounds)
    assert "File too large" in await run_code("with open('x', 'w') as f: f.write('1')", bounds)


async def test_it_is_off_until_it_is_turned_on() -> None:
    with pytest.raises(ToolDefinitionError, match="off") as caught:
        PYTHON_EVAL.determinant()
    assert "enabled()" in caught.value.remedy
    pool = ToolPool()
    answer = await pool.call(ToolCall("1", "python_eval", {"code": "1"}), {"python_eval": PYTHON_EVAL})
    assert (answer.ok, "off" in answer.text) == (False, True)
    await pool.aclose()


async def test_an_agent_calls_it_as_any_tool() -> None:
    tool = PYTHON_EVAL.enabled(max_chars=20)
    assert (tool.effect, PYTHON_EVAL.enabled(confine=False).effect) == ("idempotent", "effect")
    pool = ToolPool()
    answers = await asyncio.gather(
        *(pool.call(ToolCall("1", "python_eval", {"code": f"{n} ** 2"}), {"python_eval": tool}) for n in range(10))
    )
    assert [answer.text for answer in answers] == [f"{n * n}\n" for n in range(10)]
    await pool.aclose()


@pytest.mark.parametrize("wrong", [{"cpu_s": 0}, {"timeout": -1.0}, {"memory_mb": 0}, {"memory_mb": 1}])
def test_bounds_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ToolDefinitionError, match="python_eval") as caught:
        PYTHON_EVAL.enabled(**wrong)
    assert caught.value.remedy
