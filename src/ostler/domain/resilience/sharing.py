"""Which calls are equal, so that one outcome does for all of them. Nothing is equal across tenants."""

from hashlib import sha256

import msgspec

from ostler.domain.model import ModelRequest
from ostler.domain.tool import ToolRequest, ToolSpec
from ostler.kernel.canonical import digest

_ENCODER = msgspec.json.Encoder(order="deterministic")


def key_of_tool(spec: ToolSpec, request: ToolRequest) -> str | None:
    """The same for calls that are equal; None if this tool's calls are not shared: others than `read` never are, nor
    are those that recall, since what they answer depends on whose session asks.
    """
    if spec.share_s is None or spec.effect != "read" or "recalls" in spec.roles:
        return None
    place = [request.workspace, request.sandbox, request.isolation]
    return digest(["tool", request.tenant, request.tool, request.arguments, place])


def key_of_model(tenant: str, request: ModelRequest) -> str | None:
    """The same for requests that are equal but for the session; None if replies are not shared."""
    if request.settings.share_s is None:
        return None
    whole = [tenant, request.model, request.system, list(request.messages), request.tools, request.settings]
    return sha256(_ENCODER.encode([*whole, request.returns])).hexdigest()
