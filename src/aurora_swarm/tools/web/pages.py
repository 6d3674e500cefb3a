"""From the bytes of a page to text that a model can read. Pure."""

from __future__ import annotations

import codecs
import html
import re
from collections.abc import Iterator

from aurora_swarm.errors import ToolFailedError
from aurora_swarm.tools.web.answers import Page

_TEXT = re.compile(r"text/.+|application/(.+\+)?(json|xml|javascript|x-ndjson|yaml|x-yaml|ecmascript)|.+\+(json|xml)")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([A-Za-z0-9._:-]{1,40})")
_ENCODINGS = re.compile(r"(utf-(8|16|32)|ascii|iso8859|cp[0-9]|gb|big5|euc|koi8|shift_jis|mac|tis).*")
_TAG = re.compile(r"/?([A-Za-z][A-Za-z0-9]*)")
_UNSEEN = frozenset({"script", "style", "noscript", "template", "svg", "textarea", "iframe"})
_BREAKING = re.compile(
    r"address|article|aside|blockquote|br|d[dlt]|div|figure|footer|form|h[1-6r]|header|li|main|nav|[ou]l|p|pre|section"
    r"|t(able|itle|r)"
)


def text_of(page: Page) -> str:
    """The text of a page; of HTML what a reader sees of it.

    Raises:
        ToolFailedError: It is no text.
    """
    kind, _, _ = page.headers.get("content-type", "").partition(";")
    kind = kind.strip().lower()
    if (kind and not _TEXT.fullmatch(kind)) or (not kind and b"\0" in page.body[:1024]):
        raise ToolFailedError(f"it is {kind or 'binary'}, which is no text")
    text = page.body.decode(_encoding(page, kind), "replace").removeprefix("\ufeff")
    return readable(text) if kind in {"text/html", "application/xhtml+xml"} else text


def readable(source: str) -> str:
    """HTML without its tags, scripts and styles; a line for every block.

    Time grows with the length, whatever is written there: nothing is looked for twice.
    """
    text = html.unescape("".join(_seen(source)))
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


def _seen(source: str) -> Iterator[str]:
    at = 0
    while (begin := source.find("<", at)) >= 0:
        yield source[at:begin].replace("\n", " ")
        tag = _TAG.match(source, begin + 1)
        if tag is None and source[begin + 1 : begin + 2] not in {"!", "?"}:
            yield "<"
            at = begin + 1
            continue
        at = _after(source, begin, tag[1].lower() if tag and source[begin + 1] != "/" else "")
        if tag and _BREAKING.fullmatch(tag[1].lower()):
            yield "\n"
    yield source[at:].replace("\n", " ")


def _after(source: str, begin: int, opened: str) -> int:
    """Where what is seen goes on after a tag, a comment or an element that nobody sees."""
    if source.startswith("<!--", begin):
        end = source.find("-->", begin + 4)
        return len(source) if end < 0 else end + 3
    end = source.find(">", begin)
    if end < 0:
        return len(source)
    if opened in _UNSEEN:
        closing = re.compile(f"</{opened}[^A-Za-z0-9]", re.IGNORECASE).search(source, end)
        return len(source) if closing is None else closing.start()
    return end + 1


def _encoding(page: Page, kind: str) -> str:
    found = _CHARSET.search(page.headers.get("content-type", ""))
    if found is None and "html" in kind:
        found = _CHARSET.search(page.body[:1024].decode("latin-1"))
    try:
        name = codecs.lookup(found[1]).name if found else "utf-8"
    except LookupError:
        return "utf-8"
    # Python knows others that make no text, or take time that grows with the square of the length.
    return name if _ENCODINGS.fullmatch(name) else "utf-8"
