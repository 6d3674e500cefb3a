"""Agents that work on files: a coding agent in a process of its own, at a server of the fleet."""

from aurora_swarm.agents.coding.change import CodeChange
from aurora_swarm.agents.coding.opencode import OpenCode

__all__ = ["CodeChange", "OpenCode"]
