"""Replay a seed, or run many: ``python -m aurora_swarm.testing.simulation --seed 7``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable

from aurora_swarm.testing.simulation.report import replay_command
from aurora_swarm.testing.simulation.run import simulate
from aurora_swarm.testing.simulation.scenario import Scenario


def main() -> int:
    """Run what the command line names; the exit code is 1 if an invariant was violated."""
    parser = argparse.ArgumentParser(prog="python -m aurora_swarm.testing.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="tell the whole story of one seed")
    parser.add_argument("--seeds", type=int, default=1000, help="run seeds 0 to N-1, and name those that fail")
    options = parser.parse_args()
    if options.seed is None:
        return _sweep(range(options.seeds))
    report = simulate(Scenario.from_seed(options.seed))
    sys.stdout.write(report.story(events=len(report.events)) + "\n")
    return 1 if report.violations else 0


def _sweep(seeds: Iterable[int]) -> int:
    failed = total = 0
    for seed in seeds:
        total += 1
        report = simulate(Scenario.from_seed(seed))
        if report.violations:
            failed += 1
            sys.stdout.write(f"{replay_command(seed)}\n  {report.violations[0]}\n")
    sys.stdout.write(f"{failed} of {total} seeds failed\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
