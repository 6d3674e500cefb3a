"""100,000 generated replies, in both tool protocols: every conversation that comes of them is one that servers take."""

import random
import re
import string
from collections import Counter

import msgspec
import pytest
from pydantic import BaseModel

from aurora_swarm import Tool, errors
from aurora_swarm.agents.calls import MALFORMED, MAX_CALLS
from aurora_swarm.agents.compaction import ContextRule
from aurora_swarm.agents.native import NativeTools
from aurora_swarm.agents.steps import ConstrainedStep
from aurora_swarm.agents.structured import OutputSpec
from aurora_swarm.agents.turns import Ask, Rules, converse
from aurora_swarm.transports.openai_chat import OpenAIChatWire
from aurora_swarm.values.call import Call
from aurora_swarm.values.message import Message, ToolCall
from aurora_swarm.values.reply import Reply

REPLIES = 100_000


class Out(BaseModel):
    word: str
    count: int = 0


@Tool.define(effect="pure")
def look(place: str) -> str:
    """Look somewhere."""
    return place


@Tool.define(effect="effect")
def write(text: str, times: int = 1) -> str:
    """Write something."""
    return text


TOOLS = [look, write]
GRANTED = {"look", "write"}
OUTPUTS = [OutputSpec(Out), OutputSpec(None)]
PROTOCOLS = {kind: [kind(TOOLS, output) for output in OUTPUTS] for kind in (NativeTools, ConstrainedStep)}
BEGINNINGS = [
    (Message("system", "be brief"), Message("user", "what is it? 🧬")),
    (Message("user", "what is it?"),),
]
WIRE = OpenAIChatWire()
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


# -- what servers take -----------------------------------------------------------------------------------------


def check(ask, beginning):
    """The rules of OpenAI's and Anthropic's chats, and of chat templates whose roles must alternate."""
    messages = ask.messages
    assert messages[: len(beginning)] == beginning
    assert all(message.role != "system" for message in messages[1:])
    assert messages[-1].role != "assistant"
    ids = set()
    before = "assistant"  # so that the first to speak is the user
    waiting = []
    for message in messages[messages[0].role == "system" :]:
        message.content.encode()  # no wire carries half a surrogate pair
        if waiting:
            assert (message.role, message.tool_call_id) == ("tool", waiting.pop(0))
        else:
            assert not message.tool_call_id
        if message.role == "assistant":
            assert before == "user"
            assert message.content.strip() or message.tool_calls
            waiting = [call.id for call in message.tool_calls]
            for call in message.tool_calls:
                check_call(call)
                plain = re.sub(r"[^A-Za-z0-9_-]", "_", call.id)[:64]
                assert plain not in ids
                ids.add(plain)
        before = "assistant" if message.role == "assistant" else "user"
    assert not waiting
    assert ask.tools or not ids, "calls of tools that the server was never told of"
    assert ask.tools or ask.tool_choice == "auto"
    assert not (ask.tools and ask.schema and ask.tool_choice != "none")


def check_call(call):
    assert 0 < len(call.id) <= 64
    assert NAME.fullmatch(call.name)
    assert type(msgspec.json.decode(msgspec.json.encode(call.arguments))) is dict


# -- what models write -----------------------------------------------------------------------------------------


