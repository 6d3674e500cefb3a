"""A status, its headers and its body -> whose fault it is. Pure: the time is an argument."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from aurora_swarm.errors import (
    AttemptTimeoutError,
    AuthenticationError,
    BadResponseError,
    CallError,
    OverloadedError,
    RequestRejectedError,
    ServerError,
    WrongModelError,
)

MAX_RETRY_AFTER_S = 3600.0
"""However long an endpoint asks for."""

MAX_MESSAGE = 300
"""Characters of a server's message that are shown."""

BUSY = (429, 503, 529)
"""Statuses by which a server says that it has too much to do; the last one is Anthropic's."""

FAILED_BEHIND = 424
"""Bedrock's status for a model that failed behind it: the endpoint's fault, although it begins with a 4."""

_READ = 1 << 20


def error_from(status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> CallError:
    """The error that an answer outside of 2xx is.

    Args:
        status: HTTP status.
        headers: Names in lower case.
        body: What came with it.
        now: Seconds since the epoch, for a Retry-After that is a date.
    """
    said = message_in(body)
    problem = f"answered {status}: {said}" if said else f"answered {status}"
    if status in BUSY:
        return OverloadedError(problem, status=status, retry_after_s=retry_after_s(headers.get("retry-after"), now=now))
    if status >= 500 or status == FAILED_BEHIND:
        return ServerError(problem, status=status)
    if status < 400:
        return BadResponseError(problem, status=status, remedy="give the address that answers without a redirect")
    return _refusal(status, body, said, problem)


def _refusal(status: int, body: bytes, said: str, problem: str) -> CallError:
    """A 4xx that is not about load."""
    if status in (401, 403):
        return AuthenticationError(problem, status=status, remedy="check the API key (AURORA_SWARM_API_KEY)")
    if status == 408:
        return AttemptTimeoutError(problem, status=status)
    if _about_model(status, body, said):
        return WrongModelError(problem, status=status, remedy="ask for a model that it serves")
    return RequestRejectedError(problem, status=status)


def retry_after_s(value: str | None, *, now: float) -> float | None:
    """Seconds that an endpoint asks for.

    Args:
        value: The header: seconds or an HTTP date.
        now: Seconds since the epoch.

    Returns:
        Seconds between 0 and `MAX_RETRY_AFTER_S`; None when there is nothing to read.
    """
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = _until(value, now)
    if math.isnan(seconds):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


def message_in(body: bytes) -> str:
    """The server's own words as one short line: OpenAI's, FastAPI's or plain ones, HTML stripped."""
    return reported(body) or _readable(body[:_READ].decode("utf-8", "replace"))


def reported(body: bytes) -> str:
    """The message of an error object; empty when `body` is none."""
    return _tidy(_message_of(_as_object(body)))


def _as_object(body: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _message_of(value: dict[str, Any]) -> str:
    error = value.get("error")
    if isinstance(error, dict):
        return str(error.get("message") or error.get("type") or msgspec.json.encode(error).decode())
    if error:
        return str(error)
    if "detail" in value:
        return _detail(value["detail"])
    is_error = value.get("object") == "error" or "choices" not in value
    message = value.get("message") or value.get("Message")  # Amazon writes both
    return message if is_error and isinstance(message, str) else ""


def _detail(detail: Any) -> str:
    """FastAPI's: a text, or one entry per wrong field."""
    if not isinstance(detail, list):
        return str(detail or "")
    entries = [entry for entry in detail if isinstance(entry, dict)]
    return "; ".join(f"{'.'.join(map(str, entry.get('loc') or ()))}: {entry.get('msg', '')}" for entry in entries)


def _readable(text: str) -> str:
    if re.search(r"<(!doctype|html|body|title|h1)\b", text[:2000], re.IGNORECASE):
        text = re.sub(r"(?is)<(script|style)\b.*?</\1\s*>", " ", text)
        title = re.search(r"(?is)<title[^>]*>(.*?)</title>", text)
        text = html.unescape(title[1] if title and title[1].strip() else re.sub(r"<[^>]*>", " ", text))
    return _tidy(text)


def _tidy(text: str) -> str:
    """One line that a terminal can show: no control characters, not too long."""
    text = "".join(c if c.isprintable() else " " for c in text[: 4 * MAX_MESSAGE])
    text = " ".join(text.split())
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 3] + "..."


def _about_model(status: int, body: bytes, said: str) -> bool:
    error = _as_object(body).get("error")
    if isinstance(error, dict) and error.get("code") == "model_not_found":
        return True
    return status == 404 and "model" in said.lower()


def _until(date: str, now: float) -> float:
    """Seconds until an HTTP date; NaN when it is none."""
    try:
        return parsedate_to_datetime(date).timestamp() - now
    except (ValueError, TypeError, OverflowError, IndexError):
        return math.nan
