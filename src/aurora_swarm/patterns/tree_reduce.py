"""Answers become one through a tree of supervisors, each of which sees only what its context holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from typing import Any

from aurora_swarm.errors import UsageError
from aurora_swarm.patterns.fan_in import Part, Reducer, reduce_template
from aurora_swarm.patterns.quorum import Quorum, least
from aurora_swarm.patterns.scatter_gather import prompts_for
from aurora_swarm.pools.flow import together
from aurora_swarm.pools.pool import Pool
from aurora_swarm.values.gathered import Reduced
from aurora_swarm.values.outcome import Response


async def tree_reduce(
    pool: Pool,
    prompt: str,
    reduce_prompt: str,
    fanin: int = 50,
    items: Iterable[Any] | None = None,
    *,
    quorum: Quorum = 1,
    max_tokens_aggregation: int | None = None,
) -> Reduced:
    """Ask many, and have supervisors reduce their answers to one, level by level.

    Neighbours of the input form a group, and its supervisor is asked as soon as the last of them has answered: no level
    waits for another. A group that is too long for a context is reduced in several steps; a single answer that is too
    long keeps its beginning and its end.

    Args:
        pool: Who answers and who reduces.
        prompt: With `items`, a template that holds ``{item}``; without, what every endpoint is asked.
        reduce_prompt: Template with ``{responses}``, which becomes the numbered answers, and where wanted ``{level}``,
            0 for the lowest supervisors. Failures are left out.
        fanin: Answers that a supervisor takes in at most.
        items: One answer is asked for each; None for one answer of every endpoint.
        quorum: How many answers must be in the result, as a number or as a share; fewer are a failure.
        max_tokens_aggregation: Tokens of a merged text at most; what the pool allows aggregations when None.

    Returns:
        The last supervisor's response, with the account of all: answers in it, answers missing, attempts, tokens. Below
        the quorum it is no answer, and its error says how many there were. Cancelling cancels every call under way.

    Raises:
        UsageError: `fanin` is below 2, `items` is empty, a template is wrong, or `quorum` cannot be met. Nothing was
            sent.
    """
    if fanin < 2:
        raise UsageError(f"fanin is {fanin}", remedy="let a supervisor take in 2 answers at least")
    template = reduce_template(reduce_prompt)
    prompts = [prompt] * pool.size if items is None else prompts_for(items, prompt)
    if not prompts:
        raise UsageError("there are no items to reduce", remedy="give one item at least")
    needed = least(quorum, len(prompts))
    most = max_tokens_aggregation or pool.max_tokens_aggregation
    room = await pool.runtime.prompt_room(pool.view.members, most)
    tree = _Tree(Reducer(pool, template, fanin=fanin, room=room, max_tokens=most), len(prompts), fanin)
    answers = pool.broadcast_stream(prompt) if items is None else pool.stream(prompts)
    root = await tree.grow(answers)
    return tree.result(root, needed)


class _Tree:
    """Leaves that come in any order, and supervisors that wait for theirs."""

    def __init__(self, reducer: Reducer, size: int, fanin: int) -> None:
        self._reducer = reducer
        self._fanin = fanin
        self._leaves: list[asyncio.Future[Response]] = [asyncio.get_running_loop().create_future() for _ in range(size)]

    async def grow(self, answers: AsyncGenerator[Response, None]) -> Part | None:
        """The root."""
        size, level = len(self._leaves), 0
        while self._fanin ** (level + 1) < size:
            level += 1
        root, _ = await together([self._node(0, size, level), self._fill(answers)])
        return root

    def result(self, root: Part | None, needed: int) -> Reduced:
        """The last response with the account of all."""
        return self._reducer.account(root, [leaf.result() for leaf in self._leaves], needed)

    async def _fill(self, answers: AsyncGenerator[Response, None]) -> None:
        try:
            async for response in answers:
                self._leaves[response.index].set_result(response)
        finally:
            await answers.aclose()

    async def _node(self, start: int, stop: int, level: int) -> Part | None:
        """What becomes of a range of leaves."""
        if not level:
            below = [await leaf for leaf in self._leaves[start:stop]]
            parts = [Part.of(r, (start + n,)) for n, r in enumerate(below) if r.success]
        else:
            step = self._fanin**level
            ranges = [(at, min(at + step, stop)) for at in range(start, stop, step)]
            nodes = await together([self._node(low, high, level - 1) for low, high in ranges])
            parts = [part for part in nodes if part is not None]
        whole = stop - start == len(self._leaves)
        return parts[0] if len(parts) == 1 and not whole else await self._reducer.merge(parts, level)
