"""Results on their way from a worker: what is read is what was written."""

import inspect

import pytest
from pydantic import BaseModel

from aurora_swarm import errors
from aurora_swarm.agents.structured import OutputSpec
from aurora_swarm.batch.shard_results import read, written
from aurora_swarm.errors import AuroraSwarmError, CallbackError, InvalidOutputError, OverloadedError
from aurora_swarm.values.event import ToolEnded
from aurora_swarm.values.outcome import AgentResult
from aurora_swarm.values.reply import Usage


class Verdict(BaseModel):
    """An answer."""

    verdict: str


TEXT = OutputSpec(None)


def result_of(**more):
    given = {"index": 3, "key": "k", "ok": True, "output": "yes", "error": None, "text": "yes", "turns": 2}
    return AgentResult(**(given | more))


@pytest.mark.parametrize("text", ["yes", "half \ud83d", "nul\0", "\u65e5\u672c \U0001f41d"])
def test_a_text_comes_back(text):
    result = result_of(output=text, text=text, usage=Usage(3, 4), latency_s=0.1 + 0.2, ttft_s=0.5, in_doubt=1)
    assert read(written(result), 3, TEXT) == (result, ())


def test_an_instance_of_a_schema_comes_back_and_one_that_is_none_any_more_is_a_failure():
    spec = OutputSpec(Verdict)
    result = result_of(output=Verdict(verdict="good"))
    assert read(written(result), 3, spec)[0].output == Verdict(verdict="good")
    changed, _ = read(written(result_of(output={"other": 1})), 3, spec)
    assert not changed.ok
    assert isinstance(changed.error, InvalidOutputError)


def test_what_tools_did_comes_with_it():
    tools = (ToolEnded(3, "look", True, False, 0.25),)
    assert read(written(result_of(), tools), 3, TEXT)[1] == tools


KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, AuroraSwarmError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_keeps_its_class_and_its_words(kind):
    more = {"n_ok": 1, "n_failed": 2} if kind.__name__ == "QuorumError" else {}
    error = kind("it broke", remedy="mend it", **more)
    result, _ = read(written(result_of(ok=False, output=None, error=error)), 3, TEXT)
    assert type(result.error) is kind
    assert (result.error.problem, result.error.remedy) == ("it broke", "mend it")
    assert result.error == error or vars(result.error) == {
        k: v for k, v in vars(error).items() if k in vars(result.error)
    }


def test_fields_of_errors_come_back():
    error = OverloadedError("busy", endpoint="http://x", status=429, retry_after_s=1.5)
    assert read(written(result_of(ok=False, output=None, error=error)), 3, TEXT)[0].error == error


def test_an_error_of_somebody_else_is_the_nearest_of_ours():
    class MineError(CallbackError):
        """Theirs."""

    result, _ = read(written(result_of(ok=False, output=None, error=MineError("oh"))), 3, TEXT)
    assert type(result.error) is CallbackError


def test_no_name_in_the_store_leads_to_code():
    payload = written(result_of(ok=False, output=None, error=CallbackError("oh"))).replace(b"CallbackError", b"re")
    assert type(read(payload, 3, TEXT)[0].error).__name__ == "AgentError"
