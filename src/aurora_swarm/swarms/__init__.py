"""Levels: worker < orchestrator < swarm < hivemind, their architectures, and how they talk."""
