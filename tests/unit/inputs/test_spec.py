import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm.errors import InputError, SchemaError, SpecError
from aurora_swarm.inputs.spec import RunSpec, load_spec
from aurora_swarm.values.budget import Price

SCHEMA = {"type": "object", "properties": {"label": {"type": "string"}}}
MINIMAL = "task: Sum up {text}\ninputs: reviews.csv\n"
Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, "utf-8")
        return path

    return write


def refusal(path: Path) -> SpecError:
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    return caught.value


def test_the_least_that_a_spec_says_is_task_and_inputs(write: Write, tmp_path: Path) -> None:
    assert load_spec(write("run.yaml", MINIMAL)) == RunSpec(task="Sum up {text}", inputs=str(tmp_path / "reviews.csv"))


FULL = {
    "task": "Sum up {text}",
    "inputs": [{"text": "a", "n": 1}, {"text": "b", "n": None}],
    "keep": ["n"],
    "system_prompt": "Be brief.",
    "output_schema": SCHEMA,
    "tools": ["read_file", {"name": "lookup"}],
    "model": "m",
    "backend": ["vllm://a:1", "b:2"],
    "max_inflight": 64,
    "max_turns": 4,
    "max_retries": 0,
    "temperature": 0.5,
    "top_p": 1,
    "seed": -3,
    "max_tokens": 100,
    "timeout_s": 90,
    "turn_timeout_s": 30,
    "request_timeout_s": 20.5,
    "tool_choice": "required",
    "tool_protocol": "native",
    "max_parallel_tools": 2,
    "compaction": "off",
    "hoist": False,
    "warm": True,
    "prefetch": True,
    "stream": True,
    "budget": {"tokens": 1000, "usd": 0.5, "wall_s": 60, "tool_calls": 0, "width": 8},
    "prices": {"m": {"prompt": 0.5, "completion": 1}},
    "reduce": "Merge {n} answers.",
    "reduce_schema": SCHEMA,
    "journal": "redis://x",
}
TOML = """
task = "Sum up {text}"
inputs = [{text = "a", n = 1}, {text = "b"}]
keep = ["n"]
system_prompt = "Be brief."
tools = ["read_file", {name = "lookup"}]
model = "m"
backend = ["vllm://a:1", "b:2"]
max_inflight = 64
max_turns = 4
max_retries = 0
temperature = 0.5
top_p = 1
seed = -3
max_tokens = 100
timeout_s = 90
turn_timeout_s = 30
request_timeout_s = 20.5
tool_choice = "required"
tool_protocol = "native"
max_parallel_tools = 2
compaction = "off"
hoist = false
warm = true
prefetch = true
stream = true
budget = {tokens = 1000, usd = 0.5, wall_s = 60, tool_calls = 0, width = 8}
reduce = "Merge {n} answers."
reduce_schema = {type = "object", properties = {label = {type = "string"}}}
journal = "redis://x"
[prices.m]
prompt = 0.5
completion = 1
[output_schema]
type = "object"
[output_schema.properties.label]
type = "string"
"""


def expected(path: Path, **other: Any) -> RunSpec:
    prices = {"prices": {"prices": FULL["prices"], "source": str(path)}}
    return msgspec.convert({**FULL, **prices, **other}, RunSpec)


def test_every_key_stands_in_the_full_specification() -> None:
    paths = {"hostfile", "output", "events", "runtime"}  # tested below
    assert {*FULL, *paths} == set(RunSpec.__struct_fields__)


def test_every_key_is_read_from_yaml_and_json(write: Write) -> None:
    for name in ("run.json", "run.yaml"):
        path = write(name, json.dumps(FULL))
        assert load_spec(path) == expected(path)


def test_every_key_is_read_from_toml(write: Write) -> None:
    path = write("run.toml", TOML)
    assert load_spec(path) == expected(path, inputs=[{"text": "a", "n": 1}, {"text": "b"}])


