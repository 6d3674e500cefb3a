"""C7: on questions with one right answer, what do many agents gain over one, and what do they cost?

Each architecture on the embedded model, beside a single agent, on notes about people who do not exist. Needs nothing
but the extra `local`.
"""

from __future__ import annotations

import asyncio
import difflib
import json
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import harness
from aurora_swarm.aggregators import structured_merge
from aurora_swarm.local.server import LocalConfig, start_servers
from aurora_swarm.local.weights import default_cache, ensure_weights
from aurora_swarm.swarms.architectures.base import Architecture
from aurora_swarm.swarms.architectures.collaborative import Collaborative, CollaborativeAgent
from aurora_swarm.swarms.architectures.competitive import Competitive, CompetitiveAgent
from aurora_swarm.swarms.architectures.debate import DebaterAgent, DebatingAgents
from aurora_swarm.swarms.architectures.hierarchical import Hierarchical, LeaderAgent, WorkerAgent
from aurora_swarm.swarms.architectures.mixture import AggregatorAgent, MixtureOfAgents, ProposerAgent
from aurora_swarm.swarms.architectures.outcome import ArchitectureOutcome
from aurora_swarm.swarms.architectures.roles import JudgeAgent
from aurora_swarm.swarms.models import Model
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.gathered import Gathered
from aurora_swarm.values.outcome import Response
from people import Question, questions

OPTIONS = harness.arguments(__doc__)
SHORT, LONG = (2, 1) if OPTIONS.quick else (24, 12)
NOTES = 6
SERVERS, SLOTS, MAX_TOKENS, TEMPERATURE = 2, 2, 40, 0.7

TEXT = {"type": "string", "maxLength": 24}
CITY = {"type": "object", "properties": {"city": TEXT}, "required": ["city"], "additionalProperties": False}
RECORD = {
    "type": "object",
    "properties": {"name": TEXT, "city": TEXT},
    "required": ["name", "city"],
    "additionalProperties": False,
}
ASK = """Read the text and say in which city the person is.

Text: In Milan, Rosa Conti is known as a good dancer.
Question: In which city is Rosa Conti?
Answer: {"city": "Milan"}

Text: The singer Hana Kim moved to Seoul last spring.
Question: In which city is Hana Kim?
Answer: {"city": "Seoul"}

"""
EXTRACT = """Read your part and say who is in which city.

Your part:
<material>
In Milan, Rosa Conti is known as a good dancer.
</material>
{"name": "Rosa Conti", "city": "Milan"}

Your part:
<material>
The singer Hana Kim moved to Seoul last spring.
</material>
{"name": "Hana Kim", "city": "Seoul"}"""

DEBATE = "debate, 3 by 2 rounds"

Answers = list[ArchitectureOutcome]


def asked(question: Question) -> str:
    """The task of whoever reads all notes."""
    return f"{ASK}Text: {' '.join(question.notes)}\nQuestion: In which city is {question.name}?\nAnswer:"


def is_right(outcome: ArchitectureOutcome, question: Question) -> bool:
    """Whether the city is the right one, spelt right."""
    try:
        return bool(json.loads(outcome.answer)["city"].strip() == question.city)
    except (ValueError, KeyError):
        return False


def stands_in(question: Question) -> Callable[[Response], float]:
    """An evaluation that knows nothing but the notes: a city that is not in them is wrong."""
    return lambda response: float(json.loads(response.text)["city"].strip() in " ".join(question.notes))


def about(question: Question) -> Callable[[str, Gathered], str]:
    """What a leader does without a model: look up whom the question is about."""

    def found(_task: str, results: Gathered) -> str:
        records, _ = structured_merge(results)
        near = max(records, key=lambda each: difflib.SequenceMatcher(None, each["name"], question.name).ratio())
        return json.dumps({"city": near["city"]})

    return found


