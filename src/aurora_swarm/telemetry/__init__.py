"""Who is told: one sink per file. A sink reads events and never steers."""

from aurora_swarm.telemetry.fanout import Fanout
from aurora_swarm.telemetry.jsonl import JsonlSink
from aurora_swarm.telemetry.log import LogSink
from aurora_swarm.telemetry.tally import Tally, TallySnapshot

__all__ = ["Fanout", "JsonlSink", "LogSink", "Tally", "TallySnapshot"]
