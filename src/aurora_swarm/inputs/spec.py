"""Run specifications: a whole batch in one YAML, TOML or JSON file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from aurora_swarm.errors import SpecError
from aurora_swarm.inputs.documents import Document, Trail, load_document
from aurora_swarm.inputs.files import StrPath, describe, read_text, suggest
from aurora_swarm.inputs.prices import PriceTable, load_prices, price_table, wrong_prices
from aurora_swarm.inputs.schema import check_document, load_schema
from aurora_swarm.values.budget import Budget

_Positive = Annotated[int, msgspec.Meta(ge=1)]
_NotNegative = Annotated[int, msgspec.Meta(ge=0)]


class RunSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a specification says, checked, with every path resolved against the specification's folder.

    Args:
        task: The prompt template. A file may say `task_file` instead, the path of a file that holds it.
        inputs: Path of the inputs (``-`` is standard input), or the inputs themselves.
        keep: Fields of each input that its line of the results repeats.
        system_prompt: What every agent is told first.
        output_schema: JSON schema of an answer; in the file the path of one, or the schema itself. None is text.
        tools: Names of tools, or definitions of them.
        tool_choice: ``required`` makes every agent use a tool before it answers.
        tool_protocol: ``native`` for the server's own tool calls, ``constrained`` for steps held to a schema, ``auto``
            for what is known of the backend.
        max_parallel_tools: Tool calls of one agent under way at a time.
        runtime: What leads each agent in place of its own turns, with its settings: ``{"name": "opencode", ...}``.
        model: Model to ask for; empty takes what the servers have.
        backend: URL or hostfile of the servers, or several.
        hostfile: Path of a hostfile; not together with `backend`.
        max_inflight: Agents at work at once; None lets the scheduler find out.
        max_turns: Model turns per agent at most.
        max_retries: How often an invalid answer is asked for again.
        temperature: 0 is greedy; None leaves it to the server.
        top_p: Nucleus mass in (0, 1]; None leaves it to the server.
        seed: For engines that can repeat themselves.
        max_tokens: Tokens to generate per turn at most; None derives it from the context.
        timeout_s: Seconds per agent; None is the library's default.
        turn_timeout_s: Seconds per model turn, its retries included; None bounds only the agent.
        request_timeout_s: Seconds per request; None is the library's default.
        compaction: What happens to a conversation that outgrows the context: ``heuristic``, ``model`` or ``off``.
        hoist: Whether fields that are the same for all inputs are said once, in front.
        warm: Whether what all agents share is computed once per endpoint first, where that pays.
        prefetch: Whether an agent's prefix is asked for shortly before its tool returns.
        stream: Whether answers are streamed, so that the time to the first token is measured.
        budget: What the run may spend.
        prices: What models cost; in the file the path of a table, or the table itself.
        reduce: Prompt that makes one answer of all; None for none.
        reduce_schema: JSON schema of that answer; in the file the path of one, or the schema itself. None is text.
        output: Path that results are written to.
        journal: Path or URL of the journal.
        events: Path of a log of what happened, one JSON object per line.
    """

    task: str
    inputs: str | list[dict[str, Any]]
    keep: list[str] = []
    system_prompt: str = ""
    output_schema: dict[str, Any] | None = None
    tools: list[str | dict[str, Any]] = []
    tool_choice: Literal["auto", "required"] = "auto"
    tool_protocol: Literal["auto", "native", "constrained"] = "auto"
    max_parallel_tools: int = 8
    runtime: dict[str, Any] | None = None
    model: str = ""
    backend: str | list[str] | None = None
    hostfile: str | None = None
    max_inflight: int | None = None
    max_turns: int = 8
    max_retries: int = 2
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    timeout_s: float | None = None
    turn_timeout_s: float | None = None
    request_timeout_s: float | None = None
    compaction: Literal["off", "heuristic", "model"] = "heuristic"
    hoist: bool = True
    warm: bool = False
    prefetch: bool = False
    stream: bool = False
    budget: Budget | None = None
    prices: PriceTable | None = None
    reduce: str | None = None
    reduce_schema: dict[str, Any] | None = None
    output: str | None = None
    journal: str | None = None
    events: str | None = None


class _Rule(NamedTuple):
    """What a key of the file takes.

    Args:
        type: Decides. Without `pattern`: in a union with a list or dict, msgspec 0.22 corrupts memory over it.
        words: Tell a user.
        blank: Whether blank text will do.
    """

    type: Any
    words: str
    blank: bool = False


