"""What comes back from a page: its text, or why there is none."""

import asyncio
import gzip
import ipaddress
import ssl
import subprocess
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm import errors
from aurora_swarm.testing.faulty_server import CLOSE, GARBAGE, HANG, Answer, FaultyServer
from aurora_swarm.tools.pool import ToolPool
from aurora_swarm.tools.web import fetch
from aurora_swarm.tools.web.fetch import Fetcher, FetchLimits
from aurora_swarm.tools.web.guard import Guard
from aurora_swarm.tools.web.http_get import HttpGetTool, http_get
from aurora_swarm.tools.web.pages import readable
from aurora_swarm.tools.web.targets import RefusedUrlError
from aurora_swarm.values.message import ToolCall

HTML = {"content-type": "text/html; charset=utf-8"}
TEXT = {"content-type": "text/plain"}


def fetcher_for(place, **limits):
    return Fetcher(Guard(allowed=frozenset({place})), FetchLimits(**limits))


async def got(answer, path="/", **limits):
    async with FaultyServer(answer if callable(answer) else lambda _: answer) as server:
        place = f"127.0.0.1:{server.endpoint.port}"
        return await http_get(f"http://{place}{path}", fetcher_for(place, **limits))


async def test_of_html_the_text_is_shown():
    page = b"<!doctype html><title>T</title><style>p{}</style><script>if (a<b) x</script>"
    page += b"<p>One &lt;two&gt;<br>three<!-- no -->"
    assert await got(Answer(page, headers=HTML)) == "T\nOne <two>\nthree"


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        ("ä€".encode(), "text/plain", "ä€"),
        ("ä".encode("latin-1"), "text/plain; charset=iso-8859-1", "ä"),
        (b"\xff\xfe", "text/plain", "\ufffd\ufffd"),
        (b"x", "text/plain; charset=idna", "x"),
        (b"x", "text/plain; charset=hex", "x"),
        (b'{"a": 1}', "application/ld+json", '{"a": 1}'),
        ("<meta charset=cp1251><p>\u0436".encode("cp1251"), "text/html", "\u0436"),
        (b"plain", "", "plain"),
    ],
)
async def test_text_is_decoded_as_it_says(body, kind, text):
    assert await got(Answer(body, headers={"content-type": kind} if kind else {})) == text


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("size", [0, 1, 70_000, 300_000])
async def test_a_body_arrives_however_its_end_is_told(framing, size):
    assert await got(Answer(b"x" * size, headers=TEXT, framing=framing, end="close")) == "x" * size


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_no_more_is_read_than_is_wanted(framing):
    answer = Answer(b"x" * 3_000_000, headers=TEXT, framing=framing, end="close")
    assert await got(answer, max_bytes=1000) == "x" * 1000 + "\n[cut after 1000 bytes]"


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
async def test_a_body_that_swells_is_cut(pack):
    bomb = Answer(pack(b"\0" * 50_000_000), headers={**TEXT, "content-encoding": "gzip"})
    assert len(await got(bomb, max_bytes=10_000)) < 11_000
    small = Answer(pack(b"small"), headers={**TEXT, "content-encoding": "gzip"})
    assert await got(small) == "small"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Answer(b"no", 404, HTML), "404 Not Found: no"),
        (Answer(b"\0\1", 500, {"content-type": "image/png"}), "500 Internal Server Error$"),
        (Answer(b"\x89PNG", headers={"content-type": "image/png"}), "image/png, which is no text"),
        (Answer(b"x", headers={**TEXT, "content-encoding": "br"}), "encoding"),
        (Answer(b"xyz", headers={**TEXT, "content-encoding": "gzip"}), "damaged"),
        (Answer(gzip.compress(b"x" * 999)[:-4], headers={**TEXT, "content-encoding": "gzip"}), "damaged"),
        (Answer(b"x" * 5000, headers=TEXT, cut_body_at=100), "no whole answer"),
        (Answer(b"x" * 5000, headers=TEXT, cut_body_at=100, framing="chunked"), "no whole answer"),
        (Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", end="close"), "not HTTP"),
        (Answer(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\n", end="close"), "not HTTP"),
        (Answer(raw=b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", end="close"), "no whole answer"),
        (Answer(raw=b"HTTP/1.1 100 Continue\r\n\r\n" * 20, end="close"), "not HTTP"),
        (GARBAGE, "not HTTP"),
        (CLOSE, "no whole answer"),
        (HANG, "within 0.3 s"),
        (Answer(b"x" * 1000, headers=TEXT, piece=1, pause_s=0.05), "within 0.3 s"),
        (Answer(b"", 302, {"location": "/again"}), "redirected more than 5 times"),
        (Answer(b"", 302, {"location": "ftp://x/"}), "only http"),
    ],
)
async def test_what_is_no_page_is_a_failure_that_says_so(answer, why):
    with pytest.raises((errors.ToolFailedError, RefusedUrlError), match=why):
        await got(answer, timeout_s=0.3)


async def test_a_redirect_is_followed():
    def answer(request):
        return (
            Answer(b"", 301, {"location": "b?x=1"})
            if request.path == "/a"
            else Answer(request.path.encode(), headers=TEXT)
        )

    assert await got(answer, "/a") == "/b?x=1"


async def test_cancelling_closes_the_connection():
    arrived = asyncio.Event()

    def answer(request):
        arrived.set()
        return HANG

    async with FaultyServer(answer) as server:
        place = f"127.0.0.1:{server.endpoint.port}"
        task = asyncio.ensure_future(http_get(f"http://{place}/", fetcher_for(place)))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.05)
        assert len(server.closed_early) == 1


@given(st.lists(st.sampled_from(["<", ">", "!", "--", "/", "a", "p", "script", "&lt;", " ", "\n", "'"]), max_size=60))
def test_any_html_is_read(parts):
    readable("".join(parts))


@pytest.mark.parametrize("part", ["<", "<a", "<!--", "<script>", "</script", "<a href='", "<script><script "])
def test_time_to_read_html_grows_with_its_length(part):
    # Were anything looked for twice, this would take minutes.
    readable(part * 200_000)


@pytest.fixture
def certificate(tmp_path):
    """For right.example."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    made += ["-subj", "/CN=right.example", "-addext", "subjectAltName=DNS:right.example"]
    subprocess.run([*made, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return cert, key


async def test_the_certificate_must_be_for_the_name_although_the_address_is_connected_to(certificate, monkeypatch):
    cert, key = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    seen = []

    async def lead_here(host, port):
        return [ipaddress.ip_address("127.0.0.1")]

    context.sni_callback = lambda _sock, name, _context: seen.append(name)

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecure")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    fetch.tls_context.cache_clear()
    try:
        hosts = ("right.example", "wrong.example")
        get = Fetcher(Guard(allowed=frozenset(f"{h}:{port}" for h in hosts)), FetchLimits(), lead_here)
        assert await http_get(f"https://right.example:{port}/", get) == "secure"
        with pytest.raises(errors.ToolFailedError, match="certificate"):
            await http_get(f"https://wrong.example:{port}/", get)
        assert seen == ["right.example", "wrong.example"]
    finally:
        fetch.tls_context.cache_clear()
        server.close()
        await server.wait_closed()


async def test_agents_that_want_the_same_page_fetch_it_once():
    async with FaultyServer(lambda _: Answer(b"page", headers=TEXT)) as server:
        place = f"127.0.0.1:{server.endpoint.port}"
        pool, granted = ToolPool(), {"http_get": HttpGetTool(Guard(allowed=frozenset({place})))}
        wish = ToolCall("id", "http_get", {"url": f"http://{place}/"})
        answers = await asyncio.gather(*(pool.call(wish, granted) for _ in range(50)))
        await pool.aclose()
        assert {a.text for a in answers} == {"page"}
        assert len(server.requests) == 1


async def test_with_few_files_there_are_fewer_connections_but_no_failures():
    program = """
import asyncio, resource, sys
from aurora_swarm.tools.web.fetch import Fetcher, FetchLimits
from aurora_swarm.tools.web.guard import Guard
from aurora_swarm.tools.web.http_get import http_get

async def main(place):
    get = Fetcher(Guard(allowed=frozenset({place})), FetchLimits(timeout_s=50))
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    print(set(await asyncio.gather(*(http_get(f"http://{place}/{i}", get) for i in range(200)))))

asyncio.run(main(sys.argv[1]))
"""
    async with FaultyServer(lambda _: Answer(b"page", headers=TEXT)) as server:
        place = f"127.0.0.1:{server.endpoint.port}"
        done = await asyncio.create_subprocess_exec(sys.executable, "-c", program, place, stdout=subprocess.PIPE)
        out, _ = await done.communicate()
    assert out == b"{'page'}\n"
