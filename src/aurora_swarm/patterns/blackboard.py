"""Agents work together on a board: each round they read what stands there and write what they add."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from aurora_swarm.errors import NoEndpointsError, UsageError
from aurora_swarm.patterns.broadcast import broadcast
from aurora_swarm.patterns.overlap import Turn, overlapping
from aurora_swarm.patterns.quorum import Quorum, least, shortfall
from aurora_swarm.patterns.rounds import Crew, Rounds
from aurora_swarm.pools.pool import Pool
from aurora_swarm.values.gathered import Gathered
from aurora_swarm.values.outcome import Response

BoardState = dict[str, list[str]]
PromptFn = Callable[[str, BoardState], str]
ConvergenceFn = Callable[[BoardState], bool]

BOARD_TOKENS = 2_048
"""Tokens of the board that a prompt shows, where nobody says."""


class Entry(msgspec.Struct, frozen=True):
    """What one agent wrote in one round.

    Args:
        section: Where.
        round: 0-based.
        author: Who, such as the URL of an endpoint.
        text: What.
    """

    section: str
    round: int
    author: str
    text: str


class Session(BoardState):
    """The final board, texts by section, and the account of the run.

    Attributes:
        rounds: Rounds completed, those before a restored snapshot included.
        converged: Whether `convergence_fn` ended the run.
        responses: Every response of this run, in order of time.
    """

    def __init__(self, board: BoardState, rounds: int, responses: Gathered, *, converged: bool) -> None:
        super().__init__(board)
        self.rounds = rounds
        self.converged = converged
        self.responses = responses


class Blackboard:
    """A board that agents write on in rounds.

    An endpoint writes into the section that its ``role`` tag names; endpoints with other roles, or none, do not take
    part. Sections are worked on one after the other, so that critics see this round's hypotheses; the agents of one
    section are asked at the same time, all with the same prompt, which their servers compute once.

    Writes only add: an entry is known by section, round and author, so that writes may come in any order and more than
    once, and none is lost.

    Args:
        sections: Names of the sections, in the order in which they are worked on.
        prompt_fn: Makes the prompt for a role from the board, texts by section. Put what all roles share first.
        board_tokens: What the board shown to `prompt_fn` may have in tokens, an even share for each section, the newest
            entries first to be kept: a prompt stays as long for 512 agents as for 32. None for all of it.
        quorum: How many agents of a section must answer in a round, as a number or as a share. The others are not
            waited for when it is given; when None all are, and one answer is enough.

    Raises:
        UsageError: There are no sections, or one is named twice.
    """

    def __init__(
        self,
        sections: Sequence[str],
        prompt_fn: PromptFn,
        *,
        board_tokens: int | None = BOARD_TOKENS,
        quorum: Quorum | None = None,
    ) -> None:
        if not sections or len(set(sections)) != len(sections):
            raise UsageError(f"sections are {list(sections)}", remedy="give one name at least, each once")
        self._sections = tuple(sections)
        self._prompt_fn = prompt_fn
        self._board_tokens = board_tokens
        self._quorum = quorum
        self._entries: dict[tuple[str, int, str], Entry] = {}
        self._order: dict[str, list[Entry]] = {section: [] for section in sections}
        self._round = 0

    @property
    def board(self) -> BoardState:
        """Texts by section, by round and then by author; a copy."""
        return {section: [entry.text for entry in entries] for section, entries in self._order.items()}

    @property
    def round(self) -> int:
        """Rounds completed."""
        return self._round

    def write(self, entry: Entry) -> None:
        """Add an entry; the same one once more changes nothing.

        Raises:
            UsageError: There is no such section, or its author wrote another text there in that round.
        """
        if entry.section not in self._sections:
            raise UsageError(
                f"the board has no section {entry.section!r}", remedy=f"it has: {', '.join(self._sections)}"
            )
        key = (entry.section, entry.round, entry.author)
        known = self._entries.get(key)
        if known is None:
            self._entries[key] = entry
            insort(self._order[entry.section], entry, key=_place_of)
        elif known.text != entry.text:
            where = f"section {entry.section!r}, round {entry.round}"
            raise UsageError(f"{entry.author} has written into {where} already", remedy="write one text a round")

    def snapshot(self) -> dict[str, Any]:
        """Everything, as plain data for JSON: ``round``, ``board``, ``entries``. May be taken at any time of a run."""
        entries = [msgspec.structs.asdict(entry) for entry in self._entries.values()]
        return {"round": self._round, "board": self.board, "entries": entries}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go on where a snapshot was taken: agents that had written in an unfinished round are not asked again.

        Raises:
            UsageError: It is no snapshot of a board with these sections.
        """
        try:
            done, entries = int(snapshot["round"]), [msgspec.convert(e, Entry) for e in snapshot["entries"]]
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"this is no snapshot of a board: {error}", remedy="give what snapshot() gave") from None
        for entry in entries:
            self.write(entry)
        self._round = done

    async def run(
        self,
        pool: Pool,
        max_rounds: int = 10,
        convergence_fn: ConvergenceFn | None = None,
        *,
        staleness: int | None = None,
    ) -> Session:
        """Go through rounds until `max_rounds` are completed, or the board has converged.

        In lock-step a round begins when the one before is complete. With `staleness` the sections are worked on side by
        side, and agents who are done go on without the others: they read the board as it is by then, which lacks
        entries of the latest rounds only, of so many at most.

        Args:
            pool: Endpoints with ``role`` tags.
            max_rounds: Rounds at most, those before a restored snapshot included.
            convergence_fn: Looks at the whole board after a round; true ends the run. What it raises ends the run too.
            staleness: Rounds by which an agent may be ahead of the first that is not complete; None for lock-step. With
                a `quorum`, an agent who comes too late for a round goes on with the next one.

        Returns:
            The board and the account of the run. Cancelling loses no entry that was written.

        Raises:
            NoEndpointsError: No endpoint has a section's name as its role.
            QuorumError: Fewer agents of a section answered in a round than `quorum` asks for. What was written stays.
            UsageError: `max_rounds` is below 1, `staleness` below 0, or `quorum` cannot be met.
        """
        if max_rounds < 1 or (staleness is not None and staleness < 0):
            raise UsageError(f"max_rounds is {max_rounds}, staleness {staleness}", remedy="give 1 and 0 at least")
        crews, responses = self._crews(pool), Gathered()
        converges = convergence_fn or _never
        if staleness is None:
            converged = await self._in_step(crews, max_rounds, converges, responses)
        else:
            converged = await self._overlapping(crews, max_rounds, converges, responses, staleness)
        return Session(self.board, self._round, responses, converged=converged)

    def shown(self, tokens: Callable[[str], int]) -> BoardState:
        """The board as prompts see it: the newest entries of each section that fit its share of `board_tokens`.

        Args:
            tokens: Length of a text.
        """
        if self._board_tokens is None:
            return self.board
        share = self._board_tokens // len(self._sections)
        return {section: _newest(entries, share, tokens) for section, entries in self._order.items()}

    def _crews(self, pool: Pool) -> dict[str, Pool]:
        roles = {endpoint.tags.get("role") for endpoint in pool.endpoints}
        crews = {section: pool.by_tag("role", section) for section in self._sections if section in roles}
        if not crews:
            wanted = ", ".join(f"role={section}" for section in self._sections)
            raise NoEndpointsError("no endpoint works on this board", remedy=f"tag endpoints with one of: {wanted}")
        for crew in crews.values():
            least(1 if self._quorum is None else self._quorum, crew.size)
        return crews

    async def _in_step(
        self, crews: Mapping[str, Pool], max_rounds: int, converges: ConvergenceFn, responses: Gathered
    ) -> bool:
        """Rounds one after the other; whether the board has converged."""
        converged = False
        while self._round < max_rounds and not converged:
            for section, crew in crews.items():
                responses += await self._work(section, crew)
            self._round += 1
            converged = bool(converges(self.board))
        return converged

    async def _overlapping(
        self,
        crews: Mapping[str, Pool],
        max_rounds: int,
        converges: ConvergenceFn,
        responses: Gathered,
        staleness: int,
    ) -> bool:
        """Rounds of all sections side by side; whether the board has converged."""
        sections, tokens = list(crews), next(iter(crews.values())).runtime.tokens_at_most
        rounds = Rounds([self._crew(crew) for crew in crews.values()], staleness, self._round)

        def prompt(crew: int) -> str:
            return self._prompt_fn(sections[crew], self.shown(tokens))

        def converged() -> bool:
            while rounds.advance():
                self._round = rounds.completed
                if converges(self.board):
                    return True
            return False

        first = self._resumed(crews, rounds)
        if converged():
            return True
        if self._round >= max_rounds:
            return False
        async with aclosing(overlapping(list(crews.values()), rounds, first, prompt, max_rounds)) as turns:
            async for turn, response in turns:
                responses.append(response)
                self._write(sections[turn.crew], turn.number, crews[sections[turn.crew]], response)
                if converged():
                    return True
                if (short := rounds.short()) is not None:
                    crew = crews[sections[short]]
                    raise shortfall(crew.size, responses[::-1], rounds.answers(short), self._crew(crew).needed)
        return False

    def _resumed(self, crews: Mapping[str, Pool], rounds: Rounds) -> list[Turn]:
        """The first turn of every agent, behind what it has written in rounds that were not complete."""
        after: dict[tuple[str, str], int] = {}
        for section, number, author in self._entries:
            after[section, author] = max(after.get((section, author), 0), number + 1)
        first: list[Turn] = []
        for place, (section, crew) in enumerate(crews.items()):
            for agent, endpoint in enumerate(crew.endpoints):
                begins = max(after.get((section, endpoint.url), 0), self._round)
                for number in range(self._round, begins):
                    rounds.end(place, number, answered=(section, number, endpoint.url) in self._entries)
                first.append(Turn(place, agent, begins))
        return first

    def _crew(self, crew: Pool) -> Crew:
        needed = least(1 if self._quorum is None else self._quorum, crew.size)
        return Crew(crew.size, needed, patient=self._quorum is None)

    async def _work(self, section: str, crew: Pool) -> Gathered:
        """One section's part of a round."""
        wrote = [self._entries.get((section, self._round, endpoint.url)) for endpoint in crew.endpoints]
        left = [place for place, entry in enumerate(wrote) if entry is None]
        needed = self._crew(crew).needed - (crew.size - len(left))
        if not left or (self._quorum is not None and needed < 1):
            return Gathered()
        prompt = self._prompt_fn(section, self.shown(crew.runtime.tokens_at_most))
        agents = crew.select(left)
        responses = await broadcast(agents, prompt, quorum=None if self._quorum is None else needed)
        for response in responses:
            self._write(section, self._round, agents, response)
        if responses.n_ok < needed:
            raise shortfall(agents.size, responses, responses.n_ok, needed)
        return responses

    def _write(self, section: str, number: int, agents: Pool, response: Response) -> None:
        if response.success:
            self.write(Entry(section, number, agents.endpoint(response.index).url, response.text))


def _never(_: BoardState) -> bool:
    return False


def _place_of(entry: Entry) -> tuple[int, str]:
    return entry.round, entry.author


def _newest(entries: list[Entry], most: int, tokens: Callable[[str], int]) -> list[str]:
    """The last texts that fit, in their order; pure."""
    kept: list[str] = []
    left = most
    for entry in reversed(entries):
        left -= tokens(entry.text)
        if left < 0:
            break
        kept.append(entry.text)
    return kept[::-1]
