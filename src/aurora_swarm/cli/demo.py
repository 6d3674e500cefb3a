"""``aurora-swarm demo``: the whole of it, small, on this machine."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aurora_swarm.cli.options import BackendOption, HostfileOption, LocalModelOption, ModelOption, QuietOption
from aurora_swarm.cli.voice import one_line, say, tell
from aurora_swarm.errors import UsageError

if TYPE_CHECKING:
    from aurora_swarm.batch.spec import BatchSpec

AGENTS = 24
READ_CHARS = 400
OUTPUT = Path("aurora-demo") / "results.jsonl"
JOURNAL = Path("aurora-demo") / "results.jsonl.journal"

_MODULES = (
    "argparse bisect calendar contextlib copy csv difflib fnmatch fractions glob gzip heapq linecache mimetypes "
    "pprint sched shelve shlex shutil statistics textwrap zipfile tempfile configparser hmac getpass netrc timeit "
    "uuid wave webbrowser secrets filecmp fileinput"
)
"""Each says in its first lines what it is for; a few more than needed, because Python moves or drops one at times."""

_TASK = "What is the Python module {module} for? Read {path}, then answer in one sentence."
_SYSTEM = "You explain Python modules in plain English."
_SENTENCE = r"^It (is|provides|helps you|lets you) [A-Za-z ,-]{10,110}\.$"
"""What a purpose looks like. Left free, a model of 135M parameters goes on in the style of the file names and code that
it has just read (``read_file_to_gzip_file``); held to a sentence, it writes one."""

_AFTERWARDS = f"""
The results are in {OUTPUT}: one JSON object per line, with tokens, turns and times.
Run the same command again: finished work is not done twice (--fresh starts anew).

What to try next
  aurora-swarm map "Summarise in one sentence: {{text}}" --input your.csv --backend local:// -o out.jsonl
  aurora-swarm local --servers 2          servers that stay, and their hostfile
  aurora-swarm map --help                 schemas, hostfiles, vLLM"""

_SMALL = """
The answers are those of a small model (135M parameters): it shows the machinery, not what models can do.
A better one:  aurora-swarm demo --fresh --local-model my-model.gguf
               aurora-swarm demo --fresh --backend vllm://host:8000"""


def demo(
    *,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget earlier results instead of resuming.")] = False,
    backend: BackendOption = None,
    hostfile: HostfileOption = None,
    model: ModelOption = None,
    local_model: LocalModelOption = None,
    quiet: QuietOption = False,
) -> int:
    """Have 24 agents read a file each and say what it is for; resume where an earlier run was stopped."""
    from aurora_swarm.batch.run import BatchOptions  # noqa: PLC0415 - start-up is light
    from aurora_swarm.cli.batches import Batch, Delivery, conduct  # noqa: PLC0415
    from aurora_swarm.cli.options import chosen_backend  # noqa: PLC0415
    from aurora_swarm.cli.sources import Source  # noqa: PLC0415

    chosen = chosen_backend(backend, hostfile) if backend or hostfile else "local://"
    inputs = inputs_in(Path(sysconfig.get_path("stdlib")))
    _prepare(fresh=fresh)
    if not quiet:
        _introduce(is_local=chosen == "local://" and not local_model)
    batch = Batch(
        batch_spec(Path(sysconfig.get_path("stdlib"))),
        Source(inputs, len(inputs)),
        BatchOptions(backend=chosen, model=model or "", local_model=local_model),
    )
    code = conduct(batch, Delivery(output=OUTPUT, quiet=quiet))
    _print_table(inputs)
    if not quiet:
        say(_AFTERWARDS + (_SMALL if chosen == "local://" and not local_model else ""))
    return code


def inputs_in(stdlib: Path) -> list[dict[str, str]]:
    """The modules that the agents read, by name.

    Args:
        stdlib: Folder of Python's standard library.

    Raises:
        UsageError: There are not enough of them as files.
    """
    found = [name for name in _MODULES.split() if (stdlib / f"{name}.py").is_file()]
    if len(found) < AGENTS:
        raise UsageError(
            f"{stdlib} has only {len(found)} of the {AGENTS} source files that the demo reads",
            remedy="use a Python that comes with the sources of its standard library",
        )
    return [{"module": name, "path": f"{name}.py"} for name in found[:AGENTS]]


def batch_spec(stdlib: Path) -> BatchSpec:
    """What each agent does: use `read_file`, which is granted its own file and no other, then answer.

    Args:
        stdlib: Folder of Python's standard library.
    """
    from pydantic import BaseModel, Field  # noqa: PLC0415 - start-up is light

    from aurora_swarm.batch.spec import BatchSpec  # noqa: PLC0415
    from aurora_swarm.tools.definition import Tool  # noqa: PLC0415
    from aurora_swarm.values.call import Sampling  # noqa: PLC0415

    class Module(BaseModel):
        """What a module is for."""

        module: str = Field(json_schema_extra={"enum": [*_MODULES.split()]})
        purpose: str = Field(pattern=_SENTENCE)

    return BatchSpec(
        task=_TASK,
        system_prompt=_SYSTEM,
        tools=(Tool.read_file.beneath(stdlib, max_chars=READ_CHARS).limit(path="{path}"),),
        output_schema=Module,
        tool_choice="required",
        max_turns=2,
        sampling=Sampling(max_tokens=100, temperature=0.0),
    )


def _introduce(*, is_local: bool) -> None:
    where = "with a small model on this machine, no server and no key needed" if is_local else "on your servers"
    say(f"{AGENTS} agents, {where}.")
    say("Each uses a tool to read a file of Python's standard library, and says what it is for.")
    if JOURNAL.exists():
        say(f"An earlier run left its journal in {JOURNAL}: what it finished is taken from there.")


def _prepare(*, fresh: bool) -> None:
    try:
        OUTPUT.parent.mkdir(exist_ok=True)
    except OSError as error:
        problem = f"the folder {OUTPUT.parent} cannot be made here: {error.strerror}"
        raise UsageError(problem, remedy="change to a folder that you may write to") from error
    if fresh:
        _forget()


def _forget() -> None:
    """Remove the results of earlier runs, unless one of them still goes on."""
    from aurora_swarm.cli.interrupts import run_interruptibly  # noqa: PLC0415
    from aurora_swarm.journal.open import open_journal  # noqa: PLC0415

    async def let_go() -> None:
        await (await open_journal(JOURNAL)).aclose()  # raises when another run holds it

    if JOURNAL.exists():
        run_interruptibly(let_go())
    for file in (OUTPUT, *JOURNAL.parent.glob(f"{JOURNAL.name}*")):
        file.unlink(missing_ok=True)


def _print_table(inputs: list[dict[str, str]]) -> None:
    rows = [json.loads(line) for line in OUTPUT.read_text(encoding="utf-8").split("\n") if line]
    tell("")
    for row in rows:
        said = row["output"]["purpose"] if row["ok"] else f"failed: {row['error']['message']}"
        tell(f"{inputs[row['index']]['module']:13} {one_line(said, 160)}")
