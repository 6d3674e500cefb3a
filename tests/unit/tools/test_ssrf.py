"""Nothing that a URL, a name or a redirect can say leads to this machine or its surroundings (S1)."""

import asyncio
import ipaddress
import itertools
import random
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm import Tool, errors
from aurora_swarm.testing.faulty_server import Answer, FaultyServer
from aurora_swarm.tools.refusal import RefusedError
from aurora_swarm.tools.web.addresses import not_public
from aurora_swarm.tools.web.fetch import Fetcher, FetchLimits
from aurora_swarm.tools.web.guard import Guard, places_of
from aurora_swarm.tools.web.http_get import http_get
from aurora_swarm.tools.web.targets import RefusedUrlError, target_of

SECRET = "the secret of this machine"
TEXT = {"content-type": "text/plain"}


class Canary:
    """A server of this machine, on IPv4 and IPv6, that must never be reached; it counts whoever connects."""

    async def __aenter__(self):
        self.hits = 0
        four = await asyncio.start_server(self._hit, "127.0.0.1", 0)
        self.port = four.sockets[0].getsockname()[1]
        self._servers = [four]
        if socket.has_ipv6:
            self._servers.append(await asyncio.start_server(self._hit, "::1", self.port))
        return self

    async def __aexit__(self, *_):
        for server in self._servers:
            server.close()
            await server.wait_closed()

    async def _hit(self, reader, writer):
        self.hits += 1
        await reader.read(1)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n" + SECRET.encode())
        writer.close()


def names(answers):
    """A resolver of our own: names of an attacker lead where he wants."""

    async def find(host, port):
        found = answers[host]
        chosen = next(found) if hasattr(found, "__next__") else found
        return [ipaddress.ip_address(address) for address in chosen]

    return find


def fetcher(port=0, find=None, **limits):
    guard = Guard(ports=frozenset({80, 443, port}))
    limits = FetchLimits(**{"timeout_s": 5.0, "connect_timeout_s": 0.2, **limits})
    return Fetcher(guard, limits, find) if find else Fetcher(guard, limits)


# -- addresses ---------------------------------------------------------------------------------------------------

_INNER_4 = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "100.127.255.254",
    "127.0.0.1",
    "127.1.2.3", "127.255.255.254", "168.63.129.16", "169.254.169.254", "169.254.170.2", "172.16.0.1",
    "172.31.255.254",
    "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1", "192.168.255.254", "198.18.0.1",
    "198.19.0.1",
    "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
]  # fmt: skip
_INNER_6 = [
    "::", "::1", "::2", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:8.8.8.8",
    "::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1",
    "2001:0:7f00:1::",
    "2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:c0a8:1::1", "3fff::1",
    "5f00::1", "fc00::1", "fd00::1", "fd00:ec2::254", "fd20:ce::254", "fe80::1", "fe80::a9fe:a9fe", "fec0::1",
    "ff02::1",
    "ff05::1:3", "4000::1", "8000::1", "c000::1",
]  # fmt: skip
_PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.215.14",
    "172.32.0.1",
    "100.128.0.1",
    "2606:4700::1111",
    "2a00:1450::1",
    "2001:4860::",
]


@pytest.mark.parametrize("address", _INNER_4 + _INNER_6)
def test_what_is_not_the_public_internet_is_known(address):
    assert not_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", _PUBLIC)
def test_what_is_the_public_internet_is_known(address):
    assert not_public(ipaddress.ip_address(address)) == ""


@given(st.ip_addresses())
def test_whatever_python_knows_as_not_global_is_refused(address):
    if not address.is_global or address.is_multicast:
        assert not_public(address)


# -- URLs --------------------------------------------------------------------------------------------------------


