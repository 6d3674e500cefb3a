"""P7: does a run of a million inputs, from a file to a file, keep its memory, start at once and resume where it was?

The command as users run it, in a process of its own, with a journal. Its memory is read from the system while it works.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

import harness
from aurora_swarm.testing.fleet import RemoteFleet, ServerPlan, fleet_process

ENDPOINTS, IN_FLIGHT = 16, 512
PLAN = ServerPlan(capacity=IN_FLIGHT, latency_s=0.02, tokens=8, answer="done", cache_blocks=0)
WARM_UP = 0.1
"""Share of the inputs after which memory is taken to be what the run needs."""

STOPPED_AT = 0.5
"""Share of the inputs after which the run that is to be resumed is killed."""

OPTIONS = harness.arguments(
    __doc__,
    lambda parser: parser.add_argument("--inputs", type=int, help="how many; 1,000,000, or 50,000 with --quick"),
)
INPUTS = OPTIONS.inputs or (50_000 if OPTIONS.quick else 1_000_000)
SAMPLE_S = 0.1 if OPTIONS.quick else 0.5


class Sample(msgspec.Struct, frozen=True):
    """The client's memory at one moment.

    Args:
        at_s: Seconds since the process began.
        done: Results in its file.
        rss_mib: Memory that is its own.
        files: Files that it has open, most of them connections.
    """

    at_s: float
    done: int
    rss_mib: float
    files: int


class Seen(msgspec.Struct):
    """One run of the command.

    Args:
        wall_s: Seconds of the process.
        first_s: Seconds from its start to its first result in the file.
        samples: Its memory over time.
        code: Its exit code.
        said: Its closing summary as data; empty when it was killed.
    """

    wall_s: float
    first_s: float
    samples: list[Sample]
    code: int
    said: dict[str, object]


def write_inputs(path: Path) -> None:
    """A line of some 100 bytes per input."""
    with path.open("w", buffering=1 << 20) as file:
        for number in range(INPUTS):
            file.write(
                json.dumps({"id": number, "text": f"Review {number}: it works, and the lid is loose. " * 2}) + "\n"
            )


def run(folder: Path, *more: str, stop_at: int | None = None) -> Seen:
    """Run the command to its end, or kill it once so many results are in its file."""
    output = folder / "out.jsonl"
    output.unlink(missing_ok=True)
    command = [sys.executable, "-m", "aurora_swarm", "map", "Classify: {text}", "--input", str(folder / "in.jsonl")]
    command += ["--hostfile", str(folder / "hosts"), "--max-inflight", str(IN_FLIGHT), "--model", "simulated"]
    command += ["--output", str(output), "--json", "--quiet", *more]
    began = time.perf_counter()
    with harness.child(command, core=harness.CLIENT_CORE, stdout=subprocess.PIPE) as process:
        samples = list(watch(process, output, began, stop_at))
        out, _ = process.communicate()
    said = json.loads(out) if out else {}
    first = next((sample.at_s for sample in samples if sample.done), float("nan"))
    return Seen(time.perf_counter() - began, first, samples, process.returncode, said)


def watch(process: subprocess.Popen[bytes], output: Path, began: float, stop_at: int | None) -> Iterator[Sample]:
    """Memory and progress, often until the first result and then now and then."""
    size = bytes_per_line = 0
    while process.poll() is None:
        size = output.stat().st_size if output.exists() else 0
        bytes_per_line = bytes_per_line or _line_length(output)
        done = size // bytes_per_line if bytes_per_line else 0
        if rss := resident_mib(process.pid):
            yield Sample(time.perf_counter() - began, done, rss, open_files(process.pid))
        if stop_at is not None and done >= stop_at:
            process.send_signal(signal.SIGKILL)
            process.wait()
        time.sleep(SAMPLE_S if done else 0.005)


def _line_length(output: Path) -> int:
    """Bytes of the first result; the others have nearly as many."""
    if not output.exists():
        return 0
    with output.open("rb") as file:
        line = file.readline()
    return len(line) if line.endswith(b"\n") else 0


def resident_mib(pid: int) -> float:
    """What a process holds, without pages of files that the system may drop; 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("RssAnon")), 0.0)


def open_files(pid: int) -> int:
    """How many files a process has open; 0 when it is gone."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - a count is all that is wanted
    except OSError:
        return 0


def growth(seen: Seen, since: float = 0.0, until: float = 1.0) -> tuple[float, float, float]:
    """Memory after the warm-up, most of it later, and the one by the other.

    Both are medians of twenty samples or fewer, so that one moment between two collections decides nothing.

    Args:
        seen: The run.
        since: Share of the inputs at which its work begins.
        until: Share at which it ends.
    """
    first, last = (since + WARM_UP) * INPUTS, until * INPUTS
    later = [sample.rss_mib for sample in seen.samples if first <= sample.done <= last]
    part = max(1, min(20, len(later) // 4))
    medians = [statistics.median(later[start : start + part]) for start in range(len(later) - part + 1)]
    return medians[0], max(medians), max(medians) / medians[0]


def startup_s() -> float:
    """Seconds of a process that only says its version."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "aurora_swarm", "--version"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def check(folder: Path, seen: Seen) -> None:
    """The file holds every input once, in order, and all are ok."""
    with (folder / "out.jsonl").open("rb") as file:
        for number, line in enumerate(file):
            if not line.startswith(b'{"index":%d,"ok":true,' % number):
                sys.exit(f"line {number + 1} is {line[:80]!r}")
    if number + 1 != INPUTS or seen.code:
        sys.exit(f"{number + 1} results of {INPUTS}, exit code {seen.code}")


