"""The web form as people meet it: in Chromium, with and without JavaScript."""

import asyncio
import json
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import async_playwright, expect

from aurora_swarm.errors import UnansweredError
from aurora_swarm.pools.vllm_pool import VLLMPool
from aurora_swarm.swarms.agent import Agent
from aurora_swarm.swarms.human.questions import Question
from aurora_swarm.swarms.human.web import WebForm
from aurora_swarm.swarms.mind import Mind
from aurora_swarm.swarms.models import OpenAI
from aurora_swarm.swarms.work import Assignment
from aurora_swarm.swarms.worker import Worker
from aurora_swarm.tools.pool import ToolPool
from aurora_swarm.transports.scripted import ScriptedTransport
from aurora_swarm.values.endpoint import AgentEndpoint

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHROMIUM = Path("/usr/bin/chromium")
EVIL = "</p><script>document.title='stolen'</script><img src=x onerror=\"document.title='stolen'\">"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium():
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def form():
    async with WebForm() as form:
        yield form


@pytest_asyncio.fixture(loop_scope="module")
async def ask(form):
    """Asks on the form; gives what will be answered. What is still open at the end is withdrawn."""
    asking = []

    async def ask(name, text, **more):
        question = Question(id=name, worker="scout", text=text, **more)
        asking.append(asyncio.ensure_future(form.ask(question)))
        await asyncio.sleep(0)
        return asking[-1]

    yield ask
    for each in asking:
        each.cancel()
    await asyncio.gather(*asking, return_exceptions=True)


async def opened(chromium, form, **options):
    """A tab with the form; what goes wrong in it is kept."""
    context = await chromium.new_context(**options)
    page = await context.new_page()
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.set_default_timeout(10_000)
    await page.goto(form.url)
    if options.get("java_script_enabled", True):
        await expect(page.locator(".live.on")).to_have_text("Live")
    return page


def card(page, name):
    return page.locator(f"[data-id='{name}']")


async def test_questions_of_every_kind_are_answered_without_reloading(chromium, form, ask):
    page = await opened(chromium, form)
    assert "token" not in page.url
    await expect(page.get_by_text("Nobody is asking anything.")).to_be_visible()

    colour = await ask("c", "Which colour?", kind="choice", options=("red", "deep blue"), default="red")
    number = await ask("n", "How many people?", kind="number")
    price = await ask("y", "May I mention the price?", kind="yes_no")
    name = await ask("t", "What is it called?")
    await expect(page.locator(".card")).to_have_count(4)
    await expect(page).to_have_title("(4) Questions from your workers")

    # Invalid: a sentence, what was typed stays, and the worker waits.
    await card(page, "n").get_by_label("A number").fill("many")
    await card(page, "n").get_by_role("button", name="Send").click()
    await expect(card(page, "n").get_by_role("alert")).to_contain_text("This is no number.")
    await expect(card(page, "n").get_by_label("A number")).to_have_value("many")
    assert not number.done()

    # Valid, each in its own way; what is half typed elsewhere survives the others' coming and going.
    await card(page, "t").get_by_label("Your answer").fill("Vulcan & Daugh")
    await card(page, "c").get_by_label("deep blue").check()
    await card(page, "c").get_by_role("button", name="Send").click()
    assert await colour == "deep blue"
    await card(page, "y").get_by_role("button", name="No").click()
    assert await price is False
    await card(page, "n").get_by_label("A number").fill("12")
    await card(page, "n").get_by_label("A number").press("Enter")
    assert await number == 12
    await expect(page.locator(".card")).to_have_count(1)
    await expect(card(page, "t").get_by_label("Your answer")).to_have_value("Vulcan & Daugh")
    await card(page, "t").get_by_label("Your answer").press_sequentially("ters")
    await card(page, "t").get_by_label("Your answer").press("Control+Enter")
    assert await name == "Vulcan & Daughters"
    await expect(page.get_by_text("Nobody is asking anything.")).to_be_visible()
    await expect(page.locator(".done li")).to_have_count(4)
    assert page.errors == []


async def test_a_late_answer_is_refused_and_the_question_leaves_the_page(chromium, form, ask):
    stale = await opened(chromium, form, java_script_enabled=False)
    page = await opened(chromium, form)
    asking = await ask("q", "Quick?", deadline_s=1.0)
    await stale.reload()
    await expect(card(page, "q")).to_be_visible()
    with pytest.raises(UnansweredError):
        await asking
    await expect(card(page, "q")).to_have_count(0)
    await card(stale, "q").get_by_label("Your answer").fill("yes")
    await card(stale, "q").get_by_role("button", name="Send").click()
    await expect(stale.locator(".notice")).to_contain_text("The time for this question is over")


