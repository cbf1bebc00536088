"""What is being decided: events so far, the state after them, and the ends that several decisions come to."""

from ostler.domain.model import cost_microusd
from ostler.domain.session.attempts import COUNTS_FAILED, lost
from ostler.domain.session.events import (
    NOTHING_USED,
    AgentCancelled,
    AgentCompleted,
    AgentFailed,
    ModelFailed,
    SessionEvent,
    ToolCompleted,
)
from ostler.domain.session.evolve import evolve
from ostler.domain.session.remembering import episode_of
from ostler.domain.session.state import OpenCall, State
from ostler.domain.tool import FailureKind


class Decision:
    """Events decided so far, and the state after them."""

    __slots__ = ("at_us", "events", "may_begin", "state")

    def __init__(self, state: State, at_us: int, may_begin: bool = True) -> None:
        self.state = state
        self.at_us = at_us
        self.may_begin = may_begin
        self.events: list[SessionEvent] = []

    def emit(self, event: SessionEvent) -> None:
        self.events.append(event)
        self.state = evolve(self.state, event, self.at_us)


def end(decision: Decision, last: AgentCompleted | AgentFailed | AgentCancelled, kind: FailureKind) -> None:
    """End the session, giving every open call its one outcome first. An ended session stays as it is.

    If it is to be remembered how it ended, the end follows that.
    """
    episode = None if decision.state.end is not None else episode_of(decision.state, last)
    if episode is None:
        end_at_once(decision, last, kind)
        return
    _close_all(decision, kind)
    decision.emit(episode)


def end_at_once(decision: Decision, last: AgentCompleted | AgentFailed | AgentCancelled, kind: FailureKind) -> None:
    """As `end`, with nothing remembered. What fails a session that had come to its end before does not change that."""
    if decision.state.end is not None:
        return
    _close_all(decision, kind)
    ending = None if isinstance(last, AgentCancelled) else decision.state.ending
    decision.emit(last if ending is None else ending)


def _close_all(decision: Decision, kind: FailureKind) -> None:
    for call in decision.state.open:
        close(decision, call, kind, "the session ended during this call")


def close(decision: Decision, call: OpenCall, kind: FailureKind, reason: str) -> None:
    """Record that an open call gets no other outcome than this. Of one that waits, nobody need wonder what it did."""
    if kind == "unknown" and call.not_before_us and decision.state.gate >= COUNTS_FAILED:
        kind, reason = "cancelled", "it waited, and is not begun any more"
    if call.arguments is None:
        used = NOTHING_USED if kind == "cancelled" else lost(decision.state, call)
        cost = cost_microusd(used, decision.state.model.price)
        decision.emit(ModelFailed(call.id, kind, reason, usage=used, cost_microusd=cost))
    else:
        decision.emit(ToolCompleted(call.id, ok=False, output=reason, kind=kind))


def is_open(state: State, call: str) -> OpenCall | None:
    """The open call of this id; None if it has its outcome already, and this one comes too late."""
    if state.end is not None:
        return None
    for other in state.open:
        if other.id == call:
            return other
    return None


def refused(decision: Decision, tool: str, reason: str, *, is_final: bool = True) -> None:
    """A rule or a person has said no. For some agents that is the end, and for all if the model may not be asked."""
    if not tool:
        end(decision, AgentFailed("denied", f"the model may not be asked: {reason}"), "cancelled")
    elif is_final and decision.state.agent.on_refusal == "end":
        end(decision, AgentFailed("denied", f"{tool} was refused: {reason}"), "cancelled")
