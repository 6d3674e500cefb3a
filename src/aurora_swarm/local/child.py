"""The child process: serves one model until its parent is gone. Run as ``python -m aurora_swarm.local.child``.

The parent holds the other end of standard input: when it closes, by will or by death, this process ends at once. While
the engine loads a model it lets no other thread run, so a parent that dies then is noticed when the model is loaded.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from typing import Any, NoReturn

_LOOK_S = 1.0
_LOG_S = 0.1
"""For the engine's thread that writes its log: what went wrong is said there, and the exception says only that."""


def main() -> NoReturn:
    """Read the configuration from standard input, serve, say where, and end with standard input."""
    parent = os.getppid()
    # Ctrl-C in a terminal reaches the whole process group; the parent decides when this ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    configuration = json.loads(sys.stdin.readline())
    try:
        server = _serve(configuration)
    except Exception as error:  # noqa: BLE001 - whatever the engine raises is told to the parent
        time.sleep(_LOG_S)
        out.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n")
        os._exit(1)
    out.write(json.dumps({"address": server.listening_address}) + "\n")
    _end_with(parent)


def _end_with(parent: int) -> NoReturn:
    """Wait for the end of standard input, or for another parent.

    A process that the parent forked may hold the pipe open after the parent's death. Linux's parent-death signal
    would tell that too, but it already comes when the thread ends that started this process.
    """
    while os.getppid() == parent:
        readable, _, _ = select.select([0], [], [], _LOOK_S)
        if readable and not os.read(0, 4096):
            break
    # No clean-up: the engine's threads hold nothing that the system does not take back.
    os._exit(0)


def _serve(configuration: dict[str, Any]) -> Any:
    import xllamacpp  # noqa: PLC0415 - an extra, and slow to load

    params = xllamacpp.CommonParams()
    params.model.path = configuration["model"]
    params.model_alias = {configuration["name"]}
    params.hostnames = ["127.0.0.1"]
    params.port = configuration["port"]
    params.n_parallel = configuration["slots"]
    params.n_ctx = configuration["slots"] * configuration["context"]
    params.cpuparams.n_threads = configuration["threads"]
    params.use_jinja = True
    if configuration["embeddings"]:
        # The mean would be that of the last piece only, wherever the engine takes a text in pieces beside others.
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_LAST
    params.endpoint_metrics = True
    # A web page in a browser on this machine must read neither answers nor the prompts of others.
    params.cors_origins = ""
    params.cors_origins_explicit = True
    params.cors_credentials = False
    params.endpoint_slots = False
    params.ui = False
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
