"""A batch with tools dies anywhere: what was told is kept, what something followed from is not done again.

Every run writes down outside of the journal what it did: each answer of the model, each execution of a tool, each
result that was told. Tools answer with numbers that are new each time, so that nothing done twice looks the same.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from aurora_swarm import AgentEndpoint, BatchAgent, Tool, VLLMPool
from aurora_swarm.transports.scripted import ScriptedTransport
from aurora_swarm.values.call import Call

DIED = 9
MODEL_S = 0.001

# -- a run, in a process of its own ------------------------------------------------------------------------------------


LINE = 512
"""Bytes of a line: none lies across two pages of the file, between which a process may be killed in mid-write."""


class Diary:
    """What runs did, in the order in which they did it; a line is there as soon as `note` returns."""

    def __init__(self, path: Path, run: int) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._run = run

    def note(self, task: str, what: str, value: Any = None) -> None:
        line = json.dumps([self._run, task, what, value]).encode()
        assert len(line) < LINE
        os.write(self._file, line.ljust(LINE - 1) + b"\n")


def run_batch(folder: Path, run: int, agents: int, width: int) -> None:
    """Each agent looks something up, pays, and answers with what both said."""
    diary = Diary(folder / "diary", run)

    def script(call: Call, endpoint: AgentEndpoint) -> str:
        task = next(m.content for m in call.messages if m.role == "user")
        told = [m.content for m in call.messages if m.role == "tool"]
        step = f"answer {len(told)}"
        diary.note(task, step)
        if len(told) < 2:
            return json.dumps({"tool": ("look_up", "pay")[len(told)], "arguments": {"task": task}})
        return json.dumps({"answer": "|".join(told)})

    def used(task: str, what: str) -> str:
        receipt = f"{what} {random.SystemRandom().getrandbits(64):x}"
        diary.note(task, what, receipt)
        return receipt

    @Tool.define(effect="pure")
    async def look_up(task: str) -> str:
        """Look something up."""
        return used(task, "look_up")

    @Tool.define(effect="effect")
    async def pay(task: str) -> str:
        """Pay."""
        receipt = used(task, "pay")
        await asyncio.sleep(MODEL_S)
        return receipt

    async def main() -> None:
        transport = ScriptedTransport(script, delay_s=MODEL_S)
        async with VLLMPool([AgentEndpoint("a")], "m", transport=transport, concurrency=width) as pool:
            results = await BatchAgent.run(
                "task {n}",
                [{"n": n} for n in range(agents)],
                tools=[look_up, pay],
                backend=pool,
                tool_protocol="constrained",
                journal=folder / "run.journal",
                on_result=lambda r: diary.note(f"task {r.index}", "told", [r.ok, r.output, r.in_doubt, r.resumed]),
            )
        assert [result.index for result in results] == list(range(agents))

    asyncio.run(main())


def forked(work: Callable[[], None], is_due: Callable[[], bool] | None = None) -> bool:
    """Do something in a child, and kill it when that is due; returns whether it died on the way."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - the parent must hear of it
            os.write(2, f"{error!r}\n".encode())
            os._exit(1)
        os._exit(0)
    ended, status = os.waitpid(child, os.WNOHANG if is_due else 0)
    while not ended:
        if is_due is not None and is_due():
            os.kill(child, signal.SIGKILL)
            is_due = None
        ended, status = os.waitpid(child, os.WNOHANG if is_due else 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in {0, DIED, -signal.SIGKILL}, f"exit code {code}"
    return code != 0


# -- what must hold ----------------------------------------------------------------------------------------------------

# What a run may begin with, by what the last one did last; an effect that may have begun is not repeated.
TAKEN_UP = {
    "answer 0": {"answer 0", "look_up"},
    "look_up": {"look_up", "answer 1"},
    "answer 1": {"answer 1", "answer 2"},
    "pay": {"answer 2"},
    "answer 2": {"answer 2", "told"},
    "told": {"told"},
}
COURSE = ["answer 0", "look_up", "answer 1", "pay", "answer 2", "told"]


class Findings(Counter[str]):
    """How often what this is about happened; a pass in which it never did would show nothing."""


def check(folder: Path, agents: int) -> Findings:
    """Read what all runs did, of which the last ran to its end."""
    story: dict[str, list[tuple[int, str, Any]]] = defaultdict(list)
    for line in (folder / "diary").read_text().splitlines():
        run, task, what, value = json.loads(line)
        story[task].append((run, what, value))
    assert set(story) == {f"task {n}" for n in range(agents)}
    findings = Findings()
    for events in story.values():
        check_course(events, findings)
        check_result(events, findings)
    return findings


def check_course(events: list[tuple[int, str, Any]], findings: Findings) -> None:
    """Within a run one thing follows on another; the next run begins with what was in flight, or with what follows."""
    for (last_run, last, _), (run, what, _) in pairwise(events):
        if run == last_run:
            assert COURSE.index(what) == COURSE.index(last) + 1, f"{what} after {last}: {events}"
        else:
            assert what in TAKEN_UP[last], f"{what} in a new run after {last}: {events}"
            findings["repeated" if what == last != "told" else "went on"] += last != "told"


def check_result(events: list[tuple[int, str, Any]], findings: Findings) -> None:
    said: dict[str, list[str]] = defaultdict(list)
    results = []
    for _, what, value in events:
        if what == "told":
            results.append(value)
        elif value is not None:
            said[what].append(value)
    ok, output, in_doubt, _ = results[0]
    assert ok, events
    assert all(result == [ok, output, in_doubt, True] for result in results[1:]), f"told otherwise: {events}"
    looked_up, _, paid = output.partition("|")
    assert looked_up in said["look_up"], events
    assert len(said["pay"]) <= 1, f"paid twice: {events}"
    assert in_doubt == (paid not in said["pay"]), events
    findings["in doubt"] += in_doubt


# -- dying at every step that persists ---------------------------------------------------------------------------------


class Steps:
    """Counts the calls that persist something, and dies before the one that is due: after the one before it."""

    def __init__(self, due: int) -> None:
        self.left = due

    def before(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                os._exit(DIED)
            return function(*args, **kwargs)

        return counted


def wrap_what_persists(steps: Steps) -> None:
    connect = sqlite3.connect

    class Connection(sqlite3.Connection):
        execute = steps.before(sqlite3.Connection.execute)
        executemany = steps.before(sqlite3.Connection.executemany)
        close = steps.before(sqlite3.Connection.close)

    sqlite3.connect = lambda *args, **kwargs: connect(*args, **kwargs, factory=Connection)  # type: ignore[assignment]
    for name in ("replace", "unlink", "touch"):
        setattr(Path, name, steps.before(getattr(Path, name)))
    for name in ("fsync", "pwrite"):
        setattr(os, name, steps.before(getattr(os, name)))


def run_until(due: int, folder: Path, run: int, agents: int, width: int) -> None:
    """Run a batch that dies at a step, if there are so many."""
    wrap_what_persists(Steps(due))
    run_batch(folder, run, agents, width)


def die_everywhere(folder: Path, agents: int, width: int, stride: int) -> Findings:
    """Die at a step, at the same step of the recovery, and then run to the end, twice."""
    findings, died = Findings(), True
    while died:
        findings["steps"] += stride
        place = folder / str(findings["steps"])
        place.mkdir()
        died = forked(partial(run_until, findings["steps"], place, 1, agents, width))
        forked(partial(run_until, findings["steps"], place, 2, agents, width))
        for run in (3, 4):
            assert not forked(partial(run_batch, place, run, agents, width))
        findings += check(place, agents)
    return findings


# -- being killed at random --------------------------------------------------------------------------------------------


def kill_at_random(folder: Path, kills: int, agents: int, width: int) -> Findings:
    """Kill run after run of a batch until it is done, then those of the next batch."""
    dice, findings = random.Random(5), Findings()
    while findings["kills"] < kills:
        place = folder / str(findings["batches"])
        place.mkdir()
        run, died = 0, True
        while died and findings["kills"] < kills:
            died = forked(partial(run_batch, place, run, agents, width), some_time(dice, place / "diary"))
            run += 1
            findings["kills"] += died
        assert not forked(partial(run_batch, place, run, agents, width))
        findings += check(place, agents)
        findings["batches"] += 1
    return findings


def some_time(dice: random.Random, diary: Path) -> Callable[[], bool]:
    """Says when to kill: a moment after so much has been written down, however long that takes on a busy machine."""
    before = diary.stat().st_size if diary.exists() else 0
    more, moment_s = dice.choice([0, 1, dice.randrange(2_000)]), dice.choice([0, dice.uniform(0, 0.02)])

    def is_due() -> bool:
        time.sleep(0.0005)
        if more and (not diary.exists() or diary.stat().st_size < before + more):
            return False
        time.sleep(moment_s)
        return True

    return is_due


# -- the tests ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick_folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is such a place: what a process wrote outlives it there too, and a sync costs nothing."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


def in_own_process(what: str, folder: Path, number: int) -> Findings:
    """Forking needs a process without threads."""
    command = [sys.executable, __file__, what, str(folder), str(number)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return Findings(json.loads(done.stdout))


@pytest.mark.parametrize("stride", [3, pytest.param(1, marks=[pytest.mark.chaos, pytest.mark.timeout(900)])])
def test_a_batch_that_dies_at_any_step_loses_doubles_and_mistakes_nothing(quick_folder: Path, stride: int) -> None:
    findings = in_own_process("steps", quick_folder, stride)
    assert findings["steps"] > 60
    assert min(findings["repeated"], findings["went on"], findings["in doubt"]) > 0


@pytest.mark.parametrize("kills", [200, pytest.param(1_000, marks=[pytest.mark.chaos, pytest.mark.timeout(900)])])
def test_a_batch_that_is_killed_at_random_loses_doubles_and_mistakes_nothing(quick_folder: Path, kills: int) -> None:
    findings = in_own_process("kills", quick_folder, kills)
    assert findings["kills"] == kills > 2 * findings["batches"]
    assert min(findings["repeated"], findings["went on"], findings["in doubt"]) > kills / 40


def main(what: str, folder: Path, number: int) -> None:
    if what == "steps":
        findings = die_everywhere(folder, agents=4, width=2, stride=number)
    else:
        findings = kill_at_random(folder, number, agents=60, width=4)
    sys.stdout.write(json.dumps(findings))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
