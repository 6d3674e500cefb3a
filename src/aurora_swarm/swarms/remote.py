"""A swarm of another process or site as a member of a hivemind."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

import msgspec

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.errors import AuroraSwarmError, BudgetError, CallbackError, MemberLostError
from aurora_swarm.swarms.grants import Grant, Spent
from aurora_swarm.swarms.wire import Order, Report
from aurora_swarm.swarms.work import Member, SwarmOutcome
from aurora_swarm.values.budget import Budget, Price
from aurora_swarm.values.reply import Usage

_log = logging.getLogger(__name__)

GRACE_S = 5.0
"""Seconds that a swarm has beyond its time to say how it ended."""

INTRODUCTION_S = 10.0
"""Seconds that a swarm has to say who it is."""


class Card(msgspec.Struct, frozen=True):
    """What a swarm says of itself.

    Args:
        name: What it is called there.
        about: What it is good at.
    """

    name: str
    about: str = ""


class Errand:
    """What is known here of an order on its way, whatever becomes of it.

    Attributes:
        begun: Whether the other may have begun, so that it may have spent something.
        spent: What it has spent, where it has said so.
    """

    __slots__ = ("begun", "spent")

    def __init__(self) -> None:
        self.begun = False
        self.spent: Spent | None = None


class Link(Protocol):
    """The way to one swarm elsewhere."""

    async def introduce(self) -> Card:
        """Ask who is there.

        Raises:
            MemberLostError: Nobody is, or nobody who understands.
        """

    async def carry_out(self, order: Order, errand: Errand) -> Report:
        """Have an order carried out; cancelling cancels it there, as far as the other can be reached.

        Args:
            order: What is to be done.
            errand: Told what is known of it.

        Raises:
            MemberLostError: The other could not be reached, refused, or did not come back.
        """


class RemoteSwarm:
    """A swarm elsewhere, as a `Member`.

    What it may spend is reserved in the purse that it is given before it begins: all that is free there, so a purse of
    its own bounds it. Once it has reported, what it did not spend is put back. When it is lost, all of it counts.

    Args:
        url: ``a2a://host:port``, ``a2a+https://host``, or an ``http(s)://`` address.
        token: What it asks for; None for none.
        name: Its name here; its address when empty.
        about: What it is good at; what it says itself when empty.
        timeout_s: Seconds for one objective; None for what the purse allows.
        link: How it is reached; over A2A when None.

    Raises:
        UsageError: The address is none.
        InputError: A2A is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        name: str = "",
        about: str = "",
        timeout_s: float | None = None,
        link: Link | None = None,
    ) -> None:
        if link is None:
            from aurora_swarm.swarms.a2a import A2ALink  # noqa: PLC0415 - an optional library

            link = A2ALink(url, token=token)
        self.name = name or url.split("://", 1)[-1].strip("/")
        self.about = about
        self._link = link
        self._timeout_s = timeout_s

    async def introduce(self) -> None:
        """Ask it what it is good at, unless that was said.

        Raises:
            MemberLostError: It does not answer.
        """
        try:
            async with asyncio.timeout(INTRODUCTION_S):
                card = await self._link.introduce()
        except TimeoutError:
            raise MemberLostError(
                f"{self.name} did not say who it is within {INTRODUCTION_S:g} s", remedy="see whether it is up"
            ) from None
        self.about = self.about or card.about or card.name

    async def run(self, objective: str | None = None, *, purse: Purse | None = None, context: str = "") -> SwarmOutcome:
        """Have an objective pursued there.

        Args:
            objective: What is wanted; its own when None.
            purse: Out of which it is paid; None for no bound from here. Counts it as one agent.
            context: What it should know: data, not instructions.

        Returns:
            How it ended; what fails there is in it. Cancelling cancels it there too.

        Raises:
            MemberLostError: It could not be reached, or did not come back.
        """
        now = asyncio.get_running_loop().time
        purse = purse or Purse(Budget())
        try:
            purse.enter(now())
        except BudgetError as error:
            return SwarmOutcome(objective=objective or "", answer="", error=error)
        try:
            grant = Grant(purse, now())
        except BudgetError as error:
            return SwarmOutcome(objective=objective or "", answer="", error=error)
        else:
            return await self._granted(grant, objective, context)
        finally:
            purse.leave()

    async def _granted(self, grant: Grant, objective: str | None, context: str) -> SwarmOutcome:
        errand = Errand()
        budget = grant.budget
        limits = [limit for limit in (budget.wall_s, self._timeout_s) if limit is not None]
        limit_s = min(limits, default=None)
        order = Order(objective=objective, context=context, budget=msgspec.structs.replace(budget, wall_s=limit_s))
        try:
            report = await self._in_time(order, errand, limit_s)
            errand.spent = report.spent
        finally:
            self._settle(grant, errand)
        return _with_notes(report, grant, self.name)

    async def _in_time(self, order: Order, errand: Errand, limit_s: float | None) -> Report:
        clock = asyncio.timeout(None if limit_s is None else limit_s + GRACE_S)
        try:
            async with clock:
                return await self._link.carry_out(order, errand)
        except TimeoutError:
            if not clock.expired():
                raise
            problem = f"{self.name} did not come back within {limit_s:g} s"
            raise MemberLostError(problem, remedy="allow more wall_s, or see what it does") from None

    @staticmethod
    def _settle(grant: Grant, errand: Errand) -> None:
        if errand.spent is not None:
            grant.settle(errand.spent)
        elif errand.begun:
            grant.lose()
        else:
            grant.settle(None)


def _with_notes(report: Report, grant: Grant, name: str) -> SwarmOutcome:
    notes = list(report.outcome.notes)
    allowed, spent = grant.budget.tokens, report.spent
    if spent is None and grant.is_bounded:
        notes.append(f"{name} did not say what it spent, so that all that it was allowed counts.")
    elif spent is not None and allowed is not None and spent.total > allowed:
        notes.append(f"{name} says that it spent {spent.total:,} tokens and was allowed {allowed:,}.")
    return msgspec.structs.replace(report.outcome, notes=tuple(notes))


async def carry_out(
    member: Member, order: Order, *, purse: Purse | None = None, price: Price | None = None, told: Errand | None = None
) -> Report:
    """The other end: have a member of this process carry out an order from elsewhere, within what it allows.

    Args:
        member: Who does it.
        order: What.
        purse: Bounds all such orders together; None for nothing but the order's own budget.
        price: What the model costs here, for orders in money.
        told: Told what was spent when this ends, also when it is cancelled.

    Returns:
        How it ended; what fails is in it.
    """
    own = Purse(order.budget, price, purse)
    told = told or Errand()
    told.begun = True
    outcome = None
    try:
        try:
            outcome = await member.run(order.objective, purse=own, context=order.context)
        except AuroraSwarmError as error:
            outcome = SwarmOutcome(objective=order.objective or "", answer="", error=error)
        except Exception as error:  # noqa: BLE001 - a member may be the user's code; what it raised is of no use there
            _log.warning("a swarm that carries out an order raised", exc_info=error)
            problem = f"the swarm {member.name!r} raised {type(error).__name__}"
            failure = CallbackError(problem, remedy="see the log where it runs")
            outcome = SwarmOutcome(objective=order.objective or "", answer="", error=failure)
    finally:
        has = own.statistics()
        told.spent = Spent(has.tokens, Usage() if outcome is None else outcome.usage, has.tool_calls)
    return Report(outcome=outcome, spent=told.spent)
