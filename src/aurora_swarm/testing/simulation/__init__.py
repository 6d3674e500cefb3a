"""A fleet in memory on virtual time: the production code above the transport, seeded faults below it.

A whole run of minutes or hours takes milliseconds, and the same seed gives the same run. One scenario by its seed::

    report = simulate(Scenario.from_seed(7))
    assert not report.violations, report.story()

or from the shell: ``python -m aurora_swarm.testing.simulation --seed 7``.
"""

from aurora_swarm.testing.simulation.faults import KINDS, Fault
from aurora_swarm.testing.simulation.report import SimulationReport
from aurora_swarm.testing.simulation.run import run_simulated, simulate
from aurora_swarm.testing.simulation.scenario import CallPlan, Scenario
from aurora_swarm.testing.simulation.servers import EndpointPlan
from aurora_swarm.testing.simulation.transport import SimulatedTransport, answer_to, is_bad

__all__ = [
    "KINDS",
    "CallPlan",
    "EndpointPlan",
    "Fault",
    "Scenario",
    "SimulatedTransport",
    "SimulationReport",
    "answer_to",
    "is_bad",
    "run_simulated",
    "simulate",
]
