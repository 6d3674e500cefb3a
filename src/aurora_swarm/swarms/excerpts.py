"""Texts of others as a prompt shows them: between tags that nothing inside can close, so that they stay data. Pure."""

from __future__ import annotations

import re


def excerpt(tag: str, text: str, **attributes: object) -> str:
    """A text in its envelope; not a character of it is interpreted.

    Args:
        tag: What it is, a word.
        text: Anything. A closing tag in it is shown with a backslash, so that it closes nothing.
        **attributes: What is said about it by us, never by its author.
    """
    said = "".join(f' {name}="{value}"' for name, value in attributes.items())
    harmless = re.sub(rf"<(?=\s*/?\s*{re.escape(tag)}\b)", r"<\\", text, flags=re.IGNORECASE)
    return f"<{tag}{said}>\n{harmless}\n</{tag}>"


def shortened(text: str, max_chars: int) -> str:
    """The beginning of a text, cut between words where it is cut, with an ellipsis then."""
    if len(text) <= max_chars:
        return text
    kept = text[: max_chars - 1]
    return (kept[: kept.rfind(" ")] if " " in kept[max_chars // 2 :] else kept).rstrip() + "\N{HORIZONTAL ELLIPSIS}"
