"""What faults make of a right answer. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aurora_swarm.testing import answers
from aurora_swarm.testing.fleet.faults import Fault
from aurora_swarm.testing.fleet.http import HTML, answer

GARBAGE = b"\x00\x01\x02 this is not HTTP\r\n\r\n"
PAGE = b"<html><head><title>502 Bad Gateway</title></head><body><h1>proxy</h1></body></html>"


def instead(fault: Fault, date: str) -> bytes | None:
    """What is sent in place of any answer; None where the fault is of another kind.

    Args:
        fault: What is wrong.
        date: An HTTP date two seconds ahead.
    """
    if fault.kind == "garbage":
        return GARBAGE
    if fault.kind == "html":
        return answer(PAGE, 502, HTML)
    if fault.kind == "error_200":
        return answer(answers.encode(answers.error("the engine is dead")))
    if fault.kind != "status":
        return None
    after = date if fault.retry_after == "date" else fault.retry_after
    more = b"" if after is None else f"retry-after: {after}\r\n".encode("latin-1")
    return answer(answers.encode(answers.error("simulated", fault.status)), fault.status, more=more)


def spoiled(fault: Fault, body: dict[str, Any]) -> dict[str, Any]:
    """A right body with what the fault does to it; the same where it does nothing."""
    if fault.kind == "wrong_types":
        return {key: _other_type(value) for key, value in body.items()}
    choices = body.get("choices")
    edit = _EDITS.get(fault.kind)
    if edit is None or choices is None:
        return body
    return {**body, "choices": edit(choices, fault)}


def _other_type(value: Any) -> Any:
    return "not a list" if isinstance(value, (list, dict)) else [{"of": "another type"}]


def _reordered(choices: list[Any], _: Fault) -> list[Any]:
    return choices[::-1]


def _missing(choices: list[Any], _: Fault) -> list[Any]:
    return choices[1:]


def _duplicated(choices: list[Any], _: Fault) -> list[Any]:
    return [*choices, *choices[:1]]


def _aborted(choices: list[Any], _: Fault) -> list[Any]:
    return [{**choice, "finish_reason": "abort"} for choice in choices]


def _ended(choices: list[Any], fault: Fault) -> list[Any]:
    return choices[: fault.at]


_EDITS: dict[str, Callable[[list[Any], Fault], list[Any]]] = {
    "choices_reordered": _reordered,
    "choices_missing": _missing,
    "choices_duplicated": _duplicated,
    "abort": _aborted,
    "dies_mid_batch": _ended,
}
