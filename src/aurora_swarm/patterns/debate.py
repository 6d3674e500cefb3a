"""Agents answer, read each other, and answer again.

After Du et al., "Improving Factuality and Reasoning in Language Models through Multiagent Debate" (2023).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from aurora_swarm.aggregators import majority_vote
from aurora_swarm.errors import CallError, UsageError
from aurora_swarm.inputs.template import Template
from aurora_swarm.patterns.quorum import Quorum, least, shortfall
from aurora_swarm.pools.pool import Pool
from aurora_swarm.values.gathered import Gathered
from aurora_swarm.values.reply import Usage

OPENING = "You are agent {agent} of {agents}. Give your answer to the question, with your reasons."
REVISION = (
    "You are agent {agent} of {agents}. Weigh what the others said in the last round, correct your own mistakes, and "
    "give your answer to the question again."
)


class Debate(msgspec.Struct, frozen=True):
    """How a debate ended.

    Args:
        answer: The judge's, or the last round's majority; empty when `error` is set.
        confidence: Share of the last round's answers that agree; 1.0 where a judge decided.
        rounds: The agents' responses, round by round, in the order of the agents.
        transcript: All of it, as every agent was shown it.
        judged: The judge's response, where there was one.
        error: Why there is no answer.
    """

    answer: str
    confidence: float
    rounds: tuple[Gathered, ...]
    transcript: str
    judged: Gathered = Gathered()
    error: CallError | None = None

    @property
    def usage(self) -> Usage:
        """Tokens spent on all of it."""
        return sum((each.usage for each in (*self.rounds, self.judged)), Usage())

    @property
    def attempts(self) -> int:
        """Requests that were sent for all of it."""
        return sum(each.attempts for each in (*self.rounds, self.judged))


async def debate(
    pool: Pool,
    question: str,
    n_agents: int = 8,
    rounds: int = 4,
    *,
    judge_prompt: str | None = None,
    key: Callable[[str], str] | None = None,
    max_tokens: int | None = None,
    quorum: Quorum = 0.5,
) -> Debate:
    """Let agents answer in rounds, each seeing what all said before.

    What has been said stands first in every prompt, the same for all agents, and only grows; who an agent is stands
    last. So a server computes each round once for all its agents, and keeps the rounds before.

    Args:
        pool: Who debates; an agent's rounds may be answered by different endpoints, since all that it knows is in the
            prompt.
        question: Put to every agent.
        n_agents: Agents.
        rounds: Times that each answers.
        judge_prompt: What is asked below the transcript at the end, and answered by one agent; when None the majority
            of the last round decides, so let the question ask for a short answer.
        key: As for `majority_vote`.
        max_tokens: Tokens to generate at most in each answer; the pool's default when None.
        quorum: How many agents must answer in each round, as a number or as a share.

    Returns:
        The answer and everything that was said; failures are left out of the transcript. A round below the quorum ends
        the debate without an answer. Cancelling cancels every call under way.

    Raises:
        UsageError: A number is out of range. Nothing was sent.
    """
    if n_agents < 1 or rounds < 1:
        raise UsageError(f"n_agents is {n_agents}, rounds {rounds}", remedy="give 1 or more of each")
    needed = least(quorum, n_agents)
    said: list[Gathered] = []
    transcript = f"Question:\n{question}\n"
    for number in range(rounds):
        task = Template(REVISION if number else OPENING)
        prompts = [
            f"{transcript}\n{task.render({'agent': agent, 'agents': n_agents})}" for agent in range(1, n_agents + 1)
        ]
        said.append(Gathered(await pool.send_all(prompts, max_tokens)))
        if said[-1].n_ok < needed:
            error = shortfall(n_agents, said[-1], said[-1].n_ok, needed)
            return Debate("", 0.0, tuple(said), transcript, error=error)
        transcript += _round(number + 1, said[-1])
    if judge_prompt is None:
        answer, confidence = majority_vote(said[-1], key)
        return Debate(answer, confidence, tuple(said), transcript)
    judged = Gathered(await pool.send_all([f"{transcript}\n{judge_prompt}"], pool.max_tokens_aggregation or max_tokens))
    verdict = judged[0]
    return Debate(verdict.text, float(verdict.success), tuple(said), transcript, judged, verdict.error)


def _round(number: int, responses: Gathered) -> str:
    answers = "\n\n".join(f"Agent {n}: {r.text.strip()}" for n, r in enumerate(responses, 1) if r.success)
    return f"\nRound {number}:\n{answers}\n"
