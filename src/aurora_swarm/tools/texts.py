"""What a tool returned, as text that a model may be shown: no wire refuses it, and it is not too long. Pure."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from pydantic_core import to_json

from aurora_swarm.errors import ToolFailedError

CountTokens = Callable[[str], int]

MAX_FAILURE_CHARS = 500

_SLACK = 200
"""A tool that cut its own answer has said so in lines of its own, which are not to be cut again."""


def estimated_tokens(text: str) -> int:
    """Tokens by the rule of thumb that four bytes are one, for where nobody counts."""
    return (len(text.encode("utf-8", "replace")) + 3) // 4


def as_text(value: object, max_chars: int) -> str:
    """What a tool returned, as the model gets it: text as it is, anything else as JSON.

    Raises:
        ToolFailedError: It cannot be written.
    """
    if isinstance(value, str):
        return clean(value, max_chars)
    if inspect.isawaitable(value):
        if inspect.iscoroutine(value):
            value.close()
        raise ToolFailedError("it returned something to be awaited; define it with async def")
    try:
        return clean(to_json(value, fallback=str).decode(), max_chars)
    except ValueError as error:
        problem = f"it returned a {type(value).__name__} that cannot be written as JSON"
        raise ToolFailedError(problem) from error


def clean(text: str, max_chars: int) -> str:
    """Not much more than so many characters, and no half surrogate pair, which no wire carries."""
    shown = text if len(text) <= max_chars + _SLACK else text[:max_chars]
    note = "" if shown is text else f"\n[cut after {max_chars} of {len(text)} characters]"
    return (shown if shown.isascii() else shown.encode("utf-8", "replace").decode()) + note


def first_tokens(text: str, max_tokens: int, count: CountTokens) -> str:
    """The beginning of a text, in as many tokens as a model may be shown, with a note where it is not all of it.

    Args:
        text: All of it.
        max_tokens: Tokens at most; the note comes on top.
        count: Counts the tokens of a text.
    """
    whole = count(text)
    if whole <= max_tokens:
        return text
    tokens, shown = whole, text
    # Tokens are not spread evenly: what is shown shrinks until it fits.
    while tokens > max_tokens and shown:
        shown = shown[: min(len(shown) - 1, len(shown) * max_tokens // tokens)]
        tokens = count(shown)
    return f"{shown}\n[cut after {tokens} of {whole} tokens]"
