"""Many answers become one, by agents of a batch: journalled, retried and validated like any others.

Each step is told its task, then the answers, numbered and fenced::

    You received 12 claim lists. Deduplicate and rank by evidence.

    === answer 1 ===
    {"claims":[...]}
    === end of answer 1 ===
    ...

One step takes in all answers where the reducer's context holds them. Where it does not, neighbours form groups, and
what is made of the groups is reduced in turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence, Sized
from typing import Any, Generic, TypeVar

import msgspec

from aurora_swarm.agents.structured import OutputSpec
from aurora_swarm.batch.hoisting import fenced
from aurora_swarm.batch.phases import Phases, Results, open_phases
from aurora_swarm.batch.run import BatchOptions, Inputs
from aurora_swarm.batch.spec import BatchSpec, Schema
from aurora_swarm.errors import AuroraSwarmError, AuthenticationError, QuorumError, RequestRejectedError, UsageError
from aurora_swarm.inputs.template import Template
from aurora_swarm.patterns.fan_in import AGAIN, FRAME, SPARE, cut, packed
from aurora_swarm.values.call import Sampling
from aurora_swarm.values.outcome import AgentResult
from aurora_swarm.values.reply import Usage

OutputT = TypeVar("OutputT")

UNKNOWN_FANIN = 50
"""Answers per step where no server says how long its context is."""

FENCE = 24
"""Tokens of the two lines around an answer; they are denser than prose, and with short answers they are most of it."""

LEAST_ROOM = 4 * FRAME
"""Tokens for answers below which no step is tried."""


class Reduction(msgspec.Struct, frozen=True, kw_only=True):
    """How answers become one.

    Args:
        instruction: Template; ``{n}`` becomes the number of answers that follow it. It holds no other field.
        schema: What each step, the last one included, is constrained to and validated by; None for free text.
        model: Who reduces; the model of the run when empty.
        system_prompt: What reducers are told first.
        fanin: Answers per step at most; None for as many as the context holds.
        sampling: How tokens are picked.
        max_retries: Re-asks after an invalid answer, per step.

    Raises:
        UsageError: `instruction` is empty or holds another field, or a number is out of range.
    """

    instruction: str
    schema: Schema = None
    model: str = ""
    system_prompt: str = ""
    fanin: int | None = None
    sampling: Sampling = Sampling()
    max_retries: int = 2

    def __post_init__(self) -> None:
        if not self.instruction.strip():
            raise UsageError("reduce is empty", remedy="say how the answers become one, for example 'Merge {n} lists.'")
        Template(self.instruction, "reduce").check({"n"}, "a reduction")
        if self.fanin is not None and self.fanin < 2:
            raise UsageError(f"fanin is {self.fanin}", remedy="let a step take in 2 answers at least")
        OutputSpec(self.schema)

    def step(self, spec: BatchSpec) -> BatchSpec:
        """A batch whose inputs are groups of answers.

        Args:
            spec: The batch that made the answers; its timeouts hold.
        """
        return BatchSpec(
            task=f"{self.instruction}\n\n{{answers}}",
            system_prompt=self.system_prompt,
            output_schema=self.schema,
            max_turns=1,
            max_retries=self.max_retries,
            sampling=self.sampling,
            agent_timeout_s=spec.agent_timeout_s,
            turn_timeout_s=spec.turn_timeout_s,
            compaction="off",
            hoist=False,
        )


class Summary(AgentResult[OutputT], Generic[OutputT], frozen=True):
    """What many answers became; the result of the last step, with the account of all.

    Tokens, attempts and seconds are those of all steps of the reduction.

    Args:
        n_ok: Answers that are in it.
        missing: Indices of the inputs whose answers are not in it: they failed, or the step that was to take them in.
        steps: Agents that reduced.
        levels: Steps that followed one another.
        plan: The planner's result, where there was one.
    """

    n_ok: int = 0
    missing: tuple[int, ...] = ()
    steps: int = 0
    levels: int = 0
    plan: AgentResult[Any] | None = None


async def run_with_reduce(
    spec: BatchSpec, inputs: Inputs, reduction: Reduction, options: BatchOptions
) -> tuple[Results, Summary[Any]]:
    """Run a batch, then make one answer of its answers.

    All of it runs on one pool, with one journal and one budget.

    Args:
        spec: What is done with each input.
        inputs: As for `run_batch`, and not endless.
        reduction: How the answers become one.
        options: Where it runs. `on_result` hears of the inputs' results, sinks of every agent.

    Returns:
        One result per input in their order, and the summary. A failure is data in both: answers that failed are left
        out of the summary and named in its `missing`.

    Raises:
        UsageError: Something given is wrong, or there is no input, and so nothing to reduce. Nothing was sent.
        StorageError: The journal cannot be written any more.
    """
    _refuse_nothing(inputs)
    async with open_phases(options, spec.sampling) as phases:
        results = await phases.run(spec, inputs, told=True)
        _refuse_nothing(results)
        return results, await reduce_results(phases, spec, results, reduction)


async def reduce_results(phases: Phases, spec: BatchSpec, results: Results, reduction: Reduction) -> Summary[Any]:
    """Make one answer of the results of a batch.

    Args:
        phases: Where it runs.
        spec: The batch that made the results.
        results: In the order of the inputs.
        reduction: How they become one.
    """
    began_s = asyncio.get_running_loop().time()
    runtime = phases.pool.runtime
    step = reduction.step(spec)
    room = await runtime.prompt_room(phases.pool.view.members, reduction.sampling.max_tokens)
    grouping = Grouping(runtime.tokens_at_most, _overhead(step), room, reduction.fanin)
    tree = _Tree(phases, step, reduction.model, grouping)
    root = await tree.reduce([Part.of(result, (result.index,)) for result in results if result.ok])
    return _summary(results, tree, root, asyncio.get_running_loop().time() - began_s)


class Part(msgspec.Struct, frozen=True):
    """A text and what it stands for.

    Args:
        text: An answer, or what was made of several.
        leaves: Indices of the inputs whose answers are in it.
        tokens: Its length, as far as the server counted that made it; 0 where that says nothing.
        result: The step that made it; None for an answer.
    """

    text: str
    leaves: tuple[int, ...]
    tokens: int = 0
    result: AgentResult[Any] | None = None

    @classmethod
    def of(cls, result: AgentResult[Any], leaves: tuple[int, ...], *, made: bool = False) -> Part:
        """A result as a part: free text as it is, anything else as compact JSON.

        Args:
            result: One that is ok.
            leaves: What it stands for.
            made: Whether it is that of a step.
        """
        output = result.as_dict()["output"]
        text = output if isinstance(output, str) else msgspec.json.encode(output).decode()
        counted = result.usage.completion_tokens if result.turns == 1 else 0  # of several turns the last is unknown
        longer = max(1.0, len(text) / max(len(result.text), 1))  # defaults that the model left out are in it too
        return cls(text, leaves, int(counted * longer), result if made else None)


class Grouping:
    """Which answers one step takes in. Pure.

    Args:
        tokens_at_most: Tokens that a text is not expected to exceed.
        overhead: What a step is told beside the answers.
        room: Tokens that its prompt may have; None where no context is known.
        fanin: Answers per step at most; None for no bound but the room.
    """

    def __init__(
        self, tokens_at_most: Callable[[str], int], overhead: str, room: int | None, fanin: int | None
    ) -> None:
        self._tokens_at_most = tokens_at_most
        self._overhead = overhead
        self._room = room
        self._fanin = fanin

    def groups(self, parts: Sequence[Part]) -> list[list[Part]]:
        """Neighbours that fit together; any two do. What is too long for that keeps its beginning and its end."""
        if self._room is None:
            most = self._fanin or UNKNOWN_FANIN
            return [list(parts[place : place + most]) for place in range(0, len(parts), most)]
        room = self._free(self._room)
        fitted = [self._fitted(part, room // 2) for part in parts]
        found = packed([self._size(part) for part in fitted], room, self._fanin or len(parts))
        return [fitted[group.start : group.stop] for group in found]

    def narrow(self, group: Sequence[Part]) -> bool:
        """A server refused a group: reckon with three quarters of its length; False where that leaves too little."""
        size = sum(map(self._size, group)) + self._tokens_at_most(self._overhead) + FRAME
        self._room = min(size, self._room or size) * 3 // 4
        return self._free(self._room) >= LEAST_ROOM

    def _free(self, room: int) -> int:
        return max(room - self._tokens_at_most(self._overhead) - FRAME, LEAST_ROOM)

    def _size(self, part: Part) -> int:
        """What a part adds to a prompt, its fence included."""
        tokens = part.tokens or self._tokens_at_most(part.text) - self._tokens_at_most("")
        return int(tokens * AGAIN) + SPARE + FENCE

    def _fitted(self, part: Part, most: int) -> Part:
        size = self._size(part) - FENCE
        if size <= most - FENCE:
            return part
        kept = int((most - FENCE - SPARE) / AGAIN)
        return msgspec.structs.replace(part, text=cut(part.text, size, kept), tokens=kept)


class _Tree:
    """Steps of a reduction, level by level, and what they came to."""

    def __init__(self, phases: Phases, step: BatchSpec, model: str, grouping: Grouping) -> None:
        self._phases = phases
        self._step = step
        self._model = model
        self._grouping = grouping
        self.spent: Results = []
        self.levels = 0

    async def reduce(self, parts: list[Part]) -> Part | None:
        """One part of all; None where there were none, or every step failed."""
        while parts and (len(parts) > 1 or parts[0].result is None):
            groups = self._grouping.groups(parts)
            parts = sorted(await self._made_of(groups), key=lambda part: part.leaves)
        return parts[0] if parts else None

    async def _made_of(self, groups: list[list[Part]]) -> list[Part]:
        """One part of each group, less those whose step failed; a group that a server refuses is taken in halves."""
        made: list[Part] = []
        while groups:
            # What one step made alone need not be made again; an answer has yet to take the form of a summary.
            made += [group[0] for group in groups if _is_made(group)]
            taken = [group for group in groups if not _is_made(group)]
            results = await self._run(taken) if taken else []
            groups = []
            for group, result in zip(taken, results, strict=True):
                if result.ok:
                    leaves = tuple(leaf for part in group for leaf in part.leaves)
                    made.append(Part.of(result, leaves, made=True))
                elif _is_too_much(result.error) and len(group) > 1 and self._grouping.narrow(group):
                    groups += [group[: len(group) // 2], group[len(group) // 2 :]]
        return made

    async def _run(self, groups: list[list[Part]]) -> Results:
        self.levels += 1
        results = await self._phases.run(self._step, [_told(group) for group in groups], model=self._model)
        self.spent += results
        return results


def _is_made(group: Sequence[Part]) -> bool:
    return len(group) == 1 and group[0].result is not None


def _is_too_much(error: AuroraSwarmError | None) -> bool:
    return isinstance(error, RequestRejectedError) and not isinstance(error, AuthenticationError)


def _told(group: Sequence[Part]) -> dict[str, Any]:
    """What a step is given."""
    answers = [fenced(f"answer {number}", part.text) for number, part in enumerate(group, 1)]
    return {"n": len(group), "answers": "\n\n".join(answers)}


def _overhead(step: BatchSpec) -> str:
    """What a step is told beside the answers; the schema counts, for some engines are told it in words."""
    schema = bytes(OutputSpec(step.output_schema).encoded or b"").decode()
    return "\n".join((step.system_prompt, step.task, schema))


def _summary(results: Results, tree: _Tree, root: Part | None, latency_s: float) -> Summary[Any]:
    last = root.result if root is not None else next((step for step in reversed(tree.spent) if not step.ok), None)
    taken_in = set(root.leaves) if root is not None else set()
    if last is None:
        last = AgentResult(index=0, key="", ok=False, output=None, error=_shortfall(results))
    fields = {name: getattr(last, name) for name in AgentResult.__struct_fields__}
    fields |= {
        "index": 0,
        "attempts": sum(step.attempts for step in tree.spent),
        "turns": sum(step.turns for step in tree.spent),
        "usage": sum((step.usage for step in tree.spent), Usage()),
        "latency_s": latency_s,
    }
    return Summary(
        **fields,
        n_ok=len(taken_in),
        missing=tuple(result.index for result in results if result.index not in taken_in),
        steps=len(tree.spent),
        levels=tree.levels,
    )


def _shortfall(results: Results) -> QuorumError:
    first = next((f"; the first failure: {result.error}" for result in results if result.error is not None), "")
    problem = f"none of {len(results)} inputs has an answer, and so there is nothing to reduce{first}"
    return QuorumError(problem, n_ok=0, n_failed=len(results))


def _refuse_nothing(inputs: object) -> None:
    if isinstance(inputs, Sized) and not len(inputs):
        raise UsageError("there are no inputs, and so nothing to reduce", remedy="give one input at least")
