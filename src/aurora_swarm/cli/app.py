"""The application: its commands, and the one place where errors become words and exit codes."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from aurora_swarm.cli.ask import ask
from aurora_swarm.cli.complaints import complain
from aurora_swarm.cli.ctl import ctl_app
from aurora_swarm.cli.demo import demo
from aurora_swarm.cli.endpoints import endpoints
from aurora_swarm.cli.exits import Exit
from aurora_swarm.cli.interrupts import end_interrupted, termination_interrupts
from aurora_swarm.cli.local import local
from aurora_swarm.cli.map import map_inputs
from aurora_swarm.cli.run import run
from aurora_swarm.cli.serve_swarm import serve_swarm
from aurora_swarm.cli.sim import sim
from aurora_swarm.cli.swarm import swarm
from aurora_swarm.cli.voice import say
from aurora_swarm.cli.wait import wait
from aurora_swarm.cli.worker import worker
from aurora_swarm.errors import AuroraSwarmError, UsageError

_NAME = "aurora-swarm"

app = typer.Typer(
    name=_NAME,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Set thousands of language-model agents to work on your own inference servers.",
    epilog="Start with:  aurora-swarm demo\n\n"
    "Each command explains itself:  aurora-swarm map --help\n\n"
    "Completion of commands and options:  aurora-swarm --install-completion  (then open a new shell)\n\n"
    "Exit codes:  0 all ok, 1 some failed, 2 wrong usage, 3 all failed, 130 interrupted",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - start-up is light

        typer.echo(f"{_NAME} {version(_NAME)}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="AURORA_SWARM_DEBUG", help="Show the traceback of an internal error.")
    ] = False,
    version: Annotated[  # noqa: ARG001 - its callback prints
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """What holds for all commands."""
    if debug:
        os.environ["AURORA_SWARM_DEBUG"] = "1"
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _add(name: str, command: object, help_: str, *examples: str) -> None:
    epilog = "[bold]Examples[/bold]\n\n" + "\n\n".join(example.replace("[", r"\[") for example in examples)
    app.command(name, help=help_, epilog=epilog)(command)  # type: ignore[type-var]


_add(
    "demo",
    demo,
    "See it work: 24 agents read 24 files with a small model on this machine.",
    "aurora-swarm demo",
    "aurora-swarm demo --fresh --backend vllm://localhost:8000",
)
_add(
    "run",
    run,
    "Run a batch from a YAML, TOML or JSON specification. The same command again resumes.\n\n"
    "What the specification says, its paths relative to itself; of all this only task and inputs must be there:\n\n"
    + "\n\n".join(
        (
            "[cyan]task:[/cyan] 'Classify the review: {text}'    [dim]# or task_file: prompt.txt[/dim]",
            "[cyan]inputs:[/cyan] reviews.csv",
            "[cyan]output_schema:[/cyan] label.json",
            "[cyan]hostfile:[/cyan] agents.hostfile    [dim]# or backend: vllm://host:8000[/dim]",
            r"[cyan]tools:[/cyan] \[read_file]",
            "[cyan]budget:[/cyan] {tokens: 5000000, usd: 20, wall_s: 3600}    [dim]# usd needs prices and model[/dim]",
            "[cyan]prices:[/cyan] prices.yaml",
            "[cyan]reduce:[/cyan] 'You received {n} labels. Say what they have in common.'",
            "[cyan]output:[/cyan] results.jsonl",
        )
    ),
    "aurora-swarm run spec.yaml --output results.jsonl",
    "aurora-swarm run spec.yaml --prices prices.yaml --budget-tokens 1000000 --events events.jsonl",
    "aurora-swarm run spec.toml --hostfile agents.hostfile --max-inflight 512 -o results.jsonl",
    "aurora-swarm run spec.yaml --store sqlite:///tmp/run.db --processes 4 -o results.jsonl",
)
_add(
    "map",
    map_inputs,
    "Ask one question of every row of a CSV or JSONL file, every line of a text, or every file of a folder.",
    'aurora-swarm map "Classify the sentiment: {text}" --input reviews.csv --schema sentiment.json '
    "--hostfile agents.hostfile -o out.jsonl",
    'aurora-swarm map "List the claims: {text}" --input papers/ --reduce "Merge {n} lists into one." '
    "--hostfile agents.hostfile -o out.jsonl",
    'aurora-swarm map "Summarise in one sentence: {text}" --input papers/ --backend local:// -o out.jsonl',
    'cat names.txt | aurora-swarm map "A motto for {text}" --input - --backend vllm://localhost:8000',
)
_add(
    "ask",
    ask,
    "Ask one question: of one server, of all of them, or of all and have the answers merged.",
    'aurora-swarm ask "Why is the sky blue?" --backend local://',
    'aurora-swarm ask "Propose a hypothesis for X." --broadcast --hostfile agents.hostfile',
    'aurora-swarm ask "Why is the sky blue?" --broadcast --reduce "Merge: {responses}" --hostfile agents.hostfile',
)
_add(
    "swarm",
    swarm,
    "Pursue an objective with a swarm: a plan, tasks for workers, further tasks from what they find, one answer.\n\n"
    "Prints the plan, what happens, and the answer; what failed is named. While it runs, aurora-swarm ctl in another "
    "terminal shows and steers it.",
    'aurora-swarm swarm "Compare three ways to cool a reactor, and recommend one." --hostfile agents.hostfile',
    'aurora-swarm swarm "Summarise what these notes say of valves." --backend local:// --nodes 4 --max-tasks 6',
    "aurora-swarm swarm --objective-file brief.txt --backend vllm://localhost:8000 --budget-tokens 200000 --json",
)
_add(
    "serve-swarm",
    serve_swarm,
    "Serve a swarm over A2A, so that a hivemind elsewhere has it as a member, until Ctrl-C.",
    'aurora-swarm serve-swarm --name research --about "Finds facts." --hostfile agents.hostfile --port 9000',
)
app.add_typer(ctl_app, name="ctl")
_add(
    "worker",
    worker,
    "Work on a run that several processes share, until every input has its result.",
    "aurora-swarm worker --store redis://store-host:6379/0 --run survey",
    "aurora-swarm worker --run survey --hostfile agents.hostfile",
)
_add(
    "local",
    local,
    "Serve the embedded model: OpenAI-compatible servers on this machine, until Ctrl-C.",
    "aurora-swarm local --servers 2 --hostfile-out agents.hostfile",
    "aurora-swarm local --port 8000 --local-model my-model.gguf",
)
_add(
    "sim",
    sim,
    "Simulate a fleet: thousands of model servers on this machine, with faults as you like, until Ctrl-C.\n\n"
    "Nothing is generated: a server takes its time, then repeats the end of the prompt. So a run on 4,000 endpoints "
    "can be planned on a laptop: how long it takes, how many requests it needs at a time, what failing servers do to "
    "it. "
    "Start the fleet, then point your own command at its hostfile.",
    "aurora-swarm sim --endpoints 1000 --latency 0.5",
    "aurora-swarm sim --endpoints 4000 --latency 0.3 --per-token 0.02 --tokens 200 --capacity 8 --spread 4 "
    "--stragglers 0.05 --dead 0.02 --fault 503:0.01 --hostfile big.hostfile",
    'aurora-swarm map "Classify: {text}" -i inputs.jsonl --hostfile big.hostfile --max-inflight 8000 -o out.jsonl',
)
_add(
    "wait",
    wait,
    "Wait for a batch job's hostfile, then for its servers; write the hostfile of those that are ready.",
    "aurora-swarm wait --hostfile job_hostfile.txt --output ready_hostfile.txt --health-timeout 1800",
    "aurora-swarm wait --hostfile job_hostfile.txt -o ready_hostfile.txt --min-fraction 0.9",
)
_add(
    "endpoints",
    endpoints,
    "Show who of a fleet is up, and which model, context and engine each has.",
    "aurora-swarm endpoints --hostfile agents.hostfile",
    "aurora-swarm endpoints --backend vllm://localhost:8000 --json",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: What follows the program's name; None for the process's own.

    Returns:
        The exit code: 0 all ok, 1 some failed, 2 wrong usage, 3 all failed, 130 interrupted. No exception of
        ours, and none that we did not foresee, gets out. The process's own command line does not return when it is
        interrupted: the process ends.
    """
    code = _code(arguments)
    if code == Exit.INTERRUPTED and arguments is None:
        end_interrupted()
    return code


