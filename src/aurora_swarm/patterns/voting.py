"""A vote that stops as soon as it is decided.

The rule is that of Aggarwal et al., "Let's Sample Step by Step: Adaptive-Consistency for Efficient Reasoning" (2023):
the leader's lead over the second is likely enough not to be chance.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing

import msgspec

from aurora_swarm.aggregators import majority_vote, spelt_alike
from aurora_swarm.errors import QuorumError, UsageError
from aurora_swarm.patterns.quorum import Quorum, least, shortfall
from aurora_swarm.pools.pool import Pool
from aurora_swarm.values.gathered import Gathered

SURE = 0.95
"""Probability that the leader is really ahead, from which nobody else is asked."""


class Vote(msgspec.Struct, frozen=True):
    """How a vote ended.

    Args:
        winner: The answer that most gave; empty when `error` is set.
        confidence: Its share of the answers.
        votes: Answers by their text as compared, most frequent first.
        responses: Every voter who was heard, in order of time.
        decided_early: Whether voters were left unasked, or were not waited for.
        error: Why there is no winner.
    """

    winner: str
    confidence: float
    votes: dict[str, int]
    responses: Gathered
    decided_early: bool = False
    error: QuorumError | None = None


async def sequential_vote(
    pool: Pool,
    prompt: str,
    n_voters: int = 16,
    *,
    sure: float = SURE,
    at_once: int = 16,
    key: Callable[[str], str] | None = None,
    max_tokens: int | None = None,
    quorum: Quorum = 1,
) -> Vote:
    """Ask voters until the winner is clear.

    Nobody is asked, and nobody waited for, once the leader cannot be overtaken any more, or is ahead with probability
    `sure`. On an easy question four of sixteen are asked; on a hard one all are.

    Args:
        pool: Who votes: any endpoint may, and one may vote several times, so let its temperature be above 0.
        prompt: Sent unchanged to each voter. Ask for a short answer.
        n_voters: Voters at most.
        sure: Above 0.5; 1.0 stops only when nothing can change any more.
        at_once: Voters under way at a time at most; never more than could decide it by agreeing.
        key: As for `majority_vote`.
        max_tokens: Tokens to generate at most; the pool's default when None.
        quorum: How many of `n_voters` must have answered when all were asked, as a number or as a share.

    Returns:
        The winner and how it came about; failures are no votes. Cancelling cancels every call under way.

    Raises:
        UsageError: A number is out of range. Nothing was sent.
    """
    if n_voters < 1 or at_once < 1 or not 0.5 < sure <= 1:
        raise UsageError(
            f"n_voters is {n_voters}, at_once {at_once}, sure {sure}", remedy="give 1 or more, and sure above 0.5"
        )
    needed = least(quorum, n_voters)
    heard, votes = Gathered(), Counter[str]()

    def unsettled() -> bool:
        left = n_voters - len(heard)
        return left > 0 and (votes.total() < needed or not is_decided(votes, left, sure))

    while unsettled():
        wave = min(at_once, most_needed(votes, n_voters - len(heard), sure))
        async with aclosing(pool.stream([prompt] * wave, max_tokens)) as responses:
            async for response in responses:
                heard.append(response)
                if response.success:
                    votes[(key or spelt_alike)(response.text)] += 1
                if not unsettled():
                    break
    early = len(heard) < n_voters
    if votes.total() < needed:
        error = shortfall(n_voters, heard, votes.total(), needed)
        return Vote("", 0.0, dict(votes.most_common()), heard, early, error)
    winner, confidence = majority_vote(heard, key)
    return Vote(winner, confidence, dict(votes.most_common()), heard, early)


def is_decided(votes: Counter[str], unheard: int, sure: float) -> bool:
    """Whether more votes are unlikely to change the winner; pure.

    Args:
        votes: So far.
        unheard: How many may still come.
        sure: Probability that is enough.
    """
    (_, first), (_, second) = [*votes.most_common(2), ("", 0), ("", 0)][:2]
    return first > second + unheard or (first > second and ahead(first, second) >= sure)


def most_needed(votes: Counter[str], unheard: int, sure: float) -> int:
    """How many further votes decide it if all are for the leader, and so how many to ask now; pure.

    Args:
        votes: So far.
        unheard: How many may still come, at least 1.
        sure: As for `is_decided`.
    """
    leader = votes.most_common(1)[0][0] if votes else ""
    for more in range(1, unheard):
        if is_decided(votes + Counter({leader: more}), unheard - more, sure):
            return more
    return unheard


def ahead(first: int, second: int) -> float:
    """Probability that of two answers the one with more votes is the more frequent one, each share as likely before.

    The part above one half of a beta distribution, as a sum of binomials; pure.

    Args:
        first: Votes of the leader.
        second: Votes of the next.
    """
    tosses = first + second + 1
    return float(sum(math.comb(tosses, heads) for heads in range(first + 1)) / 2**tosses)
