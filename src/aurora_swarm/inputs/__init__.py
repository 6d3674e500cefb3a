"""Bytes to values: hostfiles, inputs, templates, run specifications, JSON schemas.

What every program needs is re-exported here. `inputs.spec` and `inputs.schema` are imported by
name where they are used, because the libraries behind them take longer to import than all the rest.
"""

from aurora_swarm.inputs.hostfile import parse_endpoint, parse_hostfile, parse_hostfile_text, write_hostfile
from aurora_swarm.inputs.records import count_inputs, read_inputs
from aurora_swarm.inputs.template import Placeholder, Template

__all__ = [
    "Placeholder",
    "Template",
    "count_inputs",
    "parse_endpoint",
    "parse_hostfile",
    "parse_hostfile_text",
    "read_inputs",
    "write_hostfile",
]
