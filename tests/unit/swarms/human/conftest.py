"""Questions, and ways of asking them."""

import asyncio

import pytest

from aurora_swarm.swarms.human.questions import Question


@pytest.fixture
def question():
    """Makes a question; whatever is not said is plain."""

    def make(text="Why?", **more):
        return Question(**{"id": "q", "worker": "scout", "text": text} | more)

    return make


@pytest.fixture
def until():
    """Waits for something that nobody tells of; five seconds at most."""

    async def wait(condition):
        for _ in range(1000):
            if condition():
                return
            await asyncio.sleep(0.005)
        raise AssertionError("it did not come about")

    return wait
