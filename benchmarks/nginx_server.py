"""A server that outruns every client: nginx with a fixed answer on many ports."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

import harness
from aurora_swarm.values.endpoint import AgentEndpoint

FIRST_PORT = 20_000

TEXT = "The quick brown fox jumps over the lazy dog."
GENERATE_ANSWER = {"response": TEXT}


def chat_answer(content: str) -> dict[str, Any]:
    """A chat completion."""
    message = {"role": "assistant", "content": content}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "m",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 24, "completion_tokens": 10, "total_tokens": 34},
    }


_CONFIG = """
daemon off; worker_processes 1; worker_rlimit_nofile 65000; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 60000; multi_accept on; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 600s; default_type application/json;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{first}-{last} backlog=4096;
    location = /v1/chat/completions {{ return 200 '{chat}'; }}
    location = /generate {{ return 200 '{generate}'; }}
    location = /v1/models {{ return 200 '{{"object": "list", "data": [{{"id": "m", "object": "model"}}]}}'; }}
    location = /health {{ return 200 '{{}}'; }}
  }}
}}
"""


@contextlib.contextmanager
def instant_server(
    ports: int, *, core: int = harness.SERVER_CORE, content: str = TEXT
) -> Iterator[list[AgentEndpoint]]:
    """Endpoints on 127.0.0.1 that answer every call at once with the same text, all of them on one core.

    Args:
        ports: How many endpoints.
        core: The core that the server is kept on.
        content: What every chat says.
    """
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        sys.exit("this benchmark needs nginx, which was not found on the PATH; on Debian: apt-get install nginx-light")
    first, last = FIRST_PORT, FIRST_PORT + ports - 1
    with tempfile.TemporaryDirectory() as folder:
        answers = {
            "chat": _quoted(msgspec.json.encode(chat_answer(content)).decode()),
            "generate": msgspec.json.encode(GENERATE_ANSWER).decode(),
        }
        config = Path(folder) / "nginx.conf"
        config.write_text(_CONFIG.format(folder=folder, first=first, last=last, **answers))
        command = [program, "-p", folder, "-c", str(config), "-e", f"{folder}/error.log"]
        with harness.child(command, core=core, stderr=subprocess.DEVNULL) as process:
            _wait_for(last, process, Path(folder) / "error.log")
            yield [AgentEndpoint("127.0.0.1", port) for port in range(first, last + 1)]


def _quoted(text: str) -> str:
    """As it stands between single quotes in a configuration."""
    return text.replace("\\", "\\\\").replace("'", "\\'")


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(100):
        if process.poll() is not None:
            sys.exit(f"nginx ended with exit code {process.returncode}: {log.read_text() if log.exists() else ''}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.1):
            return
        time.sleep(0.05)
    sys.exit(f"nginx does not listen on port {port} after 5 s (process {os.getpid()})")
