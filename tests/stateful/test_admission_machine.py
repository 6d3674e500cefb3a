"""Whatever happens, no slot is granted twice, nobody waits beside a free slot, and the first in line goes first."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aurora_swarm.dispatch.admission import AGEING_S, Admission, Ticket
from aurora_swarm.dispatch.routing import Router

INDEX = st.integers(0, 4)
PLACE = st.integers(0, 50)
PART = st.sets(INDEX, min_size=1)


class AdmissionMachine(RuleBasedStateMachine):
    """The model holds all tickets in two lists, and looks through them."""

    @initialize(
        size=st.integers(1, 5), limit=st.integers(1, 3), concurrency=st.integers(1, 6), parts=st.lists(PART, max_size=2)
    )
    def start(self, size, limit, concurrency, parts):
        self.router = Router(size, limit)
        self.concurrency = concurrency
        self.admission = Admission(self.router, concurrency)
        members = [set(range(size)), *({i % size for i in part} for part in parts)]
        self.views = [self.router.view(sorted(part)) for part in members]
        self.now = 0.0
        self.waiting: list[Ticket] = []
        self.holding: list[Ticket] = []

    # -- what a ticket may do ----------------------------------------------------------------------------------

    def has_room(self, ticket, index):
        return index in ticket.view if ticket.pin is None else index == ticket.pin

    def granted(self, ticket):
        """Called by the admission while it grants; what was true just before is checked here."""
        index, router = ticket.granted, self.router
        assert ticket in self.waiting
        assert router.loads[index] - ticket.weight < router.limits[index]
        assert self.admission.free + ticket.weight > 0
        self.waiting.remove(ticket)
        self.holding.append(ticket)
        assert index in ticket.view
        assert not ticket.strict or index == ticket.pin
        if ticket.pin in {None, index}:  # else an idle endpoint took over from a long queue
            passed = [t for t in self.waiting if t.key < ticket.key and self.has_room(t, index)]
            assert not passed, "somebody before it could have had the slot"

    @rule(
        place=PLACE,
        pin=st.none() | INDEX,
        strict=st.booleans(),
        turns=st.integers(0, 2),
        weight=st.sampled_from((1, 1, 1, 2, 3)),
        avoid=st.frozensets(INDEX, max_size=2),
    )
    def request(self, place, pin, strict, turns, weight, avoid):
        view = self.views[place % len(self.views)]
        pin = None if pin is None else view.members[pin % len(view.members)]
        if pin is not None and not strict and not self.router.limits[pin]:
            pin = None  # as the dispatcher does
        self.now += 1.0
        ticket = Ticket(
            view,
            pin=pin,
            strict=strict and pin is not None,
            turns_left=turns,
            since=self.now,
            avoid=avoid,
            weight=weight,
        )
        ticket.notify = lambda: self.granted(ticket)
        self.waiting.append(ticket)
        free, loads = self.admission.free, list(self.router.loads)
        index = self.admission.request(ticket)
        if index is not None and ticket in self.waiting:  # at once, without being told
            assert free > 0
            assert loads[index] < self.router.limits[index]
            ticket.granted = index
            self.waiting.remove(ticket)
            self.holding.append(ticket)
        assert (index is None) == (ticket in self.waiting)

    @precondition(lambda self: self.holding)
    @rule(place=PLACE)
    def release(self, place):
        ticket = self.holding.pop(place % len(self.holding))
        self.admission.release(ticket.granted, ticket.weight)

    @precondition(lambda self: self.waiting)
    @rule(place=PLACE)
    def withdraw(self, place):
        self.admission.withdraw(self.waiting.pop(place % len(self.waiting)))

    @rule(index=INDEX, limit=st.integers(0, 3))
    def limit(self, index, limit):
        """In the order in which the dispatcher does it."""
        index %= len(self.router.loads)
        was = self.router.limits[index]
        self.router.set_limit(index, limit)
        if limit > was:
            self.admission.opened(index)
        elif not limit:
            self.admission.unpin(index)

    # -- what holds after every step ---------------------------------------------------------------------------

    @invariant()
    def every_slot_is_accounted_for(self):
        booked = [0] * len(self.router.loads)
        for ticket in self.holding:
            booked[ticket.granted] += ticket.weight
        assert self.router.loads == booked
        assert self.admission.free == self.concurrency - sum(booked)
        assert self.admission.waiting == len(self.waiting)

    @invariant()
    def nobody_waits_beside_a_free_slot(self):
        if self.admission.free > 0:
            free = [i for i in range(len(self.router.loads)) if self.router.is_free(i)]
            stuck = [t for t in self.waiting if any(self.has_room(t, i) for i in free)]
            assert not stuck, f"{len(stuck)} wait for nothing"

    @invariant()
    def everybody_who_waits_can_be_found(self):
        for view in self.views:
            assert set(self.admission.waiters(view)) == {t for t in self.waiting if t.view is view}
        for index in range(len(self.router.loads)):
            assert set(self.admission.waiters_for(index)) == {t for t in self.waiting if t.pin == index}
        assert {t.view for t in self.waiting} <= set(self.admission.views())

    @invariant()
    def waiting_outweighs_turns_left(self):
        for ticket in self.waiting:
            assert ticket.since <= ticket.key <= ticket.since + 2 * AGEING_S

    def teardown(self):
        """Everybody is served in the end, once everything is open."""
        if not hasattr(self, "router"):
            return
        for index in range(len(self.router.loads)):
            self.limit(index, 3)
        while self.holding:
            self.release(0)
        assert not self.waiting
        assert self.admission.free == self.concurrency


TestAdmission = AdmissionMachine.TestCase
TestAdmission.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


def test_a_withdrawn_waiter_leaves_nobody_stuck_behind_it():
    """Found by the machine: its queue stayed closed while the endpoint became free, and later ones waited in it."""
    router = Router(3, 1)
    admission = Admission(router, 3)
    alone, others = router.view([0]), router.view([1, 2])
    assert admission.request(Ticket(alone)) == 0
    impatient = Ticket(alone)
    assert admission.request(impatient) is None
    admission.withdraw(impatient)
    admission.release(0)
    router.set_limit(1, 2)
    assert all(admission.request(Ticket(others)) is not None for _ in range(3))
    late = Ticket(alone)
    assert admission.request(late) is None
    admission.release(1)
    assert late.granted == 0
