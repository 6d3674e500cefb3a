"""What hosted providers can be asked about themselves: less than an engine of one's own."""

from __future__ import annotations

from aurora_swarm.errors import RequestRejectedError
from aurora_swarm.transports.inquiry import Inquiry
from aurora_swarm.transports.requests import body_of
from aurora_swarm.values.call import Call
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.reply import EndpointInfo, EndpointLoad


class HostedInquiry(Inquiry):
    """Asks a provider whether it is there and takes the key.

    Its list of models is no list of the names that it takes (there are aliases, and pages), so none is told.
    """

    async def look(self, endpoint: AgentEndpoint, timeout_s: float) -> EndpointInfo:
        """Who is there, without generating anything.

        Raises:
            CallError: Nobody answers, or the key is refused.
        """
        await self._requests.get(endpoint, self._models.path, timeout_s)
        return EndpointInfo()

    async def load(self, endpoint: AgentEndpoint, timeout_s: float) -> EndpointLoad | None:  # noqa: ARG002
        """Nothing: providers do not say."""
        return None

    async def count_tokens(self, endpoint: AgentEndpoint, call: Call, timeout_s: float) -> int | None:  # noqa: ARG002
        """Nothing: what a prompt has is known from the answer."""
        return None


class BedrockInquiry(HostedInquiry):
    """Asks Bedrock's runtime whether it is there. It lists no models, and its paths take requests to generate alone."""

    async def look(self, endpoint: AgentEndpoint, timeout_s: float) -> EndpointInfo:
        """Who is there: any answer that is no server error, also one that refuses the question.

        Raises:
            CallError: Nobody answers.
        """
        reply = await self._requests.look_at(endpoint, "/", timeout_s)
        if reply.status >= 500:
            body_of(reply)  # raises what it is
        return EndpointInfo()

    async def model(self, endpoint: AgentEndpoint, model: str, timeout_s: float) -> tuple[str, float]:  # noqa: ARG002
        """The model that was named.

        Raises:
            RequestRejectedError: None was.
        """
        if not model:
            raise RequestRejectedError("Bedrock is asked for a model by name", remedy="give a model id or a profile")
        return model, timeout_s