_TEXT = _Rule(str, "text that is not blank")
_FILLED_LIST = Annotated[list[Any], msgspec.Meta(min_length=1)]
_COUNT = _Rule(_Positive, "a whole number, 1 or more")
_COUNT_OR_NONE = _Rule(_Positive | None, "a whole number, 1 or more")
_SECONDS = _Rule(Annotated[float, msgspec.Meta(gt=0, le=1e9)] | None, "a number of seconds above 0")
_SCHEMA = _Rule(str | dict[str, Any] | None, "a path, or a JSON schema")
_YES_OR_NO = _Rule(bool, "true or false")
_RULES: dict[str, _Rule] = {
    "task": _TEXT,
    "task_file": _TEXT,
    "inputs": _Rule(str | list[Any], "a path, or a list of objects"),
    "keep": _Rule(list[Any], "a list of names of fields"),
    "system_prompt": _Rule(str, "text", blank=True),
    "output_schema": _SCHEMA,
    "tools": _Rule(list[Any], "a list of names or definitions"),
    "tool_choice": _Rule(Literal["auto", "required"], "auto or required"),
    "tool_protocol": _Rule(Literal["auto", "native", "constrained"], "auto, native or constrained"),
    "max_parallel_tools": _COUNT,
    "runtime": _Rule(Literal["opencode"] | dict[str, Any] | None, "opencode, or {name: opencode, folder: ...}"),
    "model": _Rule(str, "text", blank=True),
    "backend": _Rule(str | _FILLED_LIST | None, "a URL, a hostfile, or a list of these"),
    "hostfile": _Rule(str | None, "a path"),
    "max_inflight": _COUNT_OR_NONE,
    "max_turns": _COUNT,
    "max_retries": _Rule(_NotNegative, "a whole number, 0 or more"),
    "temperature": _Rule(Annotated[float, msgspec.Meta(ge=0, le=10)] | None, "a number from 0 to 10"),
    "top_p": _Rule(Annotated[float, msgspec.Meta(gt=0, le=1)] | None, "a number above 0, and 1 at most"),
    "seed": _Rule(Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None, "a whole number of 64 bits"),
    "max_tokens": _COUNT_OR_NONE,
    "timeout_s": _SECONDS,
    "turn_timeout_s": _SECONDS,
    "request_timeout_s": _SECONDS,
    "compaction": _Rule(Literal["off", "heuristic", "model"], "off, heuristic or model"),
    "hoist": _YES_OR_NO,
    "warm": _YES_OR_NO,
    "prefetch": _YES_OR_NO,
    "stream": _YES_OR_NO,
    "budget": _Rule(dict[str, Any] | None, "bounds such as {tokens: 1000000, wall_s: 3600}"),
    "prices": _Rule(str | dict[str, Any] | None, "the path of a price table, or the table"),
    "reduce": _Rule(str | None, "a prompt that is not blank"),
    "reduce_schema": _SCHEMA,
    "output": _Rule(str | None, "a path"),
    "journal": _Rule(str | None, "a path or URL"),
    "events": _Rule(str | None, "a path"),
}
_BOUNDS: dict[str, _Rule] = {
    "tokens": _COUNT_OR_NONE,
    "usd": _Rule(Annotated[float, msgspec.Meta(gt=0, le=1e12)] | None, "a number of US dollars above 0"),
    "wall_s": _SECONDS,
    "tool_calls": _Rule(_NotNegative | None, "a whole number, 0 or more"),
    "width": _COUNT_OR_NONE,
}
_RUNTIME: dict[str, _Rule] = {
    "name": _Rule(Literal["opencode"], "opencode"),
    "command": _Rule(str, "the path of a program"),
    "folder": _Rule(str, "the path of a folder"),
    "leave_out": _Rule(list[str], "a list of patterns"),
    "keep": _Rule(str, "the path of a folder"),
    "allow_commands": _YES_OR_NO,
    "allow_web": _YES_OR_NO,
    "context": _COUNT,
    "max_tokens": _COUNT,
}
_TABLES = {"budget": _BOUNDS, "runtime": _RUNTIME}
_ITEMS: dict[str, _Rule] = {
    "inputs": _Rule(dict[str, Any], "an object"),
    "tools": _Rule(str | dict[str, Any], "a name or a definition"),
    "keep": _Rule(str, "the name of a field"),
    "backend": _TEXT,
}


_ONE_OF_TWO = (("task", "task_file"), ("backend", "hostfile"), ("runtime", "tools"), ("runtime", "output_schema"))


def load_spec(path: StrPath) -> RunSpec:
    """Read a specification from a ``.yaml``, ``.yml``, ``.toml`` or ``.json`` file.

    Raises:
        SpecError: The file cannot be read, is malformed, or holds keys or values that it must not; every such
            key is listed, with its line and column where the format has them.
        SchemaError: The output schema cannot be used.
    """
    document = load_document(path, SpecError, (".yaml", ".yml", ".toml", ".json"))
    if not isinstance(document.data, dict):
        found = "nothing" if document.data is None else describe(document.data)
        remedy = "write task: and inputs: on lines of their own"
        raise document.error(SpecError, (), f"expected keys and values, found {found}", remedy)
    errors = [*_wrong_keys(document), *_wrong_values(document), *_wrong_parts(document)]
    if errors:
        raise SpecError.all_of(sorted(errors, key=lambda error: (error.line or 0, error.column or 0)))
    return msgspec.convert(_resolved(document), RunSpec)


