"""The console blocks of the pages about the command line are true.

Commands run in order, in one folder per page, in which the page's own files (blocks with a title) have been written and
`agents.hostfile` names three loopback servers. Every line that a block shows must be in what the command says; numbers
may differ, and `...` stands for anything. A block below `<!-- not run: reason -->` is not run; one below
`<!-- exit code: N -->` ends so, and all others with 0.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from aurora_swarm.testing import answers
from aurora_swarm.testing.faulty_server import OK, Answer, Request

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
PAGES = ["tutorial/your-own-list.md", "how-to/run-a-specification.md", "how-to/cost-of-a-run.md"]
BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>not run: [^\n]+|exit code: \d+) -->\n)?"
    r'```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$',
    re.MULTILINE | re.DOTALL,
)


class Step(NamedTuple):
    """One command of a page.

    Args:
        command: As the page has it, on one line.
        shown: Lines that the page shows below it.
        code: How it must end.
    """

    command: str
    shown: list[str]
    code: int


def steps_of(text: str, code: int) -> list[Step]:
    """The commands of one block, each with what is shown below it."""
    steps: list[Step] = []
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            steps.append(Step(line[2:], [], code))
        else:
            steps[-1].shown.append(line)
    return steps


def as_pattern(shown: str) -> str:
    """A shown line as a regular expression: any numbers will do, and `...` is anything."""
    parts = [re.sub(r"\d+(?:[.,]\d+)*", r"\\d+(?:[.,]\\d+)*", re.escape(part)) for part in shown.strip().split("...")]
    return ".*".join(part.replace(r"\\d", r"\d").replace(r"\,", ",") for part in parts)


def instance_of(schema: dict[str, Any]) -> Any:
    """Some value that a simple schema allows; of several the last."""
    for choice in ("enum", "anyOf"):
        if choice in schema:
            return schema["enum"][0] if choice == "enum" else instance_of(schema["anyOf"][0])
    if "const" in schema:
        return schema["const"]
    if schema.get("type") == "object":
        return {name: instance_of(part) for name, part in schema.get("properties", {}).items()}
    return {"array": [], "integer": 1, "number": 1.0, "boolean": True, "null": None}.get(schema.get("type", ""), "text")


def model(request: Request) -> Answer:
    """Calls its tool where it may, then answers by the schema that it is given."""
    asked = request.json().get("response_format") if request.method == "POST" else None
    if not asked:
        return OK
    text = json.dumps(instance_of(asked["json_schema"]["schema"]))
    if request.json().get("stream"):
        return Answer(answers.chat_stream([text]), headers={"content-type": "text/event-stream"})
    return Answer(answers.encode(answers.chat(text)))


def run(step: Step) -> str:
    """What a command says, on both streams."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AURORA_SWARM_")}
    scripts = Path(sys.executable).parent
    done = subprocess.run(
        step.command,
        shell=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**environ, "PATH": f"{scripts}:{os.environ['PATH']}"},
        timeout=60,
        check=False,
    )
    assert done.returncode == step.code, f"{step.command}\n{done.stdout}"
    return done.stdout


@pytest.mark.parametrize("page", PAGES)
def test_what_the_page_shows_is_what_happens(
    page: str, serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("agents.hostfile").write_text("".join(f"{serve(model).url}\n" for _ in range(3)))
    ran = 0
    for block in BLOCK.finditer((DOCS / page).read_text("utf-8")):
        if block["title"]:
            path = Path(block["title"])
            path.parent.mkdir(exist_ok=True)
            path.write_text(block["text"])
        elif block["language"] == "console" and not (block["mark"] or "").startswith("not run"):
            code = int((block["mark"] or "exit code: 0").removeprefix("exit code: "))
            for step in steps_of(block["text"], code):
                said = run(step)
                ran += 1
                for shown in step.shown:
                    assert re.search(as_pattern(shown), said), f"{step.command}\n{said}\ndoes not say {shown}"
    assert ran >= 1


def test_a_line_is_found_whatever_its_numbers() -> None:
    assert re.search(as_pattern("finished: 6 inputs in 2.2 s"), "finished: 6 inputs in 0.1 s\n")
    assert re.search(as_pattern('{"a":"...",...}'), '{"a":"x","b":1}')
    assert not re.search(as_pattern("  ok      6"), "  failed  6")
