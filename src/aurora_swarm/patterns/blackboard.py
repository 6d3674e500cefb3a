"""Agents work together on a board: each round they read what stands there and write what they add."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from aurora_swarm.errors import NoEndpointsError, UsageError
from aurora_swarm.patterns.broadcast import broadcast
from aurora_swarm.patterns.quorum import Quorum, least, shortfall
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
        self._round = 0

    @property
    def board(self) -> BoardState:
        """Texts by section, by round and then by author; a copy."""
        ordered = sorted(self._entries.values(), key=lambda entry: (entry.round, entry.author))
        return {section: [e.text for e in ordered if e.section == section] for section in self._sections}

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
        known = self._entries.setdefault((entry.section, entry.round, entry.author), entry)
        if known.text != entry.text:
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

    async def run(self, pool: Pool, max_rounds: int = 10, convergence_fn: ConvergenceFn | None = None) -> Session:
        """Go through rounds until `max_rounds` are completed, or the board has converged.

        Args:
            pool: Endpoints with ``role`` tags.
            max_rounds: Rounds at most, those before a restored snapshot included.
            convergence_fn: Looks at the whole board after a round; true ends the run. What it raises ends the run too.

        Returns:
            The board and the account of the run. Cancelling loses no entry that was written.

        Raises:
            NoEndpointsError: No endpoint has a section's name as its role.
            QuorumError: Fewer agents of a section answered in a round than `quorum` asks for. What was written stays.
            UsageError: `max_rounds` is below 1, or `quorum` cannot be met.
        """
        if max_rounds < 1:
            raise UsageError(f"max_rounds is {max_rounds}", remedy="give 1 at least")
        crews = self._crews(pool)
        responses, converged = Gathered(), False
        while self._round < max_rounds and not converged:
            for section, crew in crews.items():
                responses += await self._work(section, crew)
            self._round += 1
            converged = convergence_fn is not None and bool(convergence_fn(self.board))
        return Session(self.board, self._round, responses, converged=converged)

    def shown(self, tokens: Callable[[str], int]) -> BoardState:
        """The board as prompts see it: the newest entries of each section that fit its share of `board_tokens`.

        Args:
            tokens: Length of a text.
        """
        board = self.board
        if self._board_tokens is None:
            return board
        share = self._board_tokens // len(self._sections)
        return {section: _newest(texts, share, tokens) for section, texts in board.items()}

    def _crews(self, pool: Pool) -> dict[str, Pool]:
        roles = {endpoint.tags.get("role") for endpoint in pool.endpoints}
        crews = {section: pool.by_tag("role", section) for section in self._sections if section in roles}
        if not crews:
            wanted = ", ".join(f"role={section}" for section in self._sections)
            raise NoEndpointsError("no endpoint works on this board", remedy=f"tag endpoints with one of: {wanted}")
        for crew in crews.values():
            least(1 if self._quorum is None else self._quorum, crew.size)
        return crews

    async def _work(self, section: str, crew: Pool) -> Gathered:
        """One section's part of a round."""
        wrote = [self._entries.get((section, self._round, endpoint.url)) for endpoint in crew.endpoints]
        left = [place for place, entry in enumerate(wrote) if entry is None]
        needed = least(1 if self._quorum is None else self._quorum, crew.size) - (crew.size - len(left))
        if not left or (self._quorum is not None and needed < 1):
            return Gathered()
        prompt = self._prompt_fn(section, self.shown(crew.runtime.tokens_at_most))
        agents = crew.select(left)
        responses = await broadcast(agents, prompt, quorum=None if self._quorum is None else needed)
        for response in responses:
            self._note(section, agents, response)
        if responses.n_ok < needed:
            raise shortfall(agents.size, responses, responses.n_ok, needed)
        return responses

    def _note(self, section: str, agents: Pool, response: Response) -> None:
        if response.success:
            self.write(Entry(section, self._round, agents.endpoint(response.index).url, response.text))


def _newest(texts: list[str], most: int, tokens: Callable[[str], int]) -> list[str]:
    """The last texts that fit, in their order; pure."""
    kept: list[str] = []
    left = most
    for text in reversed(texts):
        left -= tokens(text)
        if left < 0:
            break
        kept.append(text)
    return kept[::-1]
