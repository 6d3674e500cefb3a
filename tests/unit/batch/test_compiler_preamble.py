"""Headers that vary from session to session, and everything that merely looks like them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm.batch.preamble import without_session_headers

PROMPT = "You are a careful reviewer.\n\nNote: be brief.\n"


@pytest.mark.parametrize(
    "headers",
    [
        "x-anthropic-billing-header: cc_version=2.1.100.7b4; cc_entrypoint=cli; cch=eb6c6;\n",
        "x-anthropic-billing-header: cch=1;\n\n",
        "X-Request-ID: 77\nDate: Tue, 24 Nov 2026\n",
        "session_id: 0af\n",
        "traceparent: 00-1-2-01\ntimestamp: 17\n\n",
    ],
)
def test_headers_of_a_session_are_dropped(headers):
    assert without_session_headers(headers + PROMPT) == PROMPT


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        PROMPT,
        "Date: 2026-11-24\nYou are a clerk.",
        "Role: critic\nLanguage: English\n\nJudge.",
        "You are a clerk.\nx-request-id: 77\n",
        "https://example.org: a page\n",
    ],
)
def test_what_an_author_wrote_stays_as_it_is(prompt):
    assert without_session_headers(prompt) == prompt


def test_other_headers_beside_those_of_a_session_stay():
    prompt = "Role: critic\nx-session-id: 7\nLanguage: English\n\nJudge."
    assert without_session_headers(prompt) == "Role: critic\nLanguage: English\n\nJudge."


@given(st.text())
def test_any_text_below_the_headers_stays(text):
    body = "." + text
    assert without_session_headers("x-session-id: 1\n" + body) == body
    assert without_session_headers(body) == body


def test_a_preamble_of_a_million_lines_takes_no_time_to_speak_of():
    assert without_session_headers("x-a-id: 1\n" * 1_000_000) == ""
