"""Agents who go through rounds at their own pace, within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence

import msgspec

from aurora_swarm.patterns.rounds import Rounds
from aurora_swarm.pools.flow import as_they_finish
from aurora_swarm.pools.pool import Pool
from aurora_swarm.values.outcome import Response


class Turn(msgspec.Struct, frozen=True):
    """One agent's part of a round.

    Args:
        crew: Which crew is the agent's.
        place: Which endpoint of it the agent is.
        number: The round.
    """

    crew: int
    place: int
    number: int


async def overlapping(
    crews: Sequence[Pool],
    rounds: Rounds,
    first: Iterable[Turn],
    prompt: Callable[[int], str],
    stop: int,
) -> AsyncGenerator[tuple[Turn, Response], None]:
    """Let every agent take turn after turn until `stop` rounds are complete.

    Whoever iterates calls `rounds.advance` after each turn; what may begin by then begins.

    Args:
        crews: Who takes part; an agent is an endpoint, and no other stands in for it.
        rounds: Told of every end; says what may begin.
        first: The turn that each agent takes first.
        prompt: What a crew is asked now.
        stop: Rounds.

    Yields:
        Each turn and its response, as it ends. Closing the iterator cancels what is under way.
    """
    agents = [[crew.select([place]) for place in range(crew.size)] for crew in crews]
    ready: asyncio.Queue[Turn] = asyncio.Queue()
    held: list[Turn] = []

    async def turns() -> AsyncGenerator[Turn, None]:
        while True:
            yield await ready.get()

    async def take(_: int, turn: Turn) -> tuple[Turn, Response]:
        (response,) = await agents[turn.crew][turn.place].broadcast_prompt(prompt(turn.crew))
        return turn, msgspec.structs.replace(response, index=turn.place, agent_index=turn.place)

    def begin(turns: Iterable[Turn]) -> None:
        for turn in turns:
            if turn.number < stop:
                (ready.put_nowait if rounds.may_begin(turn.number) else held.append)(turn)

    begin(first)
    ended = as_they_finish(turns(), take, width=sum(map(len, agents)))
    try:
        async for turn, response in ended:
            rounds.end(turn.crew, turn.number, answered=response.success)
            before = rounds.completed
            yield turn, response
            if rounds.completed >= stop:
                return
            begin([Turn(turn.crew, turn.place, max(turn.number + 1, rounds.completed))])
            if rounds.completed > before:
                waiting, held[:] = held[:], []
                begin(waiting)
    finally:
        await ended.aclose()
