"""What every `aurora_swarm.ports.http.Http` must do, as tests to inherit. Needs pytest and pytest-asyncio.

Inherit `HttpContract`, give it a fixture ``make_http``, and let pytest find it::

    class TestMyHttp(HttpContract):
        @pytest.fixture
        def make_http(self):
            return MyHttp
"""

# ruff: noqa: D102 - a test says what it shows in its name

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from typing import Any

import pytest

from aurora_swarm.errors import (
    AttemptTimeoutError,
    BadResponseError,
    CallError,
    ConnectError,
    ConnectionLostError,
)
from aurora_swarm.ports.http import Http, HttpReply
from aurora_swarm.testing.faulty_server import (
    CLOSE,
    GARBAGE,
    HANG,
    HANG_AFTER_HEAD,
    OK,
    RESET,
    RESET_AFTER_HEAD,
    Answer,
    FaultyServer,
)

MakeHttp = Callable[..., Http]

CLOSES_WITHIN_S = 0.1
"""From cancelling to the server's seeing it."""

PROXY_VARIABLES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")

BAD_CHUNK = Answer(raw=b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhi\r\n", end="close")

WAYS_TO_FAIL: dict[str, tuple[Answer, type[CallError]]] = {
    "closed before any byte": (CLOSE, ConnectionLostError),
    "reset before headers": (RESET, ConnectionLostError),
    "reset after headers": (RESET_AFTER_HEAD, ConnectionLostError),
    "cut within headers": (Answer(cut_at=20), ConnectionLostError),
    "cut within the body": (Answer(b"x" * 100, cut_at=-50), ConnectionLostError),
    "cut within a chunk": (Answer(b"x" * 100, framing="chunked", cut_at=-50), ConnectionLostError),
    "cut before the last chunk": (Answer(b"x" * 100, framing="chunked", cut_at=-5), ConnectionLostError),
    "garbage": (GARBAGE, BadResponseError),
    "a broken chunk": (BAD_CHUNK, BadResponseError),
    "gzip that is none": (Answer(b"no gzip", headers={"content-encoding": "gzip"}), BadResponseError),
    "no headers": (HANG, AttemptTimeoutError),
    "no body": (HANG_AFTER_HEAD, AttemptTimeoutError),
    "a drip": (Answer(b"x" * 100, piece=1, pause_s=0.05), AttemptTimeoutError),
}


async def get(http: Http, url: str, *, timeout_s: float = 5.0) -> HttpReply:
    """A plain GET."""
    return await http.request("GET", url, body=None, headers={}, timeout_s=timeout_s)


async def read(http: Http, url: str, *, timeout_s: float = 5.0, idle_timeout_s: float = 5.0) -> bytes:
    """A GET whose body is read in pieces."""
    async with http.stream(
        "GET", url, body=None, headers={}, timeout_s=timeout_s, idle_timeout_s=idle_timeout_s
    ) as stream:
        return b"".join([chunk async for chunk in stream.chunks()])


def always(answer: Answer) -> Callable[[Any], Answer]:
    """A script that answers every request so, GET included."""
    return lambda _request: answer


@pytest.mark.asyncio
class HttpContract:
    """The contract; see the port's docstring for each promise."""

    @pytest.fixture
    def make_http(self) -> MakeHttp:
        """Builds the adapter; to be given by the subclass."""
        raise NotImplementedError

    @pytest.fixture(params=[get, read], ids=["whole", "streamed"])
    def ask(self, request: pytest.FixtureRequest) -> Any:
        """Both ways to ask."""
        return request.param

    async def test_body_and_headers_reach_the_server_and_the_answer_comes_back(self, make_http: MakeHttp) -> None:
        answer = Answer(b"pong", 418, {"X-Name": "value"})
        async with FaultyServer(always(answer)) as server:
            http = make_http()
            reply = await http.request(
                "POST", server.url + "/a/b?c=d", body=b"ping", headers={"X-Key": "k"}, timeout_s=5
            )
            await http.aclose()
        assert (reply.status, reply.body, reply.headers["x-name"]) == (418, b"pong", "value")
        (request,) = server.requests
        assert (request.method, request.path, request.body) == ("POST", "/a/b?c=d", b"ping")
        assert request.headers["x-key"] == "k"

    @pytest.mark.parametrize("framing", ["length", "chunked", "close"])
    async def test_body_is_whole_in_every_framing(self, make_http: MakeHttp, ask: Any, framing: Any) -> None:
        async with FaultyServer(always(Answer(b"abc" * 9999, framing=framing))) as server:
            http = make_http()
            body = await ask(http, server.url)
            await http.aclose()
        assert (body if isinstance(body, bytes) else body.body) == b"abc" * 9999

    async def test_fifty_megabytes_pass_both_ways(self, make_http: MakeHttp) -> None:
        big = b"0123456789abcdef" * (50 * 2**20 // 16)
        async with FaultyServer(always(Answer(big))) as server:
            http = make_http()
            reply = await http.request("POST", server.url, body=big, headers={}, timeout_s=60)
            await http.aclose()
        assert reply.body == big
        assert server.requests[0].body == big

    async def test_gzip_is_undone(self, make_http: MakeHttp) -> None:
        answer = Answer(gzip.compress(b"hello" * 100), headers={"content-encoding": "gzip"})
        async with FaultyServer(always(answer)) as server:
            http = make_http()
            assert (await get(http, server.url)).body == b"hello" * 100
            await http.aclose()

    @pytest.mark.parametrize("way", WAYS_TO_FAIL)
    async def test_failures_are_told_apart_and_name_the_endpoint(self, make_http: MakeHttp, ask: Any, way: str) -> None:
        answer, expected = WAYS_TO_FAIL[way]
        async with FaultyServer(always(answer)) as server:
            http = make_http()
            with pytest.raises(CallError) as caught:
                await ask(http, server.url + "/secret/path", timeout_s=0.3)
            await http.aclose()
        assert type(caught.value) is expected
        assert caught.value.endpoint == server.url

    async def test_a_refused_connection_is_a_connect_error(self, make_http: MakeHttp, ask: Any) -> None:
        async with FaultyServer() as server:
            await server.stop()
            http = make_http()
            with pytest.raises(ConnectError, match="refused"):
                await ask(http, server.url)
            await http.aclose()

    async def test_an_unknown_host_is_a_connect_error(self, make_http: MakeHttp, ask: Any) -> None:
        http = make_http()
        with pytest.raises(ConnectError) as caught:
            await ask(http, "http://no-such-host.invalid:1/x")
        assert caught.value.endpoint == "http://no-such-host.invalid:1"
        await http.aclose()

    async def test_an_address_that_is_none_is_a_connect_error(self, make_http: MakeHttp, ask: Any) -> None:
        http = make_http()
        with pytest.raises(ConnectError):
            await ask(http, "http://a b:99999/")
        await http.aclose()

    async def test_credentials_in_an_address_stay_out_of_errors(self, make_http: MakeHttp, ask: Any) -> None:
        async with FaultyServer(always(RESET)) as server:
            http = make_http()
            with pytest.raises(CallError) as caught:
                await ask(http, server.url.replace("://", "://user:pass@"))
            await http.aclose()
        assert "pass" not in str(caught.value)
        assert caught.value.endpoint == server.url

    @pytest.mark.parametrize("answer", [HANG, HANG_AFTER_HEAD], ids=["before headers", "within the body"])
    async def test_cancelling_closes_the_connection_at_once(
        self, make_http: MakeHttp, ask: Any, answer: Answer
    ) -> None:
        async with FaultyServer(always(answer)) as server:
            http = make_http()
            asking = asyncio.create_task(ask(http, server.url, timeout_s=30))
            await server.until(lambda: server.requests)
            await asyncio.sleep(0.05)
            cancelled_at = asyncio.get_running_loop().time()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await server.until(lambda: server.closed_early)
            await http.aclose()
        assert server.closed_early[0].at - cancelled_at < CLOSES_WITHIN_S

    async def test_leaving_a_stream_early_closes_its_connection(self, make_http: MakeHttp) -> None:
        async with FaultyServer(always(Answer(b"x" * 100, piece=10, pause_s=0.05))) as server:
            http = make_http()
            async with http.stream("GET", server.url, body=None, headers={}, timeout_s=30, idle_timeout_s=30) as stream:
                assert await anext(aiter(stream.chunks())) != b""
                left_at = asyncio.get_running_loop().time()
            await server.until(lambda: server.closed_early)
            await http.aclose()
        assert server.closed_early[0].at - left_at < CLOSES_WITHIN_S + 0.05

    async def test_silence_within_a_stream_ends_it(self, make_http: MakeHttp) -> None:
        async with FaultyServer(always(Answer(b"x" * 100, cut_body_at=50, end="hang"))) as server:
            http = make_http()
            with pytest.raises(AttemptTimeoutError, match="nothing arrived"):
                await read(http, server.url, timeout_s=30, idle_timeout_s=0.1)
            await server.until(lambda: server.closed_early)
            await http.aclose()

    async def test_a_steady_stream_outlives_the_idle_timeout(self, make_http: MakeHttp) -> None:
        async with FaultyServer(always(Answer(b"x" * 100, piece=10, pause_s=0.06))) as server:
            http = make_http()
            assert await read(http, server.url, timeout_s=30, idle_timeout_s=0.4) == b"x" * 100
            await http.aclose()

    async def test_connections_are_used_again(self, make_http: MakeHttp, ask: Any) -> None:
        async with FaultyServer(always(OK)) as server:
            http = make_http(max_connections=4)
            for _ in range(20):
                await ask(http, server.url)
            await http.aclose()
        assert server.connections <= 2  # one may still be on its way back when the next is wanted

    async def test_no_more_connections_than_allowed_and_none_starves(self, make_http: MakeHttp) -> None:
        async with FaultyServer(always(Answer(b"ok", delay_s=0.01))) as server:
            http = make_http(max_connections=3)
            replies = await asyncio.gather(*(get(http, server.url) for _ in range(30)))
            await http.aclose()
        assert len(replies) == 30
        assert server.most_open <= 2 * 3  # as many idle ones at most

    async def test_waiting_for_a_connection_counts_towards_the_timeout(self, make_http: MakeHttp) -> None:
        async with FaultyServer(always(HANG)) as server:
            http = make_http(max_connections=1)
            busy = asyncio.create_task(get(http, server.url, timeout_s=30))
            await server.until(lambda: server.requests)
            with pytest.raises(AttemptTimeoutError):
                await get(http, server.url, timeout_s=0.1)
            busy.cancel()
            with pytest.raises(asyncio.CancelledError):
                await busy
            await http.aclose()
        assert len(server.requests) == 1

    async def test_redirects_are_not_followed(self, make_http: MakeHttp, ask: Any) -> None:
        async with FaultyServer(always(OK)) as other:
            moved = Answer(b"", 307, {"location": other.url})
            async with FaultyServer(always(moved)) as server:
                http = make_http()
                await ask(http, server.url)
                assert (await get(http, server.url)).status == 307
                await http.aclose()
        assert other.requests == []

    async def test_cookies_are_not_kept(self, make_http: MakeHttp, ask: Any) -> None:
        async with FaultyServer(always(Answer(b"", headers={"set-cookie": "a=b; Path=/"}))) as server:
            http = make_http()
            await ask(http, server.url)
            await ask(http, server.url)
            await http.aclose()
        assert all("cookie" not in request.headers for request in server.requests)

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "no-such-host.invalid"])
    async def test_no_proxy_is_taken_from_the_environment(
        self, make_http: MakeHttp, ask: Any, monkeypatch: pytest.MonkeyPatch, host: str
    ) -> None:
        async with FaultyServer(always(OK)) as proxy, FaultyServer(always(Answer(b"direct"))) as server:
            for name in PROXY_VARIABLES:
                monkeypatch.setenv(name, proxy.url)
            monkeypatch.delenv("NO_PROXY", raising=False)
            monkeypatch.delenv("no_proxy", raising=False)
            http = make_http()
            direct: object = None
            try:
                direct = await ask(http, f"http://{host}:{server.endpoint.port}")
            except ConnectError:
                assert host in ("[::1]", "no-such-host.invalid")  # nothing of ours listens there
            await http.aclose()
        assert proxy.connections == 0
        assert host in ("[::1]", "no-such-host.invalid") or direct is not None

    async def test_closing_ends_idle_connections(self, make_http: MakeHttp, ask: Any) -> None:
        async with FaultyServer(always(OK)) as server:
            http = make_http()
            await ask(http, server.url)
            assert server.connections_open == 1
            await http.aclose()
            await server.until(lambda: server.connections_open == 0)

    async def test_using_it_after_closing_raises(self, make_http: MakeHttp, ask: Any) -> None:
        async with FaultyServer(always(OK)) as server:
            http = make_http()
            await http.aclose()
            await http.aclose()
            with pytest.raises(ConnectError, match="closed"):
                await ask(http, server.url)
        assert server.requests == []
