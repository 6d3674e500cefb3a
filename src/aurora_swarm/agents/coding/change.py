"""What a coding agent hands back."""

from __future__ import annotations

from pydantic import BaseModel


class CodeChange(BaseModel):
    """A coding agent's answer.

    Attributes:
        text: What it said last.
        diff: What it changed in its copy of the folder, as ``git apply`` takes it; empty when it changed nothing.
    """

    text: str
    diff: str
