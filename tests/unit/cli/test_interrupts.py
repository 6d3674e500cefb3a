"""The first signal cancels in order, the second ends at once, and nothing keeps a user waiting."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import asyncio, sys, time
from aurora_swarm.cli.interrupts import run_interruptibly

async def work():
    try:
        print("ready", flush=True)
        {busy}
    finally:
        {cleanup}
        print("cleaned up", flush=True)

try:
    run_interruptibly(work())
except KeyboardInterrupt:
    print("told", flush=True)
    sys.exit(130)
"""
SLEEPS = "await asyncio.sleep(60)"
PROMPT = "await asyncio.sleep(0.01)"
HANGS = "await asyncio.sleep(60)"


def started(busy: str = SLEEPS, cleanup: str = PROMPT) -> subprocess.Popen[str]:
    program = PROGRAM.format(busy=busy, cleanup=cleanup)
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_cancels_in_order(number: signal.Signals) -> None:
    process = started()
    process.send_signal(number)
    said, _ = process.communicate(timeout=10)
    assert said == "cleaned up\ntold\n"
    assert process.returncode == 130


def test_a_second_signal_ends_at_once() -> None:
    process = started(cleanup=HANGS)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=10)
    assert process.returncode == 130
    assert said == ""
    assert time.monotonic() - began < 1.0


def test_an_end_that_hangs_is_cut_short() -> None:
    process = started(cleanup=HANGS)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 130
    assert time.monotonic() - began < 2.5


def test_who_runs_out_of_time_has_a_last_word() -> None:
    program = PROGRAM.replace(
        "run_interruptibly(work())", "run_interruptibly(work(), lambda: print('so far', flush=True))"
    )
    command = [sys.executable, "-c", program.format(busy=SLEEPS, cleanup=HANGS)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=10)
    assert (process.returncode, said) == (130, "so far\n")


def test_a_busy_loop_does_not_keep_a_second_signal_waiting() -> None:
    process = started(busy="while True: time.sleep(0.01)")
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 130


def test_a_signal_while_all_is_over_counts() -> None:
    process = started(busy="", cleanup="time.sleep(1)")
    os.kill(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=10)
    assert process.returncode == 130
    assert said == "cleaned up\ntold\n"
