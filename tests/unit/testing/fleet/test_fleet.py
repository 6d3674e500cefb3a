"""Simulated servers, asked over real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aurora_swarm.errors import UsageError
from aurora_swarm.testing.fleet import Fault, ServerPlan, SimulatedFleet, fleet_process
from aurora_swarm.transports.metrics import MetricsWire
from aurora_swarm.transports.models import ModelsWire

LONG = "A sentence that many prompts begin with. " * 50


async def test_an_answer_repeats_the_prompt_so_that_one_can_tell_whose_it_is(client):
    async with SimulatedFleet([ServerPlan(engine="generate")]) as fleet:
        assert (await client.ask(fleet, "/generate", {"prompt": "hello"})).json() == {"response": "hello"}
        assert fleet.counts().answered == 1


async def test_a_chat_has_its_usage(client):
    async with SimulatedFleet([ServerPlan(tokens=16, model="m")]) as fleet:
        answer = (await client.ask(fleet, "/v1/chat/completions", client.chat("hello", max_tokens=5))).json()
    (choice,) = answer["choices"]
    assert choice == {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "length"}
    assert answer["model"] == "m"
    assert answer["usage"]["completion_tokens"] == 5
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + 5


async def test_a_batch_has_one_choice_for_each_conversation(client):
    conversations = [client.chat(text)["messages"] for text in ("a", "b", "c")]
    async with SimulatedFleet([ServerPlan()]) as fleet:
        answer = (await client.ask(fleet, "/v1/chat/completions/batch", {"messages": conversations})).json()
        assert fleet.counts().sequences == 3
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["a", "b", "c"]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]


async def test_completions_take_a_list(client):
    async with SimulatedFleet([ServerPlan()]) as fleet:
        answer = (await client.ask(fleet, "/v1/completions", {"prompt": ["a", "b"]})).json()
    assert [choice["text"] for choice in answer["choices"]] == ["a", "b"]


async def test_embeddings_belong_to_their_texts(client):
    async with SimulatedFleet([ServerPlan()]) as fleet:
        answer = (await client.ask(fleet, "/v1/embeddings", {"input": ["a", "bb"]})).json()
    assert [item["embedding"][0] for item in answer["data"]] == [1.0, 2.0]


async def test_a_stream_brings_a_piece_for_each_token_then_usage_and_its_end(client):
    body = client.chat("0123456789", stream=True, stream_options={"include_usage": True})
    async with SimulatedFleet([ServerPlan(tokens=5, per_token_s=0.001)]) as fleet:
        events = (await client.ask(fleet, "/v1/chat/completions", body)).body.split(b"\n\n")
    data = [json.loads(event.removeprefix(b"data: ")) for event in events[:-2]]
    pieces = [chunk["choices"][0]["delta"].get("content") for chunk in data[:-1]]
    assert pieces == ["", "01", "23", "45", "67", "89", None]
    assert data[-2]["choices"][0]["finish_reason"] == "stop"
    assert data[-1]["choices"] == []
    assert data[-1]["usage"]["completion_tokens"] == 5
    assert events[-2:] == [b"data: [DONE]", b""]


async def test_a_plan_may_say_what_is_answered(client):
    async with SimulatedFleet([ServerPlan(engine="generate", answer='{"ok":true}')]) as fleet:
        assert (await client.ask(fleet, "/generate", {"prompt": "x"})).json() == {"response": '{"ok":true}'}


@pytest.mark.parametrize(
    ("engine", "paths"),
    [
        ("vllm", {"/v1/models": 200, "/metrics": 200, "/health": 200, "/props": 404, "/generate": 404}),
        ("sglang", {"/v1/models": 200, "/metrics": 200, "/health": 200, "/props": 404, "/generate": 405}),
        ("llamacpp", {"/v1/models": 200, "/metrics": 200, "/health": 200, "/props": 200, "/generate": 404}),
        ("generate", {"/v1/models": 404, "/metrics": 404, "/health": 200, "/props": 404, "/generate": 405}),
    ],
)
async def test_each_engine_has_its_own_pages(client, engine, paths):
    async with SimulatedFleet([ServerPlan(engine=engine)]) as fleet:
        assert {path: (await client.ask(fleet, path)).status for path in paths} == paths


@pytest.mark.parametrize("engine", ["vllm", "sglang", "llamacpp"])
async def test_models_and_load_are_read_by_the_wires_of_this_library(client, engine):
    async with SimulatedFleet(
        [ServerPlan(engine=engine, model="m", max_context=4096, latency_s=30, capacity=1)]
    ) as fleet:
        asked = [asyncio.create_task(client.ask(fleet, "/v1/chat/completions", client.chat("x"))) for _ in range(3)]
        await client.until(lambda: fleet.counts().requests == 3)
        info = ModelsWire().decode((await client.ask(fleet, "/v1/models")).body)
        load = MetricsWire().decode((await client.ask(fleet, "/metrics")).body)
        for task in asked:
            task.cancel()
    assert (info.models, info.max_context, info.engine) == (("m",), 4096, engine)
    assert (load.running, load.waiting) == (1, 2)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"messages": "nonsense"}, 400),
        ({"messages": [{"role": "user", "content": "x" * 8000}]}, 400),
        ({"messages": [{"role": "user", "content": "x"}], "max_tokens": 2000}, 400),
        ({"messages": [{"role": "user", "content": "x"}], "model": "other"}, 404),
        ({"messages": [{"role": "user", "content": "this is POISON"}]}, 400),
        ({"messages": [{"role": "user", "content": "x"}], "n": 2}, 400),
    ],
)
async def test_wrong_requests_are_refused_and_run_nothing(client, body, status):
    async with SimulatedFleet([ServerPlan(max_context=1000, refuses="POISON")]) as fleet:
        answer = await client.ask(fleet, "/v1/chat/completions", body)
        counts = fleet.counts()
    assert answer.status == status
    assert answer.json()["error"]["message"]
    assert (counts.refused, counts.sequences) == (1, 0)


async def test_what_does_not_fit_waits_in_order(client):
    async with SimulatedFleet([ServerPlan(engine="generate", capacity=1, latency_s=0.01)]) as fleet:
        done: list[str] = []

        async def one(name: str) -> None:
            await client.ask(fleet, "/generate", {"prompt": name})
            done.append(name)

        tasks = []
        for number in range(5):
            tasks.append(asyncio.create_task(one(f"{number}")))
            await client.until(lambda: fleet.counts().requests == number + 1)  # noqa: B023
        await asyncio.gather(*tasks)
        assert done == ["0", "1", "2", "3", "4"]
        assert fleet.counts().most_running == 1


async def test_a_full_queue_is_told(client):
    async with SimulatedFleet([ServerPlan(engine="generate", capacity=1, max_queue=1, latency_s=30)]) as fleet:
        waiting = [asyncio.create_task(client.ask(fleet, "/generate", {"prompt": "x"})) for _ in range(2)]
        await client.until(lambda: fleet.counts().requests == 2)
        assert (await client.ask(fleet, "/generate", {"prompt": "x"})).status == 429
        assert fleet.counts().overloaded == 1
        for task in waiting:
            task.cancel()


async def test_a_client_that_goes_away_frees_its_place_at_once(client):
    async with SimulatedFleet([ServerPlan(engine="generate", capacity=1, latency_s=30)]) as fleet:
        running = asyncio.create_task(client.ask(fleet, "/generate", {"prompt": "x"}))
        await client.until(lambda: fleet.counts().running == 1)
        waiting = asyncio.create_task(client.ask(fleet, "/generate", {"prompt": "y"}))
        await client.until(lambda: fleet.counts().queued == 1)
        fleet.set_plan(0, latency_s=0.0)
        running.cancel()
        assert (await waiting).json() == {"response": "y"}
        counts = fleet.counts()
    assert (counts.cancelled, counts.running, counts.queued) == (1, 0, 0)


async def test_a_client_that_goes_away_while_it_waits_frees_that_too(client):
    async with SimulatedFleet([ServerPlan(engine="generate", capacity=1, latency_s=30)]) as fleet:
        tasks = []
        for number in range(2):
            tasks.append(asyncio.create_task(client.ask(fleet, "/generate", {"prompt": "x"})))
            await client.until(lambda: fleet.counts().requests == number + 1)  # noqa: B023
        tasks[1].cancel()
        await client.until(lambda: fleet.counts().cancelled == 1)
        assert (fleet.counts().running, fleet.counts().queued) == (1, 0)
        tasks[0].cancel()


async def test_requests_that_come_at_once_are_answered_in_order(client):
    async with SimulatedFleet([ServerPlan(engine="generate")]) as fleet:
        reader, writer = await asyncio.open_connection("127.0.0.1", fleet.endpoints[0].port)
        writer.write(b"".join(client.request("/generate", {"prompt": f"{number}"}) for number in range(500)))
        answers = [(await client.read(reader)).json()["response"] for _ in range(500)]
        writer.close()
        assert answers == [f"{number}" for number in range(500)]
        assert fleet.counts().connections == 1


async def test_a_shared_prefix_is_computed_once_for_vllm_and_once_per_slot_for_llamacpp(client):
    plans = [ServerPlan(engine=engine, capacity=2, latency_s=0.02) for engine in ("vllm", "llamacpp")]
    async with SimulatedFleet(plans) as fleet:
        for server in range(2):
            path = "/v1/chat/completions"
            asked = [client.ask(fleet, path, client.chat(f"{LONG} {i}"), server=server) for i in range(8)]
            answers = [answer.json() for answer in await asyncio.gather(*asked)]
            cached = sum(answer["usage"]["prompt_tokens_details"]["cached_tokens"] for answer in answers)
            assert cached == fleet.counts(server).cached_tokens > 0
        assert [fleet.counts(server).prefix_computations for server in range(2)] == [1, 2]


async def test_a_server_that_stops_refuses_and_comes_back_on_its_port(client):
    async with SimulatedFleet([ServerPlan(engine="generate")]) as fleet:
        before = fleet.endpoints
        await fleet.stop(0)
        with pytest.raises(ConnectionRefusedError):
            await client.ask(fleet, "/health")
        await fleet.start(0)
        assert (await client.ask(fleet, "/health")).status == 200
        assert fleet.endpoints == before


async def test_stopping_ends_connections_with_a_reset(client):
    async with SimulatedFleet([ServerPlan(engine="generate", latency_s=30)]) as fleet:
        asked = asyncio.create_task(client.ask(fleet, "/generate", {"prompt": "x"}))
        await client.until(lambda: fleet.counts().running == 1)
        await fleet.stop(0)
        with pytest.raises(ConnectionResetError):
            await asked
        await client.until(lambda: fleet.counts().running == 0)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("reset", {}),
        ("garbage", {}),
        ("cut", {"at": 30}),
        ("hang_before_head", {}),
        ("hang_after_head", {}),
        ("drip", {}),
        ("gray", {}),
    ],
)
async def test_faults_that_leave_no_answer(client, kind, more):
    async with SimulatedFleet([ServerPlan(engine="generate")], faults=[Fault(kind, **more)]) as fleet:
        with pytest.raises((OSError, EOFError, ValueError, IndexError)):
            async with asyncio.timeout(0.2):
                await client.ask(fleet, "/generate", {"prompt": "x"})
        counts = fleet.counts()
    assert counts.faults == {kind: 1}
    assert (counts.answered, counts.on_dead) == (0, 1)


async def test_a_cut_beyond_the_end_of_the_answer_changes_nothing(client):
    async with SimulatedFleet([ServerPlan(engine="generate")], faults=[Fault("cut", at=10_000)]) as fleet:
        assert (await client.ask(fleet, "/generate", {"prompt": "x"})).status == 200


@pytest.mark.parametrize(
    ("fault", "status", "body"),
    [
        (Fault("status", status=503), 503, b'"simulated"'),
        (Fault("html"), 502, b"<html>"),
        (Fault("error_200"), 200, b'"error"'),
        (Fault("wrong_types"), 200, b'{"response":[{'),
    ],
)
async def test_faults_with_an_answer(client, fault, status, body):
    async with SimulatedFleet([ServerPlan(engine="generate")], faults=[fault]) as fleet:
        answer = await client.ask(fleet, "/generate", {"prompt": "x"})
    assert answer.status == status
    assert body in answer.body


async def test_retry_after_is_sent_as_given_or_as_a_date(client):
    faults = {
        0: Fault("status", status=429, retry_after="-5"),
        1: Fault("status", status=429, retry_after="date"),
        2: Fault("status", status=429),
    }
    async with SimulatedFleet([ServerPlan(engine="generate")] * 3, faults=faults) as fleet:
        found = [(await client.ask(fleet, "/generate", {"prompt": "x"}, server=i)).headers for i in range(3)]
        assert (await client.ask(fleet, "/health")).status == 200
    assert found[0]["retry-after"] == "-5"
    assert found[1]["retry-after"].endswith(" gmt")
    assert "retry-after" not in found[2]


@pytest.mark.parametrize(
    ("fault", "indices"),
    [
        (Fault("choices_reordered"), [2, 1, 0]),
        (Fault("choices_missing"), [1, 2]),
        (Fault("choices_duplicated"), [0, 1, 2, 0]),
        (Fault("dies_mid_batch", at=2), [0, 1]),
    ],
)
async def test_choices_are_spoiled(client, fault, indices):
    async with SimulatedFleet([ServerPlan()], faults=[fault]) as fleet:
        answer = (await client.ask(fleet, "/v1/completions", {"prompt": ["a", "b", "c"]})).json()
    assert [choice["index"] for choice in answer["choices"]] == indices
    assert all(choice["text"] == "abc"[choice["index"]] for choice in answer["choices"])


async def test_a_server_dies_in_the_middle_of_a_batch(client):
    async with SimulatedFleet([ServerPlan(capacity=1, latency_s=0.01)], faults=[Fault("dies_mid_batch")]) as fleet:
        with pytest.raises((OSError, EOFError)):
            await client.ask(fleet, "/v1/completions", {"prompt": ["a", "b", "c", "d"]})
        counts = fleet.counts()
    assert counts.completed == 2
    assert (counts.running, counts.queued) == (0, 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_engine_gives_up(client, stream):
    async with SimulatedFleet([ServerPlan(tokens=2)], faults=[Fault("abort")]) as fleet:
        answer = await client.ask(fleet, "/v1/chat/completions", client.chat("x", stream=stream))
    assert b'"finish_reason":"abort"' in answer.body


async def test_a_gray_server_looks_healthy_and_streams_a_head_without_a_token(client):
    async with SimulatedFleet([ServerPlan()], faults=[Fault("gray")]) as fleet:
        assert (await client.ask(fleet, "/health")).status == 200
        reader, writer = await asyncio.open_connection("127.0.0.1", fleet.endpoints[0].port)
        writer.write(client.request("/v1/chat/completions", client.chat("x", stream=True)))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.read(1)
        writer.close()


async def test_a_server_may_have_another_model_or_less_room(client):
    faults = {0: Fault("wrong_model"), 1: Fault("smaller_context")}
    async with SimulatedFleet([ServerPlan(model="m", max_context=4000)] * 2, faults=faults) as fleet:
        infos = [ModelsWire().decode((await client.ask(fleet, "/v1/models", server=i)).body) for i in range(2)]
        refused = await client.ask(fleet, "/v1/chat/completions", client.chat("x", model="m"))
    assert infos[0].models != ("m",)
    assert infos[1].max_context == 1000
    assert refused.status == 404


async def test_single_requests_straggle_by_their_rate(client):
    plan, fault = ServerPlan(engine="generate", latency_s=0.001), Fault("straggle", rate=0.3, factor=3)
    async with SimulatedFleet([plan], faults=[fault], seed=1) as fleet:
        await asyncio.gather(*(client.ask(fleet, "/generate", {"prompt": "x"}) for _ in range(200)))
        counts = fleet.counts()
    assert counts.answered == 200
    assert 40 < counts.faults["straggle"] < 80


async def test_refusing_and_flapping_come_and_go(client):
    faults = {0: Fault("refuse", until_s=0.2), 1: Fault("flap", period_s=0.2)}

    async def up(server: int) -> bool:
        try:
            return (await client.ask(fleet, "/health", server=server)).status == 200
        except OSError:
            return False

    async with SimulatedFleet([ServerPlan(engine="generate")] * 2, faults=faults) as fleet:
        assert not await up(0)
        seen = set()
        async with asyncio.timeout(10):
            while not await up(0) or len(seen) < 2:
                seen.add(await up(1))
        counts = fleet.counts()
    assert counts.faults["refuse"] == 1
    assert counts.faults["flap"] >= 1


async def test_faults_and_plans_change_while_it_runs(client):
    async with SimulatedFleet([ServerPlan(engine="generate")] * 3) as fleet:
        await fleet.set_fault(slice(0, 2), Fault("status", status=500))
        fleet.set_plan(slice(None), answer="changed")
        answers = [await client.ask(fleet, "/generate", {"prompt": "x"}, server=i) for i in range(3)]
        assert [answer.status for answer in answers] == [500, 500, 200]
        assert answers[2].json() == {"response": "changed"}
        await fleet.set_fault(0, None)
        assert (await client.ask(fleet, "/generate", {"prompt": "x"})).status == 200


async def test_more_servers_than_files_may_be_open_are_refused_before_any_listens(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    fleet = SimulatedFleet([ServerPlan()] * 300)
    with pytest.raises(UsageError, match="300 servers need more than the 256 files"):
        await fleet.__aenter__()
    assert fleet.endpoints == []


async def test_slots_may_become_fewer_while_they_are_in_use(client):
    async with SimulatedFleet([ServerPlan(engine="llamacpp", capacity=4, latency_s=0.05)]) as fleet:
        path = "/v1/chat/completions"
        asked = [asyncio.create_task(client.ask(fleet, path, client.chat(f"{i}"))) for i in range(8)]
        await client.until(lambda: fleet.counts().running == 4)
        fleet.set_plan(0, capacity=1, latency_s=0.001)
        assert {(await answer).status for answer in asked} == {200}
        assert (await client.ask(fleet, path, client.chat("x"))).status == 200
        assert fleet.counts().running == 0


async def test_orders_at_once_end_as_the_last_one_says(client):
    async with SimulatedFleet([ServerPlan(engine="generate")]) as fleet:
        for _ in range(10):
            await asyncio.gather(fleet.stop(0), fleet.start(0), fleet.set_fault(0, Fault("refuse")))
            with pytest.raises(ConnectionRefusedError):
                await client.ask(fleet, "/health")
            await asyncio.gather(fleet.set_fault(0, None), fleet.stop(0), fleet.start(0))
            assert (await client.ask(fleet, "/health")).status == 200


async def test_wrong_orders_say_so():
    with pytest.raises(UsageError, match="at least one"):
        SimulatedFleet([])
    async with SimulatedFleet([ServerPlan()]) as fleet:
        with pytest.raises(UsageError, match="no server 1"):
            fleet.counts(1)
        with pytest.raises(UsageError, match="no field"):
            fleet.set_plan(0, nonsense=1)
        with pytest.raises(UsageError, match="speed"):
            fleet.set_plan(0, speed=0.0)


async def test_leaving_frees_every_port_and_connection(client):
    async with SimulatedFleet([ServerPlan(engine="generate")] * 20) as fleet:
        endpoints = fleet.endpoints
        reader, writer = await asyncio.open_connection("127.0.0.1", endpoints[0].port)
    with pytest.raises(ConnectionResetError):
        await reader.readexactly(1)
    writer.close()
    for endpoint in endpoints:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", endpoint.port)


async def test_thousands_of_ports_listen_in_one_process(client):
    async with SimulatedFleet([ServerPlan(engine="generate")] * 2000) as fleet:
        assert len({endpoint.port for endpoint in fleet.endpoints}) == 2000
        answers = await asyncio.gather(
            *(client.ask(fleet, "/generate", {"prompt": f"{i}"}, server=i) for i in range(0, 2000, 20))
        )
        assert [answer.json()["response"] for answer in answers] == [f"{i}" for i in range(0, 2000, 20)]


async def test_the_same_fleet_runs_in_a_process_of_its_own(client):
    plan = ServerPlan(engine="generate")
    with fleet_process([plan] * 3, faults={1: Fault("status", status=503)}, seed=1, cpu=0) as remote:
        answers = [await client.ask(remote, "/generate", {"prompt": f"{i}"}, server=i) for i in range(3)]
        assert [answer.status for answer in answers] == [200, 503, 200]
        assert remote.counts().requests == 3
        assert remote.counts(1).faults == {"status": 1}
        assert remote.counts(slice(0, 2)).requests == 2
        remote.set_fault(1, None)
        remote.set_plan(slice(None), answer="changed")
        assert (await client.ask(remote, "/generate", {"prompt": "x"}, server=1)).json() == {"response": "changed"}
        remote.stop(2)
        with pytest.raises(ConnectionRefusedError):
            await client.ask(remote, "/health", server=2)
        remote.start(2)
        assert (await client.ask(remote, "/health", server=2)).status == 200
        with pytest.raises(UsageError, match="capacity"):
            remote.set_plan(0, capacity=0)
        with pytest.raises(UsageError, match="no server"):
            remote.counts(7)
        pid = remote.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_faults_are_the_same_on_the_loop_of_the_other_process(client):
    kinds = ["reset", "garbage", "cut", "hang_before_head", "hang_after_head", "drip", "gray", "refuse"]
    faults = {index: Fault(kind, at=30) for index, kind in enumerate(kinds)}
    with fleet_process([ServerPlan(engine="generate")] * len(kinds), faults=faults) as remote:
        for index, kind in enumerate(kinds):
            with pytest.raises((OSError, EOFError, ValueError, IndexError)) as raised:
                async with asyncio.timeout(0.2 if kind in kinds[3:7] else 20):
                    await client.ask(remote, "/generate", {"prompt": "x"}, server=index)
            assert isinstance(raised.value, TimeoutError) == (kind in kinds[3:7])
            assert isinstance(raised.value, ConnectionResetError) == (kind == "reset")
        assert remote.counts().faults == dict.fromkeys(kinds, 1)


def test_a_fleet_that_cannot_be_is_told_by_its_process():
    with pytest.raises(UsageError, match="no server 9"), fleet_process([ServerPlan()], faults={9: Fault("reset")}):
        pass


def test_a_killed_parent_leaves_no_fleet_behind():
    program = (
        "import time\n"
        "from aurora_swarm.testing.fleet import ServerPlan, fleet_process\n"
        "with fleet_process([ServerPlan()]) as fleet:\n"
        "    print(fleet.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    deadline = 500
    while deadline and _runs(pid):
        deadline -= 1
        signal.sigtimedwait([], 0.02)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
