"""``aurora-swarm ctl``: watch and steer a run that is under way."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aurora_swarm.cli.complaints import complain
from aurora_swarm.cli.exits import Exit
from aurora_swarm.cli.voice import clock, counted, one_line, say, tell

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aurora_swarm.swarms.control import ItemStatus, SwarmStatus
    from aurora_swarm.swarms.control_client import Run
    from aurora_swarm.swarms.control_wire import Action, Reply, Request


class Kind(StrEnum):
    """Of what is listed."""

    TASK = "task"
    WORKER = "worker"


RunOption = Annotated[
    str | None,
    typer.Option(
        "--run",
        metavar="ID|PATH",
        help="Which run: its id, the beginning or the end of it, or the path of its socket. "
        "May be left out while one run is under way.",
    ),
]
IdArgument = Annotated[
    str, typer.Argument(metavar="ID", help="Of a task, of a worker, or of the run, which means all of it.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]

ctl_app = typer.Typer(
    rich_markup_mode="rich",
    invoke_without_command=True,
    help="Watch and steer a swarm that is under way: each command is answered at once.\n\n"
    "A run listens on a socket that only you can reach. Start with [bold]list[/bold], then [bold]items[/bold]: "
    "they show the ids that the other commands take.",
    epilog="[bold]Examples[/bold]\n\n"
    "aurora-swarm ctl list\n\n"
    "aurora-swarm ctl items --state running --limit 20\n\n"
    "aurora-swarm ctl pause 01K9ZB3V7Q4C5E8G2H6J0M4N8R\n\n"
    'aurora-swarm ctl steer 01K9ZB3V7Q4C5E8G2H6J0M4N8R "Keep to sources from after 2020."\n\n'
    "Exit codes:  0 done, 1 the run did not answer, 2 wrong usage: no such run, no such id, or it cannot be done",
)


@ctl_app.callback()
def root(context: typer.Context, run: RunOption = None) -> None:
    """What holds for all of them."""
    context.obj = run
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@ctl_app.command("list", epilog="[bold]Examples[/bold]\n\naurora-swarm ctl list")
def list_runs(json_: JsonOption = False) -> int:
    """Show the runs of yours that are under way, the oldest first; exit with 1 if one of them does not answer."""
    from aurora_swarm.swarms.control_client import runs  # noqa: PLC0415 - start-up is light

    found = runs()
    if json_:
        _tell_json([_run_record(run) for run in found])
    else:
        rows = [("run", "name", "phase", "tasks", "since"), *(_run_row(run) for run in found)]
        _table(rows if found else [])
        say(f"{counted(len(found), 'run')} under way")
    for run in found:
        if run.error is not None:
            complain(run.error)
    return Exit.SOME_FAILED if any(run.error for run in found) else Exit.OK


@ctl_app.command(
    "status", epilog="[bold]Examples[/bold]\n\naurora-swarm ctl status\n\nwatch -n 1 aurora-swarm ctl status"
)
def status(context: typer.Context, run: RunOption = None, json_: JsonOption = False) -> int:
    """Show a run at this moment: its phase, how many tasks and workers are in each state, and the tokens spent."""
    reply = _asked(context, run, _request("status"))
    assert reply.status is not None
    if json_:
        _tell_json(reply.status)
    else:
        _print_status(reply.status)
    return Exit.OK


@ctl_app.command(
    "items",
    epilog="[bold]Examples[/bold]\n\naurora-swarm ctl items --state running\n\n"
    "aurora-swarm ctl items --kind worker --limit 1000 --json",
)
def items(
    context: typer.Context,
    *,
    run: RunOption = None,
    kind: Annotated[Kind | None, typer.Option(help="Only those.")] = None,
    state: Annotated[
        str | None,
        typer.Option(
            help="Only those in it. A task is waiting, ready, running, paused, done, failed or cancelled; "
            "a worker is idle, working, paused or gone."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 100,
    json_: JsonOption = False,
) -> int:
    """Show tasks and workers, the newest first, with their ids."""
    wanted = _request("items", kind=kind.value if kind else None, state=state, limit=limit)
    found = _asked(context, run, wanted).items or []
    if json_:
        _tell_json(found)
    else:
        _print_items(found)
        say(f"{counted(len(found), 'item')} shown" + (", there may be more" if len(found) == limit else ""))
    return Exit.OK


@ctl_app.command("pause")
def pause(context: typer.Context, id_: IdArgument, run: RunOption = None) -> int:
    """Let no further call to a model begin for it; calls under way are let finish."""
    return _act(context, run, "pause", id_, "paused")


@ctl_app.command("resume")
def resume(context: typer.Context, id_: IdArgument, run: RunOption = None) -> int:
    """Let go on what was paused."""
    return _act(context, run, "resume", id_, "resumed")


@ctl_app.command("cancel")
def cancel(context: typer.Context, id_: IdArgument, run: RunOption = None) -> int:
    """End a task with those that build on it, send a worker home, or end the run, which answers from what is done."""
    return _act(context, run, "cancel", id_, "cancelled")


@ctl_app.command("requeue")
def requeue(context: typer.Context, id_: IdArgument, run: RunOption = None) -> int:
    """Take a task from its worker, or take up again one that failed or was cancelled."""
    return _act(context, run, "requeue", id_, "requeued")


@ctl_app.command(
    "steer",
    epilog="[bold]Examples[/bold]\n\n"
    'aurora-swarm ctl steer 01K9ZB3V7Q4C5E8G2H6J0M4N8R "Keep to sources from after 2020."',
)
def steer(
    context: typer.Context,
    id_: IdArgument,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Read before the next call to the model.")],
    run: RunOption = None,
) -> int:
    """Say something to whoever works on it."""
    return _act(context, run, "steer", id_, "told", text=text)


def _act(context: typer.Context, run: str | None, op: Action, id_: str, done: str, *, text: str = "") -> int:
    _asked(context, run, _request(op, id=id_, text=text))
    say(f"{done} {id_}")
    return Exit.OK


def _request(op: str, **fields: Any) -> Request:
    from aurora_swarm.swarms.control_wire import Request  # noqa: PLC0415

    return Request(op=op, **fields)  # type: ignore[arg-type]  # one of ours


def _asked(context: typer.Context, run: str | None, request: Request) -> Reply:
    """The reply of the run that is meant; what it refuses is raised and ends the command."""
    from aurora_swarm.swarms.control_client import ask_run, find_run  # noqa: PLC0415

    return ask_run(find_run(run or context.obj), request)


def _run_record(run: Run) -> dict[str, Any]:
    error = run.error
    return {
        "id": run.id,
        "path": str(run.path),
        "status": run.status,
        "error": {"kind": error.kind, "message": str(error)} if error else None,
    }


def _run_row(run: Run) -> tuple[str, ...]:
    status = run.status
    if status is None:
        return (run.id, "-", "does not answer", "-", "-")
    done = sum(status.tasks.get(state, 0) for state in ("done", "failed", "cancelled"))
    tasks = f"{done} of {sum(status.tasks.values())} ended"
    return (status.id, one_line(status.name, 30) or "-", status.phase, tasks, clock(status.seconds))


def _print_status(status: SwarmStatus) -> None:
    rows = [
        ("run", status.id),
        ("name", one_line(status.name, 100)),
        ("objective", one_line(status.objective, 100)),
        ("phase", status.phase),
        ("since", clock(status.seconds)),
        ("tasks", _counts(status.tasks)),
        ("workers", _counts(status.workers)),
        ("tokens", f"{status.usage.prompt_tokens:,} in, {status.usage.completion_tokens:,} out"),
    ]
    _table([row for row in rows if row[1]])


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {state}" for state, count in counts.items() if count) or "none"


def _print_items(found: Sequence[ItemStatus]) -> None:
    rows = [("id", "kind", "state", "for", "tries", "with", "title", "note")] if found else []
    rows += [
        (
            item.id,
            item.kind,
            item.state,
            clock(item.seconds),
            str(item.attempts),
            item.partner or "-",
            one_line(item.title, 40) or "-",
            one_line(item.note, 60),
        )
        for item in found
    ]
    _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        tell("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _tell_json(value: Any) -> None:
    import msgspec  # noqa: PLC0415

    tell(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
