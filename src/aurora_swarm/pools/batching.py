"""Many prompts in few requests: bundles sized so that every server is full and none idles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from aurora_swarm.dispatch.prefixes import groups, plan
from aurora_swarm.pools.flow import in_order, unchanged
from aurora_swarm.pools.model_runtime import ModelPolicy, ModelRuntime
from aurora_swarm.values.call import Call
from aurora_swarm.values.outcome import Response

if TYPE_CHECKING:
    from aurora_swarm.pools.pool import Pool


class Bundle(msgspec.Struct, frozen=True):
    """Prompts that travel together.

    Args:
        places: Their places in the list that was given.
        pin: The endpoint to prefer, or None.
    """

    places: tuple[int, ...]
    pin: int | None = None


def bundle_size(prompts: int, endpoints: int, most: int) -> int:
    """Prompts per request, so that all endpoints get the same number of requests of the same size.

    Args:
        prompts: How many there are, at least 1.
        endpoints: How many can be asked, at least 1.
        most: Prompts per request at most, at least 1.
    """
    rounds = math.ceil(prompts / (most * endpoints))
    return math.ceil(prompts / (rounds * endpoints))


def bundles(places: Sequence[int], size: int) -> list[tuple[int, ...]]:
    """`places` cut into runs of `size`; the last one may be shorter."""
    return [tuple(places[start : start + size]) for start in range(0, len(places), size)]


def by_pin(pins: Sequence[int | None]) -> dict[int | None, list[int]]:
    """The places of the prompts that prefer the same endpoint, or none."""
    found: dict[int | None, list[int]] = {}
    for place, pin in enumerate(pins):
        found.setdefault(pin, []).append(place)
    return found


def timeout_s(policy: ModelPolicy, prompts: int, single_s: float) -> float:
    """Seconds that a request of several prompts may take.

    Args:
        policy: Time per prompt, and the longest time.
        prompts: How many travel together.
        single_s: What one call may take; a request of several never gets less.
    """
    return max(single_s, min(policy.batch_timeout_cap, policy.timeout_per_sequence * prompts))


async def send_all_batched(pool: Pool, prompts: Sequence[str], max_tokens: int | None = None) -> list[Response]:
    """Send prompts in bundles to whichever endpoints have the least to do.

    Each prompt is put to the model as if it were sent alone; where a server takes no bundles it is. An answer is
    its own: parts that are missing or failed are asked again, and a bundle that is refused is split until the bad
    prompt stands alone.

    Args:
        pool: Who is asked; one whose runtime takes no bundles sends the prompts one by one.
        prompts: May be empty.
        max_tokens: As for `pool.post`.

    Returns:
        One response per prompt, in the order of `prompts`.
    """
    runtime = pool.runtime
    if not isinstance(runtime, ModelRuntime) or not runtime.policy.use_batch or len(prompts) < 2:
        return await pool.send_all(prompts, max_tokens)
    most = min(runtime.policy.batch_size, pool.concurrency)
    found = groups(prompts)
    size = bundle_size(len(prompts), pool.size, most)
    cut = [
        Bundle(run, pin)
        for pin, places in by_pin(plan(found, pool.view.members)).items()
        for run in bundles(places, size)
    ]
    calls = [runtime.call(prompt, max_tokens, prefix) for prompt, prefix in zip(prompts, found, strict=True)]
    return await _ask(pool, runtime, calls, cut)


async def post_batch(
    pool: Pool, agent_index: int, prompts: Sequence[str], max_tokens: int | None = None
) -> list[Response]:
    """Send prompts to one endpoint in as few requests as it takes; to another one only when that fails.

    Args:
        pool: Who is asked.
        agent_index: The endpoint to prefer, counted in `pool.endpoints`.
        prompts: May be empty.
        max_tokens: As for `pool.post`.

    Returns:
        One response per prompt, in the order of `prompts`; each says who really answered.

    Raises:
        UsageError: `agent_index` is out of range.
    """
    pool.endpoint(agent_index)
    runtime, member = pool.runtime, pool.view.members[agent_index]
    if not isinstance(runtime, ModelRuntime) or not runtime.policy.use_batch:

        async def alone(index: int, prompt: str) -> Response:
            outcome = await runtime.dispatcher.ask(runtime.call(prompt, max_tokens), pool.view, pin=member)
            return pool.respond_to(index, outcome)

        return await in_order(prompts, alone, then=unchanged, width=pool.concurrency)
    size = min(runtime.policy.batch_size, pool.concurrency)
    cut = [Bundle(run, member) for run in bundles(range(len(prompts)), size)]
    return await _ask(pool, runtime, [runtime.call(prompt, max_tokens) for prompt in prompts], cut)


async def _ask(pool: Pool, runtime: ModelRuntime, calls: Sequence[Call], cut: Sequence[Bundle]) -> list[Response]:
    responses: dict[int, Response] = {}

    async def one(_: int, bundle: Bundle) -> None:
        together = [calls[place] for place in bundle.places]
        view = runtime.view_for(max(together, key=lambda call: len(call.messages[0].content)), pool.view)
        outcomes = await runtime.dispatcher.ask_many(
            together,
            view,
            pin=bundle.pin if bundle.pin is not None and bundle.pin in view else None,
            timeout_s=timeout_s(runtime.policy, len(together), runtime.dispatcher.limits.attempt_timeout_s),
        )
        for place, outcome in zip(bundle.places, outcomes, strict=True):
            responses[place] = pool.respond_to(place, outcome)

    width = runtime.policy.batch_concurrency or len(cut)
    await in_order(cut, one, then=unchanged, width=min(width, pool.concurrency))
    return [responses[place] for place in range(len(calls))]