def _wrong_keys(document: Document) -> list[SpecError]:
    given = document.data
    errors = [
        document.error(SpecError, (key,), "unknown key", suggest(key, _RULES)) for key in given if key not in _RULES
    ]
    for one, other in _ONE_OF_TWO:
        if one in given and other in given:
            errors.append(document.error(SpecError, (other,), f"given together with {one}", "keep one of the two"))
    if "reduce_schema" in given and "reduce" not in given:
        remedy = "add reduce: with the prompt that makes one answer of all, or leave reduce_schema out"
        errors.append(document.error(SpecError, ("reduce_schema",), "reduce is missing", remedy))
    if "task" not in given and "task_file" not in given:
        remedy = "add task: with the prompt, its {fields} taken from the inputs"
        errors.append(document.error(SpecError, (), "task is missing", remedy))
    if "inputs" not in given:
        remedy = "add inputs: with the path of a file or folder, or a list of objects"
        errors.append(document.error(SpecError, (), "inputs is missing", remedy))
    return errors


def _wrong_values(document: Document) -> list[SpecError]:
    errors = []
    for key, value in document.data.items():
        if key not in _RULES:
            continue
        if not _accepts(_RULES[key], value):
            errors.append(_wrong_value(document, (key,), _RULES[key], value))
        elif isinstance(value, list):
            items = enumerate(value)
            errors += [
                _wrong_value(document, (key, i), _ITEMS[key], v) for i, v in items if not _accepts(_ITEMS[key], v)
            ]
    return errors


def _wrong_parts(document: Document) -> list[SpecError]:
    """What is wrong within the tables of a specification."""
    errors = list(wrong_prices(document, ("prices",))) if isinstance(document.data.get("prices"), dict) else []
    for part, rules in _TABLES.items():
        table = document.data.get(part)
        for key, value in table.items() if isinstance(table, dict) else ():
            if key not in rules:
                errors.append(document.error(SpecError, (part, key), "unknown key", suggest(key, rules)))
            elif not _accepts(rules[key], value):
                errors.append(_wrong_value(document, (part, key), rules[key], value))
    return errors


def _accepts(rule: _Rule, value: object) -> bool:
    try:
        msgspec.convert(value, rule.type)
    except msgspec.ValidationError:
        return False
    return rule.blank or not isinstance(value, str) or bool(value.strip())


def _wrong_value(document: Document, trail: Trail, rule: _Rule, value: object) -> SpecError:
    remedy = f"give {rule.words}"
    if isinstance(value, str) and "number" in rule.words and re.fullmatch(r"[-+.0-9eE]+", value):
        remedy += ", without quotes"
    if isinstance(trail[-1], str) and trail[-1] not in ("task", "task_file", "inputs"):
        remedy += f", or leave {trail[-1]} out"
    return document.error(SpecError, trail, f"expected {rule.words}, found {describe(value)}", remedy)


def _resolved(document: Document) -> dict[str, Any]:
    """The fields of a checked document, with paths made whole and files read."""
    folder = Path(document.source).absolute().parent
    fields = dict(document.data)
    if (task_file := fields.pop("task_file", None)) is not None:
        fields["task"] = _read_task(document, folder / task_file)
    for key, resolve in _PATHS.items():
        if isinstance(fields.get(key), str):
            fields[key] = resolve(folder, fields[key])
    if isinstance(fields.get("backend"), list):
        fields["backend"] = [_backend(folder, text) for text in fields["backend"]]
    for key in ("output_schema", "reduce_schema"):
        if isinstance(fields.get(key), str):
            fields[key] = load_schema(folder / fields[key])
        elif fields.get(key) is not None:
            check_document(document, (key,))
    if (runtime := fields.get("runtime")) is not None:
        fields["runtime"] = _runtime(folder, runtime)
    if (prices := fields.get("prices")) is not None:
        is_path = isinstance(prices, str)
        fields["prices"] = load_prices(folder / prices) if is_path else price_table(prices, document.source)
    return fields


def _read_task(document: Document, path: Path) -> str:
    text = read_text(path, SpecError, limit_bytes=_LIMIT_TASK_BYTES)
    if not text.strip():
        raise document.error(SpecError, ("task_file",), f"{path} is blank", "write the prompt into it")
    return text


def _runtime(folder: Path, given: str | dict[str, Any]) -> dict[str, Any]:
    if isinstance(given, str):
        return {"name": given}
    return {key: _path(folder, value) if key in ("folder", "keep") else value for key, value in given.items()}


def _path(folder: Path, text: str) -> str:
    return text if text == "-" or "://" in text else str(folder / text)


def _backend(folder: Path, text: str) -> str:
    """A path where the text names an existing file, for a hostfile; else the text, which is an address."""
    try:
        return str(folder / text) if "://" not in text and (folder / text).is_file() else text
    except OSError:
        return text


_LIMIT_TASK_BYTES = 16 * 2**20
_PATHS: dict[str, Callable[[Path, str], str]] = {
    "inputs": _path,
    "hostfile": _path,
    "output": _path,
    "journal": _path,
    "events": _path,
    "backend": _backend,
}
