"""Where the fields of a task stand, so that what all agents share comes first and is said once. Pure.

An engine's prefix cache knows a prompt by how it begins. The constant beginning of a task is shared as it is; a long
text that is the same for all inputs, and stands behind one that is not, is moved in front of the task, into a block of
its own, and its place in the task refers to it::

    Shared by all tasks:

    === guide ===
    ...
    === end of guide ===

    Review this text: ...
    Go by this guide: [guide, as given above]

The block belongs to the user's message: a field is data, and gains no authority by its place.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from aurora_swarm.inputs.template import Placeholder, Template

LEAST_CHARS = 256
"""Length from which a field is moved. A shorter one reads better in its place, and costs an engine next to nothing."""


class Layout(msgspec.Struct, frozen=True):
    """A task as it is sent: what all share, then what one input adds.

    Args:
        block: The fields that were moved in front; empty where none was.
        head: The beginning of the task that is the same for all.
        tail: The rest of it: texts, and the fields in which inputs differ.
        shared: The fields that are in this layout already, and their values.
    """

    block: str
    head: str
    tail: tuple[str | Placeholder, ...]
    shared: Mapping[str, Any]

    def task(self, texts: Mapping[str, str]) -> str:
        """The task of one input, without the block.

        Args:
            texts: What the other fields hold.

        Raises:
            KeyError: A field is missing.
            TypeError: A field is no text.
        """
        said = [part if isinstance(part, str) else texts[part.name] for part in self.tail]
        return self.head + "".join(said)

    def holds_for(self, fields: Mapping[str, Any]) -> bool:
        """Whether an input has none of the shared fields in another form."""
        return all(name not in fields or _same(fields[name], value) for name, value in self.shared.items())


def fields_in_common(template: Template, inputs: Sequence[Any]) -> dict[str, Any]:
    """The fields of a template that have one value in all inputs.

    A text counts as the same when it is equal, anything else when it is one and the same object, for what is equal
    may still be written differently (``1`` and ``true``). Costs one look at the second input where nothing is shared.

    Args:
        template: Only its fields count.
        inputs: All of them. Fewer than two have nothing in common.

    Returns:
        Their values, by name.
    """
    if len(inputs) < 2 or not isinstance(inputs[0], Mapping):
        return {}
    common = {name: inputs[0][name] for name in template.fields if name in inputs[0]}
    for values in inputs:
        if not common or not isinstance(values, Mapping):
            return {}
        if different := [name for name in common if name not in values or not _same(values[name], common[name])]:
            for name in different:
                del common[name]
    return common


def lay_out(template: Template, shared: Mapping[str, Any]) -> Layout:
    """Put first what all inputs share.

    What the template begins with stays where it is. A shared field behind the first one that differs is moved where it
    is long, and stays where it is short.

    Args:
        template: The task.
        shared: Fields that have one value in all inputs, as `fields_in_common` finds them or as a user declares them.

    Raises:
        TemplateError: A shared value cannot be written as JSON.
    """
    used = {name: value for name, value in shared.items() if name in template.fields}
    texts = {name: text_of(name, used) for name in used}
    parts = template.parts
    leading = next((at for at, part in enumerate(parts) if _name(part) not in {"", *used}), len(parts))
    behind = dict.fromkeys(_name(part) for part in parts[leading:])
    moved = {name: texts[name] for name in behind if len(texts.get(name, "")) >= LEAST_CHARS}
    said = {**texts, **{name: f"[{name}, as given above]" for name in moved}}
    placed = [part if isinstance(part, str) else said.get(part.name, part) for part in parts]
    block = "\n\n".join(fenced(name, text) for name, text in moved.items())
    return Layout(
        block=f"Shared by all tasks:\n\n{block}\n\n" if moved else "",
        head="".join(part for part in placed[:leading] if isinstance(part, str)),
        tail=tuple(placed[leading:]),
        shared=used,
    )


def text_of(name: str, fields: Mapping[str, Any]) -> str:
    """What a field is in a task: a text as it is, anything else as JSON.

    Raises:
        TemplateError: It is missing, or cannot be written as JSON.
    """
    value = fields.get(name)
    if isinstance(value, str):
        return value
    if type(value) is int:
        return str(value)
    return _alone(name).render(fields)


@functools.lru_cache(maxsize=1024)
def _alone(name: str) -> Template:
    return Template(f"{{{name}}}", "input")


def fenced(name: str, text: str) -> str:
    """A text between two lines that name it; the closing one does not occur in it. Takes time in its length only."""
    closings = re.findall(rf"(?<!=)(=++) end of {re.escape(name)} ", text)
    rule = "=" * max(3, *(len(found) + 1 for found in closings), 0)
    return f"{rule} {name} {rule}\n{text}\n{rule} end of {name} {rule}"


def _same(one: Any, other: Any) -> bool:
    return one is other or (type(one) is str and type(other) is str and one == other)


def _name(part: str | Placeholder) -> str:
    return "" if isinstance(part, str) else part.name