async def test_the_second_of_two_people_is_told_that_it_is_answered(chromium, form, ask):
    asking = await ask("q", "Who?")
    first = await opened(chromium, form, java_script_enabled=False)
    second = await opened(chromium, form, java_script_enabled=False)
    for page, text in ((first, "Ada"), (second, "Bob")):
        await card(page, "q").get_by_label("Your answer").fill(text)
        await card(page, "q").get_by_role("button", name="Send").click()
    await expect(first.locator(".notice")).to_have_text("Thank you. The worker goes on with your answer.")
    await expect(second.locator(".notice")).to_contain_text("already answered")
    assert await asking == "Ada"


async def test_a_cancelled_question_is_gone_from_the_page(chromium, form, ask):
    page = await opened(chromium, form)
    stale = await opened(chromium, form, java_script_enabled=False)
    asking = await ask("q", "Still there?")
    await stale.reload()
    await expect(card(page, "q")).to_be_visible()
    asking.cancel()
    await expect(card(page, "q")).to_have_count(0)
    await expect(page.locator(".done li")).to_contain_text("withdrawn")
    await card(stale, "q").get_by_label("Your answer").fill("yes")
    await card(stale, "q").get_by_role("button", name="Send").click()
    await expect(stale.locator(".notice")).to_contain_text("no longer needs an answer")


async def test_without_javascript_a_wrong_answer_is_told_in_its_place(chromium, form, ask):
    page = await opened(chromium, form, java_script_enabled=False)
    asking = await ask("n", "How many?", kind="number")
    await page.reload()
    await card(page, "n").get_by_label("A number").fill("many")
    await card(page, "n").get_by_role("button", name="Send").click()
    await expect(card(page, "n").get_by_role("alert")).to_contain_text("This is no number.")
    await card(page, "n").get_by_label("A number").fill("4")
    await card(page, "n").get_by_role("button", name="Send").click()
    assert await asking == 4
    # Nobody can be typing now, so the page looks by itself, also after an answer that came too late.
    await expect(page.locator('meta[http-equiv="refresh"]')).to_have_attribute("content", "3; url=/")
    await ask("next", "And now?")
    await expect(card(page, "next")).to_be_visible(timeout=15_000)


async def test_what_a_model_says_is_text_on_the_page(chromium, form, ask):
    page = await opened(chromium, form)
    await ask("q", EVIL, kind="choice", options=(EVIL, "b"), default=EVIL)
    await expect(card(page, "q").locator(".text")).to_have_text(EVIL)
    await expect(card(page, "q").locator(".option").first).to_have_text(EVIL)
    assert await page.locator(".card script, .card img").count() == 0
    await expect(page).to_have_title("(1) Questions from your workers")


async def test_a_page_of_another_program_on_this_machine_cannot_answer(chromium, form, ask):
    ours = await opened(chromium, form)  # the browser has the cookie, and sends it to any port of this machine
    asking = await ask("q", "Delete it?", kind="yes_no")
    await expect(card(ours, "q")).to_be_visible()
    evil = (
        f'<form method=post action="{form.url.partition("/?")[0]}/answer">'
        "<input name=id value=q><input name=answer value=yes><button>Win a prize</button></form>"
    ).encode()

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n" + evil)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        page = await ours.context.new_page()
        await page.goto(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        await page.get_by_role("button").click()
        await expect(page.locator("main")).to_contain_text("Answers are taken from the page itself only.")
    assert not asking.done()


async def test_the_page_says_when_the_run_has_ended(chromium):
    async with WebForm() as form:
        page = await opened(chromium, form)
    await expect(page.locator(".live")).to_have_text("The run has ended")


async def test_a_worker_asks_through_the_page_and_goes_on(chromium, form):
    """The whole way: a worker's tool call, the page, a person, the worker's next turn."""

    def script(call, endpoint):
        if call.turn == 0:
            arguments = {"question": "Which supplier?", "options": ["Acme", "Globex"]}
            return json.dumps({"tool": "ask_human", "arguments": arguments})
        (told,) = [message.content for message in call.messages if message.role == "tool"]
        return json.dumps({"answer": f"We order from {told}."})

    page = await opened(chromium, form)
    async with VLLMPool([AgentEndpoint("a")], "m", transport=ScriptedTransport(script)) as pool:
        tools = ToolPool()
        worker = Worker(Agent(OpenAI("m"), name="buyer"), human=form)
        working = asyncio.ensure_future(worker.work(Assignment(task="t", title="Order a furnace"), Mind(pool, tools)))
        await page.get_by_label("Globex").check()
        await page.get_by_role("button", name="Send").click()
        assert (await working).output == "We order from Globex."
        await tools.aclose()
