"""A tool: a typed function that a model may call, and what it may be called with."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, ParamSpec, Self, TypeVar, overload

import msgspec
from pydantic import BaseModel, ValidationError

from aurora_swarm.errors import ToolDefinitionError
from aurora_swarm.inputs.template import Template
from aurora_swarm.tools.signature import Grant, lookup_of, offer_of, schema_of, with_grants

if TYPE_CHECKING:
    from aurora_swarm.tools.files import FileTool
    from aurora_swarm.tools.python_eval import PythonEvalTool
    from aurora_swarm.tools.sql import SqlTool
    from aurora_swarm.tools.web.http_get import HttpGetTool
    from aurora_swarm.tools.web.search import SearchTool

ParamsT = ParamSpec("ParamsT")
ReturnT_co = TypeVar("ReturnT_co", covariant=True)

Effect = Literal["pure", "idempotent", "effect"]

_SHOWN_GRANTS = 20


class ArgumentsRefusedError(ValueError):
    """The model's arguments are not what the tool takes; the text is written for the model."""


class Batching(msgspec.Struct, frozen=True):
    """How single look-ups become one query.

    Args:
        keys: The function's parameter that takes the list of keys.
        key: The parameter that a model gives one key in.
        max_batch: Keys of one query at most.
        window_s: How long a look-up may wait for others while a query is under way; never when none is.
    """

    keys: str
    key: str
    max_batch: int
    window_s: float


