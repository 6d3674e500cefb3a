import os
import string
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm.errors import HostfileError, InputError, StorageError
from aurora_swarm.inputs.hostfile import parse_endpoint, parse_hostfile, parse_hostfile_text, write_hostfile
from aurora_swarm.values.endpoint import AgentEndpoint


def parse(text: str) -> list[AgentEndpoint]:
    return parse_hostfile_text(text, "fleet.txt")


def refusal(text: str) -> HostfileError:
    with pytest.raises(HostfileError) as caught:
        parse(text)
    return caught.value


@pytest.mark.parametrize(
    ("line", "endpoint"),
    [
        ("node1:8001", AgentEndpoint("node1", 8001)),
        ("node1", AgentEndpoint("node1", 8000)),
        ("  node1:8001  ", AgentEndpoint("node1", 8001)),
        ("node1:8001 role=critic rack=7", AgentEndpoint("node1", 8001, {"role": "critic", "rack": "7"})),
        ("node1:8001\trole=critic", AgentEndpoint("node1", 8001, {"role": "critic"})),
        ("node1\t8001\trole=critic\track=7", AgentEndpoint("node1", 8001, {"role": "critic", "rack": "7"})),
        ("node1 \t 8001  role=critic", AgentEndpoint("node1", 8001, {"role": "critic"})),
        ("node1\t8001", AgentEndpoint("node1", 8001)),
        ("node1\t", AgentEndpoint("node1", 8000)),
        ("10.0.0.7:9", AgentEndpoint("10.0.0.7", 9)),
        ("[::1]:8001", AgentEndpoint("::1", 8001)),
        ("[2001:db8::7]", AgentEndpoint("2001:db8::7", 8000)),
        ("[::1]\t8001", AgentEndpoint("::1", 8001)),
        ("2001:db8::7\t8001", AgentEndpoint("2001:db8::7", 8001)),
        ("http://node1:8001", AgentEndpoint("node1", 8001)),
        ("http://node1", AgentEndpoint("node1", 8000)),
        ("https://node1", AgentEndpoint("node1", 443, scheme="https")),
        ("HTTPS://node1/", AgentEndpoint("node1", 443, scheme="https")),
        ("https://[::1]:8443/team/a/ x=1", AgentEndpoint("::1", 8443, {"x": "1"}, "https", "/team/a")),
        ("http://node1:8001/v1", AgentEndpoint("node1", 8001)),
        ("http://node1:8001/team/v1/", AgentEndpoint("node1", 8001, path="/team")),
        ("http://node1\tx=1", AgentEndpoint("node1", 8000, {"x": "1"})),
        ("node1 empty=", AgentEndpoint("node1", tags={"empty": ""})),
        ("node1 q=a=b", AgentEndpoint("node1", tags={"q": "a=b"})),
        ("node1 colour=#fff", AgentEndpoint("node1", tags={"colour": "#fff"})),
        ("node1 owner=a@b.org # and a comment", AgentEndpoint("node1", tags={"owner": "a@b.org"})),
        ("node1\t# a comment", AgentEndpoint("node1")),
        ("gpu_3.cluster.local.:8000", AgentEndpoint("gpu_3.cluster.local.", 8000)),
    ],
)
def test_reads_every_form_of_a_line(line: str, endpoint: AgentEndpoint) -> None:
    assert parse(line) == [endpoint]


def test_keeps_the_order_and_passes_over_comments_blank_lines_bom_and_windows_line_ends() -> None:
    assert parse("\ufeff# fleet\r\n\r\nb:1\r\n   \r\n  # more\r\na:2 # the old one\r\n") == [
        AgentEndpoint("b", 1),
        AgentEndpoint("a", 2),
    ]


