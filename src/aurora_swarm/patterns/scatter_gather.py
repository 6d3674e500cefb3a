"""Many prompts over the fleet, their responses in input order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from aurora_swarm.errors import UsageError
from aurora_swarm.inputs.template import Template
from aurora_swarm.pools.pool import Pool
from aurora_swarm.values.gathered import Gathered


async def scatter_gather(pool: Pool, prompts: Sequence[str], max_tokens: int | None = None) -> Gathered:
    """Send each prompt to whichever endpoint has the least to do.

    Where the servers take many prompts in one request, few requests carry them all; a pool that was made with
    ``use_batch=False`` sends them one by one. Prompts that begin alike share endpoints. A straggler's calls move to
    endpoints that idle.

    Args:
        pool: Who is asked.
        prompts: May be empty.
        max_tokens: Tokens to generate at most; the pool's default when None.

    Returns:
        One response per prompt, in the order of `prompts`; failures are in it, not raised. Cancelling cancels every
        call under way.
    """
    return Gathered(await pool.send_all_batched(prompts, max_tokens))


async def map_gather(pool: Pool, items: Iterable[Any], prompt_template: str, max_tokens: int | None = None) -> Gathered:
    """Put each item into a template and scatter the prompts.

    Args:
        pool: Who is asked.
        items: Texts are inserted as they are, anything else as compact JSON; neither acts as a template.
        prompt_template: Holds ``{item}``. What stands before it is computed once per endpoint, so put there what all
            items share.
        max_tokens: As for `scatter_gather`.

    Returns:
        One response per item, in their order.

    Raises:
        UsageError: `prompt_template` has no ``{item}``, or other placeholders. Nothing was sent.
    """
    return await scatter_gather(pool, prompts_for(items, prompt_template), max_tokens)


def prompts_for(items: Iterable[Any], prompt_template: str) -> list[str]:
    """The template filled with each item.

    Raises:
        UsageError: As `map_gather` does.
    """
    template = Template(prompt_template, "prompt_template")
    template.check({"item"}, "a list of items")
    if not template.fields:
        raise UsageError("prompt_template has no {item}", remedy="write {item} where each item is to stand")
    return [template.render({"item": item}) for item in items]
