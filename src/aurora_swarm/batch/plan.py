"""How a batch travels to the processes that share it: by reference, never as code that is copied. Knows no store.

What comes from Python is pickled, classes and functions by the name under which they can be imported. What comes from a
specification travels as the document that it is, and holds no code.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import io
import json
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType
from typing import Any, Literal

import msgspec

from aurora_swarm.agents.structured import OutputSpec
from aurora_swarm.batch.keys import Occurrences
from aurora_swarm.batch.spec import BatchSpec
from aurora_swarm.errors import InputError, UsageError
from aurora_swarm.inputs.files import without_credentials
from aurora_swarm.tools.definition import AnyTool, Tool, as_tool
from aurora_swarm.tools.mcp.server import McpServer
from aurora_swarm.values.shard import Job

EngineName = str
WORKER = "aurora_swarm.batch.worker:main"
_FORMAT = 1


class Sharing(msgspec.Struct, frozen=True, kw_only=True):
    """How a batch is shared by several processes.

    Args:
        store: ``redis://host:6379/0``, or ``sqlite:///path`` for the processes of one machine.
        run: The run's id; the same one continues it. One is made of what is asked where it is empty.
        engine: Who starts the workers: ``processes``, ``ray``, ``ray://host:port`` or ``local``.
        processes: Workers to start; 0 starts none, for workers that somebody else starts.
        shards: Parts that workers own; fixed for the run.
        lease_s: Seconds after which the part of a worker that is gone is another one's.
        max_attempts: How often an agent is begun whose worker dies with it.
        window: Inputs in the store without a result at most, so that its memory is bounded.
        worker: The worker function.
        document: What travels in place of the batch itself, for `worker` to read; empty for the batch, by reference.
    """

    store: str
    run: str = ""
    engine: EngineName = "processes"
    processes: int = 2
    shards: int = 64
    lease_s: float = 2.0
    max_attempts: int = 3
    window: int = 10_000
    worker: str = WORKER
    document: bytes = b""

    def check(self) -> None:
        """Make sure that its numbers can be used.

        Raises:
            UsageError: One cannot.
        """
        for name, least in (("processes", 0), ("max_attempts", 1), ("window", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}", remedy=f"give {least} or more")

    @property
    def place(self) -> str:
        """The store's address without what is secret in it, for what is said."""
        return without_credentials(self.store).partition("?")[0]


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """Where each worker finds the model; see `aurora_swarm.batch.run.BatchOptions`."""

    backend: str | list[str]
    model: str = ""
    max_inflight: int | None = None
    timeout_s: float = 300.0
    local_model: str | None = None
    prefetch: bool = False
    streamed: bool = False


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is sent.

    Args:
        kind: Whether `body` is a pickled batch or a document.
        body: What is to be done.
        where: Where the model is.
        shared: Fields that all inputs have in common, as JSON.
        paths: Folders that the sender imports from.
        max_tokens: The sender's bound on the tokens of a turn, where the batch sets none.
    """

    kind: Literal["python", "document"]
    body: bytes
    where: Where
    shared: bytes = b"{}"
    paths: tuple[str, ...] = ()
    max_tokens: int | None = None


class Errand(msgspec.Struct, frozen=True, kw_only=True):
    """The argument of a worker: which run it works on.

    Args:
        store: Address of the store, with its credentials.
        run: The run's id.
        where: Where the model is now; None for where it was when the run was made.
    """

    store: str
    run: str
    where: Where | None = None


def packed(spec: BatchSpec, where: Where, shared: Mapping[str, Any], document: bytes) -> bytes:
    """A batch as workers are sent it.

    Raises:
        UsageError: Something in it cannot be found by its name in another process.
    """
    body = document or _pickled(spec)
    paths = () if document else tuple(str(Path(path).absolute()) for path in sys.path)
    kind: Literal["python", "document"] = "document" if document else "python"
    parcel = Parcel(
        kind=kind, body=body, where=where, shared=encoded(shared), paths=paths, max_tokens=spec.sampling.max_tokens
    )
    return msgspec.msgpack.encode(parcel)


def unpacked(payload: bytes) -> Parcel:
    """What a worker was sent.

    Raises:
        UsageError: It is not what this version sends.
    """
    try:
        return msgspec.msgpack.decode(payload, type=Parcel)
    except msgspec.MsgspecError as problem:
        remedy = "use the same version of aurora-swarm in all processes"
        raise UsageError(f"the run was made by another version: {problem}", remedy=remedy) from problem


def revived(parcel: Parcel) -> BatchSpec:
    """The batch of a parcel from Python. Runs code that the sender names: who writes to the store is trusted.

    Raises:
        UsageError: Something in it cannot be imported here.
    """
    sys.path.extend(path for path in parcel.paths if path not in sys.path)
    try:
        spec: BatchSpec = _Unpickler(io.BytesIO(parcel.body)).load()
    except (ImportError, AttributeError, pickle.UnpicklingError) as problem:
        remedy = "install the same code where the workers run"
        raise UsageError(f"the batch cannot be read here: {problem}", remedy=remedy) from problem
    return spec


def digest_of(spec: BatchSpec, model: str) -> str:
    """What determines the answers; a run is continued under an equal one only."""
    tools = [repr(tool) if isinstance(tool, McpServer) else as_tool(tool).determinant().hex() for tool in spec.tools]
    schema = bytes(OutputSpec(spec.output_schema).encoded or b"").decode()
    runtime = "" if spec.runtime is None else spec.runtime.determinant().hex()
    said = (spec.task, spec.system_prompt, spec.tool_choice, spec.tool_protocol, spec.compaction, spec.hoist)
    parts = (_FORMAT, model, said, tools, schema, runtime, spec.max_turns, spec.max_retries, spec.sampling)
    return hashlib.sha256(encoded(parts)).hexdigest()


class Keys:
    """Makes jobs of inputs; equal inputs are told apart by how often they occurred before."""

    def __init__(self) -> None:
        self._occurrences = Occurrences()

    def job(self, index: int, fields: Mapping[str, Any]) -> Job:
        """The job of one input.

        Raises:
            InputError: The input cannot be sent to another process.
        """
        if not isinstance(fields, Mapping):
            raise InputError(f"is a {type(fields).__name__}, not a mapping of fields", source=f"input {index}")
        try:
            payload = encoded(dict(fields))
        except (TypeError, ValueError, OverflowError, RecursionError) as problem:
            remedy = "give texts, numbers, lists and mappings"
            raise InputError(
                f"cannot be sent to another process: {problem}", source=f"input {index}", remedy=remedy
            ) from problem
        content = hashlib.blake2b(payload, digest_size=16).digest()
        number = self._occurrences.count(content)
        return Job(content.hex() if not number else f"{content.hex()}-{number}", index, payload)


def encoded(value: Any) -> bytes:
    """Plain data as JSON, whatever its texts hold, and always the same for the same data."""
    try:
        return msgspec.json.encode(value, order="deterministic")
    except UnicodeEncodeError:  # half a surrogate pair, which UTF-8 has no bytes for
        return json.dumps(msgspec.to_builtins(value), sort_keys=True).encode()


def decoded(payload: bytes) -> Any:
    """What was encoded."""
    return json.loads(payload)


# -- by reference ------------------------------------------------------------------------------------------------------


def _pickled(spec: BatchSpec) -> bytes:
    buffer = io.BytesIO()
    try:
        _Pickler(buffer).dump(spec)
    except (pickle.PicklingError, AttributeError, TypeError) as problem:
        remedy = "use tools and schemas that stand in a module, or the workers of engine='local'"
        raise UsageError(f"the batch cannot be sent to another process: {problem}", remedy=remedy) from problem
    return buffer.getvalue()


def _found(module: str, name: str) -> Any:
    place: Any = importlib.import_module(module)
    for part in name.split("."):
        place = getattr(place, part)
    return place


def _function_of(module: str, name: str) -> Any:
    """The function that a tool was made of, under whose name the tool is found."""
    return _found(module, name).function


def _copy_of(module: str, name: str) -> AnyTool:
    """A copy of a tool, or of a function as one; what makes it another one follows."""
    return copy.copy(as_tool(_found(module, name)))


_OF_FUNCTION = frozenset({"function", "is_async", "arguments", "batching", "_ungranted", "_origin"})
"""What a tool has of its function, whatever it is limited to."""


class _Pickler(pickle.Pickler):
    """Takes tools by the name of their function, and refuses what no other process can import."""

    def persistent_id(self, obj: Any) -> tuple[str, str] | None:
        """Where a tool can be found, if it can."""
        if not isinstance(obj, Tool) or not isinstance(obj.function, FunctionType):
            return None
        place = _place(obj.function)
        return place if place is not None and _may_be_found(*place) is obj else None

    def reducer_override(self, obj: Any) -> Any:
        """How functions and classes are written, by their name, and tools as what they differ in from that."""
        if type(obj) is Tool and isinstance(obj.function, FunctionType):
            place = _place(obj.function)
            if place is None or _may_be_found(*place) is None:
                return NotImplemented
            return _copy_of, place, {name: value for name, value in vars(obj).items() if name not in _OF_FUNCTION}
        if isinstance(obj, FunctionType | type):
            place = _place(obj)
            if place is None:
                raise UsageError(
                    f"{obj.__qualname__} is in {obj.__module__}, where another process cannot import it from",
                    remedy="move it to the top level of a module, and import it from there",
                )
            found = _may_be_found(*place)
            if isinstance(found, Tool) and found.function is obj:
                return _function_of, place
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, pid: Any) -> Any:
        return _found(*pid)


def _place(thing: FunctionType | type) -> tuple[str, str] | None:
    """Module and name; None where no other process finds it."""
    hidden = thing.__module__ == "__main__" or "<" in thing.__qualname__
    return None if hidden else (thing.__module__, thing.__qualname__)


def _may_be_found(module: str, name: str) -> Any:
    try:
        return _found(module, name)
    except (ImportError, AttributeError):
        return None