def _payloads(port):
    """Ways to write what leads to this machine or its surroundings."""
    at = f":{port}"
    yield from (f"http://{a}{at}/" for a in _INNER_4)
    yield from (f"http://{a}/latest/meta-data/" for a in _INNER_4)
    yield from (f"https://{a}/" for a in _INNER_4)
    yield from (f"http://[{a}]{at}/" for a in _INNER_6)
    yield from (f"https://[{a}]/" for a in _INNER_6)
    odd = [
        "2130706433", "017700000001", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "127.1", "127.0.1", "0", "00", "0x0",
        "0.0",
        "127.0.0.1.", "127.0.0.01", "127.000.000.001", "1270.0.0.1", "127.0.0.256", "3232235521", "2852039166",
        "0xA9FEA9FE",
        "0251.0376.0251.0376", "169.254.43518", "169.16689662", "425.510.425.510", "0x7f.1", "127.0x1", "1.0x7f",
        "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460", "\uff11\uff12\uff17.0.0.1", "127\u3002 0\u30020\u30021",
        "127\u30020\u30020\u30021",
        "loc\u0430lhost", "\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3", "LOCALHO\u017fT",
        "loca\u00adlhost", "%6c%6f%63%61lhost",
        "127%2e0%2e0%2e1", "localhost%00.example.com", "localhost%2f.example.com", "127.0.0.1%23.example.com", "-",
        "_.", "..", "",
    ]  # fmt: skip
    yield from (f"http://{host}{at}/" for host in odd)
    yield from (f"https://{host}/" for host in odd)
    yield from (f"http://{host}{at}/" for host in ("localhost", "LOCALHOST", "localhost.", "LocalHost."))
    for good, bad in itertools.product(["1.1.1.1", "example.com", "8.8.8.8:80"], ["127.0.0.1", "localhost", "[::1]"]):
        yield from (
            f"http://{good}@{bad}{at}/", f"http://{bad}{at}@{good}/", f"http://{good}#@{bad}{at}/",
            f"http://{good}\\@{bad}{at}/",
            f"http://{good}:80\\@@{bad}{at}/", f"http://{good} @{bad}{at}/", f"http://{good}\t@{bad}{at}/",
            f"http://{good}\n@{bad}{at}/",
            f"http://{good}%20@{bad}{at}/", f"http://{bad}{at}\\.{good}/", f"http:{bad}{at}/", f"http:/{bad}{at}/",
            f"http:///{bad}{at}/",
            f"http:\\\\{bad}{at}/", f"//{bad}{at}/", f" http://{bad}{at}/", f"http://{bad}{at}/ ",
            f"http://{good}:80:{port}@{bad}/",
            f"http://{bad}{at}\r\nHost: {good}\r\n\r\n",
        )  # fmt: skip
    schemes = [
        "ftp",
        "file",
        "gopher",
        "dict",
        "ldap",
        "data",
        "javascript",
        "jar",
        "ws",
        "unix",
        "httpx",
        "view-source:http",
        "http+unix",
    ]
    yield from (f"{scheme}://127.0.0.1{at}/" for scheme in schemes)
    yield from (
        "file:///etc/passwd",
        "/etc/passwd",
        "C:\\x",
        "",
        "http",
        "http:",
        "http://",
        "://",
        "data:text/plain,x",
    )
    yield from (
        f"http://[{inner}]{at}/"
        for inner in ("::1%25lo", "::1%lo", "v1.x", "127.0.0.1", ":::1", "::1]", "[::1", "0:0:0:0:0:0:0:1")
    )
    yield from (
        f"http://127.0.0.1:{odd_port}/"
        for odd_port in ("", "0", "-1", "65536", "99999", "80a", "8 0", "\uff18\uff10", "080")
    )


async def test_ssrf_payloads_reach_nothing():
    """S1: this machine listens on the very port; a payload that is not refused would be answered by it."""
    async with Canary() as canary:
        payloads = list(dict.fromkeys(_payloads(canary.port)))
        assert len(payloads) >= 300
        get, seen = fetcher(canary.port), []
        for payload in payloads:
            try:
                answer = await http_get(payload, get)
            except (RefusedError, errors.ToolFailedError) as error:
                answer = str(error)
            else:
                pytest.fail(f"{payload!r} got through: {answer}")
            seen.append(answer)
        assert canary.hits == 0
        assert not any(SECRET in answer for answer in seen)
        # The canary sings: the same fetch reaches it where that was allowed by name.
        allowed = Fetcher(Guard(allowed=places_of([f"127.0.0.1:{canary.port}"])), FetchLimits())
        assert await http_get(f"http://127.0.0.1:{canary.port}/", allowed) == SECRET
        assert canary.hits == 1


async def test_names_that_lead_inside_reach_nothing():
    async with Canary() as canary:
        inner = {f"n{i}.example": [address] for i, address in enumerate(_INNER_4 + _INNER_6)}
        mixed = {f"m{i}.example": ["93.184.215.14", address] for i, address in enumerate(_INNER_4 + _INNER_6)}
        get = fetcher(canary.port, names(inner | mixed))
        for host in inner | mixed:
            with pytest.raises(RefusedUrlError, match="not on the public internet"):
                await http_get(f"http://{host}:{canary.port}/", get)
        assert canary.hits == 0


async def test_redirects_that_lead_inside_reach_nothing():
    """Whoever is allowed may not lead on to what is not."""
    async with Canary() as canary:
        payloads = list(dict.fromkeys(_payloads(canary.port)))
        async with FaultyServer(lambda request: Answer(b"", 302, {"location": where})) as server:
            place = f"127.0.0.1:{server.endpoint.port}"
            guard = Guard(allowed=frozenset({place}), ports=frozenset({80, 443, canary.port}))
            get = Fetcher(guard, FetchLimits(timeout_s=2.0, connect_timeout_s=0.2, max_redirects=2))
            for payload in payloads[::7]:
                where = payload if payload.isascii() and payload.isprintable() else "http://localhost/"
                with pytest.raises((RefusedError, errors.ToolFailedError)):
                    await http_get(f"http://{place}/", get)
            assert len(server.requests) >= 60
        assert canary.hits == 0


