"""Each command against servers on loopback: what goes to stdout, what to a file, and the exit code."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from aurora_swarm.cli import main
from aurora_swarm.inputs.spec import RunSpec, load_spec
from aurora_swarm.testing import answers
from aurora_swarm.testing.faulty_server import Answer, Request, error_status
from aurora_swarm.values.budget import Budget

SCHEMA = '{"type": "object", "properties": {"mood": {"type": "string"}}, "required": ["mood"]}'


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("AURORA_SWARM_")]:
        monkeypatch.delenv(name)
    return tmp_path


def refusing(word: str) -> Any:
    """Refuses prompts that hold a word."""

    def script(request: Request) -> Answer:
        return error_status(400, "not that word") if word.encode() in request.body else Answer()

    return script


def tool_user(request: Request) -> Answer:
    """A model that calls its tool with the one value that it is granted, then answers with what it was told."""
    if request.method == "GET":
        return Answer()
    asked = request.json()
    messages = asked["messages"]
    schema = asked.get("response_format", {}).get("json_schema", {}).get("schema", {})
    options = [schema, *schema.get("anyOf", [])]
    heard = messages[-1]["content"] if len(messages) > 3 else ""
    if heard and "purpose" in json.dumps(schema):
        text = json.dumps({"module": "csv", "purpose": "It helps you to read and write tables."})
    elif heard:
        text = json.dumps({"answer": heard})
    else:
        properties = next(option["properties"] for option in options if "tool" in option.get("properties", {}))
        granted = properties["arguments"]["properties"]["path"]["enum"]
        text = json.dumps({"tool": "read_file", "arguments": {"path": granted[0]}})
    return Answer(answers.encode(answers.chat(text)), delay_s=0.02)


def reader(name: str) -> Any:
    """A model that reads one file with its tool, then answers with what it was told."""

    def script(request: Request) -> Answer:
        if request.method == "GET":
            return Answer()
        heard = request.json()["messages"][-1]["content"] if len(request.json()["messages"]) > 3 else ""
        said = {"answer": heard} if heard else {"tool": "read_file", "arguments": {"path": name}}
        return Answer(answers.encode(answers.chat(json.dumps(said))))

    return script


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


class TestMap:
    def test_results_are_lines_on_stdout_and_talk_is_on_stderr(self, serve: Any, capfd: Any) -> None:
        Path("in.csv").write_text("name,text\na,one\nb,two\n")
        assert main(["map", "{name}: {text}", "-i", "in.csv", "-b", serve().url]) == 0
        captured = capfd.readouterr()
        found = {record["index"]: record["output"] for record in records(captured.out)}
        assert found == {0: "a: one", 1: "b: two"}
        assert "2 inputs" in captured.err

    def test_a_file_has_the_results_in_the_order_of_the_inputs(self, serve: Any) -> None:
        Path("in.txt").write_text("".join(f"{n}\n" for n in range(50)))
        delays = [0.05, 0.0, 0.02]
        server = serve(lambda request: Answer(delay_s=delays[len(request.body) % 3] if request.body else 0.0))
        assert main(["map", "{text}", "-i", "in.txt", "-b", server.url, "-o", "out.jsonl"]) == 0
        found = records(Path("out.jsonl").read_text())
        assert [(record["index"], record["output"]) for record in found] == [(n, str(n)) for n in range(50)]

    def test_braces_in_the_data_are_data(self, serve: Any, capfd: Any) -> None:
        Path("in.jsonl").write_text('{"text": "{text} {{x}} {"}\n')
        assert main(["map", "say {text}", "-i", "in.jsonl", "-b", serve().url]) == 0
        assert records(capfd.readouterr().out)[0]["output"] == "say {text} {{x}} {"

    def test_answers_are_held_to_a_schema(self, serve: Any, capfd: Any) -> None:
        Path("in.txt").write_text("fine\n")
        Path("s.json").write_text(SCHEMA)
        reply = Answer(answers.encode(answers.chat('{"mood": "good"}')))
        command = ["map", "{text}", "-i", "in.txt", "--schema", "s.json", "-b", serve(reply).url]
        assert main(command) == 0
        assert records(capfd.readouterr().out)[0]["output"] == {"mood": "good"}

    def test_some_failures_are_code_1_and_data(self, serve: Any, capfd: Any) -> None:
        Path("in.txt").write_text("good\nbad\n")
        command = ["map", "{text}", "-i", "in.txt", "-b", serve(refusing("bad")).url, "-o", "out.jsonl"]
        assert main(command) == 1
        good, bad = records(Path("out.jsonl").read_text())
        assert (good["ok"], bad["ok"]) == (True, False)
        assert bad["error"]["kind"] == "request_rejected"
        assert "not that word" in bad["error"]["message"]
        assert "1 request_rejected" in capfd.readouterr().err

    def test_nothing_but_failures_is_code_3(self, serve: Any) -> None:
        Path("in.txt").write_text("bad\nbad too\n")
        assert main(["map", "{text}", "-i", "in.txt", "-b", serve(refusing("bad")).url, "-o", "out.jsonl"]) == 3

    def test_a_second_run_asks_only_what_failed(self, serve: Any, capfd: Any) -> None:
        Path("in.txt").write_text("good\nbad\n")
        refuse = [True]
        server = serve(lambda request: error_status(400) if refuse[0] and b"bad" in request.body else Answer())
        command = ["map", "{text}", "-i", "in.txt", "-b", server.url, "-o", "out.jsonl", "--json"]
        assert main(command) == 1
        refuse[0] = False
        asked = sum(request.method == "POST" for request in server.requests)
        capfd.readouterr()
        assert main(command) == 0
        assert sum(request.method == "POST" for request in server.requests) == asked + 1
        assert json.loads(capfd.readouterr().out)["resumed"] == 1

    def test_json_is_the_summary_and_nothing_else(self, serve: Any, capfd: Any) -> None:
        Path("in.txt").write_text("a b\nc\n")
        command = ["map", "{text}", "-i", "in.txt", "-b", serve().url, "-o", "out.jsonl", "--json", "--quiet"]
        assert main(command) == 0
        captured = capfd.readouterr()
        summary = json.loads(captured.out)
        assert (summary["total"], summary["ok"], summary["failed"]) == (2, 2, 0)
        assert (summary["prompt_tokens"], summary["completion_tokens"]) == (3, 3)
        assert captured.err == ""

    def test_standard_input_is_read_as_it_comes(self, serve: Any) -> None:
        command = [sys.executable, "-m", "aurora_swarm", "map", "say {text}", "-i", "-", "-b", serve().url, "-q"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("one\n")
        process.stdin.flush()
        first = json.loads(process.stdout.readline())
        process.stdin.write("two\n")
        rest, _ = process.communicate(timeout=30)
        assert first["output"] == "say one"
        assert records(rest)[0]["output"] == "say two"
        assert process.returncode == 0

    def test_an_error_in_the_middle_of_a_stream_keeps_what_is_done(self, serve: Any) -> None:
        command = [sys.executable, "-m", "aurora_swarm", "map", "{text}", "-i", "-", "-b", serve().url]
        stream = '{"text": "one"}\n{"text": \n'
        done = subprocess.run(command, input=stream, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 2
        assert records(done.stdout)[0]["output"] == "one"
        assert "error: standard input:2" in done.stderr

    @pytest.mark.parametrize("given", ["in.csv", "-"])
    def test_a_result_repeats_what_is_kept_of_its_input(self, serve: Any, given: str) -> None:
        table = "id,text\n" + "".join(f"id{n},{n}\n" for n in range(40))
        Path("in.csv").write_text(table)
        delays = [0.05, 0.0, 0.02]
        server = serve(lambda request: Answer(delay_s=delays[len(request.body) % 3] if request.body else 0.0))
        command = [sys.executable, "-m", "aurora_swarm", "map", "{text}", "-i", given, "--format", "csv", "-q"]
        command += ["-b", server.url, "-o", "out.jsonl", "--keep", "id"]
        assert subprocess.run(command, input=table, text=True, check=False, timeout=30).returncode == 0
        found = records(Path("out.jsonl").read_text())
        assert [(r["index"], r["input"], r["output"]) for r in found] == [
            (n, {"id": f"id{n}"}, str(n)) for n in range(40)
        ]

    def test_tools_are_named_on_the_command_line(self, serve: Any) -> None:
        Path("a.txt").write_text("alpha")
        Path("in.csv").write_text("name\na.txt\n")
        command = ["map", "Read {name}", "-i", "in.csv", "-b", serve(reader("a.txt")).url, "-o", "out.jsonl"]
        assert main([*command, "--tool", "read_file"]) == 0
        found = records(Path("out.jsonl").read_text())[0]
        assert "alpha" in found["output"]
        assert (found["turns"], found["tools_executed"]) == (2, 1)

    def test_the_specification_in_the_help_is_one(self, capfd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setenv("NO_COLOR", "1")
        assert main(["run", "--help"]) == 0
        lines = [line.strip() for line in capfd.readouterr().out.split("╭")[0].splitlines()]
        keys = tuple(f"{key}:" for key in RunSpec.__struct_fields__)
        Path("spec.yaml").write_text("\n".join(line for line in lines if line.startswith(keys)))
        Path("label.json").write_text(SCHEMA)
        Path("prices.yaml").write_text("m: {prompt: 1, completion: 1}")
        said = load_spec("spec.yaml")
        assert said.task == "Classify the review: {text}"
        assert said.tools == ["read_file"]
        assert said.budget == Budget(tokens=5_000_000, usd=20, wall_s=3600)
        assert said.reduce is not None


class TestMoneyAndBudgets:
    PRICES = "test-model: {prompt: 1000000, completion: 2000000}\n"

    def test_a_price_table_says_what_the_run_cost(self, serve: Any, capfd: Any) -> None:
        Path("in.txt").write_text("a b\nc d\n")
        Path("p.yaml").write_text(self.PRICES)
        command = ["map", "{text}", "-i", "in.txt", "-b", serve().url, "-o", "o.jsonl", "--prices", "p.yaml", "--json"]
        assert main(command) == 0
        captured = capfd.readouterr()
        summary = json.loads(captured.out)
        assert (summary["prompt_tokens"], summary["completion_tokens"]) == (4, 4)
        assert (summary["cost_usd"], summary["cost_per_task_usd"]) == (12.0, 6.0)
        assert (summary["model"], summary["priced_by"]) == ("test-model", "p.yaml")

    def test_a_specification_may_hold_its_prices_and_the_command_line_wins(self, serve: Any, capfd: Any) -> None:
        spec = {"task": "{x}", "inputs": [{"x": "1"}], "backend": serve().url, "output": "out.jsonl"}
        spec["prices"] = {"*": {"prompt": 1, "completion": 1}}
        Path("spec.json").write_text(json.dumps(spec))
        Path("p.toml").write_text("[test-model]\nprompt = 5\ncompletion = 5\n")
        assert main(["run", "spec.json"]) == 0
        assert "by spec.json" in capfd.readouterr().err
        assert main(["run", "spec.json", "--overwrite", "--no-journal", "--prices", "p.toml"]) == 0
        assert "by p.toml" in capfd.readouterr().err

    def test_a_budget_is_told_bound_by_bound(self, serve: Any, capfd: Any) -> None:
        Path("in.txt").write_text("a b\nc d\n")
        Path("p.yaml").write_text(self.PRICES)
        command = ["map", "{text}", "-i", "in.txt", "-b", serve().url, "-o", "out.jsonl", "--json"]
        money = ["--prices", "p.yaml", "--model", "test-model", "--budget-usd", "1000000000"]
        bounds = ["--budget-tokens", "1000000", "--budget-seconds", "3600", "--budget-tool-calls", "5"]
        assert main([*command, *money, *bounds]) == 0
        budget = json.loads(capfd.readouterr().out)["budget"]
        assert budget["tokens"] == {"limit": 1_000_000, "spent": 8, "left": 999_992}
        assert (budget["usd"]["spent"], budget["tool_calls"]["spent"]) == (12.0, 0)
        assert 0 < budget["wall_s"]["spent"] < 3600

    def test_what_the_budget_does_not_hold_is_not_begun(self, serve: Any, capfd: Any) -> None:
        Path("in.txt").write_text("a b\nc d\n")
        server = serve()
        command = ["map", "{text}", "-i", "in.txt", "-b", server.url, "-o", "out.jsonl", "--budget-tokens", "5"]
        assert main(command) == 3
        assert {record["error"]["kind"] for record in records(Path("out.jsonl").read_text())} == {"budget"}
        assert sum(request.method == "POST" for request in server.requests) == 0
        assert "budget  tokens 5: 0 spent, 5 left" in capfd.readouterr().err


class TestReduce:
    MERGE = ("--reduce", "Merge {n} answers.")

    def test_one_answer_of_all_goes_to_standard_output(self, serve: Any, capfd: Any) -> None:
        Path("in.txt").write_text("one\ntwo\n")
        server = serve()
        assert main(["map", "say {text}", "-i", "in.txt", "-b", server.url, "-o", "out.jsonl", *self.MERGE]) == 0
        captured = capfd.readouterr()
        assert captured.out.startswith("Merge 2 answers.")  # the server repeats what it is told
        assert "say one" in captured.out
        assert "say two" in captured.out
        assert "reduced 2 answers in 1 step" in captured.err
        assert [record["output"] for record in records(Path("out.jsonl").read_text())] == ["say one", "say two"]

    def test_a_program_finds_it_in_the_summary(self, serve: Any, capfd: Any) -> None:
        spec = {"task": "{x}", "inputs": [{"x": "a"}, {"x": "bad"}], "output": "out.jsonl", "reduce": "Merge {n}."}
        Path("spec.json").write_text(json.dumps(spec))
        assert main(["run", "spec.json", "-b", serve(refusing("bad")).url, "--json"]) == 1
        summary = json.loads(capfd.readouterr().out)
        reduced = summary["reduced"]
        assert (reduced["ok"], reduced["n_ok"], reduced["missing"], reduced["steps"]) == (True, 1, [1], 1)
        assert reduced["output"].startswith("Merge 1.")
        assert (summary["total"], summary["ok"], summary["failed"]) == (2, 1, 1)  # the reducer is no input
        assert summary["requests"] == 3  # and its request is counted

    def test_a_schema_holds_for_the_one_answer(self, serve: Any, capfd: Any) -> None:
        Path("in.txt").write_text("fine\n")
        Path("s.json").write_text(SCHEMA)
        server = serve(
            lambda r: Answer(answers.encode(answers.chat('{"mood": "good"}'))) if b"Merge" in r.body else Answer()
        )
        command = ["map", "{text}", "-i", "in.txt", "-b", server.url, "-o", "out.jsonl", *self.MERGE, "-q"]
        assert main([*command, "--reduce-schema", "s.json"]) == 0
        assert json.loads(capfd.readouterr().out) == {"mood": "good"}

    def test_a_reduction_that_fails_is_told_and_keeps_the_results(self, serve: Any, capfd: Any) -> None:
        Path("in.txt").write_text("one\n")
        command = ["map", "{text}", "-i", "in.txt", "-b", serve(refusing("Merge")).url, "-o", "out.jsonl", *self.MERGE]
        assert main(command) == 1
        captured = capfd.readouterr()
        assert captured.out == ""
        assert "could not be made one" in captured.err
        assert records(Path("out.jsonl").read_text())[0]["ok"] is True

    def test_a_full_disk_ends_the_run(self, serve: Any, capfd: Any) -> None:
        Path("in.txt").write_text("".join(f"{n}\n" for n in range(300)))
        server = serve(lambda request: Answer(delay_s=0.02 if request.method == "POST" else 0.0))
        command = ["map", "{text}", "-i", "in.txt", "-b", server.url, "-o", "/dev/full", "--no-journal", *self.MERGE]
        assert main([*command, "--max-inflight", "2"]) == 1
        assert "error: /dev/full: results cannot be written" in capfd.readouterr().err
        assert sum(request.method == "POST" for request in server.requests) < 50


class TestEvents:
    def test_what_happened_is_in_the_log_and_what_was_said_is_not(self, serve: Any) -> None:
        Path("in.txt").write_text("good\nbad\n")
        command = ["map", "secret {text}", "-i", "in.txt", "-b", serve(refusing("bad")).url, "-o", "out.jsonl"]
        assert main([*command, "--events", "events.jsonl"]) == 1
        events = records(Path("events.jsonl").read_text())
        kinds = [event["event"] for event in events]
        assert (kinds[0], kinds[-1]) == ("run_started", "run_ended")
        assert sorted(kinds[1:-1]) == ["agent_ended", "agent_ended", "agent_started", "agent_started"]
        assert {e["index"]: e["ok"] for e in events if e["event"] == "agent_ended"} == {0: True, 1: False}
        assert "secret" not in Path("events.jsonl").read_text()

    def test_a_further_run_is_appended(self, serve: Any) -> None:
        spec = {"task": "{x}", "inputs": [{"x": "1"}], "backend": serve().url, "events": "log/e.jsonl"}
        Path("log").mkdir()
        Path("spec.json").write_text(json.dumps(spec))
        assert main(["run", "spec.json", "-q"]) == main(["run", "spec.json", "-q"]) == 0
        kinds = [event["event"] for event in records(Path("log/e.jsonl").read_text())]
        assert kinds.count("run_started") == kinds.count("run_ended") == 2


class TestRun:
    def test_a_specification_names_everything(self, serve: Any) -> None:
        Path("sub").mkdir()
        Path("sub/in.csv").write_text("text\none\ntwo\n")
        spec = f"task: 'say {{text}}'\ninputs: in.csv\nkeep: [text]\nbackend: {serve().url}\noutput: out.jsonl\n"
        spec += "max_inflight: 2\n"
        Path("sub/spec.yaml").write_text(spec)
        assert main(["run", "sub/spec.yaml"]) == 0
        found = records(Path("sub/out.jsonl").read_text())
        assert [record["output"] for record in found] == ["say one", "say two"]
        assert [record["input"] for record in found] == [{"text": "one"}, {"text": "two"}]

    def test_the_command_line_wins_over_the_file(self, serve: Any) -> None:
        spec = {"task": "{x}", "inputs": [{"x": "1"}], "backend": "vllm://127.0.0.1:1", "output": "not-here.jsonl"}
        Path("spec.json").write_text(json.dumps(spec))
        assert main(["run", "spec.json", "-b", serve().url, "-o", "out.jsonl"]) == 0
        assert records(Path("out.jsonl").read_text())[0]["output"] == "1"
        assert not Path("not-here.jsonl").exists()

    def test_agents_use_the_tools_that_are_named_within_their_grants(self, serve: Any) -> None:
        Path("papers").mkdir()
        Path("papers/a.txt").write_text("alpha")
        Path("papers/b.txt").write_text("beta")
        tool = {"name": "read_file", "root": "papers", "grants": {"path": "{name}"}}
        spec = {"task": "Read {name}", "inputs": [{"name": "a.txt"}, {"name": "b.txt"}], "tools": [tool]}
        Path("spec.json").write_text(json.dumps(spec))
        server = serve(tool_user)
        assert main(["run", "spec.json", "-b", server.url, "-o", "out.jsonl"]) == 0
        first, second = records(Path("out.jsonl").read_text())
        assert "alpha" in first["output"]
        assert "beta" in second["output"]
        assert (first["turns"], first["tool_calls"], first["tools_executed"]) == (2, 1, 1)


class TestAsk:
    def test_the_answer_is_all_that_is_on_stdout(self, serve: Any, capfd: Any) -> None:
        assert main(["ask", "Why?", "-b", serve().url]) == 0
        assert capfd.readouterr().out == "Why?\n"

    def test_a_broadcast_labels_each_answer_with_its_endpoint(self, serve: Any, capfd: Any) -> None:
        first, second = serve().url, serve().url
        assert main(["ask", "Why?", "-b", first, "-b", second, "--broadcast"]) == 0
        assert capfd.readouterr().out == f"# {first}\nWhy?\n\n# {second}\nWhy?\n\n"

    def test_answers_are_merged(self, serve: Any, capfd: Any) -> None:
        command = ["ask", "Why?", "-b", serve().url, "-b", serve().url, "--broadcast", "--reduce", "Merge: {responses}"]
        assert main(command) == 0
        assert capfd.readouterr().out == "Merge: 1. Why?\n\n2. Why?\n"

    def test_part_of_a_broadcast_is_code_1(self, serve: Any, capfd: Any) -> None:
        well, ill = serve().url, serve(error_status(400, "not me")).url
        assert main(["ask", "Why?", "-b", well, "-b", ill, "--broadcast"]) == 1
        captured = capfd.readouterr()
        assert captured.out == f"# {well}\nWhy?\n\n"
        assert "not me" in captured.err

    def test_no_answer_is_code_3(self, serve: Any, capfd: Any) -> None:
        assert main(["ask", "Why?", "-b", serve(error_status(400, "not me")).url]) == 3
        assert capfd.readouterr().out == ""

    def test_json_for_programs(self, serve: Any, capfd: Any) -> None:
        url = serve().url
        assert main(["ask", "Why?", "-b", url, "--json"]) == 0
        answer = json.loads(capfd.readouterr().out)
        assert (answer["endpoint"], answer["ok"], answer["text"]) == (url, True, "Why?")


class TestEndpoints:
    def test_all_up_is_code_0(self, serve: Any, capfd: Any) -> None:
        Path("hosts").write_text(f"{serve().url} role=critic\n{serve().url}\n")
        assert main(["endpoints", "--hostfile", "hosts", "--json"]) == 0
        first, second = json.loads(capfd.readouterr().out)
        assert first["tags"] == {"role": "critic"}
        assert second["models"] == ["test-model"]
        assert second["up"] is True

    def test_some_down_is_code_1_and_says_why(self, serve: Any, capfd: Any) -> None:
        up, down = serve().url, "http://127.0.0.1:1"
        assert main(["endpoints", "-b", up, "-b", down]) == 1
        header, first, second = capfd.readouterr().out.splitlines()
        assert header.split() == ["endpoint", "up", "model", "context", "engine", "latency"]
        assert first.split()[:3] == [up, "yes", "test-model"]
        assert second.split()[:2] == [down, "no"]
        assert "refused" in second


class TestWait:
    def test_all_ready_is_code_0(self, serve: Any, capfd: Any) -> None:
        url = serve().url
        Path("hosts").write_text(f"{url} role=critic\n")
        assert main(["wait", "--hostfile", "hosts", "-o", "ready", "--interval", "0.05"]) == 0
        assert Path("ready").read_text().split() == [url.removeprefix("http://"), "role=critic"]
        captured = capfd.readouterr()
        assert captured.out == ""
        assert captured.err[:2] == "20"  # every line begins with its time

    def test_dropped_ones_are_code_1_and_are_not_in_the_file(self, serve: Any, capfd: Any) -> None:
        url = serve().url
        Path("hosts").write_text(f"{url}\n127.0.0.1:1\n")
        command = ["wait", "--hostfile", "hosts", "-o", "ready", "--interval", "0.05", "--health-timeout", "0.2"]
        assert main(command) == 1
        assert Path("ready").read_text().split() == [url.removeprefix("http://")]
        assert "dropped http://127.0.0.1:1" in capfd.readouterr().err

    def test_too_few_are_code_3_and_leave_no_file(self, serve: Any) -> None:
        Path("hosts").write_text(f"{serve().url}\n127.0.0.1:1\n")
        command = ["wait", "--hostfile", "hosts", "-o", "ready", "--interval", "0.05", "--health-timeout", "0.2"]
        assert main([*command, "--min-fraction", "0.9"]) == 3
        assert not Path("ready").exists()

    def test_a_hostfile_may_come_later(self, serve: Any) -> None:
        text = f"{serve().url}\n"
        timer = threading.Timer(0.3, lambda: Path("later").write_text(text))
        timer.start()
        assert main(["wait", "--hostfile", "later", "-o", "ready", "--interval", "0.05"]) == 0
        timer.join()


class TestDemo:
    def test_every_agent_reads_its_file_and_says_what_it_is_for(self, serve: Any, capfd: Any) -> None:
        assert main(["demo", "-b", serve(tool_user).url]) == 0
        found = records(Path("aurora-demo/results.jsonl").read_text())
        assert len(found) == 24
        assert all(record["tools_executed"] == 1 and record["turns"] == 2 for record in found)
        captured = capfd.readouterr()
        assert "textwrap" in captured.out
        assert "24 asked for, 24 executed" in captured.err
        assert "--fresh" in captured.err

    def test_a_second_run_resumes_and_a_fresh_one_does_not(self, serve: Any, capfd: Any) -> None:
        server = serve(tool_user)
        command = ["demo", "-b", server.url]
        main(command)
        asked = len(server.requests)
        capfd.readouterr()
        assert main(command) == 0
        assert "24 of them resumed" in capfd.readouterr().err
        assert len(server.requests) - asked < 5  # looks, no prompts
        assert main([*command, "--fresh"]) == 0
        assert "resumed from" not in capfd.readouterr().err

    def test_a_run_that_was_killed_half_way_repeats_nothing_that_was_finished(self, serve: Any) -> None:
        server = serve(tool_user)
        command = [sys.executable, "-m", "aurora_swarm", "demo", "-b", server.url]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        results = Path("aurora-demo/results.jsonl")
        end = time.monotonic() + 30
        while (not results.exists() or results.read_text().count("\n") < 4) and time.monotonic() < end:
            time.sleep(0.002)
        process.kill()
        process.wait(timeout=10)
        finished = {record["index"] for record in records(results.read_text())}
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        resumed = {record["index"] for record in records(results.read_text()) if record["resumed"]}
        assert finished
        assert finished <= resumed
        assert f"{len(resumed)} of them resumed" in done.stderr


class TestSignsOfLife:
    def test_a_terminal_shows_a_live_view(self, serve: Any) -> None:
        Path("in.txt").write_text("".join(f"{n}\n" for n in range(60)))
        server = serve(lambda request: Answer(delay_s=0.05 if request.body else 0.0))
        command = ["map", "say {text}", "-i", "in.txt", "-b", server.url, "--max-inflight", "2", "-o", "out.jsonl"]
        code, said = on_a_terminal(command)
        assert code == 0
        assert "/60 done" in said
        assert "tokens/s" in said
        assert "\x1b[" in said  # drawn again in its place
        assert "finished: 60 inputs" in said

    def test_without_a_terminal_a_line_comes_every_few_seconds(self, serve: Any) -> None:
        Path("in.txt").write_text("only\n")
        server = serve(lambda request: Answer(delay_s=7.0 if request.method == "POST" else 0.0))
        command = [sys.executable, "-m", "aurora_swarm", "map", "{text}", "-i", "in.txt", "-b", server.url]
        last, longest = time.monotonic(), 0.0
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            for _ in process.stderr:
                longest, last = max(longest, time.monotonic() - last), time.monotonic()
        assert process.returncode == 0
        assert longest < 5.0


def on_a_terminal(command: list[str]) -> tuple[int, str]:
    """The exit code, and what a terminal was sent."""
    leader, follower = pty.openpty()
    environ = os.environ | {"TERM": "xterm-256color", "COLUMNS": "100"}
    process = subprocess.Popen(
        [sys.executable, "-m", "aurora_swarm", *command], stdout=follower, stderr=follower, env=environ
    )
    os.close(follower)
    said = b""
    while True:
        try:
            said += os.read(leader, 65536)
        except OSError:  # EIO: how Linux tells that the other side is closed
            break
    os.close(leader)
    return process.wait(timeout=30), said.decode()
