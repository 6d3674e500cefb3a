"""Plan, map and reduce: an agent makes the list of inputs, many work on them, and one answer is made of theirs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from aurora_swarm.agents.structured import OutputSpec
from aurora_swarm.batch.phases import Results, open_phases
from aurora_swarm.batch.reduce import Reduction, Summary, reduce_results
from aurora_swarm.batch.run import BatchOptions
from aurora_swarm.batch.spec import BatchSpec, Schema
from aurora_swarm.errors import AuroraSwarmError, QuorumError, SchemaError
from aurora_swarm.inputs.template import Template
from aurora_swarm.values.call import Sampling
from aurora_swarm.values.outcome import AgentResult

ITEMS = "items"
"""The field of a plan that holds its list, where it has several lists."""


class Planning(msgspec.Struct, frozen=True, kw_only=True):
    """How the list of inputs is made.

    Args:
        prompt: Template of the planner's task.
        schema: What the plan is constrained to and validated by: an object with one list, or with one called
            ``items``. Bound its length with ``max_length`` or ``maxItems``: it is the number of agents.
        inputs: Fields for `prompt`.
        model: Who plans; the model of the run when empty.
        system_prompt: What the planner is told first.
        sampling: How tokens are picked.
        max_retries: Re-asks after a plan that is not valid.

    Raises:
        UsageError: `prompt` is no template, or `inputs` do not fill it.
        SchemaError: `schema` has no list, or several and none called ``items``.
    """

    prompt: str
    schema: Schema
    inputs: Mapping[str, Any] = {}
    model: str = ""
    system_prompt: str = ""
    sampling: Sampling = Sampling()
    max_retries: int = 2

    def __post_init__(self) -> None:
        Template(self.prompt, "plan_prompt").check(self.inputs, "plan_inputs")
        self.listed()

    def listed(self) -> str:
        """The field of the plan that holds the list."""
        schema = OutputSpec(self.schema).schema or {}
        parts = schema.get("properties", {}).items()
        lists = [name for name, part in parts if isinstance(part, dict) and part.get("type") == "array"]
        if ITEMS in lists or len(lists) == 1:
            return ITEMS if ITEMS in lists else str(lists[0])
        raise SchemaError(
            f"has {len(lists) or 'no'} lists",
            source="plan_output_schema",
            remedy=f"give an object with one list, or call the list of inputs {ITEMS!r}",
        )

    def batch(self, spec: BatchSpec) -> BatchSpec:
        """The planner as a batch of one agent.

        Args:
            spec: What workers do; its timeouts hold.
        """
        return BatchSpec(
            task=self.prompt,
            system_prompt=self.system_prompt,
            output_schema=self.schema,
            max_turns=1,
            max_retries=self.max_retries,
            sampling=self.sampling,
            agent_timeout_s=spec.agent_timeout_s,
            turn_timeout_s=spec.turn_timeout_s,
            hoist=False,
        )


async def run_with_map_reduce(
    planning: Planning, spec: BatchSpec, reduction: Reduction, options: BatchOptions, *, worker_model: str = ""
) -> tuple[Results, Summary[Any]]:
    """Let one agent plan, many work, and make one answer of theirs.

    Each item of the plan is an input: a text as the field ``item``, an object with its own fields and as ``item``; all
    have their position as ``index``. All of it runs on one pool, with one journal and one budget.

    Args:
        planning: How the list is made.
        spec: What is done with each item.
        reduction: How the answers become one.
        options: Where it runs. `on_result` hears of the workers' results.
        worker_model: Who works; the model of the run when empty.

    Returns:
        One result per item, and the summary with the planner's result in its `plan`. A planner that fails, or a plan
        without items, leaves no results and a summary that is not ok and says why.

    Raises:
        UsageError: Something given is wrong. Nothing was sent.
        StorageError: The journal cannot be written any more.
    """
    _check_task(planning, spec)
    async with open_phases(options, spec.sampling) as phases:
        (plan,) = await phases.run(planning.batch(spec), [planning.inputs], model=planning.model)
        inputs = inputs_of(plan, planning.listed()) if plan.ok else []
        if not inputs:
            empty = QuorumError("the plan holds no items, and so there is nothing to do", n_ok=0, n_failed=0)
            return [], _failed(plan, plan.error or empty)
        results = await phases.run(spec, inputs, model=worker_model, told=True)
        summary = await reduce_results(phases, spec, results, reduction)
        return results, msgspec.structs.replace(summary, plan=plan)


def inputs_of(plan: AgentResult[Any], listed: str) -> list[dict[str, Any]]:
    """The inputs that a plan stands for.

    Args:
        plan: A result that is ok.
        listed: Which field of it holds the list.
    """
    items = plan.as_dict()["output"][listed]
    return [
        {"item": item, "index": index, **(item if isinstance(item, dict) else {})} for index, item in enumerate(items)
    ]


def _check_task(planning: Planning, spec: BatchSpec) -> None:
    """What can be known of the inputs before there is a plan: the fields that its items may have.

    Raises:
        TemplateError: The task needs a field that no item has.
    """
    schema = OutputSpec(planning.schema).schema or {}
    item = schema["properties"][planning.listed()].get("items", {})
    if not isinstance(item, dict):
        return
    if "$ref" in item:
        item = schema.get("$defs", {}).get(item["$ref"].rsplit("/", 1)[-1], {})
    if item.get("type") == "string" or item.get("additionalProperties") is False:
        Template(spec.task, "task").check({"item", "index", *item.get("properties", {})}, "an item of the plan")


def _failed(plan: AgentResult[Any], error: AuroraSwarmError) -> Summary[Any]:
    return Summary(index=0, key="", ok=False, output=None, error=error, plan=plan)
