"""What a specification says of a tool is the tool, or an error that names the entry."""

import sqlite3
from pathlib import Path

import pytest

from aurora_swarm import errors
from aurora_swarm.cli.toolbox import tools_of
from aurora_swarm.tools.web.targets import RefusedUrlError, target_of


def made(entry, spec="spec.yaml"):
    (tool,) = tools_of([entry], Path(spec))
    return tool


@pytest.mark.parametrize("name", ["read_file", "list_dir", "http_get", "web_search"])
def test_a_name_alone_is_enough(name):
    assert made(name).name == name


def test_a_file_tool_reads_beneath_its_root(tmp_path):
    (tmp_path / "data").mkdir()
    tool = made(
        {"name": "read_file", "root": "data", "max_chars": 7, "grants": {"path": ["a"]}}, tmp_path / "spec.yaml"
    )
    assert (tool.root, tool.max_chars) == (tmp_path / "data", 7)
    assert tool.parameters["properties"]["path"]["enum"] == ["a"]


def test_http_get_reaches_what_it_says():
    tool = made({"name": "http_get", "allow": ["10.0.0.5:9000"], "only": ["wiki.example"], "max_tokens": 500})
    assert tool.max_tokens == 500
    guard = tool._guard
    guard.check(target_of("http://10.0.0.5:9000/"))
    guard.check(target_of("https://wiki.example/"))
    with pytest.raises(RefusedUrlError):
        guard.check(target_of("https://other.example/"))


def test_web_search_asks_whom_it_says():
    entry = {
        "name": "web_search",
        "endpoint": "http://10.0.0.5/?q={query}",
        "results": 3,
        "rate_limit": 2,
        "max_chars": 900,
    }
    tool = made(entry)
    assert (tool._provider.url, tool._results, tool.rate_limit, tool.max_chars) == (entry["endpoint"], 3, 2, 900)
    assert made({"name": "web_search", "provider": "serpapi"})._provider.name == "SerpAPI"


def test_sql_query_reads_the_database_beside_the_specification(tmp_path):
    connection = sqlite3.connect(tmp_path / "genes.db")
    connection.execute("CREATE TABLE genes (symbol TEXT)")
    connection.close()
    for database in ("genes.db", "sqlite:///genes.db", f"sqlite:///{tmp_path}/genes.db"):
        entry = {"name": "sql_query", "database": database, "tables": ["genes"], "called": "genes", "max_chars": 99}
        tool = made(entry, tmp_path / "spec.yaml")
        assert (tool.name, tool.max_chars) == ("genes", 99)
        assert "genes(symbol TEXT)" in tool.description
        assert tool.function(**tool.call_arguments(tool.validated({"query": "SELECT 1"}))).endswith('"rows":[[1]]}')


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("read_fil", "no tool 'read_fil'"),
        ({"name": "python"}, "no tool 'python'"),
        ({"root": "."}, "no name"),
        ({"name": 3}, "no tool 3"),
        ({"name": "http_get", "root": "."}, "root"),
        ({"name": "read_file", "root": "no such folder"}, "no folder"),
        ({"name": "read_file", "max_chars": 0}, "max_chars is 0"),
        ({"name": "read_file", "max_chars": "many"}, "max_chars"),
        ({"name": "read_file", "grants": {"file": ["a"]}}, "no parameter file"),
        ({"name": "http_get", "allow": ["http://x"]}, "is no host"),
        ({"name": "web_search", "endpoint": "http://x/"}, "must hold {query}"),
        ({"name": "web_search", "endpoint": "http://x/?q={query}", "provider": "brave"}, "an endpoint and a provider"),
        ({"name": "web_search", "provider": "bing"}, "no provider 'bing'"),
        ({"name": "web_search", "results": 0}, "results is 0"),
        ({"name": "web_search", "rate_limit": 0}, "rate_limit is 0"),
        ("sql_query", "no database"),
        ({"name": "sql_query", "database": "missing.db"}, "cannot be read"),
        ({"name": "sql_query", "database": "mysql://u:pass-word@h/db"}, "reads no mysql database"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(entry, said, tmp_path):
    with pytest.raises(errors.SpecError) as caught:
        made(entry, tmp_path / "spec.yaml")
    assert said in caught.value.problem
    assert caught.value.field == "tools[0]"
    assert caught.value.remedy
    assert "pass-word" not in f"{caught.value} {caught.value.remedy}"
