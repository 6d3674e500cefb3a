"""What a kind of backend can do, so that others ask it for no more and no less."""

from __future__ import annotations

import msgspec


class Capabilities(msgspec.Struct, frozen=True):
    """What may be asked of the endpoints of one kind.

    Args:
        native_tools: They have a tool protocol of their own that can be relied on; else tools are asked for by a
            constrained step.
        schemas: They constrain answers to a JSON schema; else answers are only validated.
        priority: They schedule by a priority field in the request.
        cache_marks: They cache the prompt up to a mark, and only there.
        agent_hints: They take hints about the agent that asks (Dynamo).
        prefetch: A request for one token leaves its prefix in their cache for the next one.
        concurrency: Calls per endpoint at a time that are safe where nobody says.
    """

    native_tools: bool = False
    schemas: bool = True
    priority: bool = False
    cache_marks: bool = False
    agent_hints: bool = False
    prefetch: bool = True
    concurrency: int = 64
