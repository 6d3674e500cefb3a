"""One run of an architecture: whom it asks, out of which purse, and all that was said."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.batch.spec import Schema
from aurora_swarm.dispatch.prefixes import groups
from aurora_swarm.errors import AuroraSwarmError, CallError
from aurora_swarm.patterns.fan_in import Part, Reducer, reduce_template
from aurora_swarm.patterns.quorum import shortfall
from aurora_swarm.pools.flow import as_they_finish, in_order, unchanged
from aurora_swarm.pools.pool import Pool
from aurora_swarm.swarms.architectures.outcome import ArchitectureOutcome, Contribution
from aurora_swarm.swarms.architectures.roles import Role
from aurora_swarm.swarms.architectures.showing import FANIN, fitted, safe
from aurora_swarm.swarms.mind import Mind, Rein, Thought
from aurora_swarm.swarms.models import Model
from aurora_swarm.tools.pool import ToolPool
from aurora_swarm.values.call import Call
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.gathered import Gathered, Reduced
from aurora_swarm.values.outcome import AgentResult, Outcome, Response
from aurora_swarm.values.reply import Reply

OnPart = Callable[[Contribution], None]
"""Told of each contribution as it comes."""


class Session:
    """Asks agents, each in a conversation of its own, and keeps what they say.

    Args:
        minds: By the identity of the model that each is of.
        purse: Out of which everything is paid; None bounds nothing.
        rein: Awaited before each call to a model.
        on_part: Told of each contribution.

    Attributes:
        parts: Everything that was said, in order of time.
    """

    def __init__(
        self,
        minds: Mapping[int, Mind],
        purse: Purse | None = None,
        rein: Rein | None = None,
        on_part: OnPart | None = None,
    ) -> None:
        self._minds = minds
        self._purse = purse
        self._rein = rein
        self._on_part = on_part
        self.parts: list[Contribution] = []

    def panel(self, agents: Sequence[Role], stage: str, schema: Schema = None) -> Panel:
        """Agents as a pool, for patterns.

        Args:
            agents: Who answers; the first prompt goes to the first of them, and so on, round and round.
            stage: What they are asked for.
            schema: What their answers are constrained to.
        """
        return Panel(self, agents, self._minds[id(agents[0].model)].pool, stage, schema)

    async def think(self, agent: Role, stage: str, thought: Thought, *, place: int = 0) -> Contribution:
        """Have one thought of an agent.

        Args:
            agent: Whose model is asked.
            stage: What it is asked for.
            thought: As `Role.thought` makes it.
            place: Its position among those who are asked, by which it is listed where it has no name.

        Returns:
            What it said; whatever fails is in it.
        """
        result = await self._minds[id(agent.model)].think(thought, purse=self._purse, rein=self._rein)
        part = _contribution(agent.name or f"{stage} {place + 1}", stage, result)
        self.parts.append(part)
        if self._on_part is not None:
            self._on_part(part)
        return part

    async def fitted(self, readers: Iterable[Role], texts: Sequence[str]) -> list[str]:
        """Texts as all readers can be shown them beside each other: in half of the smallest of their contexts."""
        pools = {id(role.model): self._minds[id(role.model)].pool for role in readers}.values()
        rooms = [await pool.runtime.prompt_room(pool.view.members, None) for pool in pools]
        known = [room for room in rooms if room is not None]
        if not known:
            return list(texts)
        count = next(iter(pools)).runtime.tokens_at_most
        return fitted(texts, [count(text) for text in texts], min(known) // 2)

    async def fold(self, panel: Panel, prompt: str, responses: Gathered, needed: int) -> Reduced:
        """Have the first of a panel make one answer of many, in as many steps as its context asks for.

        Args:
            panel: Who does it.
            prompt: Template with ``{responses}``.
            responses: The answers; failures are left out.
            needed: How many must be in the result; nothing is asked where there are fewer.
        """
        agent, runtime = panel.agents[0], panel.runtime
        room = await runtime.prompt_room(panel.view.members, agent.max_tokens)
        if room is not None:
            room -= runtime.tokens_at_most(agent.system)
        reducer = Reducer(panel, reduce_template(prompt), fanin=FANIN, room=room, max_tokens=agent.max_tokens)
        parts = [Part.of(response, (place,)) for place, response in enumerate(responses) if response.success]
        root = await reducer.merge(parts, 0) if len(parts) >= needed else None
        return reducer.account(root, responses, needed)

    def outcome(
        self,
        answer: str = "",
        *,
        confidence: float | None = None,
        n_ok: int = 0,
        n_failed: int = 0,
        error: AuroraSwarmError | None = None,
    ) -> ArchitectureOutcome:
        """The end of the run."""
        if error is not None:
            cause = error.__cause__
            answer, confidence, error = "", None, cause if isinstance(cause, AuroraSwarmError) else error
        said = next((part for part in reversed(self.parts) if part.ok and safe(part.text).strip() == answer), None)
        return ArchitectureOutcome(
            answer=answer if said is None else said.text.strip(),
            output=None if error is not None else answer if said is None else said.output,
            confidence=confidence,
            parts=tuple(self.parts),
            n_ok=n_ok,
            n_failed=n_failed,
            error=error,
        )

    def short(self, answers: Gathered, needed: int) -> ArchitectureOutcome:
        """The end of a run where too few have answered."""
        error = shortfall(len(answers), answers, answers.n_ok, needed)
        return self.outcome(n_ok=answers.n_ok, n_failed=answers.n_failed, error=error)


class Panel(Pool):
    """Agents as a pool: whatever pattern it is given to, each prompt is a thought of one agent, paid and validated.

    Args:
        session: Where what they say is kept.
        agents: Who answers.
        pool: Whose contexts patterns go by: that of the first agent.
        stage: What they are asked for.
        schema: What their answers are constrained to.

    Attributes:
        agents: Who answers.
    """

    def __init__(self, session: Session, agents: Sequence[Role], pool: Pool, stage: str, schema: Schema) -> None:
        super().__init__(pool.runtime, pool.view.members)
        self._session = session
        self.agents = tuple(agents)
        self._stage = stage
        self._schema = schema
        self._streamed = 0

    async def send_all(self, prompts: Sequence[str], max_tokens: int | None = None) -> list[Response]:
        """As for `Pool`, but the prompts go to the agents by their order."""
        shared = groups(prompts)

        async def one(index: int, prompt: str) -> Response:
            return await self._said(index, index, prompt, max_tokens, prefix=shared[index])

        return await in_order(prompts, one, then=unchanged, width=self.concurrency)

    async def send_all_batched(self, prompts: Sequence[str], max_tokens: int | None = None) -> list[Response]:
        """As `send_all`: each agent has requests of its own."""
        return await self.send_all(prompts, max_tokens)

    async def stream(
        self, prompts: Iterable[str] | AsyncIterable[str], max_tokens: int | None = None, *, width: int | None = None
    ) -> AsyncGenerator[Response, None]:
        """As for `Pool`, but the prompts go to the agents by their order, over all calls of this method."""
        first = self._streamed

        async def one(index: int, prompt: str) -> Response:
            self._streamed += 1
            return await self._said(index, first + index, prompt, max_tokens)

        results = as_they_finish(prompts, one, width=min(width or self.concurrency, self.concurrency))
        try:
            async for response in results:
                yield response
        finally:
            await results.aclose()

    async def ask(self, call: Call, *, near: AgentEndpoint | None = None) -> Outcome:  # noqa: ARG002 - one turn only
        """One prepared call: its last message is put to the first agent."""
        response = await self._said(0, 0, call.messages[-1].content, call.sampling.max_tokens, prefix=call.prefix)
        reply = Reply(response.text, usage=response.usage) if response.success else None
        return Outcome(reply, response.error, None, latency_s=response.latency_s)

    async def _ask(self, call: Call, pin: int | None, *, strict: bool) -> Outcome:  # noqa: ARG002 - agents, not endpoints
        return await self.ask(call)

    async def _said(self, index: int, turn: int, prompt: str, max_tokens: int | None, *, prefix: str = "") -> Response:
        place = turn % len(self.agents)
        agent = self.agents[place]
        thought = agent.thought(prompt, self._schema, max_tokens=max_tokens, prefix=prefix)
        part = await self._session.think(agent, self._stage, thought, place=place)
        return Response(
            success=part.ok,
            text=safe(part.text),
            error=_call_error(part.error),
            agent_index=place,
            index=index,
            usage=part.usage,
            attempts=part.attempts,
            latency_s=part.latency_s,
        )


@asynccontextmanager
async def opened(agents: Iterable[Role]) -> AsyncIterator[dict[int, Mind]]:
    """The minds of these agents, by the identity of their models; each model is opened once.

    Raises:
        UsageError: A model cannot be opened.
    """
    async with AsyncExitStack() as stack:
        minds: dict[int, Mind] = {}
        for agent in agents:
            if id(agent.model) not in minds:
                minds[id(agent.model)] = await _open(agent.model, stack)
        yield minds


async def _open(model: Model | Mind | Pool, stack: AsyncExitStack) -> Mind:
    if isinstance(model, Model):
        return await stack.enter_async_context(model.opened())
    if isinstance(model, Mind):
        return model
    tools = ToolPool()
    stack.push_async_callback(tools.aclose)
    return Mind(model, tools, sampling=model.runtime.sampling)


def _contribution(agent: str, stage: str, result: AgentResult[Any]) -> Contribution:
    """A result as others read it: repaired, and without the wrapping of a step."""
    output = result.as_dict()["output"]
    text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
    return Contribution(
        agent=agent,
        stage=stage,
        text=text if result.ok else "",
        output=result.output,
        error=result.error,
        usage=result.usage,
        attempts=result.attempts,
        latency_s=result.latency_s,
    )


def _call_error(error: AuroraSwarmError | None) -> CallError | None:
    """The error as patterns have it; what it is of is its cause."""
    if error is None or isinstance(error, CallError):
        return error
    told = CallError(str(error), remedy=error.remedy)
    told.__cause__ = error
    return told
