"""One prompt to every agent, and their answers to one."""

from __future__ import annotations

from aurora_swarm.errors import UsageError
from aurora_swarm.inputs.template import Template
from aurora_swarm.pools.pool import Pool
from aurora_swarm.values.outcome import Response


async def broadcast(pool: Pool, prompt: str) -> list[Response]:
    """Send one prompt to every endpoint.

    Returns:
        One response per endpoint, in the order of `pool.endpoints`; each endpoint answers for itself.
    """
    return await pool.broadcast_prompt(prompt)


async def broadcast_and_reduce(pool: Pool, prompt: str, reduce_prompt: str, reducer_agent_index: int = 0) -> Response:
    """Broadcast a prompt, then have one agent reduce the answers to one.

    Args:
        pool: Who is asked.
        prompt: Sent to every endpoint.
        reduce_prompt: Template with ``{responses}``, which becomes the numbered answers. Failures are left out.
        reducer_agent_index: The endpoint that reduces.

    Returns:
        The reducer's response; or, when no endpoint answered, the first failure: nothing is reduced.

    Raises:
        UsageError: `reduce_prompt` lacks ``{responses}``, or the index is out of range. Nothing was sent.
    """
    template = Template(reduce_prompt, "reduce_prompt")
    if template.fields != {"responses"}:
        raise UsageError("reduce_prompt has no {responses}", remedy="write {responses} where the answers are to stand")
    pool.endpoint(reducer_agent_index)
    responses = await broadcast(pool, prompt)
    answers = [response.text for response in responses if response.success]
    if not answers:
        return responses[0]
    numbered = "\n\n".join(f"{number}. {text}" for number, text in enumerate(answers, 1))
    return await pool.post(reducer_agent_index, template.render({"responses": numbered}), pool.max_tokens_aggregation)
