"""The contract's fleet snippet, as the documentation prints it, on two servers of the embedded model."""

import re
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest

from aurora_swarm import EmbeddingPool, open_pool, write_hostfile
from aurora_swarm.aggregators import semantic_groups
from aurora_swarm.local.open import configure
from aurora_swarm.local.server import start_servers

from .test_pages import ROOT, Block, blocks_of, run

pytestmark = pytest.mark.local_model

PAGE = ROOT / "docs" / "reference" / "by-example.md"
MODEL = "meta-llama/Llama-3.1-70B-Instruct"
"""As the snippet names its model; here the embedded one goes by that name."""


async def run_the_snippet(prompts: int, folder: Path) -> dict[str, object]:
    """Runs the page's block on two embedded servers, with so many prompts in place of ten thousand."""
    (block,) = [block for block in blocks_of(PAGE) if "broadcast_and_reduce(" in block.code]
    assert "range(10000)" in block.code
    code = block.code.replace("range(10000)", f"range({prompts})")
    namespace: dict[str, object] = {"prompts": ["What is a gene?", "What is a protein?"]}
    async with AsyncExitStack() as stack:
        config = await configure(None, None, print, slots=8)
        servers = await start_servers([msgspec.structs.replace(config, name=MODEL)] * 2, stack)
        write_hostfile(folder / "agents.hostfile", [server.endpoint for server in servers])
        await run(Block(block.line, code), PAGE, namespace)
    return namespace


async def test_the_fleet_of_the_contract_runs_on_the_embedded_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AURORA_SWARM_MAX_TOKENS", "8")
    found = await run_the_snippet(24, tmp_path)
    assert found["response"].success
    assert found["response"].text
    assert found["result"].success, found["result"].error
    assert (found["result"].n_ok, found["result"].missing) == (2, ())
    assert len(found["responses"]) == 24
    assert all(response.success for response in found["responses"])
    assert 0 < found["confidence"] <= 1
    assert re.search(r"\w", capsys.readouterr().out)


@pytest.mark.chaos
async def test_the_fleet_of_the_contract_runs_unchanged_on_the_embedded_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AURORA_SWARM_MAX_TOKENS", "1")
    found = await run_the_snippet(10_000, tmp_path)
    assert len(found["responses"]) == 10_000
    assert all(response.success for response in found["responses"])


async def test_the_embedded_model_makes_vectors_and_goes_on_answering():
    texts = ["The pump is broken.", "Photosynthesis needs light and water.", "The pump is broken."]
    async with open_pool("local://?embeddings=1&slots=2") as fleet, EmbeddingPool(fleet.endpoints) as pool:
        responses = await pool.embed_all(texts)
        alone = await pool.embed_one(0, texts[1])
        answer = await fleet.post(0, "Hello?", 4)
    assert all(response.success for response in responses)
    vectors = [response.embedding for response in responses]
    assert {len(vector) for vector in vectors} == {576}
    assert semantic_groups([*vectors, alone.embedding], 0.95) == [[0, 2], [1, 3]]
    assert answer.success
