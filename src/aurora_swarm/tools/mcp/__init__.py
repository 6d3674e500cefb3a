"""Tools of MCP servers (Model Context Protocol); the package ``mcp`` is needed only where one is opened."""

from aurora_swarm.tools.mcp.open import open_mcp, opened_tools
from aurora_swarm.tools.mcp.server import McpServer

__all__ = ["McpServer", "open_mcp", "opened_tools"]