class Bench:
    """The architectures, and what they found.

    Args:
        report: Where it is told.
        sure: The model, always the same answer.
        free: The same, at a temperature.
    """

    def __init__(self, report: harness.Report, sure: Model, free: Model) -> None:
        self._report = report
        self._sure = sure
        self._free = free

    def fronts(self) -> Mapping[str, Callable[[Question], Architecture]]:
        """Those that read all notes themselves."""
        sure, free = self._sure, self._free
        three = (CompetitiveAgent(free),) * 3
        return {
            "one agent, sampled": lambda _: Competitive((CompetitiveAgent(free),), schema=CITY),
            "competitive, 5, agreement": lambda _: Competitive((CompetitiveAgent(free),) * 5, schema=CITY),
            "competitive, 3, a function": lambda q: Competitive(three, stands_in(q), CITY),
            "competitive, 3, a judge": lambda _: Competitive(three, JudgeAgent(sure), CITY),
            "collaborative, 3, vote": lambda _: Collaborative((CollaborativeAgent(free),) * 3, schema=CITY),
            DEBATE: lambda _: DebatingAgents((DebaterAgent(free),) * 3, schema=CITY),
            "mixture, 3 and 1": lambda _: MixtureOfAgents(
                ((ProposerAgent(free),) * 3,), AggregatorAgent(sure), schema=CITY
            ),
        }

    def one(self) -> Architecture:
        """A single agent."""
        return Competitive((CompetitiveAgent(self._sure),), schema=CITY)

    async def short(self, items: Sequence[Question]) -> None:
        """One or two notes, which an agent can read at once."""
        about_them = f"{len(items)} questions, 1 or 2 notes"
        single = await self._measured(lambda q: self.one().run(asked(q)), items)
        self._row(f"one agent ({about_them})", items, single, None)
        for name, front in self.fronts().items():
            answers = await self._measured(lambda q, front=front: front(q).run(asked(q)), items)
            self._row(name, items, answers, single)
            if name == DEBATE:
                self._report.notes.append(first_answers(items, answers))

    async def long(self, items: Sequence[Question]) -> None:
        """More notes than this model keeps apart."""
        about_them = f"{len(items)} questions, {NOTES} notes"
        single = await self._measured(lambda q: self.one().run(asked(q)), items)
        self._row(f"one agent ({about_them})", items, single, None)
        workers = (WorkerAgent(self._sure),) * NOTES

        def looked_up(question: Question) -> Awaitable[ArchitectureOutcome]:
            front = Hierarchical(LeaderAgent(self._sure, merge=about(question)), workers, part_schema=RECORD)
            return front.run(EXTRACT, question.notes)

        def by_model(question: Question) -> Awaitable[ArchitectureOutcome]:
            front = Hierarchical(LeaderAgent(self._sure), workers, schema=CITY, part_schema=RECORD)
            return front.run(f"{EXTRACT}\nIn the end: in which city is {question.name}?", question.notes)

        gain = self._row(
            "hierarchical, a worker per note, a look-up", items, await self._measured(looked_up, items), single
        )
        self._report.goal("hierarchical with a look-up: least gain in accuracy, at 95 %", gain, at_least=0.0)
        self._row(
            "hierarchical, a worker per note, the leader's model", items, await self._measured(by_model, items), single
        )

    async def _measured(
        self, run: Callable[[Question], Awaitable[ArchitectureOutcome]], items: Sequence[Question]
    ) -> Answers:
        return list(await asyncio.gather(*(run(item) for item in items)))

    def _row(self, name: str, items: Sequence[Question], answers: Answers, single: Answers | None) -> float:
        """Add a line; gives the lower end of the gain."""
        right = [is_right(answer, item) for answer, item in zip(answers, items, strict=True)]
        low, high = wilson(sum(right), len(right))
        tokens = sum(answer.usage.total_tokens for answer in answers) / len(items)
        calls = sum(part.attempts for answer in answers for part in answer.parts) / len(items)
        gain, least, most = (0.0, 0.0, 0.0)
        verdict, told = "-", "-"
        if single is not None:
            before = [is_right(answer, item) for answer, item in zip(single, items, strict=True)]
            gain, least, most = paired(right, before)
            verdict = "better" if least > 0 else "worse" if most < 0 else "not told from noise"
            told = f"{gain:+.2f} ({least:+.2f} to {most:+.2f})"
        share = sum(right) / len(right)
        self._report.row(name, share, f"{low:.2f} to {high:.2f}", told, verdict, round(calls, 1), round(tokens))
        print(f"{name}: {share:.2f}, {told}, {tokens:.0f} tokens", flush=True)
        return least


