"""Results on their way to their file: none is lost quietly, and no more is remembered than is under way."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from aurora_swarm.cli.keeping import Kept
from aurora_swarm.cli.results import ResultsFile
from aurora_swarm.cli.writing import Writer
from aurora_swarm.errors import StorageError
from aurora_swarm.values.event import AgentEnded, AgentStarted
from aurora_swarm.values.outcome import AgentResult


def ended(index: int) -> AgentEnded:
    return AgentEnded(AgentResult(index=index, key="k", ok=True, output="x", error=None))


class Broken:
    """Takes one result, and then raises."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.written: list[int] = []

    def write(self, result: AgentResult[Any], kept: Any = None) -> None:
        if self.written:
            raise self.error
        self.written.append(result.index)

    def finish(self) -> None: ...

    def close(self) -> None: ...


@pytest.mark.parametrize("error", [StorageError("disk full"), TypeError("no JSON")])
def test_whatever_keeps_a_result_from_being_written_is_raised_for_who_asks(error: Exception) -> None:
    results = Broken(error)
    writer = Writer(results, Kept(()))
    for index in range(3):
        writer.emit(ended(index))  # a sink never raises
    assert results.written == [0]
    with pytest.raises(type(error)):
        writer.check()


async def test_the_run_is_cancelled_where_nobody_asks_in_between() -> None:
    async def main() -> None:
        writer = Writer(Broken(StorageError("disk full")), Kept(()), asyncio.current_task())
        try:
            writer.emit(ended(0))
            writer.emit(ended(1))
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            writer.check()

    with pytest.raises(StorageError):
        await asyncio.create_task(main())


def test_other_events_and_agents_without_an_input_are_not_written(tmp_path: Path) -> None:
    results = ResultsFile(tmp_path / "out", kept=False)
    writer = Writer(results, Kept(()))
    writer.emit(AgentStarted(0))
    writer.emit(ended(0))
    writer.stop()
    writer.emit(ended(1))
    results.close()
    assert [json.loads(line)["index"] for line in (tmp_path / "out").read_text().splitlines()] == [0]


def inputs(count: int) -> Iterator[dict[str, int]]:
    return ({"id": n, "n": 2 * n} for n in range(count))


async def awaited(count: int) -> AsyncIterator[dict[str, int]]:
    for fields in inputs(count):
        yield fields


def test_what_is_kept_of_a_list_a_stream_and_an_awaited_stream_is_the_same() -> None:
    async def all_of(kept: Kept) -> list[Any]:
        return [kept.of(index) async for index, _ in _numbered(kept.over(awaited(3)))]

    as_list, as_stream = Kept(["id", "none"]), Kept(["id", "none"])
    as_list.over(list(inputs(3)))
    taken = [as_stream.of(index) for index, _ in enumerate(as_stream.over(inputs(3)))]  # type: ignore[arg-type]
    expected = [{"id": n, "none": None} for n in range(3)]
    assert [as_list.of(n) for n in range(3)] == taken == asyncio.run(all_of(Kept(["id", "none"]))) == expected


async def _numbered(items: Any) -> AsyncIterator[tuple[int, Any]]:
    index = 0
    async for item in items:
        yield index, item
        index += 1


def test_where_nothing_is_kept_inputs_are_left_alone() -> None:
    given = inputs(3)
    assert Kept(()).over(given) is given
    assert Kept(()).of(0) is None


def test_fields_are_forgotten_with_their_result() -> None:
    kept = Kept(["id"])
    for index, _ in enumerate(kept.over(inputs(1_000))):  # type: ignore[arg-type]
        assert kept.of(index) == {"id": index}
        assert len(kept._fields) == 0


def test_results_are_put_in_order_in_memory_that_does_not_grow(tmp_path: Path) -> None:
    file = ResultsFile(tmp_path / "out", kept=False)
    count = 20_000
    tracemalloc.start()
    for index in range(count):
        file.write(ended(index ^ 7).result)  # eight at a time, in reverse
    written = tracemalloc.get_traced_memory()[0]
    file.finish()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    file.close()
    with (tmp_path / "out").open() as lines:
        assert all(json.loads(line)["index"] == number for number, line in enumerate(lines))
    assert written < 100_000
    assert most < 4 * 2**20  # two buffers for copying


def test_an_index_without_a_result_leaves_no_gap(tmp_path: Path) -> None:
    file = ResultsFile(tmp_path / "out", kept=False)
    for index in (7, 3, 9):
        file.write(ended(index).result)
    file.finish()
    file.close()
    assert [json.loads(line)["index"] for line in (tmp_path / "out").read_text().splitlines()] == [3, 7, 9]


def test_ctrl_c_while_results_are_put_in_order_leaves_them_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = ResultsFile(tmp_path / "out", kept=False)
    for index in (1, 0):
        file.write(ended(index).result)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fchmod", interrupted)
    with pytest.raises(KeyboardInterrupt):
        file.finish()
    file.close()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [json.loads(line)["index"] for line in (tmp_path / "out").read_text().splitlines()] == [1, 0]
