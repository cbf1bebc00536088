"""Keeping what the model sees within its window: decided before it is asked, and written down."""

from ostler.domain.context import plan
from ostler.domain.context.estimate import COUNTS_TOKENS, estimated_input_tokens, largest_window_of
from ostler.domain.model import Usage, cost_microusd
from ostler.domain.session.commands import ReplyReceived
from ostler.domain.session.decision import Decision
from ostler.domain.session.events import ModelCompleted
from ostler.domain.session.state import State
from ostler.kernel.errors import ContextTooLong

NO_SUMMARY = "The reply is no summary."


def make_room(decision: Decision) -> int:
    """Leave out what has to be left out. The number of messages of which the model is to be asked for a summary first.

    Nothing is left out but before a model call, when no other call is open or waits for people. A summary that cannot
    be had is done without: the oldest turns go.
    """
    window = largest_window_of(decision.state)
    found = None if window is None or decision.state.is_trial else plan.crowd(decision.state, window)
    if found is None:
        return 0
    for step in decision.state.agent.context.steps:
        state = decision.state
        draft = state.context.draft
        if estimated_input_tokens(state) <= found.target and not (draft and step == "summarise"):
            continue
        if step == "summarise" and draft is None and (covers := plan.to_be_summarised(state, found)):
            return covers
        event = None
        if step == "references":
            event = plan.references(state, found)
        elif step == "summarise" and draft:
            event = plan.summary(state, found, draft)
        if event is None and step != "references":
            event = plan.trim(state, found)
        if event is not None:
            decision.emit(event)
    return 0


def may_be_shortened(state: State, code: str) -> bool:
    """Whether a request that was refused so is followed by a shorter one: what cannot be any shorter ends the session.

    Each that is refused was shorter than the one before, and so there are only so many.
    """
    return code == ContextTooLong.code and state.gate >= COUNTS_TOKENS and not state.is_trial


def do_without_summary(decision: Decision) -> bool:
    """Leave out the oldest turns where no summary of them can be asked for; whether there is more room now."""
    window = largest_window_of(decision.state)
    found = None if window is None else plan.crowd(decision.state, window)
    event = None if found is None else plan.trim(decision.state, found)
    if event is not None:
        decision.emit(event)
    return event is not None


def summarised(decision: Decision, asked: ReplyReceived, used: Usage) -> None:
    """Record the reply to a request for a summary; what is none is not kept, and done without."""
    reply, model = asked.reply, decision.state.model
    is_summary = reply.stop in ("end", "stop_sequence", "other") and not reply.calls and bool(reply.text.strip())
    decision.emit(
        ModelCompleted(
            call=asked.call,
            text=reply.text if is_summary else "",
            defect=None if is_summary else NO_SUMMARY,
            stop=reply.stop,
            usage=used,
            cost_microusd=cost_microusd(used, model.price),
            model="" if reply.model == model.name else reply.model,
            redacted=asked.redacted,
            hooks=asked.hooks,
            fingerprint=reply.fingerprint,
            shared_with=asked.shared_with,
        )
    )
