"""The checks themselves: each fails on what it is there to find, and on nothing else.

Every plant goes into a copy of the tree, and the commands are those of `make check`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path("src/aurora_swarm")
CHECKS = ("lint", "format", "tree", "functions", "layers", "types")
HEADER = '"""Planted."""\n\nfrom __future__ import annotations\n\n\n'

BLIND_EXCEPT = '''
def planted() -> int:
    """Planted."""
    try:
        return 1
    except Exception:
        return 0
'''
OTHERS_PRIVATES = '''
def planted(value: object) -> object:
    """Planted."""
    return value._private
'''
LONG_FUNCTION = 'def planted() -> None:\n    """Planted."""\n' + "    print()\n" * 99

DECIDING = (
    "agents.accounts",
    "agents.budgets",
    "agents.calls",
    "agents.compaction",
    "agents.conversation",
    "agents.native",
    "agents.protocol",
    "agents.short",
    "agents.steps",
    "agents.turns",
    "aggregators",
    "batch.hoisting",
    "batch.kvflow",
    "batch.preamble",
    "dispatch.admission",
    "dispatch.budget",
    "dispatch.health",
    "dispatch.hedging",
    "dispatch.prefixes",
    "dispatch.retry",
    "dispatch.routing",
    "dispatch.windows",
    "errors",
    "ports",
    "batch.shard_results",
    "engines.restarts",
    "journal.shares",
    "journal.redis.checks",
    "journal.redis.packing",
    "memory.changes",
    "memory.checking",
    "memory.chroma_wire",
    "memory.orders",
    "memory.ranking",
    "memory.table",
    "swarms.allocation",
    "swarms.board",
    "swarms.cards",
    "swarms.human.pages",
    "swarms.human.questions",
    "swarms.leases",
    "swarms.posts",
    "swarms.ready",
    "swarms.allotment",
    "swarms.briefs",
    "swarms.exchange",
    "swarms.findings",
    "swarms.grants",
    "swarms.hive_plan",
    "swarms.hive_report",
    "swarms.planning",
    "swarms.spending",
    "memory.chunks",
    "memory.lexical",
    "swarms.citations",
    "swarms.excerpts",
    "swarms.particles",
    "swarms.architectures.showing",
    "swarms.architectures.outcome",
    "swarms.messages.message",
    "swarms.messages.log",
    "swarms.wire",
    "swarms.standing",
    "values",
)

# name: check, file, what is added to it, what the check must say
PLANTS = {
    "an import that points up": (
        "layers",
        "values/call.py",
        "import aurora_swarm.inputs\n",
        "aurora_swarm.values is not allowed to import aurora_swarm.inputs",
    ),
    "a loop in a module that decides": (
        "layers",
        "dispatch/retry.py",
        "import asyncio\n",
        "aurora_swarm.dispatch.retry -> asyncio",
    ),
    "a clock in a value": ("layers", "values/call.py", "import time\n", "aurora_swarm.values.call -> time"),
    "a package without a layer": ("layers", "strange/__init__.py", HEADER, "aurora_swarm.strange"),
    "deciding that knows acting": (
        "layers",
        "dispatch/retry.py",
        "import aurora_swarm.dispatch.dispatcher\n",
        "aurora_swarm.dispatch.retry is not allowed to import aurora_swarm.dispatch.dispatcher",
    ),
    "an untyped public function": (
        "types",
        "values/planted.py",
        HEADER + 'def planted(value):\n    """Planted."""\n    return value\n',
        "[no-untyped-def]",
    ),
    "a wrong type": ("types", "values/planted.py", HEADER + 'planted: int = "one"\n', "[assignment]"),
    "a missing docstring": ("lint", "values/planted.py", HEADER + "def planted() -> None:\n    return\n", "D103"),
    "a blind except": ("lint", "values/planted.py", HEADER + BLIND_EXCEPT, "BLE001"),
    "a reach for another's underscore": ("lint", "values/planted.py", HEADER + OTHERS_PRIVATES, "SLF001"),
    "a branchy function": (
        "lint",
        "values/planted.py",
        HEADER + 'def planted(a: int) -> None:\n    """Planted."""\n' + "    if a:\n        print()\n" * 10,
        "C901",
    ),
    "a badly formatted line": ("format", "values/planted.py", HEADER + "planted = ( 1,2 )\n", "planted.py"),
    "a function of 101 lines": (
        "functions",
        "values/planted.py",
        HEADER + LONG_FUNCTION,
        "planted: 101 lines, 100 are allowed",
    ),
    "a file of 501 lines": ("functions", "values/planted.py", "\n" * 501, "planted.py: 501 lines, 500 are allowed"),
    "a module without a subject": ("tree", "values/utils.py", HEADER, "a module is named by its subject"),
    "a path of one machine": ("tree", "values/planted.py", f"# see {'/home'}/alice/file\n", "a path of one machine"),
    "a package index by name": (
        "tree",
        "values/planted.py",
        f"# see {'https:'}//pypi.example.org/simple\n",
        "names a package index",
    ),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the checks look at."""
    copy = tmp_path_factory.mktemp("tree")
    for name in ("src", "scripts", "tests/typing"):
        if (ROOT / name).exists():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


