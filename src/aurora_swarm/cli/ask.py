"""``aurora-swarm ask``: one prompt."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aurora_swarm.cli.complaints import complain, ranges
from aurora_swarm.cli.exits import exit_of
from aurora_swarm.cli.interrupts import run_interruptibly
from aurora_swarm.cli.options import (
    OUT,
    WHAT,
    BackendOption,
    HostfileOption,
    LocalModelOption,
    MaxTokensOption,
    ModelOption,
    QuietOption,
    TemperatureOption,
    TimeoutOption,
    chosen_backend,
    environment,
)
from aurora_swarm.cli.voice import tell
from aurora_swarm.errors import QuorumError, UsageError

if TYPE_CHECKING:
    from aurora_swarm.pools.open import Backend, PoolOptions
    from aurora_swarm.values.gathered import Reduced
    from aurora_swarm.values.outcome import Response


def ask(
    prompt: Annotated[str, typer.Argument(help="The prompt, sent unchanged; - reads it from standard input.")],
    *,
    broadcast: Annotated[bool, typer.Option("--broadcast", help="Ask every endpoint.", rich_help_panel=WHAT)] = False,
    reduce: Annotated[
        str | None,
        typer.Option(
            metavar="TEMPLATE",
            help="Ask every endpoint, then have one merge the answers, which stand at {responses}.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    max_tokens: MaxTokensOption = None,
    temperature: TemperatureOption = None,
    backend: BackendOption = None,
    hostfile: HostfileOption = None,
    model: ModelOption = None,
    local_model: LocalModelOption = None,
    timeout: TimeoutOption = None,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object per answer.", rich_help_panel=OUT)] = False,
    quiet: QuietOption = False,
) -> int:
    """Ask, print the answers; exit with 0 if all answered, 1 if some did, 3 if none did."""
    from aurora_swarm.pools.open import PoolOptions  # noqa: PLC0415 - start-up is light
    from aurora_swarm.values.call import Sampling  # noqa: PLC0415

    settings = environment()
    options = PoolOptions(
        model=model or settings.model or "",
        timeout_s=timeout or 300.0,
        sampling=Sampling(max_tokens=max_tokens or settings.max_tokens, temperature=temperature),
        api_key=settings.api_key,
        local_model=local_model or settings.local_model,
        cache_dir=settings.cache_dir,
    )
    chosen = chosen_backend(backend, hostfile)
    text = _prompt(prompt)
    _check_reduce(reduce)
    responses = run_interruptibly(_ask(text, chosen, options, broadcast=broadcast, reduce=reduce, quiet=quiet))
    for response in responses:
        _print(response, as_json=json_, labelled=broadcast and reduce is None)
    ok = sum(response.success for response in responses)
    return exit_of(ok, len(responses) - ok + _missing(responses))


def _missing(responses: Sequence[Response]) -> int:
    """How many answers are not in a merged one, which is told."""
    from aurora_swarm.values.gathered import Reduced  # noqa: PLC0415 - start-up is light

    lacking = [each for each in responses if isinstance(each, Reduced) and each.success and each.missing]
    for merged in lacking:
        complain(QuorumError(_lack(merged), n_ok=merged.n_ok, n_failed=merged.n_failed))
    return len(lacking)


def _lack(merged: Reduced) -> str:
    """What is missing in a merged answer, as a sentence."""
    of_all = f"{merged.n_ok} of {merged.n_ok + merged.n_failed} answers"
    return f"{of_all} are in the merged one; missing are those of endpoints {ranges(merged.missing)}"


def _prompt(given: str) -> str:
    text = sys.stdin.read() if given == "-" else given
    if not text.strip():
        raise UsageError("the prompt is empty", remedy='write a question: aurora-swarm ask "Why is the sky blue?"')
    return text


def _check_reduce(template: str | None) -> None:
    from aurora_swarm.inputs.template import Template  # noqa: PLC0415

    if template is not None and Template(template, "--reduce").fields != {"responses"}:
        problem = "--reduce has no {responses}, or has other fields"
        raise UsageError(problem, remedy='write {responses} where the answers are to stand: "Merge: {responses}"')


async def _ask(
    prompt: str, backend: Backend, options: PoolOptions, *, broadcast: bool, reduce: str | None, quiet: bool
) -> Sequence[Response]:
    from aurora_swarm.cli.heartbeat import open_wait  # noqa: PLC0415
    from aurora_swarm.patterns.broadcast import broadcast_and_reduce  # noqa: PLC0415
    from aurora_swarm.pools.open import open_pool  # noqa: PLC0415

    with open_wait(quiet=quiet) as waiting:
        async with open_pool(backend, options, say=waiting.say) as pool:
            waiting.say(f"asking {pool.size if broadcast or reduce is not None else 1} of {pool.size} endpoints")
            if reduce is not None:
                return [await broadcast_and_reduce(pool, prompt, reduce)]
            return await (pool.broadcast_prompt(prompt) if broadcast else pool.send_all([prompt]))


def _print(response: Response, *, as_json: bool, labelled: bool) -> None:
    if as_json:
        tell(json.dumps(_record(response), ensure_ascii=False))
    elif response.success:
        url = response.endpoint.url if response.endpoint else ""
        tell(f"# {url}\n{response.text}\n" if labelled else response.text)
    if response.error is not None:
        complain(response.error)


def _record(response: Response) -> dict[str, Any]:
    error, usage = response.error, response.usage
    return {
        "endpoint": response.endpoint.url if response.endpoint else "",
        "ok": response.success,
        "text": response.text,
        "error": {"kind": error.kind, "message": str(error)} if error else None,
        "finish_reason": response.finish_reason,
        "usage": {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens},
        "attempts": response.attempts,
        "latency_s": round(response.latency_s, 6),
    }
