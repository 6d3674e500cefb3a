"""The controller finds the window of a server that it knows nothing about, from what finishes and when."""

import heapq
import itertools
import random

import pytest

from aurora_swarm.dispatch.windows import LADDER, Windows


class Server:
    """Runs `capacity` calls at a time and queues the rest silently; slower the more it runs, and beyond `thrash`."""

    def __init__(self, capacity, latency_s=1.0, thrash=None, seed=1):
        self.capacity, self.latency_s, self.thrash = capacity, latency_s, thrash
        self.dice = random.Random(seed)

    def serve(self, window, seconds, now=0.0):
        """Keep the window full until then; returns when calls were answered."""
        running, queue, answered = [], [], []
        load, end = 0, now + seconds
        while True:
            for _ in range(window(None) - load):
                queue.append(now)
                load += 1
            while queue and len(running) < self.capacity:
                slow = 1 + 0.4 * len(running) / self.capacity
                slow *= max(1.0, load / self.thrash) if self.thrash else 1.0
                heapq.heappush(running, (now + self.latency_s * slow * self.dice.lognormvariate(0, 0.4), queue.pop(0)))
            now, sent = heapq.heappop(running)
            if now > end:
                return answered
            window((now - sent, load, now))
            load -= 1
            answered.append(now)


def fixed(limit):
    return lambda finished: limit


def controlled(windows):
    def window(finished):
        if finished is not None:
            latency_s, load, now = finished
            windows.finished(0, 1.0, latency_s, load, now)
        return windows.limit(0)

    return window


def best_rate(**server):
    """Of every fixed window, once it has settled."""
    return max(
        sum(t > 20 for t in Server(**server).serve(fixed(k), 120)) / 100 for k in LADDER if k >= server["capacity"]
    )


@pytest.mark.parametrize(
    "server",
    [
        {"capacity": 2},
        {"capacity": 8},
        {"capacity": 32},
        {"capacity": 200},
        {"capacity": 500},
        {"capacity": 32, "thrash": 48},
    ],
    ids=str,
)
def test_it_reaches_the_best_fixed_window(server):
    answered = Server(**server).serve(controlled(Windows(64)), 130)
    assert sum(t > 30 for t in answered) / 100 >= 0.93 * best_rate(**server)


@pytest.mark.parametrize("capacity", [8, 64])
def test_it_keeps_no_long_queue_at_the_server(capacity):
    windows = Windows(256)
    Server(capacity).serve(controlled(windows), 400)
    assert capacity <= windows.limit(0) <= 2.5 * capacity


def test_it_settles_again_after_a_slow_down():
    windows = Windows(64)
    Server(32).serve(controlled(windows), 40)
    answered = Server(32, latency_s=4.0).serve(controlled(windows), 215, now=40.0)
    assert sum(t > 55 for t in answered) / 200 >= 0.93 * best_rate(capacity=32) / 4


def test_a_window_that_is_not_full_teaches_nothing():
    windows = Windows(64)
    for i in range(1000):
        assert not windows.finished(0, 1.0, 0.5, 10, i * 0.05)
    assert windows.limit(0) == 64


def test_told_slots_are_believed_for_good():
    windows = Windows(64)
    windows.fix(3, 8)
    assert windows.limit(3) == 8
    assert not any(windows.finished(3, 1.0, 1.0, 8, float(t)) for t in range(500))
    windows.restart(3, 500.0)
    assert windows.limit(3) == 8


def test_an_endpoint_that_returns_starts_at_one_and_grows_back():
    windows = Windows(16)
    windows.restart(0, 0.0)
    seen = [windows.limit(0)]
    for i in range(30):
        windows.finished(0, 1.0, 1.0, 1, float(i))
        seen.append(windows.limit(0))
    assert seen[0] == 1
    assert seen[-1] == 16
    assert all(b - a <= 1 for a, b in itertools.pairwise(seen))


def test_a_told_queue_of_ours_shrinks_the_window_and_one_of_others_does_not():
    windows = Windows(64)
    windows.finished(0, 1.0, 1.0, 64, 1.0)
    assert not windows.observe(0, running=200, waiting=100, load=64, now=1.0)
    assert windows.observe(0, running=8, waiting=56, load=64, now=1.0)
    assert 8 <= windows.limit(0) <= 16


def test_an_endpoint_that_nobody_used_has_the_first_window():
    assert Windows(64, ceiling=48).limit(7) == 48


def rates_of_a_thrashing_server(windows, seed, *, slows_at, seconds, fixed_window=None):
    """Answers per second in spans of ten seconds; more than 32 sequences at a time bring it far less than 32."""
    dice, step, now, running = random.Random(seed), 0.02, 0.0, []
    answered = [0] * (seconds // 10)
    while now < seconds - step:
        limit = fixed_window or windows.limit(0)
        while len(running) < limit:
            running.append([dice.uniform(1, 63), now])
        batch = min(len(running), 64)
        token_s = 0.006 * (1 + 4 * (batch - 1) / 64) * max(1.0, batch / 32) ** 2 * (4 if now >= slows_at else 1)
        now += step
        for sequence in running[:64]:
            sequence[0] -= step / token_s
        finished = [sequence for sequence in running if sequence[0] <= 0]
        running = [sequence for sequence in running if sequence[0] > 0]
        for number, (_, began) in enumerate(finished):
            answered[int(now // 10)] += 1
            windows.finished(0, 1.0, now - began, len(running) + len(finished) - number, now)
    return [count / 10 for count in answered]


def test_it_finds_the_narrow_best_of_a_thrashing_server_and_stays_there():
    best = rates_of_a_thrashing_server(Windows(64), 0, slows_at=40, seconds=80, fixed_window=32)
    found = [rates_of_a_thrashing_server(Windows(64), seed, slows_at=40, seconds=80) for seed in range(16)]
    for span, share in ((3, 0.95), (6, 0.9), (7, 0.9)):
        assert sum(rates[span] for rates in found) / len(found) >= share * best[span]