@contextmanager
def planted(path: Path, text: str) -> Iterator[None]:
    """The file with the text at its end, as long as the context lasts."""
    before = path.read_bytes() if path.exists() else None
    fresh_folder = not path.parent.exists()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((before or b"") + text.encode())
    yield
    if before is not None:
        path.write_bytes(before)
    elif fresh_folder:
        shutil.rmtree(path.parent)
    else:
        path.unlink()


def check(name: str, tree: Path) -> tuple[int, str]:
    """Exit code and output of one check over the copy, in one line so that wrapping does not matter."""
    command = [sys.executable, "scripts/check.py", "--root", str(tree), name]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


# `make test` has run all of them over the tree as it is just before.
@pytest.mark.chaos
@pytest.mark.parametrize("name", CHECKS)
def test_the_tree_as_it_is_passes(name: str, tree: Path) -> None:
    code, output = check(name, tree)
    assert code == 0, output


@pytest.mark.parametrize(("name", "file", "text", "said"), PLANTS.values(), ids=PLANTS.keys())
def test_a_check_finds_what_is_planted(name: str, file: str, text: str, said: str, tree: Path) -> None:
    with planted(tree / PACKAGE / file, text):
        code, output = check(name, tree)
    assert (code, said in output) == (1, True), output
    assert said not in check(name, tree)[1]


def test_these_are_all_the_checks_of_make_check(tree: Path) -> None:
    _, output = check("no-such-check", tree)
    assert "no such check" in output
    listed = subprocess.run(
        [sys.executable, "scripts/check.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert f"one of: {', '.join(CHECKS)}" in " ".join(listed.split())


def test_every_module_that_decides_is_held_to_it() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (held,) = (set(each["source_modules"]) for each in contracts if each["type"] == "forbidden")
    paths = {name: ROOT / PACKAGE / name.replace(".", "/") for name in DECIDING}
    existing = {name for name, path in paths.items() if path.is_dir() or path.with_suffix(".py").exists()}
    assert {f"aurora_swarm.{name}" for name in existing} == held


DEAD_LINK = "\n[planted](nowhere.md)\n"


@pytest.mark.parametrize(
    ("planted", "code"),
    [pytest.param("", 0, id="as it is", marks=pytest.mark.chaos), pytest.param(DEAD_LINK, 1, id="a dead link")],
)
def test_a_dead_link_breaks_the_documentation(planted: str, code: int, tmp_path: Path) -> None:
    shown = subprocess.run(["make", "-n", "docs"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (command,) = (line for line in shown.splitlines() if "mkdocs build" in line)
    for name in ("docs", "src"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    with (tmp_path / "docs" / "index.md").open("a") as page:
        page.write(planted)
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, "nowhere.md" in done.stderr) == (code, bool(planted)), done.stderr


SKIPPING = """
import pytest

def test_skips():
    pytest.skip("the engine is missing")

@pytest.mark.platform
def test_cannot_run_here():
    pytest.skip("no such system call")

@pytest.mark.xfail(strict=True)
def test_known():
    assert False
"""


@pytest.mark.parametrize(("ci", "failed", "skipped"), [("true", 1, 1), ("", 0, 2)])
def test_with_ci_a_skip_is_a_failure(
    ci: str, failed: int, skipped: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "test_skipping.py").write_text(SKIPPING)
    monkeypatch.setenv("CI", ci)
    command = [sys.executable, "-m", "pytest", "-q", "test_skipping.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    summary = done.stdout.splitlines()[-1]
    assert ("1 failed" in summary) == bool(failed), done.stdout
    assert f"{skipped} skipped" in summary
    assert "1 xfailed" in summary


def test_with_ci_a_module_that_skips_itself_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "test_importing.py").write_text("import pytest\npytest.importorskip('no_such_module')\n")
    monkeypatch.setenv("CI", "true")
    command = [sys.executable, "-m", "pytest", "-q", "test_importing.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0, done.stdout
