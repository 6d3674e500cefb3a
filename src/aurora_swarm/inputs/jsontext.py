"""JSON read strictly, and what is wrong with a text that is not JSON, in words and with its place."""

from __future__ import annotations

import json
from typing import Any, NamedTuple, NoReturn

from aurora_swarm.inputs.files import InputErrorT, show


class JsonFlaw(NamedTuple):
    """Why a text is not JSON.

    Args:
        problem: What is wrong.
        line: 1-based line in the text, or None when it cannot be told.
        column: 1-based column, or None.
    """

    problem: str
    line: int | None = None
    column: int | None = None

    def as_error(self, error: type[InputErrorT], source: str, remedy: str) -> InputErrorT:
        """The flaw as an error of a file."""
        return error(self.problem, source=source, line=self.line, column=self.column, remedy=remedy)


def decode_json(text: str) -> Any | JsonFlaw:
    """The value of a JSON text, or its flaw.

    Stricter than the standard library: a key given twice, ``NaN``, and half a surrogate pair are flaws.
    """
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
        json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as exc:
        return JsonFlaw(f"malformed JSON: {exc.msg[:1].lower()}{exc.msg[1:]}", exc.lineno, exc.colno)
    except UnicodeEncodeError:
        return JsonFlaw("malformed JSON: half of a surrogate pair (\\ud800 to \\udfff)")
    except RecursionError:
        return JsonFlaw("JSON that is nested too deeply")
    except ValueError as exc:
        return JsonFlaw(f"malformed JSON: {exc}")
    return value


def explain_json(text: str) -> JsonFlaw:
    """The flaw of a text that a strict decoder refused."""
    value = decode_json(text)
    return value if isinstance(value, JsonFlaw) else JsonFlaw("JSON with a number that is out of range")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {show(key)} is given twice in one object")
        found[key] = value
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
