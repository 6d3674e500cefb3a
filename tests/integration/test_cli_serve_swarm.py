"""``aurora-swarm serve-swarm``, as a process that others give objectives to."""

import asyncio
import json
import os
import signal
import sys
import time

import pytest

from aurora_swarm.errors import MemberLostError
from aurora_swarm.swarms.remote import RemoteSwarm
from aurora_swarm.testing import answers
from aurora_swarm.testing.faulty_server import OK, Answer, FaultyServer

PROGRAM = """
import sys
from aurora_swarm.cli import app as application
from aurora_swarm.cli.serve_swarm import serve_swarm
if not any(command.name == "serve-swarm" for command in application.app.registered_commands):
    application.app.command("serve-swarm")(serve_swarm)
sys.exit(application.main(["serve-swarm", *sys.argv[1:]]))
"""


def plan_or_text(request):
    if request.method != "POST":
        return OK
    if request.json().get("response_format"):
        plan = json.dumps({"tasks": [{"title": "one", "instructions": "", "after": []}]})
        return Answer(json.dumps(answers.chat(plan)).encode())
    return Answer(json.dumps(answers.chat("found")).encode())


async def start(*arguments, **environ):
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, *arguments, env=os.environ | environ,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def test_it_answers_who_has_the_token_and_ends_with_ctrl_c():
    async with FaultyServer(plan_or_text) as server:
        process = await start(
            "--backend", server.endpoint.url, "--about", "Finds.", "--max-tokens", "64", AURORA_SWARM_A2A_TOKEN="secret"
        )
        try:
            async with asyncio.timeout(60):
                url = (await process.stdout.readline()).decode().strip()
            swarm = RemoteSwarm(url, token="secret")
            await swarm.introduce()
            assert swarm.about == "Finds."
            outcome = await swarm.run("Find it")
            assert (outcome.answer, outcome.n_ok) == ("found", 1)
            with pytest.raises(MemberLostError, match="401"):
                await RemoteSwarm(url).run("Find it")
            process.send_signal(signal.SIGINT)
            began = time.monotonic()
            _, said = await asyncio.wait_for(process.communicate(), 10)
            assert (process.returncode, time.monotonic() - began < 4) == (130, True)
            assert b"secret" not in said
            assert b"Traceback" not in said
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@pytest.mark.parametrize(
    ("host", "token", "said"),
    [("0.0.0.0", "", "no token is asked for"), ("192.0.2.1", "secret", "192.0.2.1:0 cannot be listened on")],
)
async def test_what_cannot_be_served_is_wrong_usage(host, token, said):
    async with FaultyServer(OK) as server:
        process = await start("--backend", server.endpoint.url, "--host", host, AURORA_SWARM_A2A_TOKEN=token)
        out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 2
    assert said in " ".join(err.decode().split())
    assert out == b""
