"""The load that engines tell is read from their metrics."""

import pytest

from aurora_swarm.transports.metrics import MetricsWire
from aurora_swarm.values.reply import EndpointLoad

VLLM = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a b } c"} 3.0
vllm:num_requests_running{engine="1",model_name="a b } c"} 2.0
vllm:num_requests_waiting{engine="0",model_name="m"} 7.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 7.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.5
"""


@pytest.mark.parametrize(
    ("page", "load"),
    [
        (VLLM, EndpointLoad(5, 7, 0.5)),
        ("sglang:num_running_reqs 4\nsglang:num_queue_reqs 1\nsglang:token_usage 0.1\n", EndpointLoad(4, 1, 0.1)),
        ("llamacpp:requests_processing 2\nllamacpp:requests_deferred 6\n", EndpointLoad(2, 6, None)),
        ("llamacpp:requests_processing NaN\nllamacpp:requests_deferred 6\n", None),
        ("process_cpu_seconds_total 3.5\n", None),
        ("", None),
        ("vllm:num_requests_running{\nvllm:num_requests_running} x y\n<html>", None),
    ],
)
def test_running_and_waiting_are_found(page, load):
    assert MetricsWire().decode(page.encode()) == load