BAD_LINES = [
    ("node1:abc", 7, "port 'abc' is not a number", "1 to 65535"),
    ("node1:0", 7, "port '0' is out of range", "1 to 65535"),
    ("node1:65536", 7, "port '65536' is out of range", "1 to 65535"),
    ("node1:-1", 7, "port '-1' is out of range", "1 to 65535"),
    ("node1:" + "9" * 5000, 7, "is out of range", "1 to 65535"),
    ("node1:٣", 7, "is not a number", "1 to 65535"),
    ("node1:", 7, "the port is empty", "leave the colon out"),
    (":8000", 1, "the host is empty", "host:port"),
    ("http://:8000", 8, "the host is empty", "host:port"),
    ("node1:80 fast", 10, "'fast' is not a tag", "key=value"),
    ("node1:80 role=fast one", 20, "'one' is not a tag", "neither may hold spaces"),
    ("node1 8000", 7, "'8000' is not a tag", "colon"),
    ("node1 8000 extra", 7, "'8000' is not a tag", "colon"),
    ("node1:80 a=1 b=2 a=3", 18, "the tag 'a' is given twice", "keep one"),
    ("node1:80 =3", 10, "'=3' has no key", "key=value"),
    ("[::1", 1, "lacks its closing bracket", "[address]:port"),
    ("[::1]8000", 6, "'8000' after an address", "[address]:port"),
    ("[node1]:80", 2, "'node1' is not an IPv6 address", "brackets"),
    ("[fe80::1%eth0]:80", 2, "is not an IPv6 address", "%eth0"),
    ("fe80::1:8000", 1, "may be an address or an address with a port", "brackets"),
    ("ftp://node1:21", 1, "'ftp' is no scheme", "http:// or https://"),
    ("http://node1:80/x?key=1", 18, "a URL with a query", "base path"),
    ("http://node1:80/x#a", 18, "a URL with a fragment", "base path"),
    ("http://node1:80/a\\b", 18, "in a base path", "percent-encoded"),
    ("node1:80/base", 1, "has a path but no scheme", "http://node1:80/base"),
    ("node1:80 a=\x00", 12, "control character '\\x00'", "remove it"),
    ("node\x1b[31m:80", 5, "control character '\\x1b'", "remove it"),
    ("no_de!:80", 1, "'no_de!' is not a host", "letters, digits"),
    ("-node:80", 1, "'-node' is not a host", "letters, digits"),
    ("nöde:80", 1, "is not a host", "xn--"),
    ("node..b:80", 1, "is not a host", "letters, digits"),
    ("a." * 127 + "a:80", 1, "a host of 255 characters", "253"),
    ("8000", 1, "'8000' is not a host", "host:port"),
    ("10.0.0:80", 1, "'10.0.0' is not a host", "four numbers"),
    ("10.0.0.256:80", 1, "'10.0.0.256' is not a host", "four numbers"),
    ("node1\trole=critic", 7, "the port of 'node1' is missing", "host<TAB>port<TAB>key=value"),
    ("node1\t\trole=critic", 8, "the port of 'node1' is missing", "host<TAB>port<TAB>key=value"),
    ("node1\tabc\trole=critic", 7, "port 'abc' is not a number", "1 to 65535"),
    ('{"host": "node1"}', 1, "this is JSON", "one endpoint per line"),
    ("<html>", 1, "this is HTML or XML", "one endpoint per line"),
    ("node1:80 a=" + "x" * 9000, None, "9011 characters", "one endpoint per line"),
]


@pytest.mark.parametrize(("line", "column", "problem", "remedy"), BAD_LINES)
def test_a_bad_line_is_named_by_place_problem_and_remedy(
    line: str, column: int | None, problem: str, remedy: str
) -> None:
    error = refusal(f"good:1\n{line}\n")
    assert (error.source, error.line, error.column, error.others) == ("fleet.txt", 2, column, ())
    assert problem in error.problem
    assert remedy in error.remedy


def test_every_bad_line_is_listed_in_one_error() -> None:
    error = refusal("".join(f"{line}\n" for line, *_ in BAD_LINES))
    assert [e.line for e in (error, *error.others)] == list(range(1, len(BAD_LINES) + 1))
    assert str(error).count("\n") == len(BAD_LINES) - 1


def test_one_error_prints_where_and_what() -> None:
    assert str(refusal("a:1\nb:x\n")) == "fleet.txt:2:3: port 'x' is not a number"


@pytest.mark.parametrize(
    "line", ["http://user:hunter2@node1:80", "user:hunter2@node1:80", "ftp://u:hunter2@x", "u:hunter2@x\t80"]
)
def test_credentials_are_refused_and_never_repeated(line: str) -> None:
    error = refusal(line)
    assert "AURORA_SWARM_API_KEY" in error.remedy
    assert "hunter2" not in str(error.as_dict())


