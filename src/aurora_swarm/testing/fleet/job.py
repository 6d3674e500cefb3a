"""One request that is being answered."""

from __future__ import annotations

import random

from aurora_swarm.testing import answers
from aurora_swarm.testing.fleet.connection import Connection
from aurora_swarm.testing.fleet.counts import Tally
from aurora_swarm.testing.fleet.engine import Sequence, SimulatedEngine
from aurora_swarm.testing.fleet.faults import Fault
from aurora_swarm.testing.fleet.http import EVENTS, answer, chunk, head
from aurora_swarm.testing.fleet.plan import ServerPlan
from aurora_swarm.testing.fleet.spoiling import spoiled
from aurora_swarm.testing.fleet.wires import Work
from aurora_swarm.testing.fleet.writing import (
    Done,
    body_of,
    first_events,
    last_events,
    piece_events,
    speech,
    stream_kind,
)

STREAM_HEAD = head(200, EVENTS, b"transfer-encoding: chunked\r\n")


class Held:
    """A request that gets no answer; counted when its client gives up.

    Args:
        tally: Where it counts.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def cancel(self) -> None:
        """The client has gone."""
        self._tally.cancelled += 1


class Job:
    """Puts the finished sequences of one request together to its answer.

    Args:
        connection: Who is answered.
        engine: What computes.
        work: What is asked for.
        plan: What the server is like.
        tally: Where it counts.
        fault: What is wrong with this answer; None for nothing.
    """

    def __init__(
        self,
        connection: Connection,
        engine: SimulatedEngine,
        work: Work,
        plan: ServerPlan,
        tally: Tally,
        *,
        fault: Fault | None,
    ) -> None:
        self._connection = connection
        self._engine = engine
        self._work = work
        self._plan = plan
        self._tally = tally
        self._fault = fault
        self._sequences: list[Sequence] = []
        self._reasons: list[str] = []
        self._left = len(work.prompts)

    def start(self, dice: random.Random) -> None:
        """Hand the prompts to the engine."""
        work, factor = self._work, self._fault.slowdown if self._fault else 1.0
        for index, prompt in enumerate(work.prompts):
            tokens, short = self._plan.draw_tokens(work.allowed, dice)
            self._reasons.append("length" if short else "stop")
            sequence = Sequence(self, index, prompt, tokens, factor=factor, streamed=work.streamed, slot=work.slot)
            self._sequences.append(sequence)
        if work.streamed:
            kind = stream_kind(work)
            begun = STREAM_HEAD if kind is None else head(200, kind, b"transfer-encoding: chunked\r\n")
            first = Done(0, speech(work, 0, self._plan), "stop", 0, 0)
            self._connection.write(begun + chunk(first_events(work, first, self._plan)))
        for sequence in list(self._sequences):
            self._engine.submit(sequence)

    def cancel(self) -> None:
        """The client has gone: free what it uses."""
        self._tally.cancelled += 1
        self._drop()

    def token(self, sequence: Sequence) -> None:
        """One more token of a streamed answer."""
        said = speech(self._work, 0, self._plan)
        text, tokens, number = said.written, sequence.tokens, sequence.generated
        piece = text[(number - 1) * len(text) // tokens : number * len(text) // tokens]
        self._connection.write(chunk(piece_events(self._work, said, piece, self._plan)))

    def finished(self, sequence: Sequence) -> None:
        """One of the answers is there."""
        del sequence
        self._left -= 1
        if self._dies_now():
            self._connection.job = None
            self._drop()
            self._connection.reset()
        elif not self._left:
            self._answer()

    def _dies_now(self) -> bool:
        fault, whole = self._fault, len(self._sequences)
        dies = fault is not None and fault.kind == "dies_mid_batch" and not fault.at and whole > 1
        return dies and self._left <= whole // 2

    def _drop(self) -> None:
        for sequence in self._sequences:
            self._engine.cancel(sequence)

    def _answer(self) -> None:
        if self._work.streamed:
            self._connection.write(chunk(last_events(self._work, self._part(0), self._plan)) + chunk(b""))
        else:
            self._connection.write(self._whole())
        if self._fault is None or self._fault.slowdown > 1:
            self._tally.answered += 1
        self._connection.finish()

    def _whole(self) -> bytes:
        body = body_of(self._work, [self._part(index) for index in range(len(self._sequences))], self._plan)
        if self._fault is not None:
            if self._fault.kind == "abort" and "choices" not in body and "output" not in body:
                return answer(answers.encode(answers.error("aborted")), 500)
            body = spoiled(self._fault, body)
        return answer(answers.encode(body))

    def _part(self, index: int) -> Done:
        sequence = self._sequences[index]
        aborted = self._fault is not None and self._fault.kind == "abort"
        reason = "abort" if aborted else self._reasons[index]
        return Done(index, speech(self._work, index, self._plan), reason, sequence.tokens, sequence.cached)
