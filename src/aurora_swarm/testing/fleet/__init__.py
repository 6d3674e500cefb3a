"""A simulated fleet on real sockets: thousands of model servers in one process, with faults on demand.

Plan a run on thousands of endpoints without one, or test what your own code does when servers misbehave::

    plan = ServerPlan(latency_s=0.2, capacity=8)
    async with SimulatedFleet([plan] * 100, faults=[Fault("refuse", share=0.2)]) as fleet:
        async with VLLMPool(fleet.endpoints) as pool:
            responses = await pool.send_all(prompts)
        print(fleet.counts())
"""

from aurora_swarm.testing.fleet.counts import FleetCounts
from aurora_swarm.testing.fleet.faults import KINDS, Fault, place_faults
from aurora_swarm.testing.fleet.fleet import SimulatedFleet
from aurora_swarm.testing.fleet.plan import ServerPlan
from aurora_swarm.testing.fleet.process import RemoteFleet, fleet_process

__all__ = [
    "KINDS",
    "Fault",
    "FleetCounts",
    "RemoteFleet",
    "ServerPlan",
    "SimulatedFleet",
    "fleet_process",
    "place_faults",
]
