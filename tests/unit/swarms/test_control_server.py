from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from aurora_swarm.batch.loop import run_on_loop
from aurora_swarm.errors import AttemptTimeoutError, ConnectionLostError, UsageError
from aurora_swarm.swarms.control_client import ControlClient, ask_run, find_run, runs
from aurora_swarm.swarms.control_server import serve_controls
from aurora_swarm.swarms.control_wire import MOST_LINE, Reply, Request, control_folder, control_path
from aurora_swarm.testing.steered_run import SteeredRun


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Short, as sockets need it, and of this user alone."""
    return tmp_path


@pytest.fixture
def run() -> SteeredRun:
    return SteeredRun(3, id="run-a")


@pytest.fixture
async def place(run: SteeredRun, folder: Path) -> AsyncIterator[Path]:
    async with serve_controls(run, control_path(run.id, folder)) as path:
        yield path


async def ask(path: Path, **fields: object) -> Reply:
    return await asyncio.to_thread(ask_run, path, Request(**fields))  # type: ignore[arg-type]


async def sent(path: Path, data: bytes) -> list[Reply]:
    """Replies to raw bytes, until the other side has said everything."""
    reader, writer = await asyncio.open_unix_connection(str(path), limit=16 << 20)
    writer.write(data)
    writer.write_eof()
    try:
        async with asyncio.timeout(10):
            return [msgspec.json.decode(line, type=Reply) async for line in reader]
    finally:
        writer.close()


async def test_shows_the_run_and_its_items(run: SteeredRun, place: Path) -> None:
    status = (await ask(place, op="status")).status
    assert status is not None
    assert (status.id, status.phase, dict(status.tasks)) == ("run-a", "working", {"running": 3})
    items = (await ask(place, op="items", kind="task", limit=2)).items
    assert [item.id for item in items or []] == ["task-2", "task-1"]
    assert (await ask(place, op="item", id="worker-1")).items == [run.item("worker-1")]


async def test_each_action_reaches_the_run(run: SteeredRun, place: Path) -> None:
    await ask(place, op="pause", id="task-0")
    assert run.item("task-0").state == "paused"
    await ask(place, op="resume", id="task-0")
    assert run.item("task-0").state == "running"
    await ask(place, op="cancel", id="task-0")
    assert run.item("task-0").state == "cancelled"
    await ask(place, op="requeue", id="task-0")
    assert run.item("task-0").state == "ready"
    await ask(place, op="steer", id="run-a", text="Be \u201cbrief\u201d.\n\0\U0001f41d")
    assert run.said == [("run-a", "Be \u201cbrief\u201d.\n\0\U0001f41d")]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"op": "pause", "id": "nobody"}, "nothing here is called nobody"),
        ({"op": "pause"}, "pause needs an id"),
        ({"op": "steer", "id": "task-0", "text": "  "}, "steer needs a text"),
        ({"op": "requeue", "id": "worker-0"}, "no task"),
    ],
)
async def test_what_cannot_be_done_is_told_in_one_sentence(place: Path, fields: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        await ask(place, **fields)
    assert raised.value.remedy


BAD = [
    b"\n",
    b"hello\n",
    b"{}\n",
    b"[1]\n",
    b"\xff\xfe\n",
    b'{"op": "explode"}\n',
    b'{"op": "status", "else": 1}\n',
    b'{"op": "items", "limit": 100000}\n',
    b'{"op": "items", "limit": 0}\n',
    b'{"op": "pause", "id": 7}\n',
    b"[" * 60_000 + b"\n",
]


@pytest.mark.parametrize("line", BAD, ids=range(len(BAD)))
async def test_a_bad_line_is_answered_and_the_next_one_is_served(place: Path, line: bytes) -> None:
    bad, good = await sent(place, line + b'{"op": "status"}\n')
    assert not bad.ok
    assert bad.error
    assert "\n" not in bad.error
    assert good.status is not None


async def test_a_line_without_end_is_refused_and_the_client_let_go(place: Path) -> None:
    (refused,) = await sent(place, b"x" * (MOST_LINE + 1))
    assert refused.error == f"a request is at most {MOST_LINE} bytes"
    assert (await ask(place, op="status")).ok


async def test_a_line_that_just_fits_is_served(place: Path, run: SteeredRun) -> None:
    frame = len(b'{"op":"steer","id":"task-0","text":""}\n')
    text = "x" * (MOST_LINE - frame)
    await ask(place, op="steer", id="task-0", text=text)
    assert run.said == [("task-0", text)]
    with pytest.raises(UsageError, match="at most"):
        await ask(place, op="steer", id="task-0", text=text + "x")


async def test_an_unfinished_line_is_no_request(place: Path, run: SteeredRun) -> None:
    assert len(await sent(place, b'{"op": "status"}\n{"op": "pause", "id": "task-0"}')) == 1
    assert run.item("task-0").state == "running"


async def test_many_requests_at_once_are_answered_in_order_and_hold_nobody_up(place: Path, run: SteeredRun) -> None:
    lines = b"".join(b'{"op":"steer","id":"task-0","text":"%d"}\n' % n for n in range(3_000))
    flood = asyncio.create_task(sent(place, lines))
    await asyncio.sleep(0)
    other = await ask(place, op="status")
    assert other.ok
    assert len(await flood) == 3_000
    assert [text for _, text in run.said] == [str(n) for n in range(3_000)]


async def test_a_client_that_reads_nothing_costs_bounded_memory(folder: Path) -> None:
    run = SteeredRun(1_000, id="big")
    calls = 0
    items = run.items

    def counted(**wanted: object) -> object:
        nonlocal calls
        calls += 1
        return items(**wanted)  # type: ignore[arg-type]

    run.items = counted  # type: ignore[method-assign, assignment]
    async with serve_controls(run, folder / "s.sock") as place:
        _, writer = await asyncio.open_unix_connection(str(place))
        writer.write(b'{"op":"items","limit":1000}\n' * 200_000)
        for _ in range(100):
            await asyncio.sleep(0.001)
        assert 1 <= calls < 50  # it stopped answering long before the end
        assert writer.transport.get_write_buffer_size() > 1_000_000  # and reading
        assert (await ask(place, op="status")).ok
        writer.transport.abort()


async def test_only_the_user_can_reach_it(place: Path) -> None:
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700


async def test_a_folder_that_others_may_enter_is_refused(run: SteeredRun, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o750)
    with pytest.raises(UsageError, match="others than you may enter"):
        async with serve_controls(run, tmp_path / "open" / "s.sock"):
            pass


async def test_the_folder_is_made_for_the_user_alone(run: SteeredRun, tmp_path: Path) -> None:
    async with serve_controls(run, tmp_path / "new" / "s.sock") as path:
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_path_that_is_too_long_is_refused(run: SteeredRun, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="too long for a socket"):
        async with serve_controls(run, tmp_path / ("x" * 120)):
            pass


async def test_an_id_that_is_a_path_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot name"):
        control_path("../elsewhere")


async def test_the_socket_is_gone_afterwards_and_clients_with_it(run: SteeredRun, folder: Path) -> None:
    async with serve_controls(run, folder / "s.sock") as path:
        client = await asyncio.to_thread(ControlClient, path)
        await asyncio.to_thread(client.ask, Request(op="status"))
    assert not path.exists()
    await asyncio.sleep(0)
    with client, pytest.raises(ConnectionLostError, match="went away"):
        await asyncio.to_thread(client.ask, Request(op="status"))


async def test_a_second_run_on_one_path_is_refused(place: Path) -> None:
    with pytest.raises(UsageError, match="another run answers"):
        async with serve_controls(SteeredRun(), place):
            pass
    assert (await ask(place, op="status")).ok


async def test_what_a_killed_run_has_left_is_replaced(run: SteeredRun, folder: Path) -> None:
    dead = folder / "s.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(dead))
    async with serve_controls(run, dead) as path:
        assert (await ask(path, op="status")).ok


async def test_a_file_is_not_replaced(run: SteeredRun, folder: Path) -> None:
    (folder / "s.sock").write_text("precious")
    with pytest.raises(UsageError, match="no socket"):
        async with serve_controls(run, folder / "s.sock"):
            pass
    assert (folder / "s.sock").read_text() == "precious"


async def test_more_clients_than_allowed_are_told_so(place: Path) -> None:
    writers = [(await asyncio.open_unix_connection(str(place)))[1] for _ in range(64)]
    (refused,) = await sent(place, b"")
    assert "64 clients" in refused.error
    writers[0].close()
    await asyncio.sleep(0.05)
    assert (await ask(place, op="status")).ok
    for writer in writers:
        writer.close()


async def test_a_run_that_does_not_answer_is_told_from_one_that_is_not_there(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(folder / "mute.sock"))
        mute.listen()
        with pytest.raises(AttemptTimeoutError, match="did not answer within"):
            ask_run(folder / "mute.sock", Request(op="status"), timeout_s=0.05)
        (found,) = await asyncio.to_thread(runs, folder, timeout_s=0.05)
        assert (found.id, found.status) == ("mute", None)
        assert isinstance(found.error, AttemptTimeoutError)
    with pytest.raises(UsageError, match="no run answers"):
        ask_run(folder / "none.sock", Request(op="status"))


async def test_runs_are_found_and_dead_sockets_taken_away(place: Path, folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(folder / "dead.sock"))
    async with serve_controls(SteeredRun(id="run-b"), folder / "run-b.sock"):
        assert [found.id for found in await asyncio.to_thread(runs, folder)] == ["run-a", "run-b"]
        assert not (folder / "dead.sock").exists()
        assert await asyncio.to_thread(find_run, "run-b", folder) == folder / "run-b.sock"
        assert await asyncio.to_thread(find_run, "-a", folder) == place
        for wanted, words in ((None, "2 runs are under way"), ("run-", "2 runs have an id"), ("x", "no run is called")):
            with pytest.raises(UsageError, match=words):
                await asyncio.to_thread(find_run, wanted, folder)
    assert await asyncio.to_thread(find_run, None, folder) == place
    assert find_run("/some/where.sock", folder) == Path("/some/where.sock")


def test_without_a_run_there_is_a_sentence(tmp_path: Path) -> None:
    assert runs(tmp_path / "nowhere") == []
    with pytest.raises(UsageError, match="no run is under way"):
        find_run(None, tmp_path / "nowhere")


def test_the_folder_is_the_user_s_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert control_folder() == tmp_path / "aurora-swarm"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing"))
    assert control_folder().name == f"aurora-swarm-{os.getuid()}"


def test_a_killed_process_leaves_a_socket_that_the_next_look_takes_away(tmp_path: Path) -> None:
    code = (
        "import asyncio, pathlib, sys\n"
        "from aurora_swarm.swarms.control_server import serve_controls\n"
        "from aurora_swarm.testing.steered_run import SteeredRun\n"
        "async def main():\n"
        "    async with serve_controls(SteeredRun(id='killed'), pathlib.Path(sys.argv[1])):\n"
        "        print('up', flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    path = tmp_path / "killed.sock"
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        assert [run.id for run in runs(tmp_path)] == ["killed"]
        process.kill()
    assert path.exists()
    assert runs(tmp_path) == []
    assert not path.exists()


def test_programs_run_it_on_another_event_loop(folder: Path) -> None:
    async def scenario() -> None:
        run = SteeredRun(1_000, id="fast")
        async with serve_controls(run, folder / "s.sock") as path:
            assert (await ask(path, op="status")).ok
            assert len(await sent(path, b'{"op":"items","limit":1000}\n' * 20)) == 20
            assert len(await sent(path, b'{"op":"steer","id":"task-0","text":"x"}\n' * 300)) == 300
            (refused,) = await sent(path, b"x" * (MOST_LINE + 1))
            assert not refused.ok
            _, writer = await asyncio.open_unix_connection(str(path))
            writer.write(b'{"op":"items","limit":1000}\n' * 2_000)  # and reads nothing
            await asyncio.sleep(0.1)
            assert (await ask(path, op="status")).ok
            writer.transport.abort()

    run_on_loop(scenario())
