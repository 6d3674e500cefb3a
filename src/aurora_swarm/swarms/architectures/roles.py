"""Who takes part: frozen values, so that any number of runs may share them and none changes them."""

from __future__ import annotations

import msgspec

from aurora_swarm.batch.spec import Schema
from aurora_swarm.pools.pool import Pool
from aurora_swarm.swarms.ids import new_id
from aurora_swarm.swarms.mind import Mind, Thought
from aurora_swarm.swarms.models import Model
from aurora_swarm.tools.definition import AnyTool


class Role(msgspec.Struct, frozen=True):
    """What all roles have. Each time that one is asked is a conversation of its own: it remembers nothing.

    Args:
        model: Whom it thinks with: a model, which is opened for the run, or an open mind or pool. Agents of one model
            differ only where it is asked with a temperature above 0 and without a seed, or by `system`.
        name: What its contributions are listed under; its place among the others when empty.
        system: Who it is; goes first in each of its prompts.
        max_tokens: Tokens of each of its answers at most; what the model allows when None.
        timeout_s: Seconds for each of its answers; None for as long as its calls may take.
        max_retries: Re-asks after an answer that does not fit the schema.
        tools: What it may use.
    """

    model: Model | Mind | Pool
    name: str = ""
    system: str = ""
    max_tokens: int | None = None
    timeout_s: float | None = None
    max_retries: int = 2
    tools: tuple[AnyTool, ...] = ()

    def thought(self, prompt: str, schema: Schema, *, max_tokens: int | None = None, prefix: str = "") -> Thought:
        """A prompt as this agent is asked it, under an id of its own.

        Args:
            prompt: What is asked.
            schema: What the answer is constrained to.
            max_tokens: Tokens of the answer at most, where the agent does not say.
            prefix: Identity of what it shares with other prompts.
        """
        return Thought(
            prompt=prompt,
            system=self.system,
            schema=schema,
            tools=self.tools,
            max_tokens=self.max_tokens or max_tokens,
            timeout_s=self.timeout_s,
            max_retries=self.max_retries,
            agent=new_id(),
            prefix=prefix,
        )


class JudgeAgent(Role, frozen=True):
    """Who decides between answers of others."""
