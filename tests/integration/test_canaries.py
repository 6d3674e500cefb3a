"""Secrets of every source, and nowhere in anything that a command leaves behind or says."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.integration.conftest import Serve

from aurora_swarm.testing import answers
from aurora_swarm.testing.faulty_server import Answer, Request

OWN = "sk-canary/own+77 aa"
CANARIES = {
    "AURORA_SWARM_API_KEY": OWN,
    "OPENAI_API_KEY": "sk-canary-openai-31",
    "ANTHROPIC_API_KEY": "sk-canary-anthropic-32",
    "AWS_BEARER_TOKEN_BEDROCK": "canary-bedrock-33",
    "AWS_ACCESS_KEY_ID": "AKIACANARY34",
    "AWS_SECRET_ACCESS_KEY": "canary-secret-35",
    "AWS_SESSION_TOKEN": "canary-session-36",
    "BRAVE_API_KEY": "canary-brave-37",
    "SERPAPI_API_KEY": "canary-serp-38",
    "AURORA_SWARM_SEARCH_KEY": "canary-search-39",
}
IN_ADDRESS = "canary-in-address-40"
SECRETS = (*CANARIES.values(), IN_ADDRESS)

SPEC = """
task: 'Classify: {text}'
inputs: in.csv
tools: [read_file, web_search]
"""


def spelt(secret: str) -> Iterator[bytes]:
    """A secret in every spelling in which it could get out."""
    plain = secret.encode()
    yield from (plain, quote(secret).encode(), quote(secret, safe="").encode(), plain[::-1], plain.hex().encode())
    yield base64.b64encode(plain).rstrip(b"=")
    yield plain.replace(b"/", b"\\/")


def leaks(artefacts: Mapping[str, bytes]) -> list[str]:
    return [
        f"{secret} in {name}"
        for name, data in artefacts.items()
        for secret in SECRETS
        if any(form in data for form in spelt(secret))
    ]


def tells_all(request: Request) -> Answer:
    """A server that says whatever it was told: in errors of every kind, and now and then it answers rightly."""
    told = "; ".join(f"{name}: {value}" for name, value in request.headers.items())
    found = re.search(rb"review number (\d)", request.body)
    kind = int(found[1]) if found else 0
    if request.method == "GET" or kind == 0:
        return Answer()
    whole = answers.encode(answers.error(f"bad request, you said {told}", 400))
    return (
        Answer(whole, 400),
        Answer(answers.encode(answers.error(f"who is {told}?", 401)), 401),
        Answer(f"<html>{told}</html>".encode(), 500),
        Answer(f'{{"error": "{told}"'.encode(), 200),
        Answer(whole, 200, {"x-echo": told.encode("ascii", "replace").decode()}),
    )[kind - 1]


MAP = ["map", "Classify: {text}", "-i", "in.csv", "--hostfile", "hosts"]
COMMANDS = {
    "map": [
        "map",
        "Classify: {text}",
        "-i",
        "in.csv",
        "--hostfile",
        "hosts",
        "-o",
        "out.jsonl",
        "--events",
        "ev.jsonl",
    ],
    "ask": ["ask", "Hello", "--broadcast", "--hostfile", "hosts"],
    "ask, reduced": ["ask", "Hello", "--broadcast", "--reduce", "Merge: {responses}", "--hostfile", "hosts", "--json"],
    "endpoints": ["endpoints", "--hostfile", "hosts", "--json"],
    "wait": ["wait", "--hostfile", "hosts", "--output", "ready", "--health-timeout", "5"],
    "an address with a password": ["ask", "Hello", "--backend", f"http://me:{IN_ADDRESS}@127.0.0.1:9"],
    "a hostfile with a password": ["endpoints", "--hostfile", "bad-hosts"],
    "tools": ["run", "spec.yaml", "--hostfile", "hosts", "-o", "run.jsonl", "--events", "run-events.jsonl"],
    "a provider": [
        "map",
        "X {text}",
        "-i",
        "in.csv",
        "--backend",
        "anthropic://127.0.0.1:9#m",
        "-o",
        "anthropic.jsonl",
    ],
    "another": [
        "map",
        "X {text}",
        "-i",
        "in.csv",
        "--backend",
        "bedrock://us-east-1#m",
        "--no-journal",
        "-o",
        "b.jsonl",
    ],
}


def artefacts_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_no_secret_is_in_anything_that_commands_leave_behind_or_say(tmp_path: Path, serve: Serve) -> None:
    servers = [serve(tells_all) for _ in range(6)]
    server = servers[0]
    (tmp_path / "in.csv").write_text("text\n" + "".join(f"review number {n}\n" for n in range(6)), encoding="utf-8")
    (tmp_path / "hosts").write_text("".join(f"{each.url}\n" for each in servers), encoding="utf-8")
    (tmp_path / "bad-hosts").write_text(f"{server.url}\nhttp://me:{IN_ADDRESS}@host:80\n", encoding="utf-8")
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    environ = {
        **os.environ,
        **CANARIES,
        "AURORA_SWARM_DEBUG": "1",
        "AURORA_SWARM_SEARCH_URL": f"{server.url}/?q={{query}}",
    }
    said: dict[str, bytes] = {}
    for name, arguments in COMMANDS.items():
        command = [sys.executable, "-m", "aurora_swarm", *(part.replace("{url}", server.url) for part in arguments)]
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, check=False, timeout=60)
        said |= {f"{name}: stdout": done.stdout, f"{name}: stderr": done.stderr}
    left = {name: data for name, data in artefacts_of(tmp_path).items() if name != "bad-hosts"}
    assert leaks({**said, **left}) == []
    assert {"out.jsonl", "out.jsonl.journal", "ev.jsonl", "run-events.jsonl"} <= set(left)
    kinds = {
        kind for kind in (b'"kind":"authentication"', b'"ok":true', b'"kind":"server"') if kind in left["out.jsonl"]
    }
    assert len(kinds) == 3, said["map: stderr"]
    sent = {value for each in servers for request in each.requests for value in request.headers.values()}
    assert f"Bearer {OWN}" in sent
    assert not [value for value in sent for secret in SECRETS if secret in value and secret != OWN]


@pytest.mark.parametrize("secret", SECRETS)
def test_the_search_would_find_it(secret: str) -> None:
    assert leaks({"file": b"x" + secret.encode() + b"y"}) != []
