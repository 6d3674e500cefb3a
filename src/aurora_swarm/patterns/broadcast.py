"""One prompt to every agent, and their answers to one."""

from __future__ import annotations

from contextlib import aclosing

from aurora_swarm.errors import CallCancelledError
from aurora_swarm.patterns.fan_in import Part, Reducer, reduce_template
from aurora_swarm.patterns.quorum import Quorum, least, shortfall
from aurora_swarm.pools.pool import Pool
from aurora_swarm.values.gathered import Gathered, Reduced
from aurora_swarm.values.outcome import Response

FANIN = 1_000
"""Answers that one reduce call takes in at most; its context is what really bounds them."""


async def broadcast(
    pool: Pool, prompt: str, max_tokens: int | None = None, *, quorum: Quorum | None = None
) -> Gathered:
    """Send one prompt to every endpoint.

    Args:
        pool: Who is asked; each endpoint answers for itself, so no other stands in for one that fails.
        prompt: Sent unchanged.
        max_tokens: Tokens to generate at most; the pool's default when None.
        quorum: How many answers are enough, as a number or as a share: once they are here the others are cancelled,
            and stand in the list as failures that say so. None waits for all.

    Returns:
        One response per endpoint, in the order of `pool.endpoints`; failures are in it, not raised. Fewer answers than
        the quorum show in its `n_ok`.

    Raises:
        UsageError: `quorum` cannot be met. Nothing was sent.
    """
    needed = pool.size if quorum is None else least(quorum, pool.size)
    found: dict[int, Response] = {}
    n_ok = 0
    async with aclosing(pool.broadcast_stream(prompt, max_tokens)) as responses:
        async for response in responses:
            found[response.index] = response
            n_ok += response.success
            if n_ok >= needed:
                break
    return Gathered(found.get(place) or _left_out(pool, place, n_ok) for place in range(pool.size))


async def broadcast_and_reduce(
    pool: Pool,
    prompt: str,
    reduce_prompt: str,
    reducer_agent_index: int = 0,
    *,
    quorum: Quorum = 1,
    max_tokens_aggregation: int | None = None,
) -> Reduced:
    """Broadcast a prompt, then have one agent reduce the answers to one.

    Args:
        pool: Who is asked.
        prompt: Sent to every endpoint.
        reduce_prompt: Template with ``{responses}``, which becomes the numbered answers. Failures are left out.
            Answers that do not fit the reducer's context together are reduced in several steps.
        reducer_agent_index: The endpoint that reduces.
        quorum: How many answers must be in the result, as a number or as a share; fewer are a failure. All endpoints
            are waited for.
        max_tokens_aggregation: Tokens of a merged text at most; what the pool allows aggregations when None.

    Returns:
        The reducer's response, with the account of all: answers in it, answers missing, attempts, tokens. Below the
        quorum nothing is reduced, and its error says how many answered.

    Raises:
        UsageError: `reduce_prompt` lacks ``{responses}``, the index is out of range, or `quorum` cannot be met.
            Nothing was sent.
    """
    template = reduce_template(reduce_prompt)
    needed = least(quorum, pool.size)
    reducer_endpoint = pool.select([reducer_agent_index])
    responses = await broadcast(pool, prompt)
    parts = [Part.of(response, (place,)) for place, response in enumerate(responses) if response.success]
    if len(parts) < needed:
        told = Reduced.of(responses[0], responses, pool.size, responses.missing)
        return told.without_answer(shortfall(pool.size, responses, len(parts), needed))
    most = max_tokens_aggregation or pool.max_tokens_aggregation
    room = await pool.runtime.prompt_room(reducer_endpoint.view.members, most)
    reducer = Reducer(pool, template, fanin=FANIN, room=room, agent_index=reducer_agent_index, max_tokens=most)
    root = await reducer.merge(parts, 0)
    return reducer.account(root, responses, needed)


def _left_out(pool: Pool, place: int, n_ok: int) -> Response:
    endpoint = pool.endpoint(place)
    error = CallCancelledError(f"not waited for: {n_ok} of {pool.size} had answered", endpoint=endpoint.url)
    return Response(False, "", error, place, endpoint, place)
