"""A database is read, within its time and its rows, and nothing else is done to it or through it."""

import asyncio
import json
import random
import sqlite3
import time

import pytest

from aurora_swarm import Tool, errors
from aurora_swarm.tools.pool import ToolPool
from aurora_swarm.tools.refusal import RefusedError
from aurora_swarm.values.message import ToolCall

SECRET = "the salaries"


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("sql") / "made once.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(
            """
            CREATE TABLE genes (symbol TEXT PRIMARY KEY, length INTEGER, note BLOB);
            CREATE TABLE salaries (who TEXT, text TEXT);
            CREATE VIEW long AS SELECT symbol FROM genes WHERE length > 50;
            CREATE VIEW paid AS SELECT text FROM salaries;
            CREATE TRIGGER t AFTER INSERT ON genes BEGIN DELETE FROM salaries; END;
            """
        )
        connection.executemany("INSERT INTO genes VALUES (?, ?, ?)", [(f"G{i:03}", i, b"ab") for i in range(150)])
        connection.execute("INSERT INTO salaries VALUES ('x', ?)", [SECRET])
    connection.close()
    return path.read_bytes()


@pytest.fixture
def path(tmp_path, content):
    path = tmp_path / "a ?#%.db"
    path.write_bytes(content)
    return path


def ask(tool, query, *parameters):
    arguments = tool.validated({"query": query, "parameters": list(parameters)})
    return tool.function(**tool.call_arguments(arguments))


def rows(text):
    return json.loads(text.partition("\n")[0])["rows"]


def test_rows_come_as_json(path):
    text = ask(Tool.sql_query.on(f"sqlite:///{path}"), "SELECT symbol, length, note FROM genes WHERE length = ?", 7)
    assert text == '{"columns":["symbol","length","note"],"rows":[["G007",7,"[2 bytes]"]]}'


def test_the_model_is_told_the_tables(path):
    assert "genes(symbol TEXT, length INTEGER, note BLOB)" in Tool.sql_query.on(f"sqlite:///{path}").description
    limited = Tool.sql_query.on(f"sqlite:///{path}", tables=["genes"])
    assert "salaries" not in limited.description


def test_a_value_is_never_part_of_the_statement(path):
    tool = Tool.sql_query.on(f"sqlite:///{path}")
    assert rows(ask(tool, "SELECT symbol FROM genes WHERE symbol = ?", "' OR '1'='1")) == []
    assert rows(ask(tool, "SELECT ?", "'; DROP TABLE genes; --")) == [["'; DROP TABLE genes; --"]]


_NOT_READING = [
    "DELETE FROM genes", "UPDATE genes SET length = 0", "INSERT INTO genes VALUES ('x', 1, 2)", "DROP TABLE genes",
    "CREATE TABLE x (y)", "CREATE TEMP TABLE x (y)", "ALTER TABLE genes ADD x", "VACUUM", "VACUUM INTO 'stolen.db'",
    "REINDEX",
    "ANALYZE", "ATTACH 'stolen.db' AS x", "ATTACH 'file:x?mode=rwc' AS x", "DETACH main", "BEGIN", "BEGIN IMMEDIATE",
    "COMMIT", "SAVEPOINT x", "PRAGMA query_only = OFF", "PRAGMA writable_schema = ON", "PRAGMA user_version",
    "PRAGMA database_list", "PRAGMA journal_mode = DELETE", "PRAGMA wal_checkpoint", "EXPLAIN DELETE FROM genes",
    "SELECT load_extension('x')", "SELECT readfile('/etc/passwd')", "SELECT writefile('stolen', 'x')",
    "SELECT printf('%.*c', 1000000000, 'x')", "SELECT format('%.*c', 1000000000, 'x')", "SELECT fts3_tokenizer('x')",
    "SELECT edit('x')", "SELECT * FROM pragma_database_list", "SELECT * FROM fsdir('/')",
    "WITH x AS (SELECT 1) DELETE FROM genes", "REPLACE INTO genes VALUES ('x', 1, 2)",
    "CREATE VIRTUAL TABLE x USING fts5(y)",
    "SELECT 1; DELETE FROM genes", "SELECT 1; SELECT 2", "", ";", "-- nothing", "no sql", "SELECT",
    "SELECT * FROM nowhere",
    "SELECT ?", "SELECT :name", "SELECT '\x00", "RELEASE x", "DROP VIEW long", "CREATE INDEX i ON genes (length)",
    "INSERT INTO genes SELECT * FROM genes RETURNING *", "DELETE FROM genes RETURNING *",
]  # fmt: skip


