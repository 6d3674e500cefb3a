"""A status becomes the error that says whose fault it is, in the server's own words."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aurora_swarm.errors import CallError, OverloadedError, RequestRejectedError, ServerError, WrongModelError
from aurora_swarm.transports.status import MAX_MESSAGE, MAX_RETRY_AFTER_S, error_from, message_in, retry_after_s

NOW = 1_700_000_000.0  # 2023-11-14T22:13:20Z


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        (" 3 ", 3.0),
        ("-5", 0.0),
        ("1e99", MAX_RETRY_AFTER_S),
        ("inf", MAX_RETRY_AFTER_S),
        ("nan", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
        ("Tue, 14 Nov 2023 22:13:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER_S),
        ("Tue, 99 Nov 2023 22:13:00 GMT", None),
    ],
)
def test_retry_after_is_read_and_clamped(value: str | None, expected: float | None) -> None:
    assert retry_after_s(value, now=NOW) == expected


@given(st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_no_retry_after_is_out_of_range(value: str) -> None:
    seconds = retry_after_s(value, now=NOW)
    assert seconds is None or (0 <= seconds <= MAX_RETRY_AFTER_S and not math.isnan(seconds))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"error": {"message": "context too long", "type": "BadRequestError"}}', "context too long"),
        (b'{"error": {"type": "overloaded"}}', "overloaded"),
        (b'{"error": {"a": 1}}', '{"a":1}'),
        (b'{"error": "no memory"}', "no memory"),
        (b'{"object": "error", "message": "too long", "code": 400}', "too long"),
        (b'{"message": "too long"}', "too long"),
        (b'{"Message": "no such role"}', "no such role"),
        (b'{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}', "Overloaded"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b'{"detail": [{"loc": ["body", "prompt"], "msg": "field required"}]}', "body.prompt: field required"),
        (b"upstream  connect\nerror", "upstream connect error"),
        (b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head></html>", "502 Bad Gateway"),
        (b"<html><style>a{}</style><body><h1>Oh &amp; no</h1><p>it broke</body>", "Oh & no it broke"),
        (b"\x1b[31mred\x00\x07", "[31mred"),
        (b"", ""),
    ],
)
def test_the_servers_words_are_found_in_every_form(body: bytes, expected: str) -> None:
    assert message_in(body) == expected


@given(
    st.binary(max_size=2000)
    | st.text(max_size=2000).map(lambda t: ('{"error": {"message": "' + t).encode("utf-8", "replace"))
)
@settings(max_examples=200, deadline=None)
def test_a_message_is_one_short_printable_line(body: bytes) -> None:
    message = message_in(body)
    assert len(message) <= MAX_MESSAGE
    assert message == "" or message.isprintable()


def test_a_deeply_nested_body_is_a_message_too() -> None:
    assert message_in(b"[" * 200_000) != ""


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, b'{"error": {"message": "The model `x` does not exist."}}', WrongModelError),
        (400, b'{"error": {"message": "no such thing", "code": "model_not_found"}}', WrongModelError),
        (404, b"", RequestRejectedError),
        (400, b'{"error": {"message": "this model has a context of 2048"}}', RequestRejectedError),
        (418, b"", RequestRejectedError),
        (529, b"", OverloadedError),
        (424, b'{"message": "The model failed."}', ServerError),
        (599, b"", ServerError),
        (503, b"", OverloadedError),
    ],
)
def test_the_body_tells_a_wrong_model_from_a_wrong_request(status: int, body: bytes, expected: type[CallError]) -> None:
    error = error_from(status, {}, body, now=NOW)
    assert type(error) is expected
    assert error.status == status
    assert str(status) in str(error)
