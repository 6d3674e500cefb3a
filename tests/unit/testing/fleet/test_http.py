"""Requests out of bytes, however they are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm.testing.fleet.http import MOST_HEAD, MalformedError, answer, chunk, expects_continue, take


def raw(body: bytes = b"", path: bytes = b"/generate", more: bytes = b"") -> bytes:
    return b"POST %b HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (path, more, len(body), body)


@given(body=st.binary(max_size=50), cut=st.integers(0, 200))
def test_a_request_is_taken_when_it_is_whole_and_not_before(body, cut):
    whole = raw(body)
    part = whole[:cut]
    found = take(bytearray(part))
    assert (found is not None) == (len(part) == len(whole))


@given(bodies=st.lists(st.binary(max_size=20), min_size=1, max_size=5))
def test_requests_that_come_at_once_are_taken_in_order(bodies):
    received = bytearray(b"".join(map(raw, bodies)))
    taken = []
    while (found := take(received)) is not None:
        taken.append(found.body)
        del received[: found.size]
    assert taken == bodies
    assert not received


def test_the_query_is_no_part_of_the_path():
    assert take(bytearray(raw(path=b"/metrics?x=1"))).path == b"/metrics"


@pytest.mark.parametrize(("more", "keeps"), [(b"", True), (b"Connection: close\r\n", False)])
def test_a_client_may_ask_for_the_end_of_the_connection(more, keeps):
    assert take(bytearray(raw(more=more))).keep_alive is keeps


@pytest.mark.parametrize(
    ("received", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"x" * (MOST_HEAD + 1), 431),
    ],
)
def test_what_is_no_request_is_refused_with_its_status(received, status):
    with pytest.raises(MalformedError) as refused:
        take(bytearray(received))
    assert refused.value.status == status


def test_a_client_that_waits_for_leave_is_seen_before_its_body():
    head = b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    assert expects_continue(bytearray(head))
    assert not expects_continue(bytearray(head + b"a"))


def test_answers_tell_their_length():
    assert answer(b"{}") == b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
    assert answer(b"x", 503).startswith(b"HTTP/1.1 503 ")
    assert chunk(b"0123456789abcdef") == b"10\r\n0123456789abcdef\r\n"
    assert chunk(b"") == b"0\r\n\r\n"
