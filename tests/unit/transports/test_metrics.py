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

SGLANG = """# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{model_name="m",tp_rank="0",priority="",dp_rank="0"} 4.0
sglang:num_running_reqs{model_name="m",tp_rank="0",priority="0",dp_rank="0"} 1.0
sglang:num_running_reqs{model_name="m",tp_rank="0",priority="-2",dp_rank="0"} 3.0
sglang:num_running_reqs{model_name="m",tp_rank="0",priority="",dp_rank="1"} 3.0
sglang:num_running_reqs_offline_batch{model_name="m",tp_rank="0",priority=""} 9.0
sglang:num_queue_reqs{model_name="m",tp_rank="0",priority="",dp_rank="0"} 3.0
sglang:num_queue_reqs{model_name="m",tp_rank="0",priority="7",dp_rank="0"} 3.0
sglang:num_grammar_queue_reqs{model_name="m",tp_rank="0",priority="",dp_rank="0"} 2.0
sglang:token_usage{model_name="m",tp_rank="0",priority="",dp_rank="0"} 0.5
"""

DYNAMO = """# TYPE dynamo_frontend_inflight_requests gauge
dynamo_frontend_inflight_requests{model="m"} 12
dynamo_frontend_queued_requests{model="m"} 4
"""


@pytest.mark.parametrize(
    ("page", "load"),
    [
        (VLLM, EndpointLoad(5, 7, 0.5)),
        ("sglang:num_running_reqs 4\nsglang:num_queue_reqs 1\nsglang:token_usage 0.1\n", EndpointLoad(4, 1, 0.1)),
        (SGLANG, EndpointLoad(7, 5, 0.5)),
        (DYNAMO, EndpointLoad(8, 4, None)),
        ("llamacpp:requests_processing 2\nllamacpp:requests_deferred 6\n", EndpointLoad(2, 6, None)),
        ("llamacpp:requests_processing NaN\nllamacpp:requests_deferred 6\n", None),
        ("process_cpu_seconds_total 3.5\n", None),
        ("", None),
        ("vllm:num_requests_running{\nvllm:num_requests_running} x y\n<html>", None),
    ],
)
def test_running_and_waiting_are_found(page, load):
    assert MetricsWire().decode(page.encode()) == load
