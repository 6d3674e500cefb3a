"""Every Python block of the README and the documentation runs, in order and per page.

A block may await at top level. It finds `agents.hostfile` in the current folder, which names three loopback servers
that repeat what they are asked, or answer by the schema that they are given. A block that cannot run stands below
`<!-- not run: reason -->`.
"""

from __future__ import annotations

import ast
import inspect
import re
import types
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from aurora_swarm.testing import answers
from aurora_swarm.testing.faulty_server import OK, Answer, FaultyServer, Request

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"^(?P<skip><!-- not run: [^\n]+ -->\n\s*)?```python[^\n]*\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
TAGS = ("role=critic", "role=author", "role=author")


class Block(NamedTuple):
    line: int
    code: str


def blocks_of(page: Path) -> list[Block]:
    """The blocks that run, each with the line on which its code starts."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(text.count("\n", 0, found.start("code")), found["code"])
        for found in FENCE.finditer(text)
        if not found["skip"]
    ]


def instance_of(schema: dict[str, Any], root: dict[str, Any]) -> Any:
    """Some value that a simple schema allows."""
    if "$ref" in schema:
        return instance_of(root["$defs"][schema["$ref"].rsplit("/", 1)[-1]], root)
    for choice in ("enum", "anyOf"):
        if choice in schema:
            first = schema[choice][0]
            return first if choice == "enum" else instance_of(first, root)
    if schema.get("type") == "object":
        return {name: instance_of(each, root) for name, each in schema.get("properties", {}).items()}
    return {"array": [], "integer": 1, "number": 1.0, "boolean": True, "null": None}.get(schema.get("type", ""), "text")


def answer(request: Request) -> Answer:
    """As a model would that always keeps to the schema, where there is one."""
    asked = request.json().get("response_format") if request.method == "POST" else None
    if not asked:
        return OK
    schema = asked["json_schema"]["schema"]
    text = answers.encode(instance_of(schema, schema)).decode()
    return Answer(answers.encode(answers.chat(text)))


def failures_in(namespace: dict[str, Any]) -> Iterator[object]:
    """Errors that blocks have left in lists of responses or results without looking at them."""
    for value in namespace.values():
        if isinstance(value, list):
            yield from (error for each in value if (error := getattr(each, "error", None)) is not None)


async def run(block: Block, page: Path, namespace: dict[str, Any]) -> None:
    """Run one block; tracebacks name the page and its line."""
    code = compile("\n" * block.line + block.code, str(page), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if code.co_flags & inspect.CO_COROUTINE:
        await types.FunctionType(code, namespace)()
    else:
        exec(code, namespace)


@pytest.mark.parametrize(
    "page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES if blocks_of(page)]
)
async def test_the_blocks_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "page"}
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(FaultyServer(answer)) for _ in TAGS]
        lines = [
            f"{server.endpoint.host}:{server.endpoint.port} {tag}" for server, tag in zip(servers, TAGS, strict=True)
        ]
        Path("agents.hostfile").write_text("\n".join(lines), encoding="utf-8")
        monkeypatch.setenv("AURORA_SWARM_HOSTFILE", "agents.hostfile")
        monkeypatch.setenv("AURORA_SWARM_SEARCH_URL", f"{servers[0].endpoint.url}/search?q={{query}}")
        for block in blocks_of(page):
            await run(block, page, namespace)
        assert list(failures_in(namespace)) == []


def test_the_pages_that_promise_examples_have_them() -> None:
    assert len(blocks_of(ROOT / "README.md")) >= 2
    assert len(blocks_of(ROOT / "docs" / "tutorial" / "first-run.md")) >= 1
