"""What the model is shown of what was said, kept up to date: constant time for each message, but at a compaction."""

from collections.abc import Sequence
from typing import Any

import msgspec

from ostler.domain.context.estimate import is_to_be_counted
from ostler.domain.model import AskedCall, AssistantMessage, Message, ToolMessage, UserMessage
from ostler.domain.protocols import react
from ostler.domain.session.events import ContextCompacted, ModelCompleted
from ostler.domain.session.state import State
from ostler.domain.tokens import (
    Counts,
    counts_of,
    counts_of_message,
    counts_of_messages,
    counts_of_tools,
    family_of,
    minus,
    plus,
    tokens,
)
from ostler.domain.transcript import Transcript

RATIO_MIN, RATIO_MAX = 2, 4
"""A report of less than a half or more than four times the estimate is taken for no more than that."""
ARGUMENTS_MAX = 200

_replace = msgspec.structs.replace


def fixed_counts(state: State) -> Counts:
    """What every request of the session holds beside the transcript: the system prompt, the tools, the schema of the
    answer and working memory.
    """
    tools = state.guard.visible(state.agent.tools, state.inputs)
    counts = counts_of(react.system(state.agent, state.model, tools))
    if state.mind is not None:
        counts = plus(counts, counts_of_messages(state.mind.shown))
    if state.model.tools != "native":
        return counts
    if state.agent.returns is not None:
        counts = plus(counts, counts_of(msgspec.json.encode(state.agent.returns).decode()))
    return plus(counts, counts_of_tools(tools)) if tools else counts


def opened(state: State) -> State:
    """A session that begins."""
    return counted(_replace(state, context=_replace(state.context, fixed=fixed_counts(state))))


def counted(state: State) -> State:
    """The state with its transcript counted, if there is a bound to its size now."""
    if state.context.is_counted or not is_to_be_counted(state):
        return state
    counts = counts_of_messages(state.transcript)
    return _replace(state, context=_replace(state.context, counts=counts, is_counted=True))


def told(state: State, messages: tuple[Message, ...], size: int) -> dict[str, Any]:
    """What changes in the state when the model is shown these messages; `size` is their characters."""
    changes = {"transcript": state.transcript.plus(*messages), "transcript_bytes": state.transcript_bytes + size}
    if not state.context.is_counted:
        return changes
    counts = state.context.counts
    for message in messages:
        counts = plus(counts, counts_of_message(message))
    return changes | {"context": _replace(state.context, counts=counts)}


def reported(state: State, event: ModelCompleted) -> State:
    """The state that knows what the provider made of the request that this is the reply to."""
    used = event.usage
    read = used.input_tokens + used.cache_read_tokens + used.cache_write_tokens
    if not read or not state.context.is_counted:
        return state
    context, family = state.context, family_of(state.model.name)
    estimated = tokens(plus(context.fixed, context.counts), family)
    too_long = context.too_long if read < context.too_long else 0
    read = min(max(read, estimated // RATIO_MIN), estimated * RATIO_MAX)
    return _replace(
        state, context=_replace(context, family=family, reported=read, estimated=estimated, too_long=too_long)
    )


def compacted(state: State, event: ContextCompacted) -> State:
    """The state in which the model is shown less. What lines say of results is part of old logs: it never changes."""
    before, context = state.transcript, state.context
    dropped = {place for start, end in event.spans for place in range(start, end)}
    results = set(event.calls)
    asked = asked_calls(before) if results else {}
    after = _replace(
        context,
        summary=event.summary or context.summary,
        left_out=0 if event.summary else context.left_out + event.turns,
        compactions=context.compactions + 1,
        reached=event.tokens_after,
        draft=None,
        covers=0,
    )
    counts, kept = context.counts, [before[0]]
    if context.leading > 1:
        counts = minus(counts, counts_of_message(before[1]))
    if after.leading > 1:
        kept.append(UserMessage(_notice(after.summary, after.left_out)))
        counts = plus(counts, counts_of_message(kept[1]))
    for place in range(context.leading, len(before)):
        message = before[place]
        if place in dropped:
            counts = minus(counts, counts_of_message(message))
        elif isinstance(message, ToolMessage) and message.call in results:
            line = reference(state, message, asked[message.call])
            counts = plus(minus(counts, counts_of_message(message)), counts_of_message(line))
            kept.append(line)
        else:
            kept.append(message)
    # What was found out about the next call was found out about a larger one.
    return _replace(state, transcript=Transcript(kept), context=_replace(after, counts=counts), examined=None)


def _notice(summary: str, left_out: int) -> str:
    """What the model is told of the turns that it is not shown any more."""
    turns = f"{left_out} turn{'' if left_out == 1 else 's'}"
    if not summary:
        return f"[To make room, {turns} between the goal and what follows are not shown any more.]"
    more = f"\n\n[Of what came after this summary, {turns} are not shown either.]" if left_out else ""
    return f"[To make room, earlier turns are not shown any more. Your own summary of them:]\n\n{summary}{more}"


def asked_calls(messages: Sequence[Message]) -> dict[str, AskedCall]:
    """The calls that these messages ask for, by their ids."""
    return {call.id: call for message in messages if isinstance(message, AssistantMessage) for call in message.calls}


def reference(state: State, message: ToolMessage, call: AskedCall) -> ToolMessage:
    """One line in the place of a result: what it was, its size and how it can be had again."""
    spec = state.agent.tool(message.name)
    arguments = call.arguments if len(call.arguments) <= ARGUMENTS_MAX else f"{call.arguments[:ARGUMENTS_MAX]}…"
    again = "Call it again to see it."
    if spec is None or spec.effect != "read":
        again = "What it did stands; do not call it again only to see this."
    text = f"The result of {message.name} {arguments} ({len(message.text):,} characters) is not shown any more. {again}"
    return ToolMessage(message.call, message.name, _encode({"ok": message.ok, "left_out": text}), message.ok)


def _encode(value: dict[str, object]) -> str:
    return msgspec.json.encode(value).decode()
