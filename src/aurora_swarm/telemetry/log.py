"""Events as lines of the standard library's log."""

from __future__ import annotations

import logging

from aurora_swarm.values.event import AgentEnded, AgentStarted, Event, RunEnded, RunStarted, ToolEnded
from aurora_swarm.values.outcome import AgentResult


class LogSink:
    """Logs one line per event: starts and tool calls as DEBUG, ends as INFO, failures as WARNING.

    Args:
        logger: Where to; the logger ``aurora_swarm`` if None.
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger("aurora_swarm")

    def emit(self, event: Event) -> None:
        """Log one event."""
        log = self._logger
        match event:
            case AgentStarted(index=index):
                log.debug("agent_started index=%d", index)
            case ToolEnded():
                self._tool_ended(event)
            case AgentEnded(result=result):
                self._agent_ended(result)
            case RunStarted(total=total, endpoints=endpoints, model=model):
                log.info("run_started total=%s endpoints=%d model=%r", total, len(endpoints), model)
            case RunEnded(cancelled=cancelled):
                log.log(logging.WARNING if cancelled else logging.INFO, "run_ended cancelled=%s", cancelled)

    def _tool_ended(self, event: ToolEnded) -> None:
        level = logging.DEBUG if event.ok else logging.WARNING
        line = "tool_ended index=%d tool=%r ok=%s executed=%s latency_s=%.3f"
        self._logger.log(level, line, event.index, event.tool, event.ok, event.executed, event.latency_s)

    def _agent_ended(self, result: AgentResult[object]) -> None:
        shared = (result.index, result.attempts, result.latency_s)
        if result.error is None:
            line = "agent_ended index=%d ok=True attempts=%d latency_s=%.3f resumed=%s"
            self._logger.info(line, *shared, result.resumed)
        else:
            # %r keeps a message of several lines on one.
            line = "agent_ended index=%d ok=False attempts=%d latency_s=%.3f error=%s message=%r"
            self._logger.warning(line, *shared, result.error.kind, str(result.error))
