"""Sinks tell what happened, and never disturb what they watch."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from aurora_swarm.errors import InvalidOutputError, ServerError, StorageError
from aurora_swarm.telemetry import Fanout, JsonlSink, LogSink
from aurora_swarm.values.event import AgentEnded, AgentStarted, Event, RunEnded, RunStarted, ToolEnded
from aurora_swarm.values.outcome import AgentResult
from aurora_swarm.values.reply import Usage

OK = AgentResult[object](
    3,
    "4fd0",
    True,
    {"secret": "answer"},
    None,
    text="secret text",
    attempts=1,
    usage=Usage(10, 2, 5),
    endpoint="http://a:1",
)
FAILED = AgentResult[object](4, "5aa1", False, None, InvalidOutputError("no\nJSON", text="secret text"), attempts=2)
EVENTS: tuple[Event, ...] = (
    RunStarted(2, ("http://a:1",), "model"),
    AgentStarted(3),
    ToolEnded(3, "lookup", True, False, 0.25),
    AgentEnded(OK),
    AgentEnded(FAILED),
    RunEnded(cancelled=True),
)


class Recorder:
    def __init__(self, *, raises: bool = False) -> None:
        self.seen: list[Event] = []
        self.raises = raises

    def emit(self, event: Event) -> None:
        self.seen.append(event)
        if self.raises:
            raise ValueError("broken sink")


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class TestFanout:
    def test_tells_everyone(self) -> None:
        first, second = Recorder(), Recorder()
        for event in EVENTS:
            Fanout(first, second).emit(event)
        assert first.seen == second.seen == list(EVENTS)

    def test_drops_a_sink_that_raises_with_one_warning(self, caplog: pytest.LogCaptureFixture) -> None:
        broken, well = Recorder(raises=True), Recorder()
        fanout = Fanout(broken, well)
        for event in EVENTS:
            fanout.emit(event)
        assert (len(broken.seen), well.seen) == (1, list(EVENTS))
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "broken sink" in caplog.text

    def test_with_nobody_does_nothing(self) -> None:
        Fanout().emit(EVENTS[0])


class TestJsonl:
    def test_writes_one_object_per_event(self, tmp_path: Path) -> None:
        with JsonlSink(tmp_path / "events.jsonl", now=Clock()) as sink:
            for event in EVENTS:
                sink.emit(event)
        written = lines(tmp_path / "events.jsonl")
        kinds = ["run_started", "agent_started", "tool_ended", "agent_ended", "agent_ended", "run_ended"]
        assert [line["event"] for line in written] == kinds
        assert {line["at"] for line in written} == {1_700_000_000.0}
        assert written[0] | {"total": 2, "endpoints": ["http://a:1"], "model": "model"} == written[0]
        assert written[3] | {"index": 3, "ok": True, "usage": {**vars_of(Usage(10, 2, 5))}, "error": None} == written[3]
        assert written[4]["error"] == {"kind": "invalid_output", "message": "no\nJSON"}

    def test_keeps_prompts_and_answers_out(self, tmp_path: Path) -> None:
        with JsonlSink(tmp_path / "events.jsonl") as sink:
            for event in EVENTS:
                sink.emit(event)
        assert "secret" not in (tmp_path / "events.jsonl").read_text()

    def test_writes_at_the_latest_with_the_first_event_after_a_second(self, tmp_path: Path) -> None:
        clock = Clock()
        sink = JsonlSink(tmp_path / "events.jsonl", now=clock)
        sink.emit(EVENTS[0])
        clock.now += 0.5
        sink.emit(EVENTS[1])
        assert lines(tmp_path / "events.jsonl") == []
        clock.now += 0.5
        sink.emit(EVENTS[2])
        assert len(lines(tmp_path / "events.jsonl")) == 3
        sink.close()

    def test_goes_on_where_an_earlier_run_ended(self, tmp_path: Path) -> None:
        for event in EVENTS[:2]:
            with JsonlSink(tmp_path / "events.jsonl") as sink:
                sink.emit(event)
        assert len(lines(tmp_path / "events.jsonl")) == 2

    def test_takes_lone_surrogates(self, tmp_path: Path) -> None:
        with JsonlSink(tmp_path / "events.jsonl") as sink:
            sink.emit(AgentEnded(AgentResult[object](0, "k", False, None, ServerError("half a \ud83d pair"))))
        assert len(lines(tmp_path / "events.jsonl")) == 1

    def test_may_be_closed_twice_and_ignores_what_comes_later(self, tmp_path: Path) -> None:
        sink = JsonlSink(tmp_path / "events.jsonl")
        sink.close()
        sink.close()
        sink.emit(EVENTS[0])
        assert lines(tmp_path / "events.jsonl") == []

    @pytest.mark.parametrize("name", ["missing/events.jsonl", ".", "nul\0nul"])
    def test_a_file_that_cannot_be_opened_is_refused_with_a_remedy(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(StorageError) as caught:
            JsonlSink(f"{tmp_path}/{name}")
        assert caught.value.remedy

    def test_a_full_disk_ends_in_one_warning(self, caplog: pytest.LogCaptureFixture) -> None:
        clock = Clock()
        sink = JsonlSink("/dev/full", now=clock)
        for event in EVENTS * 10:
            clock.now += 1
            sink.emit(event)
        sink.close()
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "/dev/full" in caplog.text


def vars_of(usage: Usage) -> dict[str, int]:
    return {name: getattr(usage, name) for name in usage.__struct_fields__}


class TestLog:
    @pytest.mark.parametrize(
        ("event", "level", "line"),
        [
            (EVENTS[0], "INFO", "run_started total=2 endpoints=1 model='model'"),
            (EVENTS[1], "DEBUG", "agent_started index=3"),
            (EVENTS[2], "WARNING", "tool_ended index=3 tool='lookup' ok=False executed=True latency_s=0.250"),
            (EVENTS[3], "INFO", "agent_ended index=3 ok=True attempts=1 latency_s=0.000 resumed=False"),
            (
                EVENTS[4],
                "WARNING",
                "agent_ended index=4 ok=False attempts=2 latency_s=0.000 error=invalid_output message='no\\nJSON'",
            ),
            (EVENTS[5], "WARNING", "run_ended cancelled=True"),
            (RunEnded(), "INFO", "run_ended cancelled=False"),
            (
                ToolEnded(0, "t", False, True, 1.0),
                "DEBUG",
                "tool_ended index=0 tool='t' ok=True executed=False latency_s=1.000",
            ),
        ],
    )
    def test_writes_one_line(self, caplog: pytest.LogCaptureFixture, event: Event, level: str, line: str) -> None:
        caplog.set_level(logging.DEBUG)
        LogSink().emit(event)
        assert [(r.name, r.levelname, r.getMessage()) for r in caplog.records] == [("aurora_swarm", level, line)]

    def test_writes_to_the_logger_that_it_is_given(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        LogSink(logging.getLogger("mine")).emit(EVENTS[0])
        assert [record.name for record in caplog.records] == ["mine"]
