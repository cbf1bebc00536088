"""What the model sees: a pure function of the session's state."""

from collections.abc import Sequence

import msgspec

from ostler.domain.context.plan import SUMMARY_PROMPT
from ostler.domain.model import Message, ModelRequest, UserMessage
from ostler.domain.protocols import react
from ostler.domain.session.state import OpenCall, State


def request(state: State, call: OpenCall) -> ModelRequest:
    """The request for an open model call. Costs the same however long the transcript is: nothing of it is copied,
    unless there is something in working memory.

    The system prompt and the goal are always there. What changes stands at the end, so that what went before can be
    cached: working memory, or what is asked for in place of a turn.
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
        messages=_with_working(state) if is_turn else [*state.transcript[: call.covers], UserMessage(SUMMARY_PROMPT)],
        tools=tools,
        settings=settings,
        key=f"{state.session}/{call.id}",
        returns=state.agent.returns if state.model.tools == "native" and is_turn else None,
        passing=len(_working(state)) if is_turn else 1,
    )


def next_messages(state: State) -> tuple[Message, ...]:
    """What a model will be shown that is asked next, with what was said since the last one was."""
    return (*state.transcript, *state.inbox, *_working(state))


def _with_working(state: State) -> Sequence[Message]:
    """What was said, and what the session keeps before its own eyes."""
    working = _working(state)
    return [*state.transcript, *working] if working else state.transcript


def _working(state: State) -> tuple[Message, ...]:
    return () if state.mind is None else state.mind.shown
