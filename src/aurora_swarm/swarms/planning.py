"""Plans: what a planner may answer, and how a plan with mistakes becomes one that can be worked on.

Pure. What a model proposes is mended by these rules, in this order; each that was needed is said in a note:

0. Of an answer that was cut off, the tasks that are whole are taken.
1. A task that says nothing is dropped. One without a title is called by the beginning of its instructions.
2. A task that repeats an earlier one is dropped; what builds on it builds on the earlier. A further task that has the
   instructions or the title of one that is there already is dropped too.
3. What is beyond the number of tasks that are wanted is dropped, the last ones first.
4. A dependency on a task that is not there, or on the task itself, is dropped.
5. A dependency that would close a circle is dropped, where dependencies are taken in the order of the plan.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from aurora_swarm.agents.structured import OutputSpec
from aurora_swarm.errors import InvalidOutputError
from aurora_swarm.swarms.work import TaskRecord, TaskSpec

TITLE_CHARS, INSTRUCTIONS_CHARS = 80, 300
"""Characters that a title and the instructions of a proposed task may have."""

TASK_TOKENS = 160
"""Tokens that a proposed task may take, its JSON included."""

FURTHER_AT_A_TIME = 3
"""Tasks that one result may bring about."""

_JSON = json.JSONDecoder()
_WORD = re.compile(r"\w+")


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A task as a model proposes it.

    Args:
        title: A few words.
        instructions: What is to be done.
        after: Numbers of the tasks that it builds on; the first of the plan is 1.
        skills: What a worker should be good at.
    """

    title: str
    instructions: str = ""
    after: tuple[int, ...] = ()
    skills: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What two tasks that say the same have in common."""
        return normalised(self.instructions or self.title)


class FurtherTask(BaseModel):
    """A task that a result makes necessary."""

    model_config = ConfigDict(extra="forbid")

    title: str = Field(min_length=1, max_length=TITLE_CHARS)
    instructions: str = Field(max_length=INSTRUCTIONS_CHARS)


class FurtherTasks(BaseModel):
    """What a reviewer may answer: no task, or a few."""

    # A class rather than a dict: with every result it is asked for again, and of a class it is compiled once.

    model_config = ConfigDict(extra="forbid")

    tasks: list[FurtherTask] = Field(max_length=FURTHER_AT_A_TIME)


class Mended(msgspec.Struct, frozen=True):
    """Drafts that can be worked on.

    Args:
        drafts: In the order of the plan; `after` holds numbers of these, and there is no circle.
        notes: What was changed, in sentences.
    """

    drafts: tuple[Draft, ...]
    notes: tuple[str, ...] = ()


def plan_schema(most: int, skills: Collection[str] = ()) -> dict[str, Any]:
    """What a plan may be: at least one task, at most `most`.

    Args:
        most: Tasks.
        skills: Those that workers have; none are asked for where there are none.
    """
    numbers = {"type": "integer", "minimum": 1, "maximum": most}
    fields: dict[str, Any] = _FIELDS | {"after": {"type": "array", "items": numbers, "maxItems": min(most, 8)}}
    if skills:
        fields["skills"] = {"type": "array", "items": {"enum": sorted(skills)}, "maxItems": min(len(skills), 3)}
    return _listing(fields, 1, most)


_FIELDS: dict[str, Any] = {
    "title": {"type": "string", "minLength": 1, "maxLength": TITLE_CHARS},
    "instructions": {"type": "string", "maxLength": INSTRUCTIONS_CHARS},
}


def _listing(fields: Mapping[str, Any], least: int, most: int) -> dict[str, Any]:
    task = {"type": "object", "properties": dict(fields), "required": list(fields), "additionalProperties": False}
    tasks = {"type": "array", "items": task, "minItems": least, "maxItems": most}
    return {"type": "object", "properties": {"tasks": tasks}, "required": ["tasks"], "additionalProperties": False}


def drafts_of(output: Mapping[str, Any] | FurtherTasks) -> list[Draft]:
    """The tasks of an answer that keeps to `plan_schema`, or of `FurtherTasks`."""
    tasks = output.model_dump()["tasks"] if isinstance(output, FurtherTasks) else output["tasks"]
    return [
        Draft(
            title=" ".join(task["title"].split()),
            instructions=task.get("instructions", "").strip(),
            after=tuple(task.get("after", ())),
            skills=tuple(dict.fromkeys(task.get("skills", ()))),
        )
        for task in tasks
    ]


def whole_drafts(text: str, most: int, skills: Collection[str] = ()) -> list[Draft]:
    """The whole tasks of an answer that was cut off; none where they do not keep to `plan_schema`."""
    _, found, rest = text.partition('"tasks"')
    place = rest.find("[") + 1 if found else 0
    tasks: list[dict[str, Any]] = []
    while place and (begin := rest.find("{", place)) >= 0:
        try:
            task, place = _JSON.raw_decode(rest, begin)
        except (ValueError, RecursionError):
            break
        tasks.append(task)
    try:
        return drafts_of(OutputSpec(plan_schema(most, skills)).parse(json.dumps({"tasks": tasks})).value)
    except InvalidOutputError:
        return []


def normalised(text: str) -> str:
    """A text without what does not change its meaning: case, punctuation, spaces, forms of one letter."""
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def mend(drafts: Sequence[Draft], *, most: int, known: AbstractSet[str] = frozenset()) -> Mended:
    """A plan that can be worked on, by the rules at the top of this module.

    Args:
        drafts: As proposed.
        most: Tasks that are wanted.
        known: What tasks that are there already say, and are called, `normalised`.
    """
    kept, places, notes = _distinct(drafts, known)
    if len(kept) > most:
        notes.append(f"{_tasks(len(kept) - most)} beyond the {most} allowed {_was(len(kept) - most)} dropped")
        kept = kept[:most]
    numbers = {number: place for number, place in places.items() if place <= len(kept)}
    lost, circles, mended = 0, 0, []
    builds_on: dict[int, set[int]] = {}
    for place, draft in enumerate(kept, 1):
        meant = [numbers.get(number, place) for number in draft.after]
        wanted = [number for number in dict.fromkeys(meant) if number != place]
        open_ended = [number for number in wanted if not _leads_to(number, place, builds_on)]
        builds_on[place] = set(open_ended)
        lost, circles = lost + meant.count(place), circles + len(wanted) - len(open_ended)
        mended.append(msgspec.structs.replace(draft, after=tuple(open_ended)))
    if lost:
        notes.append(f"{lost} of the plan's dependencies named no other task and {_was(lost)} dropped")
    if circles:
        notes.append(f"{circles} of the plan's dependencies closed a circle and {_was(circles)} dropped")
    return Mended(tuple(mended), tuple(notes))


def _distinct(drafts: Sequence[Draft], known: AbstractSet[str]) -> tuple[list[Draft], dict[int, int], list[str]]:
    """Tasks that say something new, the place that each number stands for, and what was dropped."""
    kept: list[Draft] = []
    places: dict[int, int] = {}
    seen: dict[str, int] = {}
    empty = repeated = 0
    for number, draft in enumerate(drafts, 1):
        if not draft.key:
            empty += 1
        elif draft.key in seen or not known.isdisjoint((draft.key, normalised(draft.title))):
            repeated += 1
            if draft.key in seen:
                places[number] = seen[draft.key]
        else:
            kept.append(draft if normalised(draft.title) else msgspec.structs.replace(draft, title=_headed(draft)))
            places[number] = seen[draft.key] = len(kept)
    notes = [f"{_tasks(empty)} said nothing and {_was(empty)} dropped"] if empty else []
    if repeated:
        notes.append(f"{_tasks(repeated)} repeated what is there and {_was(repeated)} dropped")
    return kept, places, notes


def _headed(draft: Draft) -> str:
    return " ".join(draft.instructions.split())[:TITLE_CHARS]


def _leads_to(start: int, goal: int, builds_on: Mapping[int, Iterable[int]]) -> bool:
    """Whether `start` builds on `goal`, through whatever is between them."""
    ahead, seen = [start], set[int]()
    while ahead:
        place = ahead.pop()
        if place == goal:
            return True
        if place not in seen:
            seen.add(place)
            ahead.extend(builds_on.get(place, ()))
    return False


def _tasks(count: int) -> str:
    return f"{count} task" if count == 1 else f"{count} tasks"


def _was(count: int) -> str:
    return "was" if count == 1 else "were"


def specs_of(drafts: Sequence[Draft], new_id: Callable[[], str], *, parent: str = "") -> list[TaskSpec]:
    """Drafts as tasks for the board, what is built on before what builds on it.

    Args:
        drafts: As `mend` gives them.
        new_id: Makes ids.
        parent: The task whose result brought them about, on which all of them build; empty for a plan.
    """
    ids = [new_id() for _ in drafts]
    order = _in_order(drafts)
    return [
        TaskSpec(
            title=drafts[place].title,
            instructions=drafts[place].instructions,
            id=ids[place],
            skills=drafts[place].skills,
            after=(*((parent,) if parent else ()), *(ids[number - 1] for number in drafts[place].after)),
            parent=parent,
        )
        for place in order
    ]


def _in_order(drafts: Sequence[Draft]) -> list[int]:
    """Places, each after those that it builds on, otherwise as they come."""
    order: dict[int, None] = {}
    while len(order) < len(drafts):
        ready = (p for p, d in enumerate(drafts) if p not in order and all(n - 1 in order for n in d.after))
        order[next(ready)] = None
    return list(order)


def depth_of(task: str, records: Mapping[str, TaskSpec]) -> int:
    """How many results lie between a task and the plan: 0 for a task of the plan."""
    depth = 0
    while parent := records[task].parent:
        task, depth = parent, depth + 1
    return depth


def losses(records: Sequence[TaskRecord]) -> list[str]:
    """A sentence on each task that has no answer; its error's kind, not its text."""
    return [
        f"not in the answer: {record.spec.title!r} ({record.error.kind if record.error else record.state})"
        for record in records
        if not record.ok
    ]