def test_paths_start_in_the_folder_of_the_spec(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prompts").mkdir()
    write("prompts/task.txt", "Judge {text}\n")
    write("schema.json", json.dumps(SCHEMA))
    write("fleet.txt", "a:1\n")
    write("prices.toml", "[m]\nprompt = 1\ncompletion = 2\n")
    lines = ["task_file: prompts/task.txt", "inputs: data/in.csv", "output_schema: schema.json", "backend: fleet.txt"]
    lines += ["prices: prices.toml", "reduce: merge", "reduce_schema: schema.json", "events: e.jsonl"]
    write("run.yml", "\n".join([*lines, "output: out.jsonl", "journal: run.db"]))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    spec = load_spec("../run.yml")
    assert spec.task == "Judge {text}\n"
    assert spec.output_schema == spec.reduce_schema == SCHEMA
    assert spec.prices is not None
    assert spec.prices.price_for("m") == Price(1, 2)
    assert [Path(str(p)).resolve() for p in (spec.inputs, spec.backend, spec.output, spec.journal, spec.events)] == [
        tmp_path / name for name in ("data/in.csv", "fleet.txt", "out.jsonl", "run.db", "e.jsonl")
    ]


def test_a_runtime_is_a_name_or_a_table_with_paths(write: Write, tmp_path: Path) -> None:
    assert load_spec(write("run.yaml", f"{MINIMAL}runtime: opencode\n")).runtime == {"name": "opencode"}
    table = "runtime: {name: opencode, folder: src, keep: kept, leave_out: [.git], allow_web: true}\n"
    runtime = load_spec(write("run.yaml", MINIMAL + table)).runtime
    assert runtime == {
        "name": "opencode",
        "folder": str(tmp_path / "src"),
        "keep": str(tmp_path / "kept"),
        "leave_out": [".git"],
        "allow_web": True,
    }


def test_what_is_no_path_stays_as_it_is(write: Write, tmp_path: Path) -> None:
    text = "task: x\ninputs: '-'\nbackend: node1:8000\noutput: '-'\njournal: redis://x\n"
    spec = load_spec(write("run.yaml", text))
    assert (spec.inputs, spec.backend, spec.output, spec.journal) == ("-", "node1:8000", "-", "redis://x")


def test_an_absolute_path_stays_as_it_is(write: Write) -> None:
    assert load_spec(write("run.yaml", MINIMAL + "hostfile: /etc/fleet\n")).hostfile == "/etc/fleet"


def test_yaml_text_is_not_read_as_something_else(write: Write) -> None:
    items = "[{country: NO, time: 12:30, day: 2026-01-02, version: 1.10.0, hex: 0x1f, n: 010, f: 1e3, t: true, z: ~}]"
    spec = load_spec(write("run.yaml", f"task: x\ninputs: {items}\n"))
    assert spec.inputs == [
        {
            "country": "NO",
            "time": "12:30",
            "day": "2026-01-02",
            "version": "1.10.0",
            "hex": "0x1f",
            "n": 10,
            "f": 1000.0,
            "t": True,
            "z": None,
        }
    ]


def test_toml_dates_become_text(write: Write) -> None:
    spec = load_spec(write("run.toml", 'task = "x"\ninputs = [{day = 2026-01-02}]'))
    assert spec.inputs == [{"day": "2026-01-02"}]


def test_no_inputs_are_a_valid_run(write: Write) -> None:
    assert load_spec(write("run.yaml", "task: x\ninputs: []\n")).inputs == []


@pytest.mark.parametrize(
    ("line", "column", "field", "problem", "remedy"),
    [
        ("max_turn: 3", 1, "max_turn", "unknown key", "did you mean 'max_turns'?"),
        (
            "max_turns: many",
            1,
            "max_turns",
            "expected a whole number, 1 or more, found the text 'many'",
            "or leave max_turns out",
        ),
        ("max_turns: '3'", 1, "max_turns", "found the text '3'", "without quotes"),
        ("max_turns: 0", 1, "max_turns", "a whole number, 1 or more, found 0", "1 or more"),
        ("max_turns: 1.5", 1, "max_turns", "found 1.5", "1 or more"),
        ("max_turns: true", 1, "max_turns", "found true", "1 or more"),
        ("max_turns:", 1, "max_turns", "found null", "1 or more"),
        ("max_retries: -1", 1, "max_retries", "0 or more, found -1", "0 or more"),
        ("max_inflight: 0", 1, "max_inflight", "found 0", "1 or more"),
        ("max_tokens: 0", 1, "max_tokens", "found 0", "1 or more"),
        ("temperature: -0.1", 1, "temperature", "found -0.1", "from 0 to 10"),
        ("top_p: 0", 1, "top_p", "found 0", "above 0"),
        ("top_p: 1.1", 1, "top_p", "found 1.1", "1 at most"),
        ("timeout_s: 0", 1, "timeout_s", "found 0", "seconds above 0"),
        ("timeout_s: .inf", 1, "timeout_s", "found the text '.inf'", "seconds above 0"),
        ("seed: 1.5", 1, "seed", "found 1.5", "whole number"),
        (f"seed: {2**63}", 1, "seed", f"found {2**63}", "64 bits"),
        ("model: [m]", 1, "model", "expected text, found a list", "give text, or leave"),
        ("system_prompt:", 1, "system_prompt", "expected text, found null", "give text, or leave"),
        ("keep: id", 1, "keep", "found the text 'id'", "a list of names"),
        ("keep: [id, 7]", 12, "keep[1]", "expected the name of a field, found 7", "give the name"),
        ("tools: read_file", 1, "tools", "found the text 'read_file'", "a list"),
        ("tools: [read_file, 7]", 20, "tools[1]", "expected a name or a definition, found 7", "give a name"),
        ("backend: [a:1, ' ']", 16, "backend[1]", "found the text ' '", "not blank"),
        ("backend: []", 1, "backend", "found a list", "a list of these"),
        ("backend: {a: 1}", 1, "backend", "found an object", "a URL"),
        ("output_schema: 7", 1, "output_schema", "found 7", "a path, or a JSON schema"),
        ("hostfile: ''", 1, "hostfile", "found the text ''", "a path"),
        ("turn_timeout_s: 0", 1, "turn_timeout_s", "found 0", "seconds above 0"),
        ("tool_choice: none", 1, "tool_choice", "expected auto or required, found the text 'none'", "give auto"),
        ("tool_protocol: json", 1, "tool_protocol", "found the text 'json'", "native"),
        ("compaction: false", 1, "compaction", "expected off, heuristic or model, found false", "give off"),
        ("hoist: yes", 1, "hoist", "expected true or false, found the text 'yes'", "true or false"),
        ("stream: 1", 1, "stream", "expected true or false, found 1", "true or false"),
        ("budget: 100", 1, "budget", "found 100", "{tokens: 1000000"),
        ("budget: {token: 100}", 10, "budget.token", "unknown key", "did you mean 'tokens'?"),
        ("budget: {tokens: 0}", 10, "budget.tokens", "a whole number, 1 or more, found 0", "or leave tokens out"),
        ("budget: {usd: free}", 10, "budget.usd", "US dollars above 0, found the text 'free'", "US dollars"),
        ("budget: {wall_s: -1}", 10, "budget.wall_s", "found -1", "seconds above 0"),
        ("budget: {tool_calls: -1}", 10, "budget.tool_calls", "found -1", "0 or more"),
        ("prices: 7", 1, "prices", "expected the path of a price table, or the table, found 7", "path"),
        ("prices: {m: {prompt: 1}}", 10, "prices.m", "completion is missing", "US dollars per million tokens"),
        ("reduce_schema: {type: object}", 1, "reduce_schema", "reduce is missing", "add reduce:"),
        ("runtime: aider", 1, "runtime", "expected opencode, or {name: opencode", "or leave runtime out"),
        ("runtime: {folders: x}", 11, "runtime.folders", "unknown key", "did you mean 'folder'?"),
        ("runtime: {context: 0}", 11, "runtime.context", "found 0", "1 or more"),
        ("reduce: ' '", 1, "reduce", "a prompt that is not blank", "or leave reduce out"),
        ("task_file: x.txt", 1, "task_file", "given together with task", "keep one"),
        ("inputs: other.csv", 1, "inputs", "the key 'inputs' is given twice, first in line 2", "keep one"),
        ("7: x", 1, "", "a key that is not text: 7", "in quotes"),
        ("model: !!python/name:os.system", 8, "model", "an anchor, alias or tag", "write the value out"),
        ("model: &m x", 8, "model", "an anchor, alias or tag", "write the value out"),
        ("model: 'x", None, "", "malformed YAML", "indentation and quotes"),
        ("model: a: b", 9, "", "malformed YAML: mapping values are not allowed", "in quotes"),
        ("---\nmodel: x", 1, "", "a second document", "keep one"),
    ],
)
def test_a_mistake_is_named_by_line_column_field_problem_and_remedy(
    write: Write, line: str, column: int | None, field: str, problem: str, remedy: str
) -> None:
    error = refusal(write("run.yaml", f"{MINIMAL}{line}\n"))
    assert error.line is not None
    assert error.line >= 3
    assert column is None or (error.line, error.column, error.field) == (3, column, field)
    assert problem in error.problem
    assert remedy in error.remedy
    assert error.others == ()


@pytest.mark.parametrize(
    ("text", "field", "problem"),
    [
        ("inputs: a.csv", "", "task is missing"),
        ("task: x", "", "inputs is missing"),
        ("task: ' '\ninputs: a.csv", "task", "expected text that is not blank"),
        ("task: x\ninputs: ''", "inputs", "expected a path, or a list of objects"),
        ("task: x\ninputs: {a: 1}", "inputs", "found an object"),
        ("task: x\ninputs: [{a: 1}, b]", "inputs[1]", "expected an object, found the text 'b'"),
        ("task: x\ninputs: [{a: 1, a: 2}]", "inputs[0].a", "the key 'a' is given twice"),
        ("task: x\ninputs: a\nruntime: opencode\ntools: []", "tools", "given together with runtime"),
        ("task: x\ninputs: a\nbackend: x\nhostfile: y", "hostfile", "given together with backend"),
        ("", "", "expected keys and values, found nothing"),
        ("- task", "", "expected keys and values, found a list"),
        ("just text", "", "expected keys and values, found the text 'just text'"),
        ("a: \x07", "", "malformed YAML"),
        ('a: "\\U99999999"', "", "malformed YAML"),
        ("[" * 20_000, "", "YAML"),
    ],
)
def test_a_spec_that_says_too_little_or_nonsense_is_refused(write: Write, text: str, field: str, problem: str) -> None:
    error = refusal(write("run.yaml", text))
    assert error.field == field
    assert problem in error.problem
    assert error.remedy


def test_every_mistake_is_listed_in_the_order_of_lines(write: Write) -> None:
    error = refusal(write("run.yaml", "top_p: 7\ntusk: x\ninputs: [1, {}, 2]\nmax_turns: 0\n"))
    assert [(e.line, e.field) for e in (error, *error.others)] == [
        (None, ""),
        (1, "top_p"),
        (2, "tusk"),
        (3, "inputs[0]"),
        (3, "inputs[2]"),
        (4, "max_turns"),
    ]


def test_prints_as_an_editor_understands_it(write: Write) -> None:
    path = write("run.yaml", f"{MINIMAL}\nmax_turn: 3\n")
    assert str(refusal(path)) == f"{path}:4:1: max_turn: unknown key"


def test_json_mistakes_have_line_and_column_too(write: Write) -> None:
    text = '{\n  "task": "x",\n  "inputs": [\n    {},\n    7\n  ],\n  "max_turns": "3"\n}'
    error = refusal(write("run.json", text))
    assert [(e.line, e.column, e.field) for e in (error, *error.others)] == [(5, 5, "inputs[1]"), (7, 3, "max_turns")]


def test_toml_mistakes_have_their_line(write: Write) -> None:
    text = 'task = """\nmax_turns = 3\n"""\ninputs = "a"\n  max_turns = 0\n"max_turn" = 1\n[tools]\nx = 1\n'
    error = refusal(write("run.toml", text))
    assert [(e.line, e.column, e.field) for e in (error, *error.others)] == [
        (5, 3, "max_turns"),
        (6, 1, "max_turn"),
        (7, 1, "tools"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "place", "problem"),
    [
        ("run.json", '{"task": "x",\n "task": "y"}', "", "the key 'task' is given twice"),
        ("run.json", '{"task": "x",\n "inputs" "y"}', ":2:11", "malformed JSON: expecting ':' delimiter"),
        ("run.json", "", ":1:1", "malformed JSON"),
        ("run.json", "[" * 20_000, "", "nested too deeply"),
        ("run.json", '{"seed": ' + "9" * 5000 + "}", "", "malformed JSON"),
        ("run.toml", 'task = "x"\ntask = "y"', ":2:11", "malformed TOML: cannot overwrite a value"),
        ("run.toml", 'task = "x\n', ":1:10", "malformed TOML"),
        ("run.toml", "a = " + "[" * 20_000, "", "TOML"),
        ("run.toml", "seed = " + "9" * 5000, "", "malformed TOML"),
        (
            "run.toml",
            "timeout_s = nan\ntask = 'x'\ninputs = 'a'",
            ":1:1",
            "expected a number of seconds above 0, found NaN",
        ),
        ("run.txt", MINIMAL, "", "the suffix '.txt' names no format"),
    ],
)
def test_a_malformed_file_is_named_by_place(write: Write, name: str, text: str, place: str, problem: str) -> None:
    path = write(name, text)
    error = refusal(path)
    assert error.place == f"{path}{place}"
    assert problem in error.problem
    assert error.remedy


def test_a_file_that_is_not_utf8_is_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"task: x\ninputs: \xe4\n")
    assert refusal(path).place == f"{path}:2:9"


