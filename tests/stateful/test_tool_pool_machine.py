"""Agents ask, are cancelled, fail and come late in any order: nobody hangs, nobody gets another's answer."""

import asyncio
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from aurora_swarm import Tool
from aurora_swarm.testing.virtual_time import VirtualTimeLoop
from aurora_swarm.tools.flights import GRACE_S
from aurora_swarm.tools.pool import ToolPool
from aurora_swarm.values.message import ToolCall

X = st.integers(0, 3)
NAMES = st.sampled_from(["pure", "idempotent", "effect", "lookup"])
TIMEOUT_S = 4.0


class ToolPoolMachine(RuleBasedStateMachine):
    """The model knows what each execution gave, and who was cancelled."""

    @initialize(latency_s=st.sampled_from([0.0, 1.0, 3.0, 9.0]), deaf=st.booleans())
    def begin(self, latency_s, deaf):
        self.loop = VirtualTimeLoop()
        self.latency_s = latency_s
        self.broken, self.deaf = False, deaf
        self.runs = Counter()
        self.asked = []
        self.cancelled = set()
        self.pool = self.loop.run_until_complete(self.opened())
        self.tools = {tool.name: tool for tool in self.made()}

    async def opened(self):
        return ToolPool()

    def made(self):
        async def run(name, x):
            self.runs[name, x] += 1
            run_id = f"{name} {x} {self.runs[name, x]}"
            left_s, broken, deaf = self.latency_s, self.broken, self.deaf
            while left_s > 0:
                began = self.loop.time()
                try:
                    await asyncio.sleep(left_s)
                    left_s = 0
                except asyncio.CancelledError:
                    if not deaf:
                        raise
                    left_s = max(left_s - (self.loop.time() - began), 100.0)
            if broken:
                raise ConnectionError(run_id)
            return run_id

        def tool(name):
            @Tool.define(name=name, effect=name, timeout=TIMEOUT_S)
            async def function(x: int) -> str:
                """Run."""
                return await run(name, x)

            return function

        @Tool.batchable(name="lookup", key="x", timeout=TIMEOUT_S, window=0.5)
        async def lookup(keys: list[int]) -> dict[int, str]:
            """Look up."""
            assert len(set(keys)) == len(keys)
            found = [await run("lookup", x) for x in keys[:1]]
            for x in keys[1:]:
                self.runs["lookup", x] += 1
                found.append(f"lookup {x} {self.runs['lookup', x]}")
            return dict(zip(keys, found, strict=True))

        return [*map(tool, ("pure", "idempotent", "effect")), lookup]

    @rule(name=NAMES, x=X, again=st.booleans())
    def ask(self, name, x, again):
        call = ToolCall("id", name, {"x": x})
        task = self.loop.create_task(self.pool.call(call, self.tools, again))
        self.asked.append((task, name, x, again))

    @rule(x=X)
    def ask_for_what_was_not_granted(self, x):
        task = self.loop.create_task(self.pool.call(ToolCall("id", "other", {"x": x}), self.tools))
        self.asked.append((task, "other", x, False))

    @rule(which=st.integers(0, 1000))
    def cancel(self, which):
        if self.asked:
            task, *_ = self.asked[which % len(self.asked)]
            if task.cancel():
                self.cancelled.add(task)

    @rule(name=NAMES, x=X)
    def cancel_all_and_ask_again_at_once(self, name, x):
        self.ask(name, x, again=False)
        self.wait(0.2)
        for task, *call in self.asked:
            if call[:2] == [name, x] and task.cancel():
                self.cancelled.add(task)
        self.ask(name, x, again=False)
        self.wait(0.0)

    @rule(seconds=st.sampled_from([0.0, 0.2, 1.0, 2.5]))
    def wait(self, seconds):
        self.loop.run_until_complete(asyncio.sleep(seconds))

    @rule(broken=st.booleans())
    def break_or_mend(self, broken):
        self.broken = broken

    @rule(deaf=st.booleans(), latency_s=st.sampled_from([0.0, 1.0, 3.0, 9.0]))
    def change_manners(self, deaf, latency_s):
        self.deaf, self.latency_s = deaf, latency_s

    @invariant()
    def answers_are_their_own(self):
        for task, name, x, again in getattr(self, "asked", ()):
            if not task.done() or task.cancelled():
                continue
            answer = task.result()
            if name == "other":
                assert not answer.executed
                assert answer.text.startswith("refused")
            elif again and name == "effect":
                assert answer.in_doubt
                assert not answer.executed
            elif answer.ok:
                assert answer.text.startswith(f"{name} {x} ")
                assert int(answer.text.rsplit(" ", 1)[1]) <= self.runs[name, x]
            else:
                assert "took longer" in answer.text or "ConnectionError" in answer.text

    @invariant()
    def only_who_was_cancelled_is(self):
        for task, *_ in getattr(self, "asked", ()):
            assert not task.cancelled() or task in self.cancelled

    @invariant()
    def what_is_done_with_is_not_held(self):
        if hasattr(self, "asked") and all(task.done() for task, *_ in self.asked):
            assert not self.pool._flights._shared

    def teardown(self):
        if not hasattr(self, "asked"):
            return
        tasks = [task for task, *_ in self.asked]
        # Two executions, each with its grace, and look-ups that gather behind others: nobody waits longer.
        waited_s = 4 * (TIMEOUT_S + GRACE_S)
        if tasks:
            _, left = self.loop.run_until_complete(asyncio.wait(tasks, timeout=waited_s))
            assert not left
        self.answers_are_their_own()
        self.effects_ran_once_each()
        self.loop.run_until_complete(self.pool.aclose())
        assert not self.pool._flights._running
        assert not self.pool._lookups._groups
        self.loop.run_until_complete(asyncio.sleep(0))
        assert not asyncio.all_tasks(self.loop)
        self.loop.close()

    def effects_ran_once_each(self):
        """Every answer of a tool that is not pure came of an execution of its own."""
        for name in ("effect", "idempotent"):
            texts = [t.result().text for t, n, *_ in self.asked if n == name and not t.cancelled() and t.result().ok]
            assert len(set(texts)) == len(texts)
        for task, name, *_ in self.asked:
            if name in {"effect", "idempotent"} and not task.cancelled() and not task.result().in_doubt:
                assert task.result().executed
        statistics = self.pool.statistics()
        for name in ("pure", "idempotent", "effect"):
            if name in statistics:
                assert statistics[name].executed == sum(count for (n, _), count in self.runs.items() if n == name)


ToolPoolMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
test_tool_pool = ToolPoolMachine.TestCase
