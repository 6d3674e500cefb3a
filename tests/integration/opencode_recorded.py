"""Stands in for OpenCode 1.18 where that is not installed: its command line, its configuration, and what it says.

It asks the configured server as OpenCode does, obeys calls of ``write`` and ``bash`` as far as its configuration allows
them, and prints the events that OpenCode was recorded to print. Like it, it asks a failing server without end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


def say(kind: str, **fields: Any) -> None:
    sys.stdout.write(json.dumps({"type": kind, "timestamp": 0, "sessionID": "ses_1", **fields}) + "\n")
    sys.stdout.flush()


def asked(provider: dict[str, Any], body: dict[str, Any]) -> list[dict[str, Any]]:
    """The chunks of one streamed answer."""
    options = provider["options"]
    headers = {"Authorization": f"Bearer {options['apiKey']}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{options['baseURL']}/chat/completions", json.dumps(body).encode(), headers)
    while True:
        try:
            with urllib.request.urlopen(request) as response:
                lines = [line.removeprefix(b"data: ") for line in response.read().splitlines() if line]
            return [json.loads(line) for line in lines if line != b"[DONE]"]
        except urllib.error.HTTPError as error:
            if error.code < 500:
                message = json.load(error)["error"]["message"]
                say("error", error={"name": "APIError", "data": {"message": message, "statusCode": error.code}})
                sys.exit(1)
        except OSError:
            pass
        time.sleep(0.1)


def obey(call: dict[str, Any], allowed: dict[str, str]) -> tuple[str, str]:
    """Status and output of one call."""
    arguments = json.loads(call["function"]["arguments"])
    if call["function"]["name"] == "write":
        Path(arguments["filePath"]).write_text(arguments["content"], encoding="utf-8")
        return "completed", "Wrote file successfully."
    if call["function"]["name"] == "bash" and allowed["bash"] == "allow":
        done = subprocess.run(arguments["command"], shell=True, capture_output=True, text=True, check=False)
        return "completed", done.stdout
    return "error", "unavailable tool"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    for name in ("--format", "--title", "--model"):
        parser.add_argument(name, required=True)
    provider_name, _, model = parser.parse_args().model.partition("/")
    configuration = json.loads(os.environ["OPENCODE_CONFIG_CONTENT"])
    provider = configuration["provider"][provider_name]
    messages: list[dict[str, Any]] = [{"role": "user", "content": sys.stdin.read()}]
    for turn in range(50):
        body = {
            "model": model,
            "max_tokens": provider["models"][model]["limit"]["output"],
            "messages": messages,
            "tools": [{"type": "function", "function": {"name": "write", "parameters": {"type": "object"}}}],
            "stream": True,
        }
        chunks = asked(provider, body)
        choices = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
        text = "".join(delta.get("content") or "" for delta in choices)
        calls = [call for delta in choices for call in delta.get("tool_calls", ())]
        usage = next(chunk["usage"] for chunk in chunks if chunk.get("usage"))
        part = {"messageID": f"msg_{turn}", "sessionID": "ses_1"}
        say("step_start", part={"type": "step-start", **part})
        messages.append({"role": "assistant", "content": text, "tool_calls": calls})
        for call in calls:
            status, output = obey(call, configuration["permission"])
            state = {"status": status, "output": output}
            say("tool_use", part={"type": "tool", "tool": call["function"]["name"], "state": state, **part})
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": output})
        if text:
            say("text", part={"type": "text", "text": text, **part})
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        tokens = {
            "total": usage["total_tokens"],
            "input": usage["prompt_tokens"] - cached,
            "output": usage["completion_tokens"],
            "reasoning": 0,
            "cache": {"write": 0, "read": cached},
        }
        say("step_finish", part={"type": "step-finish", "tokens": tokens, "cost": 0, **part})
        if not calls:
            return


if __name__ == "__main__":
    main()
