"""Prometheus text of an engine -> its load. Reads the few lines that matter and skips the rest."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from aurora_swarm.values.reply import EndpointLoad


class _Names(NamedTuple):
    """Of one engine.

    Args:
        running: What it works on; the requests that wait among them if `among` says so.
        waiting: What waits, in each of its queues.
        cache_usage: The share of its cache in use, under the names of several releases; the first one found counts.
        among: Whether `running` counts those that wait too.
    """

    running: bytes
    waiting: tuple[bytes, ...]
    cache_usage: tuple[bytes, ...] = ()
    among: bool = False


_ENGINES = (
    _Names(
        b"vllm:num_requests_running",
        (b"vllm:num_requests_waiting",),
        (b"vllm:kv_cache_usage_perc", b"vllm:gpu_cache_usage_perc"),
    ),
    # A request whose grammar is compiled waits in a queue of its own.
    _Names(
        b"sglang:num_running_reqs",
        (b"sglang:num_queue_reqs", b"sglang:num_grammar_queue_reqs"),
        (b"sglang:token_usage",),
    ),
    _Names(b"llamacpp:requests_processing", (b"llamacpp:requests_deferred",)),
    _Names(b"dynamo_frontend_inflight_requests", (b"dynamo_frontend_queued_requests",), among=True),
)

_PER_PRIORITY = re.compile(rb'[{,]priority="[^"]')
"""SGLang that schedules by priority tells every count twice: in all, with an empty label, and for each priority."""


class MetricsWire:
    """``GET /metrics``, as vLLM, SGLang, llama.cpp and Dynamo's frontend write it.

    Source of the format: https://prometheus.io/docs/instrumenting/exposition_formats/
    """

    path = "/metrics"

    def decode(self, body: bytes) -> EndpointLoad | None:
        """The load, over all label sets: requests are summed, of shares the largest counts.

        Returns:
            None where the text is of no engine that is known.
        """
        for names in _ENGINES:
            running = _of_all(sum, body, names.running)
            if running is not None:
                waiting = sum(_of_all(sum, body, name) or 0 for name in names.waiting)
                shares = (_of_all(max, body, name) for name in names.cache_usage)
                share = next((s for s in shares if s is not None), None)
                return EndpointLoad(int(max(running - waiting * names.among, 0)), int(waiting), share)
        return None


def _of_all(put_together: Callable[[Iterable[float]], float], body: bytes, name: bytes) -> float | None:
    found = list(_values(body, name))
    return put_together(found) if found else None


def _values(body: bytes, name: bytes) -> Iterator[float]:
    """The values of every sample whose name is exactly `name`."""
    at = body.find(name)
    while at >= 0:
        start = at + len(name)
        end = body.find(b"\n", start)
        end = len(body) if end < 0 else end
        if (at == 0 or body[at - 1] == ord("\n")) and body[start : start + 1] in {b"{", b" ", b"\t"}:
            value = _value(body[start:end])
            if value is not None and not _PER_PRIORITY.search(body, start, end):
                yield value
        at = body.find(name, end)


def _value(rest: bytes) -> float | None:
    """The number after the labels; a time stamp may follow it. None for NaN, infinities and what is no number."""
    fields = rest.rpartition(b"}")[2].split()
    try:
        value = float(fields[0])
    except (ValueError, IndexError):
        return None
    return value if math.isfinite(value) and value >= 0 else None
