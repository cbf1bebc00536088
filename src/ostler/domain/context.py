"""What the model sees: a pure function of the session's state."""

import msgspec

from ostler.domain.model import ModelRequest
from ostler.domain.protocols import react
from ostler.domain.session.state import OpenCall, State

BYTES_PER_TOKEN = 4


def request(state: State, call: OpenCall) -> ModelRequest:
    """The request for an open model call. Costs the same however long the transcript is: nothing of it is copied.

    The system prompt and the goal are always there.
    """
    settings = state.agent.settings
    stop = react.stop(state.model)
    if stop or call.max_tokens is not None:
        settings = msgspec.structs.replace(
            settings, stop=(*settings.stop, *stop), max_tokens=call.max_tokens or settings.max_tokens
        )
    tools = state.guard.visible(state.agent.tools, state.inputs)
    return ModelRequest(
        model=state.model,
        system=call.system or react.system(state.agent, state.model, tools),
        messages=state.transcript,
        tools=tools,
        settings=settings,
        key=f"{state.session}/{call.id}",
    )


def estimated_input_tokens(state: State) -> int:
    """How many tokens the next request will hold, at four bytes a token; an estimate, settled by the reported usage."""
    tools = sum(
        len(tool.name) + len(tool.description) + 4 * len(str(tool.parameters)) // 3 for tool in state.agent.tools
    )
    size = state.transcript_bytes + sum(len(text) for text in state.inbox) + len(state.agent.instructions) + tools
    return -(-size // BYTES_PER_TOKEN)
