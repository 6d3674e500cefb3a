"""What happens in a simulation, drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Self

import msgspec

from aurora_swarm.dispatch.dispatcher import Limits
from aurora_swarm.testing.simulation.faults import KINDS, Fault, Kind
from aurora_swarm.testing.simulation.servers import EndpointPlan
from aurora_swarm.testing.simulation.transport import BAD
from aurora_swarm.values.policy import HealthPolicy, HedgePolicy, RetryPolicy

HEDGE = HedgePolicy()

FOREVER_S = 2e4
"""A deadline that no run reaches."""


class CallPlan(msgspec.Struct, frozen=True, gc=False):
    """Something that is asked.

    Args:
        prompts: One; or several that travel in one request.
        at_s: When.
        view: Index into the scenario's views.
        pin: The endpoint to prefer, or None.
        strict: Whether only `pin` may answer.
        turns_left: As in `aurora_swarm.values.call.Call`.
        prefix: As there.
        cancel_after_s: Seconds after `at_s` at which the caller gives up; None for never.
    """

    prompts: tuple[str, ...]
    at_s: float = 0.0
    view: int = 0
    pin: int | None = None
    strict: bool = False
    turns_left: int = 0
    prefix: str = ""
    cancel_after_s: float | None = None


class Scenario(msgspec.Struct, frozen=True):
    """A fleet, its faults, and what is asked of it.

    Args:
        seed: Seeds the dice of the transport and of the dispatcher.
        endpoints: The fleet.
        calls: What is asked.
        views: Endpoint indices of each view; empty for the whole fleet alone.
        limits: As for a dispatcher.
        retry: As for a dispatcher.
        health: As for a dispatcher.
        hedge: As for a dispatcher.
        slots: Slots that endpoints tell, by index.
        close_at_s: When the dispatcher is closed; None for after the last call.
    """

    seed: int
    endpoints: tuple[EndpointPlan, ...]
    calls: tuple[CallPlan, ...]
    views: tuple[tuple[int, ...], ...] = ()
    limits: Limits = Limits()
    retry: RetryPolicy = RetryPolicy()
    health: HealthPolicy = HealthPolicy()
    hedge: HedgePolicy | None = HEDGE
    slots: dict[int, int] = {}
    close_at_s: float | None = None

    @classmethod
    def from_seed(cls, seed: int) -> Self:
        """The scenario of a seed: always the same one."""
        dice = random.Random(seed)  # noqa: S311 - a simulation keeps no secret
        roomy = dice.random() < 0.5
        endpoints = _endpoints(dice)
        views = _views(dice, len(endpoints))
        concurrency = dice.choice((1, 2, 4, 8, 16, 64))
        return cls(
            seed=seed,
            endpoints=endpoints,
            calls=_calls(dice, views, seed),
            views=views,
            limits=_roomy(endpoints, concurrency) if roomy else _tight(dice, concurrency),
            hedge=dice.choice((None, HEDGE, HEDGE, HedgePolicy(budget_floor=20, quantile=0.8, factor=1.1))),
            slots={i: dice.randint(1, 4) for i in range(len(endpoints))} if dice.random() < 0.1 else {},
            close_at_s=dice.uniform(0.1, 20.0) if dice.random() < 0.05 else None,
        )

    def is_roomy(self) -> bool:
        """Whether no time limit is ever reached by the mere length of a queue."""
        return self.limits.deadline_s >= FOREVER_S


def _endpoints(dice: random.Random) -> tuple[EndpointPlan, ...]:
    size = dice.randint(1, 10)
    sick = dice.choice((0.0, 0.2, 0.5, 0.8, 1.0))
    outage = _outage(dice) if dice.random() < 0.15 else ()
    return tuple(_endpoint(dice, sick, outage) for _ in range(size))


def _endpoint(dice: random.Random, sick: float, outage: tuple[Fault, ...]) -> EndpointPlan:
    faults = [_fault(dice) for _ in range(dice.choice((1, 1, 1, 2, 3)))] if dice.random() < sick else []
    return EndpointPlan(
        latency_s=dice.choice((0.05, 0.5, 1.0, 1.0, 4.0)),
        capacity=dice.choice((1, 2, 4, 8)),
        jitter=dice.choice((0.0, 0.2, 0.5)),
        faults=(*outage, *faults),
        batches=dice.random() < 0.8,
        tells_load=dice.random() < 0.2,
    )


def _outage(dice: random.Random) -> tuple[Fault, ...]:
    """The whole fleet is away for a while."""
    start_s = dice.uniform(0.0, 10.0)
    kind: Kind = dice.choice(("refuse", "refuse", "hang", "server_error", "overloaded"))
    return (Fault(kind, start_s=start_s, end_s=start_s + dice.uniform(1.0, 60.0), retry_after_s=2.0),)


def _fault(dice: random.Random) -> Fault:
    start_s = dice.choice((0.0, 0.0, dice.uniform(0.0, 15.0)))
    kind = dice.choice(KINDS)
    return Fault(
        kind,
        # Whoever is always busy is asked once a second for as long as a deadline allows: true, and a waste of our time.
        rate=dice.choice((0.5, 0.1) if kind == "overloaded" else (1.0, 1.0, 0.5, 0.1)),
        start_s=start_s,
        end_s=dice.choice((float("inf"), start_s + dice.uniform(0.5, 30.0))),
        period_s=dice.choice((0.0, 0.0, 0.0, dice.uniform(0.2, 8.0))),
        delay_s=dice.choice((0.0, 0.001, 0.3)),
        retry_after_s=dice.choice((None, 0.0, 1.0, 5.0)),
        factor=dice.choice((10.0, 100.0)),
    )


def _views(dice: random.Random, size: int) -> tuple[tuple[int, ...], ...]:
    """The whole fleet, and some parts of it."""
    parts = [tuple(sorted(dice.sample(range(size), dice.randint(1, size)))) for _ in range(dice.choice((0, 0, 1, 3)))]
    return (tuple(range(size)), *parts)


def _calls(dice: random.Random, views: Sequence[Sequence[int]], seed: int) -> tuple[CallPlan, ...]:
    count = dice.randint(10, 70)
    span_s = dice.choice((0.0, 5.0, 20.0))
    bad = dice.choice((0.0, 0.0, 0.1))
    bundles = dice.choice((0.0, 0.0, 0.3))
    cancels = dice.choice((0.0, 0.1, 0.3))
    pins = dice.choice((0.0, 0.0, 0.5))
    plans = []
    for number in range(count):
        view = dice.randrange(len(views))
        pin = dice.choice(views[view]) if dice.random() < pins else None
        size = dice.randint(2, 6) if dice.random() < bundles else 1
        texts = (f"{seed}-{number}-{part}" for part in range(size))
        plan = CallPlan(
            tuple(BAD + text if dice.random() < bad else text for text in texts),
            at_s=dice.uniform(0.0, span_s),
            view=view,
            pin=pin,
            strict=size == 1 and pin is not None and dice.random() < 0.3,
            turns_left=dice.choice((0, 0, 3)),
            prefix=dice.choice(("", "", "", "a", "b")),
            cancel_after_s=dice.uniform(0.0, 10.0) if dice.random() < cancels else None,
        )
        plans.append(plan)
    return tuple(plans)


def _roomy(endpoints: Sequence[EndpointPlan], concurrency: int) -> Limits:
    """Time for every queue that an endpoint which is well may have."""
    sequences = 6 * concurrency + 12
    longest_s = max(2 * plan.latency_s * (2 + sequences / plan.capacity) for plan in endpoints)
    return Limits(concurrency=concurrency, attempt_timeout_s=longest_s, deadline_s=FOREVER_S)


def _tight(dice: random.Random, concurrency: int) -> Limits:
    attempt_s = dice.choice((2.0, 6.0, 20.0))
    deadline_s = attempt_s * dice.choice((1.0, 3.0, 6.0))
    return Limits(concurrency=concurrency, attempt_timeout_s=attempt_s, deadline_s=deadline_s, probe_timeout_s=2.0)
