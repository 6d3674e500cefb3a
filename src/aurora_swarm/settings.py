"""What the environment says, read once, checked, frozen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from aurora_swarm.errors import SettingsError


class Settings(msgspec.Struct, frozen=True):
    """Settings from ``AURORA_SWARM_*`` variables; an argument given in code always wins.

    Args:
        hostfile: ``AURORA_SWARM_HOSTFILE``: path of the default hostfile.
        max_tokens: ``AURORA_SWARM_MAX_TOKENS``: tokens to generate per turn at most, where a batch, an `ask` or a
            `VLLMPool` does not say.
        max_tokens_aggregation: ``AURORA_SWARM_MAX_TOKENS_AGGREGATION``: tokens to generate at most where many answers
            become one; twice `max_tokens` where it is not set.
        model_max_context: ``AURORA_SWARM_MODEL_MAX_CONTEXT``: context of every server in tokens; each server is asked
            where it is not set.
        timeout_per_sequence: ``AURORA_SWARM_TIMEOUT_PER_SEQUENCE``: seconds that each prompt adds to the time of a
            request of several.
        api_key: ``AURORA_SWARM_API_KEY``: key for endpoints; a provider's own variable where it is not set.
        model: ``AURORA_SWARM_MODEL``: model name to ask for.
        local_model: ``AURORA_SWARM_LOCAL_MODEL``: GGUF file for ``local://``.
        cache_dir: ``AURORA_SWARM_CACHE_DIR``: where downloaded weights are kept.
    """

    hostfile: str | None = None
    max_tokens: int | None = None
    max_tokens_aggregation: int | None = None
    model_max_context: int | None = None
    timeout_per_sequence: float | None = None
    api_key: str | None = None
    model: str | None = None
    local_model: str | None = None
    cache_dir: str | None = None

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        fields = msgspec.structs.asdict(self)
        return list({**fields, "api_key": fields["api_key"] and "***"}.items())

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


_PREFIX = "AURORA_SWARM_"
_SHOWN_CHARS = 60


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Read settings from an environment.

    Args:
        environ: Usually `os.environ`. Space around a value is dropped; a variable without a value counts as unset.

    Raises:
        SettingsError: A variable holds something else than its type, a number that is not positive, or a key
            that no header can carry; all such variables are named.
    """
    given = {
        name: text for name in Settings.__struct_fields__ if (text := environ.get(_PREFIX + name.upper(), "").strip())
    }
    errors = [error for name, text in given.items() if (error := _check(name, text))]
    if errors:
        raise SettingsError.all_of(errors)
    return msgspec.convert(given, Settings, strict=False)


def _check(name: str, text: str) -> SettingsError | None:
    kind = {f.name: f.type for f in msgspec.structs.fields(Settings)}[name]
    try:
        value = msgspec.convert(text, kind, strict=False)
    except (msgspec.ValidationError, UnicodeEncodeError):
        value = 0
    variable = _PREFIX + name.upper()
    if name == "api_key" and not (text.isascii() and text.isprintable()):
        remedy = f"set {variable} to the key alone, on one line"
        return SettingsError("a key has characters that no header can carry", source=variable, remedy=remedy)
    if isinstance(value, str) or (value is not None and 0 < value < float("inf")):
        return None
    wanted = "a whole number above 0" if kind == int | None else "a number of seconds above 0"
    shown = text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "..."
    return SettingsError(
        f"{shown!a} is not {wanted}", source=variable, remedy=f"set {variable} to {wanted}, or unset it"
    )