def test_a_quoted_word_never_repeats_credentials() -> None:
    assert "hunter2" not in str(refusal("node1 http://user:hunter2@node2").as_dict())


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("node1:80", "node1:80 role=x"),
        ("node1", "http://NODE1:8000/"),
        ("[::1]:80", "[0:0:0:0:0:0:0:1]:80"),
        ("http://a:1/x", "https://a:1/x/"),
    ],
)
def test_an_address_given_twice_names_the_first_line(first: str, second: str) -> None:
    error = refusal(f"# fleet\n{first}\nother:1\n{second}\n")
    assert error.line == 4
    assert "stands in line 2 already" in error.problem


def test_different_base_paths_behind_one_address_are_different_endpoints() -> None:
    assert len(parse("http://gate:1/a\nhttp://gate:1/b\n")) == 2


@pytest.mark.parametrize("text", ["", "\ufeff", "# nothing\n\n   \n"])
def test_a_file_without_endpoints_is_refused(text: str) -> None:
    error = refusal(text)
    assert (error.place, error.problem) == ("fleet.txt", "names no endpoint")
    assert "host:port" in error.remedy


@pytest.mark.parametrize(
    ("text", "kind"),
    [('{\n  "a": 1,\n  "b": 2\n}\n', "JSON"), ('[\n {"host": "a"}\n]', "JSON"), ("\n<!doctype html>\n<p>\n", "HTML")],
)
def test_a_file_that_is_something_else_gets_one_error(text: str, kind: str) -> None:
    error = refusal(text)
    assert kind in error.problem
    assert error.others == ()


def test_bytes_that_are_not_utf8_are_listed_among_the_other_bad_lines(tmp_path: Path) -> None:
    path = tmp_path / "fleet.txt"
    path.write_bytes(b"a:1\nb:x\nc:1 role=\xff\n")
    with pytest.raises(HostfileError) as caught:
        parse_hostfile(path)
    assert [(e.line, e.problem) for e in (caught.value, *caught.value.others)] == [
        (2, "port 'x' is not a number"),
        (3, "bytes that are not UTF-8"),
    ]


def test_a_utf16_file_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "fleet.txt"
    path.write_text("a:1\n", "utf-16")
    with pytest.raises(HostfileError, match="UTF-16") as caught:
        parse_hostfile(path)
    assert "iconv" in caught.value.remedy


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostfileError, match="no such file") as caught:
        parse_hostfile(tmp_path / "none.txt")
    assert caught.value.source == str(tmp_path / "none.txt")
    assert caught.value.remedy


def test_a_folder_is_no_hostfile(tmp_path: Path) -> None:
    with pytest.raises(HostfileError, match="a folder, not a file"):
        parse_hostfile(tmp_path)


@pytest.mark.platform
@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fleet.txt"
    path.touch(0o000)
    with pytest.raises(HostfileError, match="permission denied"):
        parse_hostfile(path)


def test_a_path_that_is_none_is_refused() -> None:
    with pytest.raises(HostfileError, match="not a path"):
        parse_hostfile("a\0b")


def test_a_huge_file_is_refused_before_it_fills_the_memory() -> None:
    with pytest.raises(HostfileError, match="larger than 16 MiB"):
        parse_hostfile("/dev/zero")


@pytest.mark.parametrize(
    ("text", "url"),
    [("node1", "http://node1:8000"), ("[::1]:9", "http://[::1]:9"), ("https://x/base/", "https://x:443/base")],
)
def test_parse_endpoint_reads_one_address(text: str, url: str) -> None:
    assert parse_endpoint(text).url == url


@pytest.mark.parametrize("text", ["", "  ", "a b", "a:1 role=x", "a:1\nb:2", "http://u:p@h", "x" * 10_000, "\ud800"])
def test_parse_endpoint_refuses_anything_else(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_endpoint(text)
    assert caught.value.remedy


words = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=" "), max_size=12)
keys = words.filter(lambda word: word and "=" not in word and not word.startswith("#"))
hosts = st.one_of(
    st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,8}(\.[a-z][a-z0-9-]{0,5}[a-z0-9]){0,3}", fullmatch=True),
    st.ip_addresses().map(str).filter(lambda address: "%" not in address),
)
paths = st.lists(st.text(string.ascii_letters + string.digits + "._~-", min_size=1, max_size=6), max_size=3).map(
    lambda segments: "".join(f"/{segment}" for segment in segments if segment != "v1")
)
endpoints = st.builds(
    AgentEndpoint,
    host=hosts,
    port=st.integers(1, 65535),
    tags=st.dictionaries(keys, words, max_size=3),
    scheme=st.sampled_from(["http", "https"]),
    path=paths,
)


