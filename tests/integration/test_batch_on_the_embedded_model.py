"""The contract's batch snippet, and a table with everything that breaks quoting, on the real model."""

import csv
import json

import pytest
from pydantic import BaseModel, Field

from aurora_swarm import BatchAgent, Tool
from aurora_swarm.cli import main

pytestmark = pytest.mark.local_model


class PaperSummary(BaseModel):
    benchmark_name: str | None = Field(max_length=30)
    primary_metric: str = Field(max_length=30)
    models_tested: list[str] = Field(max_length=2)
    summary: str = Field(max_length=60)


def test_the_batch_of_the_contract_gives_validated_instances(tmp_path):
    (tmp_path / "notes.txt").write_text("Foo is a benchmark of reasoning.")
    heard = []
    results = BatchAgent.run_sync(
        system_prompt="You are a precise scientific summarizer.",
        task="Extract benchmark info from this paper:\n\n{paper_text}",
        inputs=[{"paper_text": "We test Baz on Foo. Accuracy is 93 %."}, {"paper_text": "Bar is a new benchmark."}],
        tools=[Tool.read_file.beneath(tmp_path)],
        output_schema=PaperSummary,
        backend="local://",
        max_inflight=2,
        max_turns=2,
        max_retries=2,
        temperature=0,
        max_tokens=300,
        on_result=lambda r: heard.append(r.index),
    )
    assert [r.error for r in results] == [None, None]
    assert all(isinstance(r.output, PaperSummary) for r in results)
    assert sorted(heard) == [0, 1]
    assert all(r.usage.completion_tokens > 0 for r in results)


def test_every_row_of_a_table_full_of_quotes_newlines_braces_and_emoji_is_answered(tmp_path, monkeypatch, capfd):
    cells = ['He said "fine".', "two\nlines", "braces {text} {{x}} }", "joy 😀 🧬 \u202eright", "comma, 'quote'", " "]
    with (tmp_path / "in.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text"])
        writer.writerows(enumerate(cells))
    schema = {"type": "object", "properties": {"sentiment": {"enum": ["good", "bad"]}}, "required": ["sentiment"]}
    (tmp_path / "s.json").write_text(json.dumps(schema))
    monkeypatch.chdir(tmp_path)
    command = ["map", "In one word, the sentiment of: {text}", "--input", "in.csv", "--schema", "s.json"]
    code = main([*command, "--backend", "local://", "--output", "out.jsonl", "--quiet"])
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert code == 0, capfd.readouterr().err
    assert [row["index"] for row in rows] == list(range(len(cells)))
    assert all(row["output"]["sentiment"] in {"good", "bad"} for row in rows)
