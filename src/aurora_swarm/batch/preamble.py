"""Lines above a system prompt that are meant for a provider and not for the model. Pure.

Coding agents put pseudo-headers before their prompt, among them a checksum of the request or the id of a session. They
say nothing to the model, and because they differ from session to session no engine finds the prompt below them in its
cache, and no journal finds the answer of yesterday.
"""

from __future__ import annotations

import re

_HEADER = re.compile(r"[ \t]*([A-Za-z][\w-]*)[ \t]*:[^\n]*(?:\n|\Z)")
_FOR_MACHINES = re.compile(
    r"x-[\w-]+|(?:[\w-]+[-_])?(?:session|request|conversation|trace|correlation|run)[-_]?id|traceparent"
)
_OF_THE_MOMENT = re.compile(r"(?:current[-_])?(?:date|time|datetime)|timestamp|nonce")


def without_session_headers(prompt: str) -> str:
    """A system prompt without the headers above it that vary from session to session.

    Looks only at the lines of the form ``name: value`` that the prompt begins with. Names such as
    ``x-anthropic-billing-header``, ``session-id`` or ``traceparent`` are dropped. A ``date`` or ``timestamp`` is
    dropped only in their company: alone it is what its author wants to tell the model. Everything else stays as it is,
    to the character.

    Args:
        prompt: The system prompt.
    """
    kept: list[str] = []
    end, machine = 0, False
    while found := _HEADER.match(prompt, end):
        name = found[1].lower()
        if _FOR_MACHINES.fullmatch(name):
            machine = True
        else:
            kept.append(found[0])
        end = found.end()
        if end == len(prompt):
            break
    if not machine:
        return prompt
    stays = "".join(line for line in kept if not _OF_THE_MOMENT.fullmatch(_name_of(line)))
    return stays + (prompt[end:] if stays else prompt[end:].lstrip("\n"))


def _name_of(line: str) -> str:
    return line.partition(":")[0].strip().lower()
