"""What engines tell of their load, in Prometheus' text format."""

from __future__ import annotations

from aurora_swarm.values.reply import EndpointLoad

PATH = "/metrics"

_RUNNING = frozenset(("vllm:num_requests_running", "sglang:num_running_reqs", "llamacpp:requests_processing"))
_WAITING = frozenset(("vllm:num_requests_waiting", "sglang:num_queue_reqs", "llamacpp:requests_deferred"))
_CACHE = frozenset(("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage"))


def load_of(text: str) -> EndpointLoad | None:
    """The load in a page of metrics; label sets are added up, of the cache usage the highest counts.

    Returns:
        None where the page does not count running sequences as vLLM, SGLang or llama.cpp do.
    """
    running: float | None = None
    waiting, usage = 0.0, None
    for line in text.splitlines():
        name, value = _sample(line)
        if value is None:
            continue
        if name in _RUNNING:
            running = (running or 0.0) + value
        elif name in _WAITING:
            waiting += value
        elif name in _CACHE:
            usage = max(usage or 0.0, value)
    return None if running is None else EndpointLoad(int(running), int(waiting), usage)


def _sample(line: str) -> tuple[str, float | None]:
    """Name and value of one line; no value for comments and whatever is no finite number."""
    if not line or line[0] == "#":
        return "", None
    name = line.partition("{")[0].partition(" ")[0]
    try:
        value = float(line[line.rfind("}") + 1 if "}" in line else len(name) :].split(maxsplit=1)[0])
    except (ValueError, IndexError):
        return name, None
    return name, value if 0 <= value < 1e12 else None
