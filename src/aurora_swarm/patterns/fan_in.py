"""Many texts become one, in as many steps as the reducer's context asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import msgspec

from aurora_swarm.errors import RequestRejectedError, UsageError
from aurora_swarm.inputs.template import Template
from aurora_swarm.patterns.quorum import shortfall
from aurora_swarm.pools.flow import together
from aurora_swarm.pools.pool import Pool
from aurora_swarm.values.gathered import Reduced
from aurora_swarm.values.outcome import Response

FRAME = 64
"""Tokens that a chat template and the numbering add to a prompt."""

DENSE = 0.9
"""What is kept of a text that is cut, of what its mean density allows: a part of it may be denser."""

AGAIN, SPARE = 1.05, 4
"""Tokens that a text has in a prompt, per token counted when it was made, and a few more: it may be split otherwise."""

Leaves = tuple[int, ...]


class Part(msgspec.Struct, frozen=True):
    """A text and what it stands for.

    Args:
        text: An answer, or what was made of several.
        leaves: Positions of the answers that are in it.
        tokens: Its length, as the server counted that made it; 0 where it did not.
    """

    text: str
    leaves: Leaves
    tokens: int = 0

    @classmethod
    def of(cls, response: Response, leaves: Leaves) -> Self:
        """An answer as a part."""
        return cls(response.text, leaves, response.usage.completion_tokens)


def reduce_template(text: str) -> Template:
    """A checked reduce prompt.

    Raises:
        UsageError: ``{responses}`` is missing, or there are placeholders besides it and ``{level}``.
    """
    template = Template(text, "reduce_prompt")
    template.check({"responses", "level"}, "a reduce step")
    if "responses" not in template.fields:
        raise UsageError("reduce_prompt has no {responses}", remedy="write {responses} where the answers are to stand")
    return template


def packed(sizes: Sequence[int], room: int, most: int) -> list[range]:
    """Neighbours that fit together: as many as `room` holds, up to `most`; pure.

    Args:
        sizes: Of each text.
        room: What a group may add up to; a text that exceeds it stands alone.
        most: Texts per group.

    Returns:
        Ranges that cover all texts in order.
    """
    groups: list[range] = []
    start = total = 0
    for place, size in enumerate(sizes):
        if place > start and (total + size > room or place - start >= most):
            groups.append(range(start, place))
            start, total = place, 0
        total += size
    return [*groups, range(start, len(sizes))] if sizes else []


def cut(text: str, tokens: int, most: int) -> str:
    """The text, or its beginning and its end where it is longer than `most` tokens, and how much is left out; pure.

    Args:
        text: Of any length.
        tokens: Its length.
        most: What is wanted.
    """
    if tokens <= most:
        return text
    return _middle_out(text, int(len(text) * most * DENSE // tokens))


def _middle_out(text: str, keep: int) -> str:
    head, tail = keep - keep // 2, keep // 2
    gap = f"\n[... {len(text) - keep} characters left out ...]\n"
    return text[:head] + gap + (text[-tail:] if tail else "")


class Reducer:
    """Makes one text of many.

    Args:
        pool: Who reduces.
        template: As `reduce_template` gives it.
        fanin: Texts per step at most.
        room: Tokens that a prompt may have; None where no context is known.
        agent_index: Who reduces; None for whoever has the least to do.
        max_tokens: Tokens of each merged text at most; None for what the pool allows aggregations.

    Attributes:
        spent: Every response so far, in order of time.
        failures: Those among them by which answers went missing.
    """

    def __init__(
        self,
        pool: Pool,
        template: Template,
        *,
        fanin: int,
        room: int | None,
        agent_index: int | None = None,
        max_tokens: int | None = None,
    ) -> None:
        self._pool = pool
        self._template = template
        self._fanin = fanin
        self._agent_index = agent_index
        self._max_tokens = max_tokens or pool.max_tokens_aggregation
        self._tokens = pool.runtime.tokens_at_most
        self._room = room
        self.spent: list[Response] = []
        self.failures: list[Response] = []

    async def merge(self, parts: Sequence[Part], level: int) -> Part | None:
        """One part of several, or of one; None where every step failed.

        Texts that do not fit beside each other are cut, beginnings and ends kept. A step that its server refuses is
        taken in halves. What a failed step was to take in is missing from the result.
        """
        left = list(parts)
        while left:
            groups = self._groups(left)
            steps = [self._step([left[place] for place in group], level) for group in groups]
            merged = [part for step in await together(steps) for part in step]
            if len(merged) < 2:
                return merged[0] if merged else None
            if len(merged) >= len(left) and not self._narrowed(left):
                return None
            left, level = merged, level + 1
        return None

    def account(self, root: Part | None, responses: Sequence[Response], needed: int) -> Reduced:
        """The last response with the account of all; a failure where fewer than `needed` answers are in it."""
        taken_in = set(root.leaves) if root is not None else set()
        missing = [place for place in range(len(responses)) if place not in taken_in]
        last = self.spent[-1] if self.spent else responses[0]
        told = Reduced.of(last, [*responses, *self.spent], len(responses), missing)
        if root is not None and len(taken_in) >= needed:
            return msgspec.structs.replace(told, success=True, text=root.text, error=None)
        return told.without_answer(shortfall(len(responses), [*responses, *self.failures], len(taken_in), needed))

    def _narrowed(self, parts: list[Part]) -> bool:
        """Steps were refused although they should fit: reckon with less room; False where that is of no use."""
        room = self._room or max(map(self._size, parts)) * 2 + self._tokens(self._template.text)
        self._room = room * 3 // 4
        return self._room > self._tokens(self._template.text) + 2 * FRAME

    def _groups(self, parts: list[Part]) -> list[range]:
        if self._room is None:
            return packed([0] * len(parts), 0, self._fanin)
        room = max(self._room - self._tokens(self._template.text) - FRAME, 2 * FRAME)
        for place, part in enumerate(parts):  # so that at least two fit beside each other
            parts[place] = self._fitted(part, room // 2)
        return packed([self._size(part) for part in parts], room, self._fanin)

    def _size(self, part: Part) -> int:
        return int(part.tokens * AGAIN) + SPARE if part.tokens else self._tokens(part.text)

    def _fitted(self, part: Part, most: int) -> Part:
        size = self._size(part)
        if size <= most:
            return part
        return Part(cut(part.text, size, most), part.leaves, max(int((most - SPARE) / AGAIN), 1))

    async def _step(self, parts: list[Part], level: int) -> list[Part]:
        """One reduce call; its parts, where it is refused and taken in halves."""
        response = await self._ask(parts, level)
        self.spent.append(response)
        if response.success:
            return [Part.of(response, tuple(leaf for part in parts for leaf in part.leaves))]
        if isinstance(response.error, RequestRejectedError) and len(parts) > 1:
            half = len(parts) // 2
            halves = await together([self._step(parts[:half], level), self._step(parts[half:], level)])
            return [part for each in halves for part in each]
        self.failures.append(response)
        return []

    async def _ask(self, parts: list[Part], level: int) -> Response:
        numbered = "\n\n".join(f"{number}. {part.text}" for number, part in enumerate(parts, 1))
        prompt = self._template.render({"responses": numbered, "level": level})
        if self._agent_index is not None:
            return await self._pool.post(self._agent_index, prompt, self._max_tokens)
        call = self._pool.runtime.call(prompt, self._max_tokens)
        return self._pool.respond_to(0, await self._pool.ask(call))
