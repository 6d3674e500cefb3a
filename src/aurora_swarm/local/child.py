"""The child process: serves one model until its parent is gone. Run as ``python -m aurora_swarm.local.child``.

The parent holds the other end of standard input: when it closes, by will or by death, this process ends at once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any, NoReturn


def main() -> NoReturn:
    """Read the configuration from standard input, serve, say where, and end with standard input."""
    # Ctrl-C in a terminal reaches the whole process group; the parent decides when this ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    configuration = json.loads(sys.stdin.readline())
    try:
        server = _serve(configuration)
    except Exception as error:  # noqa: BLE001 - whatever the engine raises is told to the parent
        out.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n")
        os._exit(1)
    out.write(json.dumps({"address": server.listening_address}) + "\n")
    while sys.stdin.read(4096):
        pass
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
    params.endpoint_metrics = True
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
