"""Who may ask: the host that was meant, the page it came from, the token, the size."""

import pytest

from aurora_swarm.errors import UsageError
from aurora_swarm.gateway.guard import Guard, check_exposure

HOST = (b"host", b"127.0.0.1:9000")


async def ask(guard, *headers, path="/", body=b""):
    """The status that a request gets; 200 where it reached the application, which then has read its body."""
    sent, bodies = [], [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        return bodies.pop(0)

    async def send(message):
        sent.append(message)

    await guard({"type": "http", "path": path, "headers": list(headers)}, receive, send)
    return sent[0]["status"]


async def app(scope, receive, send):
    message = await receive()
    status = 499 if message["type"] == "http.disconnect" else 200
    await send({"type": "http.response.start", "status": status, "headers": []})


def guard(**options):
    return Guard(app, hosts=["127.0.0.1", "localhost", "::1"], open_paths=["/card"], **options)


@pytest.mark.parametrize("host", [b"127.0.0.1", b"127.0.0.1:9000", b"localhost:1", b"LOCALHOST", b"[::1]:9000"])
async def test_a_request_for_this_host_passes(host):
    assert await ask(guard(), (b"host", host)) == 200


@pytest.mark.parametrize(
    "host",
    [b"", b"evil.example", b"127.0.0.1.evil.example", b"evil.example@127.0.0.1.x", b"[::1", b"\xff", b"127.0.0.2"],
)
async def test_a_request_for_another_host_is_misdirected(host):
    assert await ask(guard(), (b"host", host)) == 421
    assert await ask(guard(), (b"host", host), path="/card") == 421


async def test_a_request_without_a_host_is_misdirected():
    assert await ask(guard()) == 421


async def test_pages_of_other_sites_may_not_ask():
    assert await ask(guard(), HOST, (b"origin", b"https://evil.example")) == 403
    assert await ask(guard(), HOST, (b"origin", b"null")) == 403
    assert await ask(guard(), HOST, (b"origin", b"http://localhost:9000")) == 200


@pytest.mark.parametrize(
    "given", [None, b"", b"Bearer", b"Bearer ", b"Bearer wrong", b"Basic right", b"right", b"Bearer right2"]
)
async def test_without_the_token_only_the_card_is_read(given):
    headers = [HOST] if given is None else [HOST, (b"authorization", given)]
    assert await ask(guard(token="right"), *headers) == 401
    assert await ask(guard(token="right"), *headers, path="/card") == 200


@pytest.mark.parametrize("given", [b"Bearer right", b"bearer right", b"Bearer  right "])
async def test_with_the_token_it_passes(given):
    assert await ask(guard(token="right"), HOST, (b"authorization", given)) == 200


async def test_what_is_too_large_is_refused_whatever_it_says_of_itself():
    assert await ask(guard(max_body=10), HOST, (b"content-length", b"11")) == 413
    assert await ask(guard(max_body=10), HOST, (b"content-length", b"-1")) == 413
    assert await ask(guard(max_body=10), HOST, (b"content-length", b"5"), body=b"x" * 11) == 499
    assert await ask(guard(max_body=10), HOST, (b"content-length", b"10"), body=b"x" * 10) == 200


@pytest.mark.parametrize(("host", "token"), [("0.0.0.0", None), ("example.org", None), ("127.0.0.1", " ")])
def test_what_others_can_reach_needs_a_token(host, token):
    with pytest.raises(UsageError, match="token"):
        check_exposure(host, token)


def test_this_machine_alone_needs_none():
    check_exposure("127.0.0.1", None)
    check_exposure("0.0.0.0", "long")