@given(st.lists(endpoints, min_size=1, max_size=6, unique_by=lambda e: (e.host.lower(), e.port, e.path)))
def test_what_is_written_is_read_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, fleet: list[AgentEndpoint]
) -> None:
    path = tmp_path_factory.mktemp("fleet") / "fleet.txt"
    write_hostfile(path, fleet)
    assert parse_hostfile(path) == fleet


@pytest.mark.parametrize(
    "endpoint",
    [
        AgentEndpoint("a", tags={"role": "two words"}),
        AgentEndpoint("a", tags={"x": "1 y=2"}),
        AgentEndpoint("a", tags={"#x": "1"}),
        AgentEndpoint("a", tags={"x": "1 # comment"}),
        AgentEndpoint("a", tags={"x": "1\nb:2"}),
        AgentEndpoint("a", tags={"": "1"}),
        AgentEndpoint("a", tags={"x": "\udcff"}),
        AgentEndpoint("a b"),
        AgentEndpoint(""),
        AgentEndpoint("#a"),
        AgentEndpoint("a", 0),
        AgentEndpoint("a", path="/x/"),
        AgentEndpoint("a", path="x"),
        AgentEndpoint("a", path="/v1"),
    ],
)
def test_an_endpoint_that_would_not_be_read_back_is_not_written(tmp_path: Path, endpoint: AgentEndpoint) -> None:
    path = tmp_path / "fleet.txt"
    path.write_text("old:1\n")
    with pytest.raises(HostfileError) as caught:
        write_hostfile(path, [AgentEndpoint("good"), endpoint])
    assert caught.value.field == "endpoints[1]"
    assert path.read_text() == "old:1\n"


@pytest.mark.parametrize("fleet", [[], [AgentEndpoint("a"), AgentEndpoint("A")]])
def test_a_fleet_that_could_not_be_read_back_is_not_written(tmp_path: Path, fleet: list[AgentEndpoint]) -> None:
    with pytest.raises(HostfileError, match="not written"):
        write_hostfile(tmp_path / "fleet.txt", fleet)
    assert list(tmp_path.iterdir()) == []


def test_writing_replaces_the_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "fleet.txt"
    path.write_text("old:1\n")
    write_hostfile(path, [AgentEndpoint("new", 2)])
    assert path.read_text() == "new:2\n"
    assert list(tmp_path.iterdir()) == [path]


def test_writing_through_a_link_keeps_the_link(tmp_path: Path) -> None:
    link = tmp_path / "link.txt"
    link.symlink_to(tmp_path / "real.txt")
    write_hostfile(link, [AgentEndpoint("new", 2)])
    assert link.is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new:2\n"


def test_a_failed_rename_leaves_the_old_file_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "fleet.txt"
    path.write_text("old:1\n")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        write_hostfile(path, [AgentEndpoint("new", 2)])
    assert path.read_text() == "old:1\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_does_not_exist_cannot_be_written_to(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        write_hostfile(tmp_path / "none" / "fleet.txt", [AgentEndpoint("a")])
    assert caught.value.path == str(tmp_path / "none" / "fleet.txt")


def outcome_of(text: str) -> list[AgentEndpoint] | HostfileError:
    try:
        return parse(text)
    except HostfileError as error:
        return error


@given(st.one_of(st.text(), st.text("ab01:.[]/\t #=@?%-\n\r")))
def test_any_text_is_a_fleet_or_an_error_with_a_remedy(text: str) -> None:
    outcome = outcome_of(text)
    assert outcome.remedy if isinstance(outcome, HostfileError) else len(outcome) > 0


@given(st.binary())
def test_any_bytes_are_a_fleet_or_a_hostfile_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "fleet.txt"
    path.write_bytes(data)
    with suppress(HostfileError):
        assert parse_hostfile(path)
