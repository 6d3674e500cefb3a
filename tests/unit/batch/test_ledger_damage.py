"""Whatever byte of a journal changes, an agent is told what it once heard, or less of it, and never anything else."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from aurora_swarm.agents.structured import OutputSpec
from aurora_swarm.batch.ledger import Ledger
from aurora_swarm.batch.stored import decode_heard, encode_heard
from aurora_swarm.errors import JournalError
from aurora_swarm.journal.open import open_journal
from aurora_swarm.ports.journal import Journal
from aurora_swarm.values.message import ToolCall
from aurora_swarm.values.outcome import AgentResult
from aurora_swarm.values.reply import Reply

AGENTS = 8
STEPS = 5


def key(agent: int) -> str:
    return f"{agent:032x}"


def reply(agent: int, step: int) -> Reply:
    return Reply(f"{agent} says {step}", tool_calls=(ToolCall(f"c{step}", "look_up", {"agent": agent}),))


def ledger(journal: Journal) -> Ledger:
    return Ledger(journal, OutputSpec(None))


async def write(path: Path) -> None:
    """Every other agent has come to a result."""
    journal = await open_journal(path)
    for agent in range(AGENTS):
        page = await ledger(journal).open(key(agent), agent)
        assert page.keep is not None
        for step in range(STEPS):
            await page.keep(step, reply(agent, step))
        if agent % 2:
            result = AgentResult(index=agent, key=key(agent), ok=True, output=f"result {agent}", error=None)
            await page.finish(result)
    await journal.aclose()


async def complaint(path: Path) -> str:
    """What is wrong with what a damaged journal tells; empty when nothing is."""
    try:
        journal = await open_journal(path)
    except JournalError as error:
        return "" if error.remedy else f"does not explain: {error!r}"
    missing = 0
    for agent in range(AGENTS):
        page = await ledger(journal).open(key(agent), agent)
        whole = [reply(agent, step) for step in range(STEPS)]
        if page.result is not None:
            if page.result.output != f"result {agent}" or page.steps:
                return f"a wrong result: {page.result}"
            continue
        missing += agent % 2
        missing += len(page.steps) < STEPS
        if list(page.steps) != whole[: len(page.steps)]:
            return f"wrong steps: {page.steps}"
    told = journal.statistics().quarantined and journal.notes
    await journal.aclose()
    return "a loss that nobody is told of" if missing and not told else ""


@pytest.fixture
def quick_folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is such a place, where a sync costs nothing."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


@pytest.mark.parametrize(
    "stride", [137, pytest.param(1, marks=[pytest.mark.chaos, pytest.mark.timeout(3600)])], ids=["some", "all"]
)
def test_no_changed_byte_tells_an_agent_what_it_never_heard(quick_folder: Path, stride: int) -> None:
    async def main() -> list[str]:
        path = quick_folder / "run.journal"
        await write(path)
        assert await complaint(path) == ""
        data, said = path.read_bytes(), []
        for place in range(0, len(data), stride):
            path.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
            if problem := await complaint(path):
                said.append(f"byte {place}: {problem}")
            for file in quick_folder.iterdir():
                file.unlink()
        return said

    assert asyncio.run(main()) == []


def test_a_turn_whose_bytes_were_changed_before_they_were_kept_is_a_turn_or_nothing() -> None:
    data = encode_heard(reply(1, 1))
    for place in range(len(data)):
        for mask in (1, 0x80, 0xFF):
            changed = decode_heard(data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :])
            assert changed is None or isinstance(changed, Reply | list)
    assert all(decode_heard(data[:length]) is None for length in range(len(data)))
