"""What stands in a cell is what the server is asked about, character by character."""

import csv

from aurora_swarm.cli import main

CELLS = [
    'He said "fine".',
    "two\nlines\r\nand three",
    "braces {text} {{x}} } {",
    "joy 😀 🧬 \u202eright to left",
    "comma, 'quote'; tab\there",
    " leading and trailing ",
    "%s %(x)s ${HOME} \\n \\",
    "x" * 100_000,
]


def test_cells_arrive_unchanged(tmp_path, serve):
    server = serve()
    with (tmp_path / "in.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text"])
        writer.writerows([cell] for cell in CELLS)
    out = tmp_path / "out.jsonl"
    command = ["map", "In one word, the sentiment of: {text}", "--input", str(tmp_path / "in.csv")]
    assert main([*command, "--backend", server.url, "--output", str(out), "--quiet"]) == 0
    asked = [r.json()["messages"][-1]["content"] for r in server.requests if r.method == "POST"]
    assert sorted(asked) == sorted(f"In one word, the sentiment of: {cell}" for cell in CELLS)
    assert len(out.read_text().splitlines()) == len(CELLS)