async def test_a_name_that_changes_between_the_look_and_the_connection_changes_nothing():
    """DNS rebinding: there is one look-up, and what it found is what is connected to."""
    async with Canary() as canary:
        looks = []

        async def find(host, port):
            looks.append(host)
            # 192.0.2.1 would be refused; a public address that nobody answers at cannot be had in a test.
            return [ipaddress.ip_address("127.0.0.2" if len(looks) == 1 else "127.0.0.1")]

        guard = Guard(allowed=frozenset({f"rebind.example:{canary.port}"}))
        with pytest.raises(errors.ToolFailedError, match="refused"):
            await http_get(f"http://rebind.example:{canary.port}/", Fetcher(guard, FetchLimits(), find))
        assert looks == ["rebind.example"]
        assert canary.hits == 0


def test_proxies_of_the_environment_are_not_asked(monkeypatch):
    async def main():
        async with Canary() as canary, FaultyServer(lambda _: Answer(b"page", headers=TEXT)) as server:
            for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy"):
                monkeypatch.setenv(variable, f"http://127.0.0.1:{canary.port}")
            place = f"127.0.0.1:{server.endpoint.port}"
            text = await http_get(f"http://{place}/", Fetcher(Guard(allowed=frozenset({place})), FetchLimits()))
            return text, canary.hits

    assert asyncio.run(main()) == ("page", 0)


@given(st.text(max_size=80), st.sampled_from(["http://", "https://", "", "http://["]))
def test_any_text_is_a_target_or_refused(text, start):
    try:
        target = target_of(start + text)
    except RefusedUrlError:
        return
    assert target.url.isascii()
    assert target_of(target.url) == target


def test_a_url_is_read_as_it_is_written():
    target = target_of("HTTPS://Example.COM.:8443/a b"[:-2] + "/ä?q=ü&x=%41#there")
    assert target.url == "https://example.com:8443/a/%C3%A4?q=%C3%BC&x=%41"
    assert target_of("http://[2606:4700:0:0::1111]:80").url == "http://[2606:4700::1111]/"


def test_only_narrows_and_allow_widens():
    tool = Tool.http_get.only("wiki.example", "8.8.8.8:8443").allow("10.0.0.5:9000")
    guard = tool._guard
    for good in ("http://wiki.example/", "https://8.8.8.8:8443/x", "http://10.0.0.5:9000/"):
        guard.check(target_of(good))
    for bad in ("http://other.example/", "https://8.8.8.8/", "http://10.0.0.5/", "http://wiki.example:8080/"):
        with pytest.raises(RefusedUrlError):
            guard.check(target_of(bad))
    with pytest.raises(RefusedUrlError, match="port 6379"):
        Tool.http_get._guard.check(target_of("http://wiki.example:6379/"))


def test_what_one_agent_may_fetch_is_no_answer_for_another():
    assert Tool.http_get.allow("10.0.0.5").identity() != Tool.http_get.identity()
    assert Tool.http_get.allow("10.0.0.5").determinant() != Tool.http_get.determinant()
    assert Tool.http_get.limit(url=["http://a.example/"]).allow("a.example").grants == {"url": ["http://a.example/"]}


@pytest.mark.parametrize("host", ["", "http://x", "a b", "x:y", "user@x", "x:99999", "127.1"])
def test_a_host_that_is_none_is_refused_when_the_tool_is_made(host):
    with pytest.raises(errors.ToolDefinitionError, match="is no host"):
        Tool.http_get.allow(host)


def test_random_urls_of_this_machine_reach_nothing():
    """Digits, dots, letters and marks at random around the pieces of which such payloads are made."""
    dice = random.Random(11)
    pieces = [
        "127",
        "0",
        "1",
        ".",
        ":",
        "@",
        "#",
        "?",
        "/",
        "\\",
        "[",
        "]",
        "::",
        "localhost",
        "0x",
        "%",
        "ffff",
        " ",
        "\t",
        "\u3002",
    ]

    async def main():
        async with Canary() as canary:
            get = fetcher(canary.port, timeout_s=1.0)
            for _ in range(1000):
                url = "http://" + "".join(dice.choices(pieces, k=dice.randint(1, 9))) + f":{canary.port}/"
                try:
                    await http_get(url, get)
                except (RefusedError, errors.ToolFailedError):
                    continue
                pytest.fail(url)
            return canary.hits

    assert asyncio.run(main()) == 0