def _code(arguments: Sequence[str] | None) -> int:
    try:
        with termination_interrupts():
            return _run(arguments)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except AuroraSwarmError as error:
        complain(error)
        return Exit.USAGE if isinstance(error, UsageError) else Exit.SOME_FAILED
    except Exception as error:  # noqa: BLE001 - the last line of defence: a user sees a sentence, never a traceback
        return _report(error)


def _run(arguments: Sequence[str] | None) -> int:
    command = typer.main.get_command(app)
    try:
        code = command.main(args=None if arguments is None else list(arguments), prog_name=_NAME, standalone_mode=False)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context else _NAME
        raise UsageError(_sentence(error.format_message()), remedy=f"{path} --help") from error
    return int(code or 0)


def _sentence(message: str) -> str:
    plain = message.replace("Value error, ", "")  # how the library behind typer begins what it found
    return (plain[:1].lower() + plain[1:]).rstrip(".")


def _report(error: Exception) -> Exit:
    if os.environ.get("AURORA_SWARM_DEBUG"):
        say("".join(traceback.format_exception(error)))
    version = ".".join(map(str, sys.version_info[:3]))
    say(
        f"error: internal error: {type(error).__name__}: {error}\n"
        f"  try: please report this; the traceback of `{_NAME} --debug ...` (Python {version}) helps us to find it"
    )
    return Exit.SOME_FAILED