class Tool(Generic[ParamsT, ReturnT_co]):
    """A function that a model may call. Made by `Tool.define`; still callable like the function itself.

    Args:
        function: The function; sync ones run on threads.
        name: What the model calls it.
        description: What it does, for the model.
        arguments: Pydantic model of its parameters.
        effect: ``pure`` (the same arguments give the same answer, so calls are shared), ``idempotent`` (may be
            repeated) or ``effect`` (changes something: never shared, never repeated silently).
        rate_limit: Calls per second at most; None for no limit.
        timeout_s: Longest single call.
        max_chars: Characters of an answer that the model is shown.
        grants: For a parameter, the only values that it may take, or a template over an agent's input for one.
        max_tokens: Tokens of an answer that the model is shown; None for as many as `max_chars` are.
        ttl_s: Seconds that an answer of a pure tool stays true; None for as long as what it read is unchanged.
        batching: Of a tool that looks up many keys at once, how; None for any other.
    """

    is_quick: ClassVar[bool] = False
    """Whether an answer takes milliseconds, so that keeping the slot costs less than a lost prefix cache."""
    read_file: ClassVar[FileTool]
    list_dir: ClassVar[FileTool]
    http_get: ClassVar[HttpGetTool]
    web_search: ClassVar[SearchTool]
    sql_query: ClassVar[SqlTool]
    python_eval: ClassVar[PythonEvalTool]

    def __init__(
        self,
        function: Callable[ParamsT, ReturnT_co],
        *,
        name: str,
        description: str,
        arguments: type[BaseModel],
        effect: Effect = "effect",
        rate_limit: float | None = None,
        timeout_s: float = 30.0,
        max_chars: int = 20_000,
        grants: Mapping[str, Grant] | None = None,
        max_tokens: int | None = None,
        ttl_s: float | None = None,
        batching: Batching | None = None,
    ) -> None:
        self.function = function
        self.is_async = inspect.iscoroutinefunction(function)
        self.name = name
        self.description = description
        self.arguments = arguments
        self.effect: Effect = effect
        self.rate_limit = rate_limit
        self.timeout_s = timeout_s
        self.max_chars = max_chars
        self.max_tokens = max_tokens
        self.ttl_s = ttl_s
        self.batching = batching
        self.grants = dict(grants or {})
        self._names = tuple(arguments.model_fields)
        self._ungranted = schema_of(arguments)
        self.parameters = with_grants(self._ungranted, self.grants)
        # Shared by copies with other grants: what an agent may ask for does not change what a call does.
        self._origin: Hashable = function if inspect.isfunction(function) else object()
        _check_numbers(self)

    def __call__(self, *args: ParamsT.args, **kwargs: ParamsT.kwargs) -> ReturnT_co:
        """Call the function itself, as if it had never been made a tool."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"Tool({self.name})"

    # -- making one --------------------------------------------------------------------------------------------

    @overload
    @staticmethod
    def define(function: Callable[ParamsT, ReturnT_co], /) -> Tool[ParamsT, ReturnT_co]: ...
    @overload
    @staticmethod
    def define(
        *,
        name: str | None = None,
        effect: Effect = "effect",
        rate_limit: float | None = None,
        timeout: float = 30.0,
        max_chars: int = 20_000,
        max_tokens: int | None = None,
        ttl: float | None = None,
    ) -> Callable[[Callable[ParamsT, ReturnT_co]], Tool[ParamsT, ReturnT_co]]: ...
    @staticmethod
    def define(
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        effect: Effect = "effect",
        rate_limit: float | None = None,
        timeout: float = 30.0,
        max_chars: int = 20_000,
        max_tokens: int | None = None,
        ttl: float | None = None,
    ) -> Any:
        """Make a typed function a tool; with or without arguments.

        The parameters' types become the schema that the model is held to, the docstring's ``Args`` their
        descriptions.

        Args:
            function: The function, sync or async.
            name: What the model calls it; the function's name when None.
            effect: ``pure``, ``idempotent`` or ``effect``; what is not known to be harmless counts as an effect.
            rate_limit: Calls per second at most.
            timeout: Seconds for one call.
            max_chars: Characters of an answer that the model is shown.
            max_tokens: Tokens of an answer that the model is shown.
            ttl: Seconds that an answer of a pure tool stays true; for the whole run when None.

        Raises:
            ToolDefinitionError: A parameter cannot be offered to a model; function and parameter are named.
        """

        def make(function: Callable[..., Any]) -> Tool[..., Any]:
            called = _checked_name(name or str(getattr(function, "__name__", "")))
            offer = offer_of(function)
            return Tool(
                function,
                name=called,
                description=offer.description,
                arguments=offer.arguments,
                effect=effect,
                rate_limit=rate_limit,
                timeout_s=timeout,
                max_chars=max_chars,
                max_tokens=max_tokens,
                ttl_s=ttl,
            )

        return make if function is None else make(function)

    @staticmethod
    def batchable(
        *,
        key: str | None = None,
        name: str | None = None,
        effect: Literal["pure", "idempotent"] = "pure",
        max_batch: int = 500,
        window: float = 0.005,
        rate_limit: float | None = None,
        timeout: float = 30.0,
        max_chars: int = 20_000,
        max_tokens: int | None = None,
        ttl: float | None = None,
    ) -> Callable[[Callable[ParamsT, ReturnT_co]], Tool[ParamsT, ReturnT_co]]:
        """Make a function that looks up a list of keys a tool that looks up one.

        Models ask for one key each. What agents ask in the same moment becomes one call of the function, each key once;
        a look-up that comes alone waits for nobody. While a call is under way, what is asked meanwhile gathers until it
        ends, `window` has passed, or `max_batch` keys are there. Where the function has further parameters, only
        look-ups that agree in them go together.

        The function returns a mapping from key to value, or a list as long as the keys and in their order. A key that
        the mapping lacks, or whose place in the list holds None, is a failure of that key alone. When a call for
        several keys raises, it is repeated for halves of them, so that one bad key fails alone; the repetitions are at
        most four per halving. One that takes too long fails for all of its keys.

        Args:
            key: What the model calls the key; the name of the list when None.
            name: What the model calls the tool; the function's name when None.
            effect: ``pure`` or ``idempotent``; what changes something is never put together with others.
            max_batch: Keys of one call at most.
            window: Seconds that a look-up may wait for others while a call is under way.
            rate_limit: Calls of the function per second at most.
            timeout: Seconds for one call of the function.
            max_chars: Characters of an answer that the model is shown.
            max_tokens: Tokens of an answer that the model is shown.
            ttl: Seconds that an answer of a pure tool stays true; for the whole run when None.

        Raises:
            ToolDefinitionError: The function takes no list first, or a parameter cannot be offered.
        """

        def make(function: Callable[ParamsT, ReturnT_co]) -> Tool[ParamsT, ReturnT_co]:
            called = _checked_name(name or str(getattr(function, "__name__", "")))
            offer = lookup_of(function, key)
            batching = Batching(offer.keys, key or offer.keys, max_batch, window)
            return Tool(
                function,
                name=called,
                description=offer.description,
                arguments=offer.arguments,
                effect=effect,
                rate_limit=rate_limit,
                timeout_s=timeout,
                max_chars=max_chars,
                max_tokens=max_tokens,
                ttl_s=ttl,
                batching=batching,
            )

        return make

    def showing(self, *, max_chars: int | None = None, max_tokens: int | None = None) -> Self:
        """A copy that shows the model more or less of an answer.

        Args:
            max_chars: Characters; as before when None.
            max_tokens: Tokens; as before when None.

        Raises:
            ToolDefinitionError: A number is not above 0.
        """
        copied = copy.copy(self)
        copied.max_chars = self.max_chars if max_chars is None else max_chars
        copied.max_tokens = self.max_tokens if max_tokens is None else max_tokens
        _check_numbers(copied)
        return copied

    # -- granting ----------------------------------------------------------------------------------------------

    def limit(self, **grants: Grant) -> Tool[ParamsT, ReturnT_co]:
        """A copy whose parameters may only take granted values, whatever the model asks for.

        Args:
            **grants: For a parameter its values: a list, or a template over each agent's input (``path="{path}"``).

        Raises:
            ToolDefinitionError: There is no such parameter, it is no text, or a list is empty.
            TemplateError: A template is malformed.
        """
        for name, grant in grants.items():
            if name not in self.arguments.model_fields:
                known = ", ".join(self.arguments.model_fields)
                raise ToolDefinitionError(f"{self.name} has no parameter {name}", remedy=f"it has: {known}")
            if self.parameters["properties"][name].get("type", "string") != "string":
                raise ToolDefinitionError(f"{self.name}.{name} is no text", remedy="limit text parameters only")
            if isinstance(grant, str):
                Template(grant, f"grant for {self.name}.{name}")
            elif not grant:
                raise ToolDefinitionError(f"no value is granted for {self.name}.{name}", remedy="grant at least one")
        return self._with({**self.grants, **grants})

    def check_grants(self, fields: Iterable[str], where: str) -> None:
        """Make sure that every template among the grants can be filled from an input.

        Raises:
            TemplateError: A placeholder that the input does not fill.
        """
        for name, grant in self.grants.items():
            if isinstance(grant, str):
                Template(grant, f"grant for {self.name}.{name}").check(fields, where)

    def bind(self, fields: Mapping[str, Any]) -> Tool[ParamsT, ReturnT_co]:
        """This tool as one agent has it, its grants rendered; the tool itself when there is nothing to render."""
        if not any(isinstance(grant, str) for grant in self.grants.values()):
            return self
        rendered = {n: [Template(g).render(fields)] if isinstance(g, str) else g for n, g in self.grants.items()}
        return self._with(rendered)

    def _with(self, grants: Mapping[str, Grant]) -> Tool[ParamsT, ReturnT_co]:
        copied = copy.copy(self)
        copied.grants = dict(grants)
        copied.parameters = with_grants(self._ungranted, copied.grants)
        return copied

    # -- being called ------------------------------------------------------------------------------------------

    def validated(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments for the function from what a model gave.

        Raises:
            ArgumentsRefusedError: They are not what the tool takes, or not granted.
        """
        try:
            model = self.arguments.model_validate(dict(arguments))
        except ValidationError as error:
            raise ArgumentsRefusedError("; ".join(_problems(error))) from None
        values = {name: getattr(model, name) for name in self._names}
        for name, granted in self.grants.items():
            # A template that nobody filled in grants nothing.
            if isinstance(granted, str) or str(values[name]) not in granted:
                allowed = "" if isinstance(granted, str) else ", ".join(granted[:_SHOWN_GRANTS])
                raise ArgumentsRefusedError(f"{name} must be one of: {allowed or 'none'}")
        return values

    def call_arguments(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the function is called with: the model's arguments, as validated, and what the user set."""
        return values

    def identity(self) -> Hashable:
        """What equal calls must agree in besides their arguments: the function, and how much of an answer is shown."""
        return self._origin, self.max_chars, self.max_tokens

    def determinant(self) -> bytes:
        """What of this tool determines an agent's answer, as bytes for a content key.

        Raises:
            ToolDefinitionError: It cannot be used as it is: something that it needs is not set.
        """
        parts = [self.name, self.description, self.parameters, self.effect, self.max_chars]
        return msgspec.json.encode(parts if self.max_tokens is None else [*parts, self.max_tokens])

    def stamp(self) -> bytes:
        """The state of what this agent is granted, as bytes for a content key; empty when nobody can tell."""
        return msgspec.json.encode(self.grants) if self.grants else b""

    def resource(self, arguments: Mapping[str, Any]) -> str | None:
        """The version of what a call would read, so that a past answer is used only while it is still true.

        Returns:
            A stamp; None when past answers may not be used.
        """
        del arguments
        return "" if self.effect == "pure" else None


AnyTool = Tool[..., Any]


def as_tool(candidate: AnyTool | Callable[..., Any]) -> AnyTool:
    """A tool as it is, or a plain typed function as a tool.

    Raises:
        ToolDefinitionError: It is neither, or a parameter cannot be offered.
    """
    if isinstance(candidate, Tool):
        return candidate
    if not callable(candidate) or isinstance(candidate, type):
        raise ToolDefinitionError(
            f"{candidate!r} is no tool", remedy="give Tool.read_file and the like, or a typed function"
        )
    return Tool.define(candidate)


def _problems(error: ValidationError) -> list[str]:
    details = error.errors(include_url=False, include_context=False, include_input=False)
    return [f"{'.'.join(map(str, d['loc']))}: {d['msg']}" for d in details]


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,63}", name):
        raise ToolDefinitionError(f"{name!r} is no name for a tool", remedy="use letters, digits, _ and -")
    return name


def _check_numbers(tool: Tool[..., Any]) -> None:
    numbers: dict[str, float | None] = {
        "rate_limit": tool.rate_limit,
        "timeout": tool.timeout_s,
        "max_chars": tool.max_chars,
        "max_tokens": tool.max_tokens,
        "ttl": tool.ttl_s,
    }
    if tool.batching is not None:
        if tool.effect == "effect":
            remedy = "look-ups are pure or idempotent"
            raise ToolDefinitionError(f"{tool.name}: calls with effects are never put together", remedy=remedy)
        numbers["max_batch"] = tool.batching.max_batch
        if not 0 <= tool.batching.window_s <= tool.timeout_s:
            remedy = "give seconds between 0 and the timeout"
            raise ToolDefinitionError(f"{tool.name}: window is {tool.batching.window_s}", remedy=remedy)
    for what, value in numbers.items():
        if value is not None and not value > 0:
            raise ToolDefinitionError(f"{tool.name}: {what} is {value}", remedy="give a value above 0")
