"""How many tokens a call may generate: what the context leaves. Pure: sizes and counts in, numbers out.

A prompt's tokens are estimated from its length: ``overhead + length * density``, a straight line through what servers
have counted so far, the older the less it weighs. Around it lie two bounds, as wide as past answers have scattered:
more tokens than the upper bound and fewer than the lower one are not expected. The upper bound decides how much may be
generated, the lower one whether a prompt surely does not fit, so that an error of the estimate costs a few tokens and
never an answer. Before anything is learned, four bytes are a token, and the bounds are wide.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

import msgspec

from aurora_swarm.values.call import Call
from aurora_swarm.values.message import Message

BUFFER = 512
"""Tokens that stay free between answer and end of the context, at least an eighth of a short context."""

SURE = 512
"""Tokens that fit everywhere: calls that need no more are not looked at."""

LEAST = 16
"""Tokens that may be generated where the estimate leaves none and yet the prompt may fit."""

_OVERHEAD, _DENSITY = 24.0, 0.25
_FAR = 4096.0
"""Length of the made-up prompt that stands for long ones until some were counted."""
_KEEP = 0.95
"""Weight of what was known when something is learned: the last 20 answers count most."""
_FAINTEST = 0.05
"""Weight to which the made-up prompts fade; some of it stays, for answers that are all of one length."""
_SPREADS = 4.0
"""Mean deviations between the estimate and its bounds."""
_FIRST_SPREAD = 0.15
_FIRST_WEIGHT = 4
"""Answers that what is assumed at first weighs as much as."""
_NARROWEST = 0.1
"""The bounds are never closer, as a share of the estimate."""
_LOWEST = 0.2
"""The lower bound is never lower, as a share of the estimate."""


class Room(msgspec.Struct, frozen=True):
    """What a context leaves for an answer.

    Args:
        max_tokens: Tokens that may be generated; None where the prompt does not fit.
        is_close: Whether an exact count of the prompt could change that.
    """

    max_tokens: int | None
    is_close: bool = False


class ContextBudget:
    """Learns how long prompts are in tokens, and says what may be generated.

    One for all endpoints that serve the same model. Costs O(1) per call.

    Args:
        buffer: Tokens to leave free; less in a context of under eight times as many.
    """

    def __init__(self, buffer: int = BUFFER) -> None:
        self._buffer = buffer
        self._line = _Line()
        self._spread = _FIRST_SPREAD
        self.learned = 0

    def learn(self, length: int, prompt_tokens: int) -> None:
        """A server counted a prompt.

        Args:
            length: As of `length_of`.
            prompt_tokens: What the server says; nothing is learned from zero.
        """
        if prompt_tokens <= 0:
            return
        self.learned += 1
        miss = abs(prompt_tokens / self._line.at(length) - 1)
        self._spread += max(1 - _KEEP, 1 / (self.learned + _FIRST_WEIGHT)) * (miss - self._spread)
        self._line.add(length, prompt_tokens)

    def at_most(self, length: int) -> int:
        """Tokens that a prompt of this length is not expected to exceed."""
        return int(self._line.at(length) * (1 + self._width)) + 1

    def at_least(self, length: int) -> int:
        """Tokens that a prompt of this length is not expected to fall short of."""
        return int(self._line.at(length) * max(1 - self._width, _LOWEST))

    def room(self, length: int, wanted: int, context: int) -> Room:
        """What may be generated for a prompt whose tokens are only estimated.

        Args:
            length: As of `length_of`.
            wanted: Tokens to generate at most, at least 1.
            context: Tokens that prompt and answer may have together.
        """
        free = context - self.buffer_in(context) - self.at_most(length)
        if free >= wanted:
            return Room(wanted)
        if self.at_least(length) >= context:
            return Room(None, is_close=True)
        return Room(max(free, min(wanted, LEAST)), is_close=True)

    def room_beside(self, prompt_tokens: int, wanted: int, context: int) -> Room:
        """What may be generated for a prompt whose tokens were counted.

        The buffer is given up before the answer is.

        Args:
            prompt_tokens: By the endpoint's own tokenizer.
            wanted: Tokens to generate at most, at least 1.
            context: Tokens that prompt and answer may have together.
        """
        free = context - prompt_tokens
        if free < 1:
            return Room(None)
        return Room(min(wanted, max(free - self.buffer_in(context), min(free, LEAST))))

    @property
    def _width(self) -> float:
        """Distance of the bounds from the estimate, as a share of it."""
        return max(_SPREADS * self._spread, _NARROWEST)

    def buffer_in(self, context: int) -> int:
        """Tokens to leave free in a context of this length."""
        return min(self._buffer, context // 8)


class _Line:
    """The straight line through weighted points; begins with two that are made up and fade."""

    def __init__(self) -> None:
        self._made_up = 1.0
        self._weight = self._x = self._y = self._xx = self._xy = 0.0
        self._slope, self._offset = _DENSITY, _OVERHEAD

    def at(self, x: float) -> float:
        return self._offset + self._slope * x

    def add(self, x: float, y: float) -> None:
        self._made_up = max(_KEEP * self._made_up, _FAINTEST)
        self._weight = _KEEP * self._weight + 1
        self._x = _KEEP * self._x + x
        self._y = _KEEP * self._y + y
        self._xx = _KEEP * self._xx + x * x
        self._xy = _KEEP * self._xy + x * y
        self._fit()

    def _fit(self) -> None:
        near_y, far_y, w = _OVERHEAD, _OVERHEAD + _DENSITY * _FAR, self._made_up
        n, x, y = self._weight + 2 * w, self._x + w * _FAR, self._y + w * (near_y + far_y)
        xx, xy = self._xx + w * _FAR * _FAR, self._xy + w * _FAR * far_y
        self._slope = max((n * xy - x * y) / (n * xx - x * x), 0.01)
        self._offset = max((y - self._slope * x) / n, 1.0)


class Rooms:
    """The contexts of a fleet, and who is too small for what. Pure.

    Attributes:
        are_equal: Whether all contexts that are known are the same, so that none is too small where another is not.
    """

    def __init__(self) -> None:
        self._contexts: dict[int, int] = {}
        self._sizes: list[int] = []
        self._too_small: dict[int, frozenset[int]] = {}
        self.are_equal = True

    def note(self, index: int, context: int) -> None:
        """An endpoint's context became known."""
        self._contexts[index] = context
        self._sizes = sorted({*self._contexts.values()})
        self.are_equal = len(self._sizes) < 2
        self._too_small.clear()

    def too_small(self, prompt_tokens: int) -> frozenset[int]:
        """Endpoints known to be unable to hold so many tokens and one more."""
        below = bisect_right(self._sizes, prompt_tokens)
        found = self._too_small.get(below)
        if found is None:
            limit = self._sizes[below - 1] if below else 0
            found = self._too_small[below] = frozenset(i for i, c in self._contexts.items() if c <= limit)
        return found


def length_of(messages: Iterable[Message]) -> int:
    """Length of a conversation in bytes of UTF-8, which says more of its tokens than its characters do."""
    length = 0
    for message in messages:
        content = message.content
        length += len(content) if content.isascii() else text_length(content)
    return length


def text_length(text: str) -> int:
    """Bytes of UTF-8; costs nothing for ASCII."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def with_max_tokens(call: Call, max_tokens: int) -> Call:
    """The call with another upper bound."""
    if call.sampling.max_tokens == max_tokens:
        return call
    return msgspec.structs.replace(call, sampling=msgspec.structs.replace(call.sampling, max_tokens=max_tokens))