@pytest.mark.parametrize("query", _NOT_READING)
def test_what_does_not_read_is_refused(path, query, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = path.read_bytes()
    with pytest.raises(RefusedError):
        ask(Tool.sql_query.on(f"sqlite:///{path}"), query)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


_AROUND = [
    "SELECT * FROM salaries", "SELECT * FROM SALARIES", 'SELECT * FROM "salaries"', "SELECT * FROM [salaries]",
    "SELECT * FROM main.salaries", "SELECT (SELECT text FROM salaries)",
    "SELECT 1 WHERE EXISTS (SELECT 1 FROM salaries)",
    "SELECT symbol FROM genes UNION SELECT text FROM salaries", "SELECT * FROM genes, salaries", "SELECT * FROM paid",
    "WITH s AS (SELECT * FROM salaries) SELECT * FROM s",
    "WITH genes AS (SELECT * FROM salaries) SELECT * FROM genes",
    "WITH paid AS (SELECT * FROM salaries) SELECT * FROM paid",
    "WITH long AS (SELECT text FROM salaries) SELECT * FROM long",
    "SELECT symbol FROM genes ORDER BY (SELECT text FROM salaries)", "SELECT count(*) FROM salaries",
    "SELECT 1 FROM salaries",
    "SELECT sql FROM sqlite_master", "SELECT sql FROM sqlite_schema",
    "SELECT name FROM pragma_table_info('salaries')",
    "SELECT * FROM salaries AS genes", "SELECT * FROM genes JOIN salaries AS long", "TABLE salaries",
    "SELECT rowid FROM salaries",
]  # fmt: skip


@pytest.mark.parametrize("query", _AROUND)
@pytest.mark.parametrize("granted", [["genes"], ["genes", "long"]])
def test_tables_that_were_not_granted_are_not_read(path, query, granted):
    with pytest.raises(RefusedError) as caught:
        ask(Tool.sql_query.on(f"sqlite:///{path}", tables=granted), query)
    assert SECRET not in str(caught.value)


def test_a_view_needs_the_tables_that_it_reads(path):
    assert rows(ask(Tool.sql_query.on(f"sqlite:///{path}", tables=["long", "genes"]), "SELECT * FROM long"))[0] == [
        "G051"
    ]
    with pytest.raises(RefusedError):
        ask(Tool.sql_query.on(f"sqlite:///{path}", tables=["long"]), "SELECT * FROM long")


@pytest.mark.parametrize(
    "query",
    [
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t",
        "SELECT count(*) FROM genes a, genes b, genes c, genes d, genes e, genes f",
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT n FROM t ORDER BY n DESC",
    ],
)
def test_a_query_ends_in_its_time(path, query):
    tool = Tool.sql_query.on(f"sqlite:///{path}", timeout=0.1)
    began = time.monotonic()
    with pytest.raises(errors.ToolFailedError, match=r"longer than 0.1 s"):
        ask(tool, query)
    assert time.monotonic() - began < 30  # it would take for ever


def test_rows_and_characters_are_bounded(path):
    tool = Tool.sql_query.on(f"sqlite:///{path}", max_rows=10)
    text = ask(tool, "SELECT symbol FROM genes")
    assert len(rows(text)) == 10
    assert text.endswith("[cut after 10 rows; there are more]")
    assert "cut" not in ask(tool, "SELECT symbol FROM genes LIMIT 10")
    assert len(ask(tool, "SELECT hex(zeroblob(4500)) FROM genes")) < tool.max_chars + 1000


@pytest.mark.parametrize("query", ["SELECT zeroblob(1000000000)", "SELECT hex(zeroblob(900000))"])
def test_no_value_takes_all_memory(path, query):
    with pytest.raises(RefusedError, match="too big"):
        ask(Tool.sql_query.on(f"sqlite:///{path}"), query)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "genes.db",
        "sqlite://",
        "sqlite:///",
        "mysql://u:pass-word@h/db",
        "postgresql://u:pass-word@h/db",
        "http://[",
    ],
)
def test_what_is_no_sqlite_database_is_refused_without_its_password(url):
    with pytest.raises(errors.ToolDefinitionError) as caught:
        Tool.sql_query.on(url)
    assert "pass-word" not in f"{caught.value!r} {caught.value} {caught.value.remedy} {caught.value.as_dict()}"


def test_a_file_that_is_no_database_and_a_table_that_is_not_there_are_refused(path, tmp_path):
    (tmp_path / "x.db").write_bytes(b"no database" * 1000)
    for url in (tmp_path / "x.db", tmp_path / "missing.db", tmp_path):
        with pytest.raises(errors.ToolDefinitionError, match="cannot be read"):
            Tool.sql_query.on(f"sqlite:///{url}")
    assert not (tmp_path / "missing.db").exists()
    with pytest.raises(errors.ToolDefinitionError, match="no table plants"):
        Tool.sql_query.on(f"sqlite:///{path}", tables=["plants"])


def test_without_a_database_it_can_be_named_but_not_used():
    with pytest.raises(errors.ToolDefinitionError, match="no database"):
        Tool.sql_query.determinant()


def test_a_changed_database_is_asked_again(path):
    tool = Tool.sql_query.on(f"sqlite:///{path}")
    wish = ToolCall("id", "sql_query", {"query": "SELECT count(*) FROM genes"})

    async def main():
        pool = ToolPool()
        answers = []
        for _ in range(2):
            await asyncio.sleep(0.03)  # so old that another change would be seen
            answers += [await pool.call(wish, {"sql_query": tool}) for _ in range(2)]
            with sqlite3.connect(path) as connection:
                connection.execute("DELETE FROM genes WHERE length = 3")
            connection.close()
        await pool.aclose()
        return answers

    stamp = tool.stamp()
    answers = asyncio.run(main())
    assert [a.executed for a in answers] == [True, False, True, False]
    assert [rows(a.text) for a in answers] == [[[150]], [[150]], [[149]], [[149]]]
    assert tool.stamp() != stamp


def test_statements_put_together_at_random_change_nothing(path, tmp_path):
    dice = random.Random(3)
    text = """SELECT * FROM genes salaries WHERE 1 ; -- DELETE UPDATE SET DROP TABLE INSERT INTO VALUES ( ) 'x' ATTACH
        AS PRAGMA = UNION ALL WITH RECURSIVE , /* */ " ' RETURNING sqlite_master BEGIN load_extension EXPLAIN"""
    words = text.split()
    tool = Tool.sql_query.on(f"sqlite:///{path}", tables=["genes"], timeout=0.5)
    before = path.read_bytes()
    for _ in range(3000):
        try:
            text = ask(tool, " ".join(dice.choices(words, k=dice.randint(1, 12))))
        except (RefusedError, errors.ToolFailedError) as error:
            text = str(error)
        assert SECRET not in text
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