def test_missing_files_are_named(write: Write, tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.yaml").problem == "no such file or folder"
    error = refusal(write("run.yaml", "task_file: none.txt\ninputs: a\n"))
    assert (error.source, error.problem) == (str(tmp_path / "none.txt"), "no such file or folder")
    with pytest.raises(SchemaError, match="no such file"):
        load_spec(write("run.yaml", f"{MINIMAL}output_schema: none.json\n"))


def test_a_blank_task_file_is_refused(write: Write) -> None:
    write("task.txt", " \n")
    error = refusal(write("run.yaml", "inputs: a\ntask_file: task.txt\n"))
    assert (error.line, error.field) == (2, "task_file")
    assert "is blank" in error.problem


def test_a_schema_within_the_spec_is_checked_at_its_place(write: Write) -> None:
    text = f"{MINIMAL}output_schema:\n  type: object\n  properties:\n    n: {{type: int}}\n"
    path = write("run.yaml", text)
    with pytest.raises(SchemaError) as caught:
        load_spec(path)
    assert str(caught.value) == f"{path}:6:9: output_schema.properties.n.type: 'int' is not a type"


def test_an_alias_cannot_blow_up(write: Write) -> None:
    levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    assert "anchor" in refusal(write("run.yaml", f"a0: &a0 x\n{levels}")).problem


# YAML reads neither an escaped surrogate pair, which JSON needs for what lies beyond 0xffff, nor a key of more than
# 1,024 characters.
text = st.text(st.characters(codec="utf-8", max_codepoint=0xFFFF), max_size=40)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
some_keys = st.sampled_from([*RunSpec.__struct_fields__, "task_file", "tusk"])


@given(st.dictionaries(some_keys, json_values, max_size=5))
def test_any_values_are_a_spec_or_a_spec_error(
    tmp_path_factory: pytest.TempPathFactory, fields: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "run.json"
    path.write_text(json.dumps({"task": "x", "inputs": "a"} | fields))
    with suppress(InputError):
        assert load_spec(path).task


@given(
    st.sampled_from(["run.yaml", "run.toml", "run.json"]),
    st.binary() | st.text("{}[]:,\"'\\u-&*!|>#=a1.e+\n \t").map(str.encode) | st.text().map(str.encode),
)
def test_any_bytes_are_a_spec_or_a_spec_error(tmp_path_factory: pytest.TempPathFactory, name: str, data: bytes) -> None:
    path = tmp_path_factory.mktemp("fuzz") / name
    path.write_bytes(data)
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    assert caught.value.remedy


@given(st.lists(st.dictionaries(text, json_values, max_size=3), max_size=3), text.filter(str.strip))
def test_inputs_and_task_come_back_from_json_and_from_yaml(
    tmp_path_factory: pytest.TempPathFactory, inputs: list[dict[str, Any]], task: str
) -> None:
    folder = tmp_path_factory.mktemp("round")
    for name in ("run.json", "run.yaml"):
        (folder / name).write_text(json.dumps({"task": task, "inputs": inputs}))
    assert load_spec(folder / "run.json") == RunSpec(task=task, inputs=inputs)
    assert load_spec(folder / "run.yaml") == RunSpec(task=task, inputs=inputs)
