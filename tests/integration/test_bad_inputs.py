"""Whatever is wrong with what a user gives: one sentence with its place, one with what to do, and an exit code."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from aurora_swarm.cli import main

USAGE = 2
ASK = ["ask", "Hello", "--hostfile", "hosts"]
MAP = ["map", "Classify: {text}", "--input", "in.csv", "--backend", "{server}"]
OUT = ["--output", "out.jsonl"]
CSV = "text\nfine\n"
SPEC = "task: 'Classify: {text}'\ninputs: in.csv\n"


class Case(NamedTuple):
    """A command line with its surroundings, and what must be said.

    Args:
        name: What is wrong.
        command: Arguments; ``{server}`` is a server that runs, ``{dead}`` an address where nothing listens.
        files: Files of the current folder.
        place: Must be in what is said.
        remedy: Must be in a line that begins with ``try:``.
        code: Exit code.
        env: Environment.
    """

    name: str
    command: list[str]
    files: Mapping[str, str | bytes]
    place: str
    remedy: str
    code: int = USAGE
    env: Mapping[str, str] = {}


def bad_line(name: str, line: str | bytes, place: str, remedy: str) -> Case:
    good = "node1:8000\n" if isinstance(line, str) else b"node1:8000\n"
    return Case(f"hostfile: {name}", ASK, {"hosts": good + line + good[:0]}, place, remedy)  # type: ignore[operator]


def bad_schema(name: str, schema: str, place: str, remedy: str) -> Case:
    command = [*MAP, "--schema", "s.json"]
    return Case(f"schema: {name}", command, {"in.csv": CSV, "s.json": schema}, place, remedy)


def bad_spec(name: str, file: str, text: str, place: str, remedy: str) -> Case:
    return Case(f"spec: {name}", ["run", file, "--backend", "{server}"], {file: text, "in.csv": CSV}, place, remedy)


def bad_input(name: str, file: str, content: str | bytes, place: str, remedy: str, code: int = USAGE) -> Case:
    command = ["map", "Classify: {text}", "--input", file, "--backend", "{server}"]
    return Case(f"input: {name}", command, {file: content}, place, remedy, code)


HOSTFILES = [
    Case("hostfile: missing", ASK, {}, "hosts: no such file", "check the path"),
    Case("hostfile: empty", ASK, {"hosts": "\n# nothing\n"}, "hosts: names no endpoint", "host:port"),
    bad_line("port 0", "node2:0", "hosts:2", "65535"),
    bad_line("port too large", "node2:65536", "hosts:2", "65535"),
    bad_line("port is a word", "node2:http", "hosts:2", "65535"),
    bad_line("port is negative", "node2:-1", "hosts:2", "65535"),
    bad_line("port is missing after a colon", "node2:", "hosts:2", "port"),
    bad_line("no host", ":8000", "hosts:2", "host"),
    bad_line("unknown scheme", "ftp://node2:8000", "hosts:2", "http"),
    bad_line("credentials", "http://user:secret@node2:8000", "hosts:2", "AURORA_SWARM_API_KEY"),
    bad_line("query", "http://node2:8000/?a=b", "hosts:2:19", "base path"),
    bad_line("tag without a value", "node2:8000 role", "hosts:2", "key=value"),
    bad_line("tag without a key", "node2:8000 =critic", "hosts:2", "key=value"),
    bad_line("tag given twice", "node2:8000 a=1 a=2", "hosts:2:16", "keep one"),
    bad_line("endpoint given twice", "node1:8000", "hosts:2", "keep one"),
    bad_line("IPv6 without brackets", "::1:8000", "hosts:2", "["),
    bad_line("IPv6 that is none", "[::zz]:8000", "hosts:2:2", "brackets"),
    bad_line("IPv6 bracket not closed", "[::1:8000", "hosts:2:1", "[address]:port"),
    bad_line("IPv4 that is none", "10.0.0.300:8000", "hosts:2:1", "0 to 255"),
    bad_line("control character", "no\x01de2:8000", "hosts:2:3", "remove it"),
    bad_line("space in the host", "no de2:8000", "hosts:2:4", "key=value"),
    bad_line("not UTF-8", b"n\xf6de2:8000", "hosts:2:2", "UTF-8"),
    bad_line("hyphen at the edge", "-node2:8000", "hosts:2:1", "hyphens"),
    Case("hostfile: several bad lines", ASK, {"hosts": "a:0\nb:1\nc:x\n"}, "hosts:3", "65535"),
    Case("hostfile: a folder", ["ask", "Hello", "--hostfile", "."], {}, "a folder", "name the file"),
    Case("hostfile: UTF-16", ASK, {"hosts": "node1:8000\n".encode("utf-16")}, "hosts: UTF-16", "UTF-8"),
]

SCHEMAS = [
    bad_schema("not JSON", '{"type": ', "s.json:1:10", "correct the JSON"),
    bad_schema("a list", "[1]", "s.json", "properties"),
    bad_schema("unknown type", '{"type": "object", "properties": {"a": {"type": "text"}}}', "s.json:1", "string"),
    bad_schema(
        "required but not there",
        '{"type": "object", "properties": {}, "required": ["a"]}',
        "s.json:1:51: required",
        "under properties",
    ),
    bad_schema(
        "reference that leads nowhere",
        '{"type":"object","properties":{"a":{"$ref":"#/$defs/b"}}}',
        "s.json:1:37",
        "$defs",
    ),
    Case("schema: missing", [*MAP, "--schema", "s.json"], {"in.csv": CSV}, "s.json: no such file", "check the path"),
    Case("schema: suffix", [*MAP, "--schema", "s.txt"], {"in.csv": CSV, "s.txt": "{}"}, "s.txt", "*.json"),
]

SPECS = [
    Case("spec: missing", ["run", "spec.yaml"], {}, "spec.yaml: no such file", "check the path"),
    Case("spec: suffix", ["run", "spec.ini"], {"spec.ini": "x"}, "spec.ini", "*.yaml"),
    bad_spec("empty", "spec.yaml", "", "spec.yaml", "task:"),
    bad_spec("unknown key", "spec.yaml", f"{SPEC}max_inflght: 3\n", "spec.yaml:3:1: max_inflght", "max_inflight"),
    bad_spec("wrong type", "spec.yaml", f"{SPEC}max_turns: 'two'\n", "spec.yaml:3:1: max_turns", "whole number"),
    bad_spec("no task", "spec.yaml", "inputs: in.csv\n", "spec.yaml: task is missing", "add task"),
    bad_spec("syntax error in YAML", "spec.yaml", "task: 'a\ninputs: [\n", "spec.yaml:", "quotes"),
    bad_spec("syntax error in TOML", "spec.toml", 'task = "a"\ninputs = \n', "spec.toml:2", "TOML"),
    bad_spec("syntax error in JSON", "spec.json", '{"task": "a",\n "inputs" }', "spec.json:2", "JSON"),
    bad_spec("inputs that are not there", "spec.yaml", "task: x\ninputs: no.csv\n", "no.csv: no such file", "path"),
    bad_spec("unknown tool", "spec.yaml", f"{SPEC}tools: [read_fil]\n", "read_fil", "read_file"),
    bad_spec("field that inputs lack", "spec.yaml", "task: 'a {txt}'\ninputs: in.csv\n", "task:1:3: txt", "'text'"),
    Case(
        "spec: backend and hostfile",
        ["run", "spec.yaml"],
        {"spec.yaml": f"{SPEC}backend: vllm://a\nhostfile: b\n"},
        "spec.yaml:4:1: hostfile",
        "keep one",
    ),
]

INPUTS = [
    Case("input: missing", MAP, {}, "in.csv: no such file", "check the path"),
    bad_input("ragged row", "in.csv", "text,b\na,b\nc\n", "in.csv:3: 1 cell,", "quote a cell"),
    bad_input("quote that is not closed", "in.csv", 'text\n"abc\n', "in.csv:2", "close it"),
    bad_input("two columns of one name", "in.csv", "text,text\na,b\n", "in.csv:1", "name of its own"),
    bad_input("table without a header", "in.csv", "", "in.csv:1: no header", "name the columns"),
    bad_input("not UTF-8", "in.csv", b"text\nGr\xfc\xdfe\n", "in.csv:2:3", "UTF-8"),
    bad_input("bad JSON line", "in.jsonl", '{"text": "a"}\n{"text": \n', "in.jsonl:2", "one whole object per line"),
    bad_input("JSON line that is no object", "in.jsonl", "[1]\n", "in.jsonl:1", "write {"),
    bad_input("JSON that is no list", "in.json", "{}", "in.json", "list"),
    bad_input("unknown suffix", "in.doc", "x", "in.doc", "name the format"),
    bad_input("a row lacks the field", "in.jsonl", '{"text": "a"}\n{"t": "b"}\n', "input 1 has no field 'text'", "'t'"),
    Case("input: unknown format", [*MAP, "--format", "xls"], {"in.csv": CSV}, "'xls' is not one of 'jsonl'", "--help"),
    Case(
        "template: field that the table lacks",
        ["map", "Classify: {txt}", "--input", "in.csv", "--backend", "{server}"],
        {"in.csv": CSV},
        "template:1:11: txt: in.csv has no field 'txt'",
        "did you mean 'text'",
    ),
    Case(
        "template: single brace",
        ["map", "a { b", "--input", "in.csv", "--backend", "{server}"],
        {"in.csv": CSV},
        "template:1:3",
        "{{",
    ),
    Case("template: empty", ["map", " ", "--input", "in.csv", "--backend", "{server}"], {"in.csv": CSV}, "task", "say"),
    Case("prompt: empty", ["ask", " ", "--backend", "{server}"], {}, "the prompt is empty", "write a question"),
    Case("reduce: no {responses}", ["ask", "x", "--reduce", "y", "-b", "{server}"], {}, "{responses}", "write"),
]

BACKENDS = [
    Case("backend: none", ["ask", "x"], {}, "no backend", "AURORA_SWARM_HOSTFILE"),
    Case("backend: none, of a batch", MAP[:-2], {"in.csv": CSV}, "no backend", "--backend"),
    Case("backend: two", [*ASK, "--backend", "{server}"], {}, "--backend and --hostfile", "keep one"),
    Case("backend: unknown scheme", ["ask", "x", "-b", "vlm://a:1"], {}, "vlm://", "vllm://"),
    Case("backend: bad port", ["ask", "x", "-b", "vllm://a:99999"], {}, "vllm://a:99999", "65535"),
    Case("backend: nothing listens", ["ask", "x", "-b", "{dead}"], {}, "{dead}", "start the servers"),
    Case("backend: nothing listens, of a batch", [*MAP[:-1], "{dead}"], {"in.csv": CSV}, "{dead}", "start the servers"),
    Case("backend: wrong model", ["ask", "x", "-b", "{server}", "--model", "nope"], {}, "nope", "test-model"),
    Case("endpoints: of local://", ["endpoints", "-b", "local://"], {}, "local://", "aurora-swarm local"),
    Case("endpoints: nobody is up", ["endpoints", "-b", "{dead}"], {}, "{dead}", "", code=3),
    Case(
        "wait: hostfile never comes",
        ["wait", "--hostfile", "no", "-o", "r", "--hostfile-timeout", "0", "--interval", "0.01"],
        {},
        "no: did not appear",
        "--hostfile-timeout",
    ),
    Case(
        "wait: too few",
        ["wait", "--hostfile", "hosts", "-o", "r", "--health-timeout", "0", "--interval", "0.01"],
        {"hosts": "{dead}"},
        "0 of 1",
        "--min-hosts",
        code=3,
    ),
    Case("wait: nowhere to write", ["wait", "--hostfile", "h", "-o", "no/r"], {}, "no/r", "--output"),
    Case("wait: no hostfile", ["wait", "-o", "r"], {}, "no hostfile", "AURORA_SWARM_HOSTFILE"),
]

OPTIONS = [
    Case("option: unknown", ["ask", "x", "--nope"], {}, "--nope", "--help"),
    Case("option: command unknown", ["aks"], {}, "aks", "--help"),
    Case("option: none in flight", [*MAP, "--max-inflight", "0"], {"in.csv": CSV}, "--max-inflight", "--help"),
    Case("option: temperature", [*MAP, "--temperature", "hot"], {"in.csv": CSV}, "--temperature", "--help"),
    Case("option: no input", ["map", "x", "--backend", "{server}"], {}, "--input", "--help"),
    Case("option: --json without --output", [*MAP, "--json"], {"in.csv": CSV}, "--json", "--output"),
    Case("option: two journals", [*MAP, "--journal", "j", "--no-journal"], {"in.csv": CSV}, "--journal", "keep one"),
    Case(
        "option: one file for two", [*MAP, *OUT, "--journal", "out.jsonl"], {"in.csv": CSV}, "--journal", "of its own"
    ),
    Case(
        "environment: no number",
        ["ask", "x", "-b", "{server}"],
        {},
        "AURORA_SWARM_MAX_TOKENS",
        "whole number",
        env={"AURORA_SWARM_MAX_TOKENS": "many"},
    ),
    Case(
        "environment: below zero",
        ["ask", "x", "-b", "{server}"],
        {},
        "AURORA_SWARM_TIMEOUT_PER_SEQUENCE",
        "above 0",
        env={"AURORA_SWARM_TIMEOUT_PER_SEQUENCE": "-1"},
    ),
    Case(
        "environment: hostfile is missing",
        ["ask", "x"],
        {},
        "nope.txt: no such file",
        "path",
        env={"AURORA_SWARM_HOSTFILE": "nope.txt"},
    ),
]

MONEY = [*MAP, "--budget-usd", "1"]
NAMED = ["--model", "test-model"]
PRICES = "other: {prompt: 1, completion: 1}\n"

SPENDING = [
    bad_spec("bound unknown", "spec.yaml", f"{SPEC}budget: {{token: 5}}\n", "spec.yaml:3:10: budget.token", "tokens"),
    bad_spec(
        "bound of nothing", "spec.yaml", f"{SPEC}budget: {{wall_s: 0}}\n", "spec.yaml:3:10: budget.wall_s", "above 0"
    ),
    bad_spec("money without prices", "spec.yaml", f"{SPEC}budget: {{usd: 5}}\n", "needs prices", "--prices"),
    bad_spec("price that is none", "spec.yaml", f"{SPEC}prices: {{m: 5}}\n", "spec.yaml:3:10: prices.m", "{prompt: "),
    bad_spec("prices that are not there", "spec.yaml", f"{SPEC}prices: p.yaml\n", "p.yaml: no such file", "path"),
    bad_spec("no such program", "spec.yaml", f"{SPEC}runtime: {{command: nope}}\n", "no program nope", "install"),
    bad_spec("unknown protocol", "spec.yaml", f"{SPEC}tool_protocol: json\n", "spec.yaml:3:1: tool_protocol", "native"),
    bad_spec("yes is no truth value", "spec.yaml", f"{SPEC}stream: yes\n", "spec.yaml:3:1: stream", "true or false"),
    bad_spec(
        "timeout of a turn", "spec.yaml", f"{SPEC}turn_timeout_s: -1\n", "spec.yaml:3:1: turn_timeout_s", "above 0"
    ),
    bad_spec("reduction without a prompt", "spec.yaml", f"{SPEC}reduce_schema: {{}}\n", "spec.yaml:3:1", "add reduce:"),
    Case("budget: no tokens", [*MAP, "--budget-tokens", "0"], {"in.csv": CSV}, "--budget-tokens", "--help"),
    Case("budget: money without prices", MONEY, {"in.csv": CSV}, "needs prices", "--prices"),
    Case(
        "budget: money without a model",
        [*MONEY, "--prices", "p.yaml"],
        {"in.csv": CSV, "p.yaml": PRICES},
        "needs to know the model",
        "--model",
    ),
    Case(
        "budget: money without a price",
        [*MONEY, *NAMED, "--prices", "p.yaml"],
        {"in.csv": CSV, "p.yaml": PRICES},
        "p.yaml has no price for test-model",
        "'*'",
    ),
    Case(
        "prices: a wrong one",
        [*MAP, "--prices", "p.yaml"],
        {"in.csv": CSV, "p.yaml": "m: {prompt: cheap, completion: 1}\n"},
        "p.yaml:1:5: m.prompt",
        "plain number",
    ),
    Case("reduce: no place", [*MAP, "--reduce", "Merge {n}"], {"in.csv": CSV}, "--reduce needs --output", "--output"),
    Case("reduce: another field", [*MAP, *OUT, "--reduce", "{x}"], {"in.csv": CSV}, "reduce:1:1: x", "'n'"),
    Case(
        "reduce: only a schema",
        [*MAP, *OUT, "--reduce-schema", "s.json"],
        {"in.csv": CSV, "s.json": '{"type": "object", "properties": {"a": {"type": "string"}}}'},
        "--reduce-schema",
        "--reduce",
    ),
    Case(
        "reduce: no inputs", [*MAP, *OUT, "--reduce", "Merge"], {"in.csv": "text\n"}, "nothing to reduce", "one input"
    ),
    Case("keep: no such field", [*MAP, "--keep", "txt"], {"in.csv": CSV}, "in.csv: has no field 'txt'", "'text'"),
    Case("tool: unknown", [*MAP, "--tool", "read_fil"], {"in.csv": CSV}, "read_fil", "read_file"),
    Case("events: no such folder", [*MAP, "--events", "no/e"], {"in.csv": CSV}, "no/e", "folder"),
    Case("events: one file for two", [*MAP, *OUT, "--events", "out.jsonl"], {"in.csv": CSV}, "--events", "of its own"),
]

FILES = [
    Case("output: a folder", [*MAP, "--output", "."], {"in.csv": CSV}, ": Is a directory", "file in it"),
    Case("output: no such folder", [*MAP, "--output", "no/out"], {"in.csv": CSV}, "no/out", "create the folder"),
    Case("output: holds results", [*MAP, *OUT], {"in.csv": CSV, "out.jsonl": "{}\n"}, "out.jsonl", "--overwrite"),
    Case(
        "output: disk full",
        [*MAP, "--output", "/dev/full", "--no-journal"],
        {"in.csv": CSV},
        "/dev/full",
        "free some",
        code=1,
    ),
    Case(
        "journal: foreign",
        [*MAP, *OUT],
        {"in.csv": CSV, "out.jsonl.journal": "not a database, not ours\n" * 99},
        "out.jsonl.journal",
        "name another file",
    ),
    Case("journal: in no folder", [*MAP, *OUT, "--journal", "no/j"], {"in.csv": CSV}, "no/j", "create"),
    Case("journal: unknown kind", [*MAP, *OUT, "--journal", "ftp://j"], {"in.csv": CSV}, "ftp://", "path"),
    Case("weights: missing", ["ask", "x", "-b", "local://", "--local-model", "no.gguf"], {}, "no.gguf", ""),
    Case(
        "weights: not weights",
        ["ask", "x", "-b", "local://", "--local-model", "x.gguf"],
        {"x.gguf": b"GG"},
        "x.gguf",
        "",
    ),
]

CASES = [*HOSTFILES, *SCHEMAS, *SPECS, *INPUTS, *BACKENDS, *OPTIONS, *SPENDING, *FILES]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AURORA_SWARM_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def dead() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def written(folder: Path, files: Mapping[str, str | bytes], dead: str) -> None:
    for name, content in files.items():
        data = content.replace("{dead}", dead).encode() if isinstance(content, str) else content
        (folder / name).write_bytes(data)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_user_is_told_what_is_wrong_where_and_what_to_do(
    case: Case, serve: Any, dead: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    server = serve().url
    written(tmp_path, case.files, dead)
    monkeypatch.chdir(tmp_path)
    for name, value in case.env.items():
        monkeypatch.setenv(name, value)
    code = main([part.replace("{server}", server).replace("{dead}", dead) for part in case.command])
    captured = capfd.readouterr()
    said = captured.err + captured.out
    assert code == case.code, said
    assert case.place.replace("{dead}", dead) in said
    assert "Traceback" not in said
    if case.code != 3 or case.remedy:
        assert case.remedy in "".join(line for line in said.splitlines() if line.startswith("  try: ")), said
        assert "  try: " in said


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 40


@pytest.mark.parametrize(
    ("file", "content"), [("in.csv", "text\n"), ("in.jsonl", ""), ("in.txt", "\n"), ("in.json", "[]")]
)
def test_no_inputs_are_a_run_of_nothing(serve: Any, tmp_path: Path, capfd: Any, file: str, content: str) -> None:
    (tmp_path / file).write_text(content)
    out = tmp_path / "out.jsonl"
    command = ["map", "Classify: {text}", "--input", str(tmp_path / file), "-b", serve().url, "--output", str(out)]
    assert main(command) == 0
    assert out.read_bytes() == b""
    assert "0 inputs" in capfd.readouterr().err


def test_a_journal_that_was_half_written_is_used_as_far_as_it_is_intact(serve: Any, tmp_path: Path, capfd: Any) -> None:
    (tmp_path / "in.txt").write_text("".join(f"line {n}\n" for n in range(30)))
    out = tmp_path / "out.jsonl"
    server = serve()
    command = ["map", "{text}", "--input", str(tmp_path / "in.txt"), "-b", server.url, "--output", str(out)]
    assert main(command) == 0
    journal = Path(f"{out}.journal")
    journal.write_bytes(journal.read_bytes()[: journal.stat().st_size - 700])
    code = main(command)
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert code == 0 or (code == USAGE and str(journal) in said and "  try: " in said)
    assert len(out.read_text().splitlines()) == 30


def test_a_journal_of_another_program_is_refused_and_left_alone(serve: Any, tmp_path: Path, capfd: Any) -> None:
    (tmp_path / "in.csv").write_text(CSV)
    out = tmp_path / "out.jsonl"
    journal = Path(f"{out}.journal")
    with sqlite3.connect(journal) as database:
        database.execute("CREATE TABLE theirs (x)")
    database.close()
    before = journal.read_bytes()
    command = ["map", "{text}", "--input", str(tmp_path / "in.csv"), "-b", serve().url, "--output", str(out)]
    assert main(command) == USAGE
    said = capfd.readouterr().err
    assert str(journal) in said
    assert "  try: " in said
    assert journal.read_bytes() == before


def test_a_reader_that_leaves_is_told_without_a_traceback(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("line\n" * 200)
    command = f"{sys.executable} -m aurora_swarm map '{{text}} {{line}}' -q --input in.txt -b {serve().url} | head -n 1"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert '"ok":true' in done.stdout
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
