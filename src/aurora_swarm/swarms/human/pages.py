"""The web form as HTML: text in, text out, and everything that anybody said is escaped. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import msgspec

from aurora_swarm.swarms.human.desk import ClosedQuestion, OpenQuestion
from aurora_swarm.swarms.human.questions import Answer, Question, span, spelt

MOST_SHOWN = 50
"""Open questions on one page; the oldest first."""

MOST_DONE = 10

_SHORT_CHARS = 200
_STATES = {"answered": "answered", "late": "too late", "withdrawn": "withdrawn"}


class Tried(msgspec.Struct, frozen=True):
    """An answer that was refused, so that the form shows it again.

    Args:
        id: To which question.
        given: What was said.
        problem: What is wrong with it.
    """

    id: str
    given: str
    problem: str


class Card(msgspec.Struct, frozen=True):
    """An open question on the page.

    Args:
        id: The question's.
        html: What is shown.
    """

    id: str
    html: str


class PageState(msgspec.Struct, frozen=True):
    """What the page shows, as it is sent to a page that is open already.

    Args:
        cards: The oldest of the open questions.
        waiting: How many are open.
        done: The list of those that were closed last; empty for none.
    """

    cards: list[Card]
    waiting: int
    done: str


def page_state(waiting: Sequence[OpenQuestion], closed: Sequence[ClosedQuestion]) -> PageState:
    """What there is to show."""
    cards = [Card(each.question.id, card(each)) for each in waiting[:MOST_SHOWN]]
    return PageState(cards, len(waiting), _done(closed))


def page(
    title: str,
    waiting: Sequence[OpenQuestion],
    closed: Sequence[ClosedQuestion],
    *,
    notice: str = "",
    tried: Tried | None = None,
) -> str:
    """The whole page.

    Args:
        title: Its heading.
        waiting: The open questions.
        closed: Those that were closed last.
        notice: A sentence on top; empty for none.
        tried: An answer that was refused.
    """
    cards = "".join(card(each, tried) for each in waiting[:MOST_SHOWN])
    more = max(0, len(waiting) - MOST_SHOWN)
    # Without a script the page looks again by itself only while nobody can be typing.
    again = '<a href="/">Look again</a>' if waiting else '<meta http-equiv="refresh" content="3; url=/">'
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/form.css">
<script src="/form.js" defer></script>
<noscript>{again if not waiting else ""}</noscript>
</head>
<body>
<header class="top"><h1>{escape(title)}</h1>
<span class="live" id="live" role="status"><noscript>{again if waiting else ""}</noscript></span></header>
<main>
<p class="notice" id="notice" role="status"{"" if notice else " hidden"}>{escape(notice)}</p>
<section id="open" aria-label="Open questions">{cards}</section>
<p class="more" id="more"{"" if more else " hidden"}>{more} more are waiting</p>
<p class="empty" id="empty"{" hidden" if waiting else ""}>Nobody is asking anything.<br>
Questions appear here as they come.</p>
<div id="done">{_done(closed)}</div>
</main>
</body>
</html>
"""


def refusal_page(text: str) -> str:
    """A page that says why there is no other."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Not available</title><link rel="icon" href="data:,"></head>
<body><main><h1>Not available</h1><p>{escape(text)}</p></main></body></html>
"""


def card(waiting: OpenQuestion, tried: Tried | None = None) -> str:
    """One question with its form."""
    question, left_s = waiting.question, waiting.left_s
    mine = tried if tried is not None and tried.id == question.id else None
    given, problem = (mine.given, mine.problem) if mine else ("", "")
    name = escape(question.id)
    urgent = " urgent" if left_s < 30 else ""
    return f"""<article class="card" data-id="{name}" aria-labelledby="t-{name}">
<header><span class="who"><b>{escape(question.worker)}</b> asks</span>
<span class="left{urgent}" data-left="{left_s:.1f}">{span(left_s)} left</span></header>
<p class="text" id="t-{name}">{escape(question.text)}</p>
<form method="post" action="/answer" autocomplete="off">
<input type="hidden" name="id" value="{name}">
{_field(question, given)}
<p class="problem" role="alert">{escape(problem)}</p>
<div class="row">{_hint(question.default)}{_buttons(question)}</div>
</form>
</article>
"""


def _field(question: Question, given: str) -> str:
    name = escape(question.id)
    match question.kind:
        case "choice":
            options = "".join(_option(option, chosen=option == given) for option in question.options)
            return f'<fieldset aria-labelledby="t-{name}"><legend>Choose one</legend>{options}</fieldset>'
        case "number":
            box = f'<input class="number" type="text" inputmode="decimal" id="a-{name}" name="answer"'
            return f'<label class="label" for="a-{name}">A number</label>{box} value="{escape(given)}">'
        case "yes_no":
            return ""
        case _:
            box = f'<textarea id="a-{name}" name="answer" rows="3">{escape(given)}</textarea>'
            return f'<label class="label" for="a-{name}">Your answer</label>{box}'


def _option(option: str, *, chosen: bool) -> str:
    checked = " checked" if chosen else ""
    box = f'<input type="radio" name="answer" value="{escape(option)}"{checked}>'
    return f'<label class="option">{box}<span>{escape(option)}</span></label>'


def _hint(default: Answer | None) -> str:
    if default is None:
        return '<p class="hint"></p>'
    return f'<p class="hint">Without an answer: {escape(_short(spelt(default)))}</p>'


def _buttons(question: Question) -> str:
    if question.kind == "yes_no":
        second = '<button class="second" name="answer" value="no">No</button>'
        return f'<button name="answer" value="yes">Yes</button>{second}'
    return "<button>Send</button>"


def _done(closed: Sequence[ClosedQuestion]) -> str:
    if not closed:
        return ""
    return f'<section><h2>Closed</h2><ul class="done">{"".join(map(_closed, closed[:MOST_DONE]))}</ul></section>'


def _closed(each: ClosedQuestion) -> str:
    answer = "" if each.answer is None else f"<br>{escape(_short(spelt(each.answer)))}"
    state = f'<span class="state">{_STATES.get(each.state, each.state)}</span>'
    asked = f"{escape(each.question.worker)}: {escape(_short(each.question.text))}"
    return f'<li>{state}<span class="asked">{asked}</span>{answer}</li>'


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _SHORT_CHARS else f"{words[:_SHORT_CHARS]} ..."
