"""Runs a scenario: the production dispatcher in virtual time, over servers in memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context
from typing import Any, TypeVar

from aurora_swarm.dispatch.dispatcher import Dispatcher
from aurora_swarm.dispatch.routing import View
from aurora_swarm.testing.simulation.invariants import (
    LimitWatch,
    Traffic,
    check_budget,
    check_call,
    check_concurrency,
    check_end,
)
from aurora_swarm.testing.simulation.report import Ended, Event, SimulationReport
from aurora_swarm.testing.simulation.scenario import CallPlan, Scenario
from aurora_swarm.testing.simulation.transport import SimulatedTransport
from aurora_swarm.testing.virtual_time import VirtualTimeLoop
from aurora_swarm.values.call import Call
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.message import Message
from aurora_swarm.values.outcome import Outcome
from aurora_swarm.values.reply import EndpointInfo

T = TypeVar("T")

HORIZON_S = 1e6
"""A call that has not ended by then waits forever."""

TICK_S = 1e-6
"""A timer may run this much early."""

SETTLE = 5
"""Turns of the loop after which everything that was cancelled is gone."""


class TimerCountingLoop(VirtualTimeLoop):
    """Virtual time that knows which timers are still pending."""

    def __init__(self) -> None:
        super().__init__()
        self._timers: list[asyncio.TimerHandle] = []
        self._many = 1000

    def call_at(  # type: ignore[override]  # the base takes the types of the arguments along
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Like the base, and remembered."""
        timer = super().call_at(when, callback, *args, context=context)
        if len(self._timers) > self._many:
            self._timers = self._pending()
            self._many = 1000 + 2 * len(self._timers)
        self._timers.append(timer)
        return timer

    def timers(self) -> list[asyncio.TimerHandle]:
        """Timers that are neither due nor cancelled."""
        return self._pending()

    def _pending(self) -> list[asyncio.TimerHandle]:
        return [timer for timer in self._timers if not timer.cancelled() and timer.when() > self.time() + TICK_S]