class Models:
    """Writes what models write on good and on bad days."""

    def __init__(self, seed):
        self.dice = random.Random(seed)

    def one_of(self, *makers):
        return self.dice.choice(makers)()

    def noise(self):
        dice = self.dice
        alphabet = dice.choice(
            [string.printable, '{}[]",:\\ntruefals01e-. ', "\ud800\udfff\0\u202e🧬é \n", "{[", " \t\n"]
        )
        length = dice.choice([0, 1, 2, 5, 20, 80])
        if dice.random() < 0.003:
            length = dice.choice([2_000, 20_000])
        return "".join(dice.choices(alphabet, k=length))

    def value(self, depth=0):
        dice = self.dice
        if depth < 3 and dice.random() < 0.3:
            if dice.random() < 0.5:
                return [self.value(depth + 1) for _ in range(dice.randrange(3))]
            return {self.noise(): self.value(depth + 1) for _ in range(dice.randrange(3))}
        return dice.choice([None, True, -1, 10**30, 1.5, float("nan"), float("inf"), "", "here", self.noise()])

    def arguments(self):
        return self.one_of(
            lambda: {"place": "here"},
            lambda: {"text": self.noise(), "times": 2},
            dict,
            lambda: {self.noise(): self.value()},
            lambda: {MALFORMED: self.noise()},
            lambda: {MALFORMED: None, "place": "here"},
            lambda: {"place": self.value()},
        )

    def name(self):
        names = ["look", "look", "write", "write", "rm", "", "Look", "look ", "functions.look", self.noise(), "l" * 200]
        return self.dice.choice(names)

    def identity(self):
        return self.dice.choice(
            ["", "a", "a", "b", "call_0_0", "call_0_1_1", "x.y", "x_y", "é", self.noise(), "i" * 100]
        )

    def calls(self):
        many = self.dice.choices([0, 1, 2, 3, 9, MAX_CALLS + 7], [30, 40, 10, 10, 2, 0.3])[0]
        return tuple(ToolCall(self.identity(), self.name(), self.arguments()) for _ in range(many))

    def json(self, value):
        text = msgspec.json.encode(value, enc_hook=str).decode() if self.dice.random() < 0.9 else str(value)
        return self.spoiled(text) if self.dice.random() < 0.4 else text

    def spoiled(self, text):
        dice = self.dice
        place = dice.randrange(len(text) + 1)
        return self.one_of(
            lambda: text[:place],
            lambda: text[place:],
            lambda: text + text,
            lambda: f"```json\n{text}\n```",
            lambda: f"Sure! {text} Done.",
            lambda: text[:place] + self.noise() + text[place:],
            lambda: text.replace('"', "'"),
            lambda: text.replace("here", r"\ud800"),
        )

    def step(self):
        try:
            return self.one_of(
                lambda: self.json({"tool": self.name(), "arguments": self.arguments()}),
                lambda: self.json({"tool": "look", "arguments": {"place": "here"}}),
                lambda: self.json({"answer": {"word": "stone"}}),
                lambda: self.json({"answer": self.value()}),
                lambda: self.json({"tool": "look", "arguments": self.value()}),
                lambda: self.json({"tool": "look", "arguments": {}, "answer": 1}),
            )
        except (UnicodeEncodeError, ValueError):
            return self.noise()

    def text(self):
        dice = self.dice
        if dice.random() < 0.001:
            return dice.choice(["[" * 100_000, '{"word":' * 5_000, '{"a":' * 900 + "1" + "}" * 900])
        return self.one_of(
            self.noise,
            lambda: "",
            lambda: '{"word": "stone"}',
            lambda: self.spoiled('{"word": "stone", "count": 3}'),
            self.step,
            lambda: self.json({"word": "s", "count": "many"}),
        )

    def reply(self, kind, goodness):
        dice = self.dice
        if dice.random() < goodness:
            return self.good_reply(kind)
        reason = dice.choice(["stop", "stop", "length", "tool_calls"])
        text = self.step() if kind is ConstrainedStep and dice.random() < 0.5 else self.text()
        return Reply(text, reason, tool_calls=self.calls())

    def good_reply(self, kind):
        if self.dice.random() < 0.15:
            return Reply('{"word": "stone"}' if kind is NativeTools else '{"answer": {"word": "stone"}}')
        text = "x" * self.dice.choice([5, 5, 300])
        if kind is ConstrainedStep:
            return Reply(msgspec.json.encode({"tool": "write", "arguments": {"text": text}}).decode())
        count = self.dice.choice([1, 1, 2, 5])
        calls = tuple(ToolCall(f"c{self.dice.random()}", "write", {"text": text}) for _ in range(count))
        return Reply(self.dice.choice(["", "I write."]), "tool_calls", tool_calls=calls)

    def answer(self):
        if self.dice.random() < 0.02:
            return "x" * 30_000
        return self.one_of(lambda: "", self.noise, lambda: "a stone " * 40)

    def rules(self, kind):
        dice = self.dice
        place = dice.randrange(2)
        context = None
        if dice.random() < 0.5:
            limit = dice.choice([40, 200, 500, 2_000])
            context = ContextRule(limit, tokens_of, dice.choice(["heuristic", "model"]))
        return Rules(
            output=OUTPUTS[place],
            protocol=PROTOCOLS[kind][place],
            tool_choice=dice.choice(["auto", "required"]),
            max_turns=dice.choice([1, 2, 4, 12]),
            max_retries=dice.choice([0, 1, 3]),
            reminder=dice.choice(["", "Now do the task."]),
            context=context,
        )


def tokens_of(messages):
    called = (msgspec.json.encode(call.arguments) for message in messages for call in message.tool_calls)
    return sum(len(message.content) for message in messages) // 4 + sum(map(len, called)) // 4 + 4 * len(messages)


def converse_with(models, kind, seen):
    """Lead one conversation to its end; check every step. Return all that was heard in it, and the last step."""
    rules, beginning = models.rules(kind), models.dice.choice(BEGINNINGS)
    goodness = models.dice.choice([0.0, 0.3, 0.9, 0.99])
    turns = converse(rules, beginning)
    step, ending = advance(turns, None)
    heard = []
    while step is not None:
        if isinstance(step, Ask):
            check(step, beginning)
            assert rules.context is None or tokens_of(step.messages) <= rules.context.limit
            seen["replies"] += 1
            seen[step.purpose] += 1
            if seen["replies"] % 8 == 0:
                WIRE.encode(
                    Call(step.messages, schema=step.schema, tools=step.tools, tool_choice=step.tool_choice), "m"
                )
            heard.append(models.reply(kind, goodness))
        else:
            assert 0 < len(step.calls) <= MAX_CALLS
            assert all(call.name in GRANTED and MALFORMED not in call.arguments for call in step.calls)
            seen["calls"] += len(step.calls)
            heard.append([models.answer() for _ in step.calls])
        before = step
        step, ending = advance(turns, heard[-1])
    seen[type(ending).__name__] += 1
    if heard:
        assert replayed(converse(rules, beginning), heard[:-1]) == before


def advance(turns, heard):
    """The next step; or None, and how it ended."""
    try:
        return turns.send(heard), None
    except StopIteration as end:
        return None, end.value
    except errors.AgentError as error:
        return None, error


def replayed(turns, heard):
    step = next(turns)
    for each in heard:
        step = turns.send(each)
    return step


@pytest.mark.parametrize("kind", PROTOCOLS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("seed", [1, 2])
def test_every_conversation_is_one_that_servers_take_and_can_be_taken_up_again(kind, seed):
    models, seen = Models(seed), Counter()
    while seen["replies"] < REPLIES // 4:
        converse_with(models, kind, seen)
    # A pass that saw nothing would prove nothing.
    least = {"Answer": 2_000, "calls": 5_000, "InvalidOutputError": 2_000, "ContextError": 100, "summary": 100}
    assert all(seen[what] >= count for what, count in least.items()), seen
    assert set(seen) == {"replies", "turn", *least}
