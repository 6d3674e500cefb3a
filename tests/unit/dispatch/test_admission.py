"""Who goes next."""

from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm.dispatch.admission import AGEING_S, Admission, Ticket
from aurora_swarm.dispatch.routing import Router


def one_slot(size: int = 1, concurrency: int = 1):
    router = Router(size)
    return router, Admission(router, concurrency), router.view(range(size))


def test_a_free_slot_is_given_at_once():
    _, admission, view = one_slot()
    assert admission.request(Ticket(view)) == 0


def test_a_waiter_is_told_when_a_slot_is_released():
    _, admission, view = one_slot()
    admission.request(Ticket(view))
    ticket, told = Ticket(view), []
    ticket.notify = lambda: told.append(True)
    assert admission.request(ticket) is None
    admission.release(0)
    assert (ticket.granted, told) == (0, [True])


def test_nearly_finished_agents_go_first():
    _, admission, view = one_slot()
    admission.request(Ticket(view))
    fresh, nearly_done = Ticket(view, turns_left=3), Ticket(view, turns_left=0)
    admission.request(fresh)
    admission.request(nearly_done)
    admission.release(0)
    assert nearly_done.granted == 0
    assert fresh.granted is None


def test_waiting_long_enough_outweighs_turns_left():
    _, admission, view = one_slot()
    admission.request(Ticket(view))
    old = Ticket(view, turns_left=1, since=0.0)
    young = Ticket(view, turns_left=0, since=AGEING_S + 1)
    admission.request(young)
    admission.request(old)
    admission.release(0)
    assert old.granted == 0


def test_the_pool_limit_holds_over_all_endpoints():
    _, admission, view = one_slot(size=3, concurrency=2)
    assert [admission.request(Ticket(view)) is not None for _ in range(4)] == [True, True, False, False]


def test_a_strict_ticket_waits_for_its_own_endpoint():
    router, admission, view = one_slot(size=2, concurrency=10)
    router.set_limit(0, 0)
    ticket = Ticket(view, pin=0, strict=True)
    assert admission.request(ticket) is None
    admission.unpin(0)
    assert ticket.granted is None
    router.set_limit(0, 1)
    admission.opened(0)
    assert ticket.granted == 0


def test_a_preference_is_dropped_when_the_endpoint_closes():
    router, admission, view = one_slot(size=2, concurrency=10)
    router.set_limit(0, 1)
    admission.request(Ticket(view, pin=0))
    waiting = Ticket(view, pin=0)
    assert admission.request(waiting) is None
    router.set_limit(0, 0)
    admission.unpin(0)
    assert waiting.granted == 1


def test_a_withdrawn_ticket_gets_nothing():
    _, admission, view = one_slot()
    admission.request(Ticket(view))
    gone, next_one = Ticket(view), Ticket(view)
    admission.request(gone)
    admission.request(next_one)
    admission.withdraw(gone)
    admission.release(0)
    assert (gone.granted, next_one.granted) == (None, 0)
    assert admission.waiting == 0


def test_a_blocked_target_does_not_hold_up_another():
    router, admission, view = one_slot(size=2, concurrency=10)
    router.set_limit(0, 0)
    stuck = Ticket(view, pin=0, strict=True, since=0.0)
    admission.request(stuck)
    assert admission.request(Ticket(view, pin=1, since=5.0)) == 1


STEPS = st.lists(
    st.tuples(st.sampled_from(["ask", "pin", "strict", "release", "withdraw", "close", "open"]), st.integers(0, 50)),
    max_size=120,
)


@given(st.integers(1, 4), st.integers(1, 5), STEPS)
def test_slots_are_conserved_and_no_free_slot_is_left_beside_a_waiter(size, concurrency, steps):
    router = Router(size)
    admission = Admission(router, concurrency)
    view = router.view(range(size))
    tickets: list[Ticket] = []
    held: list[int] = []

    def collect() -> None:
        for ticket in [t for t in tickets if t.granted is not None]:
            tickets.remove(ticket)
            held.append(ticket.granted)

    for number, (action, value) in enumerate(steps):
        index = value % size
        if action in {"ask", "pin", "strict"}:
            pin = None if action == "ask" else index
            ticket = Ticket(view, pin=pin, strict=action == "strict", turns_left=value % 3, since=float(number))
            granted = admission.request(ticket)
            if granted is None:
                tickets.append(ticket)
            else:
                held.append(granted)
        elif action == "release" and held:
            admission.release(held.pop(value % len(held)))
        elif action == "withdraw" and tickets:
            admission.withdraw(tickets.pop(value % len(tickets)))
        elif action == "close":
            router.set_limit(index, 0)
            admission.unpin(index)
        elif action == "open":
            router.set_limit(index, 2)
            admission.opened(index)
        collect()
        assert admission.free == concurrency - len(held)
        assert sum(router.loads) == len(held)
        assert admission.waiting == len(tickets)
        if admission.free:
            for ticket in tickets:
                open_to_it = [ticket.pin] if ticket.pin is not None else range(size)
                assert not any(router.is_free(i) for i in open_to_it)