def run_simulated(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in virtual time, on a loop whose `timers` can be counted."""
    with asyncio.Runner(loop_factory=TimerCountingLoop) as runner:
        return runner.run(main)


def simulate(scenario: Scenario) -> SimulationReport:
    """Run a scenario to its end and check what must hold.

    Checked: everything asked ends once, with the right answer or an error that its endpoints' faults explain; a call
    that a sound endpoint could answer is answered; every request is listed in its outcome; retries, hedges, slots and
    concurrency keep to their limits; nothing is left over at the end.

    Args:
        scenario: What happens.

    Returns:
        What happened; `violations` holds what should not have.
    """
    return run_simulated(_Run(scenario).main())


class _Run:
    """One run of a scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.fleet = [AgentEndpoint(f"node{i}", 8000) for i in range(len(scenario.endpoints))]
        self.place = {endpoint: i for i, endpoint in enumerate(self.fleet)}
        plans = dict(zip(self.fleet, scenario.endpoints, strict=True))
        dice = random.Random(scenario.seed)  # noqa: S311 - a simulation keeps no secret
        self.transport = SimulatedTransport(plans, dice=dice, watch=self.watch)
        self.dispatcher = Dispatcher(
            self.fleet,
            self.transport,
            limits=scenario.limits,
            retry=scenario.retry,
            health=scenario.health,
            hedge=scenario.hedge,
            dice=dice,
        )
        self.views = [self.dispatcher.view(v) for v in scenario.views or (range(len(self.fleet)),)]
        self.limits = LimitWatch(len(self.fleet), slack=max(len(plan.prompts) for plan in scenario.calls) - 1)
        self.traffic = Traffic()
        self.events: list[Event] = []
        self.violations: list[str] = []
        self.gave_up: set[int] = set()
        self.closed = False

    # -- what is seen --------------------------------------------------------------------------------------------

    def note(self, what: str, where: int, who: str) -> None:
        self.events.append(Event(asyncio.get_running_loop().time(), what, where, who))

    def watch(self, endpoint: AgentEndpoint, what: str, calls: Sequence[Call]) -> None:
        """Everything that the transport does passes here."""
        index = self.place[endpoint]
        prompts = [call.messages[-1].content for call in calls]
        self.note(what, index, " ".join(prompts))
        now = asyncio.get_running_loop().time()
        seen = self.dispatcher.statistics((index,)).endpoints[0]
        self.traffic.note(what, index, prompts, now, on_trial=seen.condition == "trial")
        allowed = self.limits.allowed(index, seen.limit, now)
        open_here = self.transport.servers[endpoint].open
        if what == "sent" and open_here >= allowed:
            many = open_here + len(calls)
            self.violations.append(f"endpoint {index} has {many} calls at {now:.6f}, may have {allowed}")
        if open_here > seen.outstanding:
            self.violations.append(f"endpoint {index} has {open_here} calls at {now:.6f}, booked {seen.outstanding}")

    # -- the run -------------------------------------------------------------------------------------------------

    async def main(self) -> SimulationReport:
        for index, slots in self.scenario.slots.items():
            self.dispatcher.inform(index, EndpointInfo(slots=slots))
        ended = await self.ask_all()
        for _ in range(SETTLE):
            await asyncio.sleep(0)
        statistics = self.dispatcher.statistics(range(len(self.fleet)))
        virtual_s = asyncio.get_running_loop().time()
        await self.dispatcher.aclose()
        await self.transport.aclose()
        await asyncio.sleep(0)
        self.check(ended)
        self.violations += check_end(statistics, self.transport, _left_over())
        self.violations += check_budget(self.scenario, statistics, self.transport, self.traffic)
        self.violations += check_concurrency(self.scenario, self.transport)
        return SimulationReport(
            seed=self.scenario.seed,
            ended=tuple(ended),
            events=tuple(self.events),
            statistics=statistics,
            injected=self.transport.injected,
            virtual_s=virtual_s,
            violations=tuple(self.violations),
        )

    async def ask_all(self) -> list[Ended]:
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(self.take(n, plan)) for n, plan in enumerate(self.scenario.calls)]
        timers = [
            loop.call_at(plan.at_s + plan.cancel_after_s, self.give_up, n, task)
            for n, (plan, task) in enumerate(zip(self.scenario.calls, tasks, strict=True))
            if plan.cancel_after_s is not None
        ]
        closing = loop.create_task(self.close_early())
        done, pending = await asyncio.wait(tasks, timeout=HORIZON_S)
        self.violations += [
            f"{plan.prompts[0]} never ended: {plan}"
            for plan, task in zip(self.scenario.calls, tasks, strict=True)
            if task in pending
        ]
        for task in (*pending, closing):
            task.cancel()
        for timer in timers:
            timer.cancel()
        await asyncio.wait([*tasks, closing])
        return [self.ended(n, task, task in done) for n, task in enumerate(tasks)]

    def give_up(self, number: int, task: asyncio.Task[Any]) -> None:
        if not task.done():
            self.gave_up.add(number)
            self.note("gives up", -1, self.scenario.calls[number].prompts[0])
            task.cancel()

    async def close_early(self) -> None:
        if self.scenario.close_at_s is not None:
            await asyncio.sleep(self.scenario.close_at_s)
            self.note("closes", -1, "")
            self.closed = True
            await self.dispatcher.aclose()

    async def take(self, number: int, plan: CallPlan) -> Ended:
        loop = asyncio.get_running_loop()
        if plan.at_s:
            await asyncio.sleep(plan.at_s)
        began_s = loop.time()
        self.note("asked", -1, plan.prompts[0])
        outcomes = await self.ask(plan, self.views[plan.view])
        self.note("ended", -1, f"{plan.prompts[0]} {' '.join(map(_in_a_word, outcomes))}")
        seen, retry = self.dispatcher.statistics(()), self.scenario.retry
        return Ended(
            plan,
            tuple(outcomes),
            began_s,
            loop.time(),
            cancelled=False,
            was_cancelled=number in self.gave_up,
            budget_spent=seen.retries >= retry.budget_floor + retry.budget_ratio * seen.calls,
            closed=self.closed,
        )

    async def ask(self, plan: CallPlan, view: View) -> list[Outcome]:
        calls = [
            Call((Message("user", text),), turns_left=plan.turns_left, prefix=plan.prefix) for text in plan.prompts
        ]
        if len(calls) == 1:
            return [await self.dispatcher.ask(calls[0], view, pin=plan.pin, strict=plan.strict)]
        return await self.dispatcher.ask_many(calls, view, pin=plan.pin)

    def ended(self, number: int, task: asyncio.Task[Ended], in_time: bool) -> Ended:
        plan, now = self.scenario.calls[number], asyncio.get_running_loop().time()
        gave_up = number in self.gave_up or not in_time
        if not task.cancelled() and task.exception() is None:
            return task.result()
        crash = "" if task.cancelled() else repr(task.exception())
        return Ended(plan, (), plan.at_s, now, task.cancelled(), gave_up, False, self.closed, crash)

    def check(self, ended: Sequence[Ended]) -> None:
        for each in ended:
            found = check_call(self.scenario, self.views[each.plan.view].members, each, self.traffic, self.fleet)
            self.violations += [f"{each.plan.prompts[0]}: {problem}" for problem in found]


def _in_a_word(outcome: Outcome) -> str:
    return "ok" if outcome.error is None else outcome.error.kind


def _left_over() -> list[str]:
    """Tasks and timers that nobody will end."""
    loop = asyncio.get_running_loop()
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    timers = loop.timers() if isinstance(loop, TimerCountingLoop) else []
    return [*(f"task {task!r}" for task in tasks), *(f"timer {timer!r}" for timer in timers)]
