"""The form's server: who may ask it for what, and what it says. Chromium looks at the page in a test of its own."""

import asyncio
import http.client
import json
import urllib.parse

import pytest

from aurora_swarm.errors import UsageError
from aurora_swarm.swarms.human.web import WebForm


class Browser:
    """Sends requests that a browser, or somebody who is none, may send."""

    def __init__(self, form):
        url = urllib.parse.urlsplit(form.url)
        self.port, self.token = url.port, form.url.rpartition("=")[2]
        self.origin = f"http://127.0.0.1:{url.port}"
        self.cookie = f"aurora_swarm_{url.port}={self.token}"

    async def send(self, method="GET", path="/", body=None, **headers):
        return await asyncio.to_thread(self._send, method, path, body, headers)

    async def post(self, *, headers=None, **fields):
        told = {"Cookie": self.cookie, "Origin": self.origin} if headers is None else headers
        return await self.send("POST", "/answer", urllib.parse.urlencode(fields), **told)

    def _send(self, method, path, body, headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            return reply.status, reply.read().decode(), reply.headers
        finally:
            connection.close()


@pytest.fixture
async def form():
    async with WebForm(title="Ours & yours") as form:
        yield form


@pytest.fixture
def browser(form):
    return Browser(form)


@pytest.fixture
async def ask(form, question):
    asking = []

    async def ask(text="Why?", **more):
        asking.append(asyncio.ensure_future(form.ask(question(text, **more))))
        await asyncio.sleep(0)
        return asking[-1]

    yield ask
    for each in asking:
        each.cancel()
    await asyncio.gather(*asking, return_exceptions=True)


async def test_the_address_lets_in_and_is_then_a_cookie(browser):
    status, _, headers = await browser.send(path=f"/?token={browser.token}")
    assert (status, headers["Location"]) == (303, "/")
    assert headers["Set-Cookie"].startswith(f"{browser.cookie}; HttpOnly; Path=/; SameSite=strict")
    assert (await browser.send(Cookie=f"other=1; {browser.cookie}"))[0] == 200


async def test_without_the_token_there_is_nothing(browser, ask):
    await ask("A secret question")
    for path in ("/", "/?token=wrong", "/?token=%FF", "/events", "/form.js", "/nowhere"):
        for cookie in ("", f"aurora_swarm_{browser.port}=wrong", f"other={browser.token}", "{;=,"):
            status, text, _ = await browser.send(path=path, Cookie=cookie)
            assert status == 403, (path, cookie)
            assert "secret" not in text


async def test_a_foreign_name_leads_nowhere(browser):
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[", "169.254.169.254"):
        assert (await browser.send(Cookie=browser.cookie, Host=host))[0] == 421, host


async def test_this_machine_may_be_named_in_its_ways_also_through_a_tunnel(browser):
    for host in ("localhost", "127.0.0.1", "[::1]"):
        for port in (browser.port, 9999):
            assert (await browser.send(Cookie=browser.cookie, Host=f"{host}:{port}"))[0] == 200


async def test_answers_of_other_pages_are_refused(browser, ask, form):
    await ask()
    for origin in (None, "null", "http://evil.example", "http://127.0.0.1:1", f"https://127.0.0.1:{browser.port}"):
        headers = {"Cookie": browser.cookie} | ({} if origin is None else {"Origin": origin})
        assert (await browser.post(id="q", answer="x", headers=headers))[0] == 403, origin
    assert len(form.desk.questions()) == 1


async def test_an_answer_without_the_token_is_refused(browser, ask, form):
    await ask()
    assert (await browser.post(id="q", answer="x", headers={"Origin": browser.origin}))[0] == 403
    assert len(form.desk.questions()) == 1


async def test_nothing_that_was_said_is_html(browser, ask):
    evil = '"><script>alert(1)</script><img src=x onerror=alert(2)>\x00\ud800'
    await ask(evil, id=evil, kind="choice", options=(evil, "b"), default=evil)
    for path in ("/", "/?said=%3Cscript%3E"):
        _, text, headers = await browser.send(path=path, Cookie=browser.cookie)
        assert text.count("<script") == 1  # our own
        assert "<img" not in text
        assert "script-src 'self'" in headers["Content-Security-Policy"]
        assert "Ours &amp; yours" in text


async def test_without_javascript_a_form_is_answered_by_a_page(browser, ask):
    asking = await ask("How many?", kind="number", default=2.0)
    status, text, _ = await browser.post(id="q", answer="<many>")
    assert status == 422
    assert "This is no number." in text
    assert 'value="&lt;many&gt;"' in text  # what was typed is still there
    status, _, headers = await browser.post(id="q", answer="3")
    assert (status, headers["Location"]) == (303, "/?said=q")
    assert await asking == 3
    _, text, _ = await browser.send(path="/?said=q", Cookie=browser.cookie)
    assert "Thank you. The worker goes on with your answer." in text
    assert "Nobody is asking anything." in text
    status, text, _ = await browser.post(id="q", answer="4")
    assert status == 409
    assert "already answered" in text


async def test_a_strange_body_does_no_harm(browser, ask, form):
    await ask()
    headers = {"Cookie": browser.cookie, "Origin": browser.origin}
    bodies = {"answer=" + "x" * 70_000: 413, "a=1&" * 50: 413, "": 404, "id=nobody&answer=1": 404, "%FF=%ZZ": 404}
    for body, status in bodies.items():
        assert (await browser.send("POST", "/answer", body, **headers))[0] == status, body[:20]
    assert len(form.desk.questions()) == 1


async def test_an_open_page_hears_of_every_change_and_of_the_end(question):
    async with WebForm() as form:
        browser = Browser(form)
        reader, writer = await asyncio.open_connection("127.0.0.1", browser.port)
        writer.write(f"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {browser.cookie}\r\n\r\n".encode())

        async def state():
            while not (line := await reader.readline()).startswith(b"data: "):
                pass
            return json.loads(line.removeprefix(b"data: "))

        assert (await state())["cards"] == []
        asking = asyncio.ensure_future(form.ask(question("Here?")))
        (card,) = (await state())["cards"]
        assert "Here?" in card["html"]
        form.desk.submit("q", "yes")
        assert (await state())["waiting"] == 0
        await asking
    assert b"event: end" in await reader.read()
    writer.close()
    await writer.wait_closed()


async def test_sixty_questions_are_fifty_and_a_number(browser, ask):
    for number in range(60):
        await ask(id=f"q{number}")
    _, text, _ = await browser.send(Cookie=browser.cookie)
    assert text.count("<article") == 50
    assert "10 more are waiting" in text


async def test_a_port_that_is_taken_is_said_and_costs_nothing(form):
    port = urllib.parse.urlsplit(form.url).port
    with pytest.raises(UsageError, match=rf"cannot listen at 127\.0\.0\.1:{port}"):
        await WebForm(port=port).__aenter__()


def test_a_form_that_is_not_open_has_no_address():
    with pytest.raises(UsageError, match="no address yet") as raised:
        _ = WebForm().url
    assert raised.value.remedy == "enter it: async with WebForm() as form"