async def measure() -> harness.Report:
    """A run without a journal, one with, and one that is killed and resumed."""
    report = harness.Report(
        "p7_million",
        "P7",
        "Does a run of a million inputs, from a file to a file, keep its memory, start at once and resume?",
        f"`aurora-swarm map` over {INPUTS:,} lines, {IN_FLIGHT} in flight, {ENDPOINTS} simulated servers of "
        f"{PLAN.latency_s * 1000:.0f} ms; the client on one core, the servers on the other. Memory is what the process "
        f"holds (RssAnon), from {WARM_UP:.0%} of the inputs on.",
        ("run", "inputs/s", "first result [s]", "memory at 10 % [MiB]", "most later [MiB]", "grows by", "open files"),
    )
    folder = Path(tempfile.mkdtemp(prefix="p7-", dir=scratch()))
    try:
        await asyncio.to_thread(compare, report, folder)
    finally:
        shutil.rmtree(folder)
    return report


def scratch() -> Path:
    """A folder on the disk of the repository, not in memory."""
    harness.SCRATCH.mkdir(exist_ok=True)
    return harness.SCRATCH


def compare(report: harness.Report, folder: Path) -> None:
    """All runs on one fleet."""
    write_inputs(folder / "in.jsonl")
    size = (folder / "in.jsonl").stat().st_size
    with fleet_process([PLAN] * ENDPOINTS, cpu=harness.SERVER_CORE) as fleet:
        (folder / "hosts").write_text("".join(f"{each.host}:{each.port}\n" for each in fleet.endpoints))
        for name, options in (("without a journal", ["--no-journal"]), ("with a journal", [])):
            seen = run(folder, *options)
            check(folder, seen)
            judge(report, name, seen, growth(seen))
        for journal in folder.glob("out.jsonl.journal*"):
            journal.unlink()
        compare_resumed(report, folder, fleet)
    report.notes.append(
        f"The inputs are {size / 2**20:.0f} MiB. Of the time to the first result {startup_s():.2f} s pass before the "
        "command begins to read them: so long takes `aurora-swarm --version`."
    )


def compare_resumed(report: harness.Report, folder: Path, fleet: RemoteFleet) -> None:
    """A run that is killed, and the same command again."""
    run(folder, stop_at=int(STOPPED_AT * INPUTS))
    kept = whole_lines(folder / "out.jsonl")
    while fleet.counts().running:  # what was under way at SIGKILL belongs to the killed run
        time.sleep(0.1)
    asked = fleet.counts().requests
    seen = run(folder)
    check(folder, seen)
    resumed = int(str(seen.said["resumed"]))
    repeated = fleet.counts().requests - asked - (INPUTS - resumed)
    # What is there already is read without a connection to any server: the two parts have a level of memory each.
    parts = (growth(seen, until=STOPPED_AT), growth(seen, since=STOPPED_AT))
    judge(report, f"resumed after SIGKILL at {kept:,}", seen, max(parts, key=lambda part: part[2]))
    report.goal("results that were in the file at SIGKILL, and are not resumed", max(0, kept - resumed), at_most=0)
    report.goal("requests of the resumed run beyond one per missing result", max(0, repeated), at_most=4 * ENDPOINTS)
    report.notes.append("Requests of the resumed run include those that ask the servers who they are.")


def whole_lines(path: Path) -> int:
    """Results in a file."""
    with path.open("rb") as file:
        return sum(line.endswith(b"\n") for line in file)


def judge(report: harness.Report, name: str, seen: Seen, grown: tuple[float, float, float]) -> None:
    """One run: its line and its figures."""
    files = [sample.files for sample in seen.samples if sample.done]
    span = f"{min(files)} to {max(files)}"
    report.row(name, INPUTS / seen.wall_s, seen.first_s, grown[0], grown[1], f"{grown[2] - 1:+.1%}", span)
    report.goal(f"{name}: memory against that at {WARM_UP:.0%}", grown[2], at_most=1.05)
    report.goal(f"{name}: first result after the command began", seen.first_s, at_most=1.0, unit="s")
    print(f"{name}: {seen.wall_s:.1f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    os.environ.pop("AURORA_SWARM_HOSTFILE", None)
    harness.start(measure, quick=OPTIONS.quick)
