"""Many responses -> one answer. Pure: no model is asked.

Failures are never counted as answers. Where nobody answered there is nothing to make an answer of: every function but
`failure_report`, `concat` and `structured_merge` then raises `QuorumError`, with the first failure in its message.

The measures of agreement work on embeddings of the answers, whichever model made them. Entropy over groups of equal
meaning follows Kuhn, Gal and Farquhar, "Semantic Uncertainty" (2023).
"""

from __future__ import annotations

import json
import math
import re
import statistics as stdlib_statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from operator import mul
from typing import Any

from aurora_swarm.errors import QuorumError, UsageError
from aurora_swarm.values.outcome import Response

ScoreFn = Callable[[Response], float]
Vector = Sequence[float]

ALIKE = 0.85
"""Cosine similarity from which two answers count as the same in meaning."""

_NUMBER = re.compile(r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL | re.IGNORECASE)


def answers(responses: Iterable[Response]) -> list[Response]:
    """The responses that are answers, in their order.

    Raises:
        QuorumError: There are none.
    """
    given = list(responses)
    good = [response for response in given if response.success]
    if not good:
        first = next((f"; the first failure: {response.error}" for response in given), "")
        raise QuorumError(f"none of {len(given)} responses is an answer{first}", n_ok=0, n_failed=len(given))
    return good


def majority_vote(responses: Iterable[Response], key: Callable[[str], str] | None = None) -> tuple[str, float]:
    """The answer that most gave.

    Args:
        responses: Short answers, such as labels.
        key: Texts with equal keys are the same vote; upper and lower case, spaces and a final full stop make no
            difference when None.

    Returns:
        The winner, spelt as most of its voters spelt it, and its share of the answers. A tie goes to the one that was
        given first.

    Raises:
        QuorumError: Nobody answered.
    """
    spellings: dict[str, Counter[str]] = {}
    for response in answers(responses):
        spellings.setdefault((key or spelt_alike)(response.text), Counter())[response.text.strip()] += 1
    winner = max(spellings.values(), key=Counter.total)
    return winner.most_common(1)[0][0], winner.total() / sum(map(Counter.total, spellings.values()))


def concat(responses: Iterable[Response], separator: str = "\n") -> str:
    """All answers' texts in order, failures left out."""
    return separator.join(response.text for response in responses if response.success)


def best_of(responses: Iterable[Response], score_fn: ScoreFn) -> Response:
    """The answer with the highest score; the first one among equals.

    Raises:
        QuorumError: Nobody answered.
        UsageError: A score is not a number.
    """
    return top_k(responses, 1, score_fn)[0]


def top_k(responses: Iterable[Response], k: int, score_fn: ScoreFn) -> list[Response]:
    """The `k` answers with the highest scores, best first, equals in their order; fewer where fewer answered.

    Raises:
        QuorumError: Nobody answered.
        UsageError: `k` is below 1, or a score is not a number.
    """
    if k < 1:
        raise UsageError(f"k is {k}", remedy="ask for one answer at least")
    scored = [(_checked(score_fn(response), response), response) for response in answers(responses)]
    return [response for _, response in sorted(scored, key=lambda pair: -pair[0])[:k]]


def structured_merge(responses: Iterable[Response]) -> tuple[list[Any], list[dict[str, Any]]]:
    """The JSON of all answers as one flat list.

    An answer may be a list, whose items are taken one by one, or any other value, which is one item. It may stand in a
    fenced block.

    Returns:
        The items in order of the responses; and what could not be used, as dicts with ``index``, ``error`` and
        ``text``: failures, and answers that are no JSON.
    """
    merged: list[Any] = []
    unusable: list[dict[str, Any]] = []
    for response in responses:
        try:
            value = _json(response)
        except ValueError as error:
            unusable.append({"index": response.index, "error": str(error), "text": response.text})
            continue
        merged.extend(value if isinstance(value, list) else [value])
    return merged, unusable


def statistics(
    responses: Iterable[Response], extract_fn: Callable[[Response], float] | None = None
) -> dict[str, float]:
    """A numeric summary.

    Args:
        responses: Answers that hold a number.
        extract_fn: A response's number; one that raises `ValueError` marks it as unreadable. When None, the only
            number in the text.

    Returns:
        ``n``, ``mean``, ``std`` (of the sample; 0 for a single number), ``median``, ``min``, ``max``, and
        ``n_unreadable``.

    Raises:
        QuorumError: Nobody answered, or no answer holds a number.
    """
    numbers: list[float] = []
    given = answers(responses)
    for response in given:
        try:
            numbers.append((extract_fn or _only_number)(response))
        except ValueError:
            continue
    if not numbers:
        raise QuorumError(f"none of {len(given)} answers holds one number", n_ok=0, n_failed=len(given))
    return {
        "n": float(len(numbers)),
        "mean": stdlib_statistics.fmean(numbers),
        "std": stdlib_statistics.stdev(numbers) if len(numbers) > 1 else 0.0,
        "median": stdlib_statistics.median(numbers),
        "min": min(numbers),
        "max": max(numbers),
        "n_unreadable": float(len(given) - len(numbers)),
    }


