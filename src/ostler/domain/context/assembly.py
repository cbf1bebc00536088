"""What the model sees: a pure function of the session's state."""

import msgspec

from ostler.domain.context.plan import SUMMARY_PROMPT
from ostler.domain.model import ModelRequest, UserMessage
from ostler.domain.protocols import react
from ostler.domain.session.state import OpenCall, State


def request(state: State, call: OpenCall) -> ModelRequest:
    """The request for an open model call. Costs the same however long the transcript is: nothing of it is copied.

    The system prompt and the goal are always there. For a summary, what is asked for stands at the end.
    """
    settings, is_turn = state.agent.settings, call.purpose == "turn"
    stop = react.stop(state.model)
    if stop or call.max_tokens is not None:
        settings = msgspec.structs.replace(
            settings, stop=(*settings.stop, *stop), max_tokens=call.max_tokens or settings.max_tokens
        )
    tools = state.guard.visible(state.agent.tools, state.inputs)
    return ModelRequest(
        model=state.model,
        system=call.system or react.system(state.agent, state.model, tools),
        messages=state.transcript if is_turn else [*state.transcript[: call.covers], UserMessage(SUMMARY_PROMPT)],
        tools=tools,
        settings=settings,
        key=f"{state.session}/{call.id}",
        returns=state.agent.returns if state.model.tools == "native" and is_turn else None,
    )
