"""A tool: a typed function that a model may call, and what it may be called with."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, ParamSpec, TypeVar, get_type_hints, overload

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError

from aurora_swarm.errors import ToolDefinitionError
from aurora_swarm.inputs.template import Template
from aurora_swarm.tools.decoding import fit

if TYPE_CHECKING:
    from aurora_swarm.tools.files import FileTool

ParamsT = ParamSpec("ParamsT")
ReturnT_co = TypeVar("ReturnT_co", covariant=True)

Effect = Literal["pure", "idempotent", "effect"]
Grant = str | Sequence[str]


_SHOWN_GRANTS = 20


class ArgumentsRefusedError(ValueError):
    """The model's arguments are not what the tool takes; the text is written for the model."""


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
    """

    is_quick: ClassVar[bool] = False
    """Whether an answer takes milliseconds, so that keeping the slot costs less than a lost prefix cache."""
    read_file: ClassVar[FileTool]
    list_dir: ClassVar[FileTool]

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
    ) -> None:
        self.function = function
        self.name = name
        self.description = description
        self.arguments = arguments
        self.effect: Effect = effect
        self.rate_limit = rate_limit
        self.timeout_s = timeout_s
        self.max_chars = max_chars
        self.grants = dict(grants or {})
        self.parameters = _schema(arguments, self.grants)
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

        Raises:
            ToolDefinitionError: A parameter cannot be offered to a model; function and parameter are named.
        """

        def make(function: Callable[..., Any]) -> Tool[..., Any]:
            summary, described = _read_docstring(function)
            if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
                raise ToolDefinitionError(f"{function.__qualname__} is a generator", remedy="return one value")
            return Tool(
                function,
                name=_checked_name(name or str(getattr(function, "__name__", ""))),
                description=summary,
                arguments=_arguments_of(function, described),
                effect=effect,
                rate_limit=rate_limit,
                timeout_s=timeout,
                max_chars=max_chars,
            )

        return make if function is None else make(function)

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
        copy = type(self).__new__(type(self))
        copy.__dict__.update(self.__dict__)
        copy.grants = dict(grants)
        copy.parameters = _schema(self.arguments, copy.grants)
        return copy

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
        values = {name: getattr(model, name) for name in type(model).model_fields}
        for name, granted in self.grants.items():
            # A template that nobody filled in grants nothing.
            if isinstance(granted, str) or str(values[name]) not in granted:
                allowed = "" if isinstance(granted, str) else ", ".join(granted[:_SHOWN_GRANTS])
                raise ArgumentsRefusedError(f"{name} must be one of: {allowed or 'none'}")
        return values

    def determinant(self) -> bytes:
        """What of this tool determines an agent's answer, as bytes for a content key."""
        return msgspec.json.encode([self.name, self.description, self.parameters, self.effect, self.max_chars])

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


def _arguments_of(function: Callable[..., Any], described: Mapping[str, str]) -> type[BaseModel]:
    where = getattr(function, "__qualname__", repr(function))
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise ToolDefinitionError(f"{where}: an annotation cannot be read: {error}") from error
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        _check_parameter(where, parameter, hints)
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (hints[name], Field(default, description=described.get(name)))
    try:
        with warnings.catch_warnings():
            # A parameter may be called `schema` or `copy`; nobody calls the methods that it hides.
            warnings.filterwarnings("ignore", message="Field name .* shadows", category=UserWarning)
            return create_model(where, __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=False), **fields)
    except (PydanticUserError, NameError) as error:
        first = str(error).splitlines()[0]
        raise ToolDefinitionError(f"{where}: {first}", remedy="use types that JSON has, or pydantic models") from error


def _check_parameter(where: str, parameter: inspect.Parameter, hints: Mapping[str, Any]) -> None:
    name = parameter.name
    if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
        raise ToolDefinitionError(f"{where}: *{name} cannot be offered", remedy="name each parameter")
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise ToolDefinitionError(f"{where}: {name} is positional-only", remedy="remove the / from the signature")
    if name not in hints:
        raise ToolDefinitionError(f"{where}: {name} has no type", remedy=f"annotate it, for example {name}: str")
    if name.startswith("_"):
        raise ToolDefinitionError(f"{where}: {name} begins with an underscore", remedy="rename it")


def _schema(arguments: type[BaseModel], grants: Mapping[str, Grant]) -> dict[str, Any]:
    schema = {"properties": {}, **fit(arguments.model_json_schema()), "additionalProperties": False}
    schema.pop("description", None)
    for name, part in schema["properties"].items():
        if name in grants and not isinstance(grants[name], str):
            described = {"description": part["description"]} if "description" in part else {}
            schema["properties"][name] = {"enum": list(grants[name]), **described}
    return schema


def _read_docstring(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """The summary of a Google-style docstring, and what its ``Args`` say."""
    text = inspect.getdoc(function) or ""
    body, _, rest = text.partition("\nArgs:\n")
    section = re.split(r"\n(?=\S)", rest, maxsplit=1)[0]
    entries = re.findall(r"^ {4}(\w+)[^:\n]*:[ ]*(.*(?:\n {5,}.*)*)", section, flags=re.MULTILINE)
    summary = re.split(r"\n(?:Returns|Raises|Yields):\n", body)[0].strip()
    return summary, {name: " ".join(said.split()) for name, said in entries}


def _problems(error: ValidationError) -> list[str]:
    details = error.errors(include_url=False, include_context=False, include_input=False)
    return [f"{'.'.join(map(str, d['loc']))}: {d['msg']}" for d in details]


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,63}", name):
        raise ToolDefinitionError(f"{name!r} is no name for a tool", remedy="use letters, digits, _ and -")
    return name


def _check_numbers(tool: Tool[..., Any]) -> None:
    for what, value in (("rate_limit", tool.rate_limit), ("timeout", tool.timeout_s), ("max_chars", tool.max_chars)):
        if value is not None and not value > 0:
            raise ToolDefinitionError(f"{tool.name}: {what} is {value}", remedy="give a value above 0")