def failure_report(responses: Iterable[Response]) -> dict[str, Any]:
    """What failed, by kind and by endpoint.

    Returns:
        ``total``, ``succeeded``, ``failed``, ``success_rate`` (1.0 of nothing), ``by_kind`` and ``by_endpoint``
        (counts, most frequent first), ``failures`` (dicts with ``index``, ``endpoint``, ``kind``, ``error``).
    """
    given = list(responses)
    failed = [(response, response.error) for response in given if response.error is not None]
    urls = [response.endpoint.url if response.endpoint else "" for response, _ in failed]
    return {
        "total": len(given),
        "succeeded": len(given) - len(failed),
        "failed": len(failed),
        "success_rate": 1 - len(failed) / len(given) if given else 1.0,
        "by_kind": dict(Counter(error.kind for _, error in failed).most_common()),
        "by_endpoint": dict(Counter(urls).most_common()),
        "failures": [
            {"index": response.index, "endpoint": url, "kind": error.kind, "error": str(error)}
            for url, (response, error) in zip(urls, failed, strict=True)
        ],
    }


# -- meaning ---------------------------------------------------------------------------------------------------


def semantic_agreement(embeddings: Sequence[Vector]) -> float:
    """Mean cosine similarity of all pairs: 1 where all say the same. O(n^2).

    Args:
        embeddings: One vector per answer, equally long; one alone agrees with itself.

    Raises:
        UsageError: There are none, or their lengths differ, or one is all zeros.
    """
    units = _units(embeddings)
    if len(units) == 1:
        return 1.0
    return sum(_dot(a, b) for i, a in enumerate(units) for b in units[:i]) / math.comb(len(units), 2)


def semantic_groups(embeddings: Sequence[Vector], threshold: float = ALIKE) -> list[list[int]]:
    """Which answers say the same: indices, in groups, largest first, equals by their first member. O(n^2).

    Two answers are of one group when they, or answers between them, are as similar as `threshold`.

    Args:
        embeddings: As for `semantic_agreement`.
        threshold: Least cosine similarity.

    Raises:
        UsageError: As `semantic_agreement` does.
    """
    groups: list[list[int]] = []
    units = _units(embeddings)
    for index, unit in enumerate(units):
        near = [g for g in groups if any(_dot(unit, units[member]) >= threshold for member in g)]
        joined = sorted([member for group in near for member in group] + [index])
        groups = [g for g in groups if g not in near] + [joined]
    return sorted(groups, key=lambda group: (-len(group), group[0]))


def semantic_entropy(embeddings: Sequence[Vector], threshold: float = ALIKE) -> float:
    """Uncertainty over the meanings given, in nats: 0 where all say the same, ln(n) where all differ.

    Args:
        embeddings: As for `semantic_agreement`.
        threshold: As for `semantic_groups`.

    Raises:
        UsageError: As `semantic_agreement` does.
    """
    shares = [len(group) / len(embeddings) for group in semantic_groups(embeddings, threshold)]
    return -sum(share * math.log(share) for share in shares) + 0.0


def spelt_alike(text: str) -> str:
    """What two spellings of one answer have in common: no case, single spaces, no final full stop."""
    return " ".join(text.split()).rstrip(".").casefold()


def _checked(score: float, response: Response) -> float:
    if math.isnan(score):
        raise UsageError(f"score_fn gave no number for response {response.index}", remedy="let it return a number")
    return score


def _only_number(response: Response) -> float:
    found = _NUMBER.findall(response.text)
    if len(found) != 1:
        raise ValueError(f"{len(found)} numbers")
    return float(found[0].replace(",", ""))


def _json(response: Response) -> Any:
    if response.error is not None:
        raise ValueError(str(response.error))
    blocks = _FENCED.findall(response.text)
    return json.loads(blocks[0] if len(blocks) == 1 else response.text)


def _units(embeddings: Sequence[Vector]) -> list[list[float]]:
    if not embeddings:
        raise UsageError("there are no embeddings", remedy="embed one answer at least")
    units: list[list[float]] = []
    for index, vector in enumerate(embeddings):
        length = math.hypot(*vector)
        if len(vector) != len(embeddings[0]) or not length > 0 or math.isinf(length):
            raise UsageError(
                f"embedding {index} has {len(vector)} numbers and length {length:g}",
                remedy=f"give vectors of {len(embeddings[0])} finite numbers each, not all zero",
            )
        units.append([number / length for number in vector])
    return units


def _dot(a: Vector, b: Vector) -> float:
    return float(sum(map(mul, a, b)))
