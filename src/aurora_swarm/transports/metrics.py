"""Prometheus text of an engine -> its load. Reads the few lines that matter and skips the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from aurora_swarm.values.reply import EndpointLoad


class _Names(NamedTuple):
    running: bytes
    waiting: bytes
    cache_usage: tuple[bytes, ...] = ()


_ENGINES = (
    _Names(
        b"vllm:num_requests_running",
        b"vllm:num_requests_waiting",
        (b"vllm:kv_cache_usage_perc", b"vllm:gpu_cache_usage_perc"),
    ),
    _Names(b"sglang:num_running_reqs", b"sglang:num_queue_reqs", (b"sglang:token_usage",)),
    _Names(b"llamacpp:requests_processing", b"llamacpp:requests_deferred"),
)


class MetricsWire:
    """``GET /metrics``, as vLLM, SGLang and llama.cpp write it.

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
                waiting = _of_all(sum, body, names.waiting) or 0
                shares = (_of_all(max, body, name) for name in names.cache_usage)
                return EndpointLoad(int(running), int(waiting), next((s for s in shares if s is not None), None))
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
            if value is not None:
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