def first_answers(items: Sequence[Question], answers: Answers) -> str:
    """How right debaters were before they had read each other: what a debate's prompt costs, without the debate."""
    said = [(part, item) for answer, item in zip(answers, items, strict=True) for part in answer.parts[:3]]
    right = sum(part.ok and part.output["city"].strip() == item.city for part, item in said)
    return f"Of the debaters' first answers, before they had read each other, {right / len(said):.2f} were right."


def wilson(hits: int, size: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share, after Wilson (1927)."""
    share, spread = hits / size, z * z / size
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / size + spread / size / 4) / (1 + spread)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def paired(after: Sequence[bool], before: Sequence[bool], z: float = 1.96) -> tuple[float, float, float]:
    """The difference of two shares over the same items, and its 95 % interval, after Agresti and Min (2005)."""
    size = len(after) + 2
    won = sum(a and not b for a, b in zip(after, before, strict=True)) + 0.5
    lost = sum(b and not a for a, b in zip(after, before, strict=True)) + 0.5
    difference = (won - lost) / size
    half = z * math.sqrt(won + lost - (won - lost) ** 2 / size) / size
    return (won - lost) / len(after), difference - half, difference + half


@asynccontextmanager
async def one_core_each(count: int, slots: int) -> AsyncIterator[list[AgentEndpoint]]:
    """Servers whose threads need not wait for each other, so that a busy machine does not stop them."""
    weights = await ensure_weights(None, default_cache(), print)
    async with AsyncExitStack() as stack:
        servers = await start_servers([LocalConfig(weights, "smollm2-135m", slots=slots, threads=1)] * count, stack)
        yield [AgentEndpoint(server.endpoint.host, server.endpoint.port) for server in servers]


async def measure() -> harness.Report:
    """All architectures on the same servers."""
    report = harness.Report(
        "c7_architectures",
        "C7",
        "What do many agents gain over one where the answer can be checked, and what do they cost?",
        "Questions over notes made from a seed, one right answer each, on the embedded model (135 million parameters, "
        f"{SERVERS} servers, one core each). A single agent, judges, aggregators, leaders and workers are greedy; who "
        f"competes, collaborates, debates or proposes is sampled at temperature {TEMPERATURE}. Accuracy with its 95 % "
        "interval, difference from the single agent on the same questions with its own, calls and tokens per question.",
        ("who", "accuracy", "95 %", "difference (95 %)", "beside one agent", "calls", "tokens"),
    )
    began = time.perf_counter()
    async with one_core_each(SERVERS, SLOTS) as endpoints:
        sure = Model("", endpoints, temperature=0.0, max_tokens=MAX_TOKENS)
        free = Model("", endpoints, temperature=TEMPERATURE, max_tokens=MAX_TOKENS)
        async with sure.opened(), free.opened():
            bench = Bench(report, sure, free)
            await bench.short([*questions(SHORT // 2, 1, seed=1), *questions(SHORT - SHORT // 2, 2, seed=2)])
            await bench.long(questions(LONG, NOTES, seed=3))
    print(f"{time.perf_counter() - began:.0f} s", flush=True)
    report.notes += notes(report)
    return report


def notes(report: harness.Report) -> list[str]:
    """What the table says, in words."""
    said: dict[str, list[str]] = {}
    for row in report.rows:
        said.setdefault(row[4], []).append(row[0])
    names = {verdict: "; ".join(rows) for verdict, rows in said.items() if verdict != "-"}
    told = [f"{verdict[0].upper()}{verdict[1:]}: {rows}." for verdict, rows in names.items()]
    return [*told, "A small model says nothing of how large ones fare; what is measured here is one task on one model."]


if __name__ == "__main__":
    harness.start(measure, quick=OPTIONS.quick, core=None)
