"""Files are read beneath a root, and nowhere else."""

import itertools
import os
import socket
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm import Tool, errors
from aurora_swarm.tools.beneath import RefusedPathError
from aurora_swarm.tools.files import list_dir, read_file

SECRET = "the secret"


@pytest.fixture
def tree(tmp_path):
    """A root with files, and a secret beside it that every kind of link leads to."""
    root = tmp_path / "root"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "a.txt").write_text("alpha")
    (root / "sub" / "b.txt").write_text("beta")
    (root / "sub" / "deep" / "c.txt").write_text("gamma")
    (tmp_path / "secret.txt").write_text(SECRET)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text(SECRET)
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    (root / "relative.txt").symlink_to("../secret.txt")
    (root / "folder").symlink_to(tmp_path / "outside")
    (root / "sub" / "up").symlink_to("..")
    (root / "sub" / "way-up").symlink_to("../..")
    (root / "loop").symlink_to("loop")
    (root / "root-of-all").symlink_to("/")
    os.mkfifo(root / "fifo")
    return root


def read(root, path, chars=1000):
    return read_file(path, root, chars)


@pytest.mark.parametrize("path", ["a.txt", "./a.txt", "sub/b.txt", "sub//b.txt", "sub/./deep/c.txt"])
def test_what_is_beneath_the_root_is_read(tree, path):
    assert read(tree, path) in {"alpha", "beta", "gamma"}


def test_an_absolute_path_beneath_the_root_is_read(tree):
    assert read(tree, str(tree / "sub" / "b.txt")) == "beta"


def _payloads():
    ups = [
        "..",
        "../..",
        "../../..",
        "....//..",
        "..;/..",
        "%2e%2e",
        "%2e%2e%2f..",
        "..%2f..",
        "..\\..",
        "\u2024\u2024",
    ]
    ends = ["secret.txt", "outside/secret.txt", "root/../secret.txt", "etc/passwd", "./secret.txt", "secret.txt/."]
    starts = ["", "./", "sub/", "sub/../", "sub/deep/../../", "a.txt/", "sub/up/", "sub/way-up/", "folder/", "/"]
    yield from (f"{start}{up}/{end}" for start, up, end in itertools.product(starts, ups, ends))
    yield from (f"{link}/{end}" for link in ("folder", "sub/way-up", "root-of-all", "sub/up") for end in ends)
    yield from ("link.txt", "relative.txt", "loop", "loop/x", "fifo", "sub", ".", "", "/", "/etc/passwd", "~/x")
    yield from ("/proc/self/environ", "/proc/self/root/etc/passwd", "/dev/zero", "/dev/stdin", "file:///etc/passwd")
    yield from ("a.txt\0.png", "\0", "secret.txt\ud800", "x" * 5000, "x/" * 3000, "sub/..", "sub/../..", "a.txt/..")


def test_nothing_outside_is_ever_read(tree, tmp_path):
    payloads = [*_payloads(), str(tmp_path / "secret.txt"), str(tree / ".." / "secret.txt"), f"{tree}/../secret.txt"]
    assert len(payloads) >= 500
    for payload in payloads:
        with pytest.raises(RefusedPathError):
            read(tree, payload)


def test_a_socket_and_a_device_are_refused(tree, monkeypatch):
    monkeypatch.chdir(tree)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("sock")
        with pytest.raises(RefusedPathError):
            read(tree, "sock")


def test_a_folder_that_becomes_a_link_is_not_followed(tree, tmp_path):
    (tree / "sub" / "b.txt").unlink()
    (tree / "sub" / "deep" / "c.txt").unlink()
    for name in ("deep", "up", "way-up"):
        target = tree / "sub" / name
        target.rmdir() if target.is_dir() and not target.is_symlink() else target.unlink()
    (tree / "sub").rmdir()
    (tree / "sub").symlink_to(tmp_path / "outside")
    with pytest.raises(RefusedPathError):
        read(tree, "sub/secret.txt")


def test_a_long_file_is_cut_and_says_so(tree):
    (tree / "long.txt").write_text("ä" * 5000)
    text = read(tree, "long.txt", 700)
    assert text == "ä" * 700 + "\n[cut after 700 characters; the file has 10000 bytes]"


def test_a_file_of_exactly_the_limit_is_whole(tree):
    (tree / "exact.txt").write_text("x" * 700)
    assert read(tree, "exact.txt", 700) == "x" * 700


def test_bytes_that_are_no_text_are_replaced(tree):
    (tree / "binary").write_bytes(b"a\xff\x00b")
    assert read(tree, "binary") == "a�\x00b\n[not UTF-8: unreadable bytes are shown as �]"


@given(st.text("aä€😀\n", max_size=60), st.integers(1, 70))
def test_a_cut_never_falls_within_a_character(text, chars):
    with tempfile.TemporaryDirectory() as root:
        Path(root, "f").write_text(text, newline="")
        assert read_file("f", Path(root), chars).partition("\n[cut after ")[0] == text[:chars]


def test_swapping_a_folder_for_a_link_while_it_is_read_leads_nowhere(tree, tmp_path):
    swapping, outside = tree / "swap", tmp_path / "outside"
    spare, link = tree / "spare", tree / "away"
    swapping.mkdir()
    (swapping / "secret.txt").write_text("harmless")
    link.symlink_to(outside)
    stop = threading.Event()

    def swap():
        while not stop.is_set():
            swapping.rename(spare)
            link.rename(swapping)
            swapping.rename(link)
            spare.rename(swapping)

    thread = threading.Thread(target=swap)
    thread.start()
    seen = set()
    try:
        for attempt in range(300_000):
            try:
                seen.add(read(tree, "swap/secret.txt"))
            except RefusedPathError:
                seen.add("refused")
            if attempt >= 3000 and len(seen) > 1:  # on a busy machine the threads take long turns
                break
    finally:
        stop.set()
        thread.join()
    assert seen == {"harmless", "refused"}


def test_a_folder_lists_files_and_folders_but_no_links(tree):
    assert list_dir(tree, 0).split("\n") == ["a.txt", "sub/"]
    assert list_dir(tree, 0, "sub") == "b.txt\ndeep/"
    with pytest.raises(RefusedPathError):
        list_dir(tree, 0, "folder")


def test_the_tool_is_held_to_its_root_and_grants(tree):
    tool = Tool.read_file.beneath(tree, max_chars=3).limit(path="{path}").bind({"path": "a.txt"})
    assert tool.parameters["properties"]["path"]["enum"] == ["a.txt"]
    assert tool.function(**tool.call_arguments({"path": "a.txt"})).startswith("alp\n[cut")


def test_a_changed_file_has_another_stamp(tree):
    tool = Tool.read_file.beneath(tree).limit(path=["a.txt"])
    before = tool.stamp()
    assert tool.stamp() == before
    (tree / "a.txt").write_text("other")
    assert tool.stamp() != before


def test_a_root_that_is_no_folder_is_refused(tree):
    with pytest.raises(errors.ToolDefinitionError, match="no folder"):
        Tool.read_file.beneath(tree / "a.txt")
