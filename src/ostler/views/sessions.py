"""A session as people and machines look at it."""

import msgspec

from ostler.domain.session.state import State
from ostler.kernel.event import timestamp


class Approval(msgspec.Struct, frozen=True, omit_defaults=True):
    """A call that waits for a person: what would be done, and which rule asks."""

    session: str
    call: str
    tool: str
    arguments: dict[str, object]
    digest: str
    rule: str
    reason: str = ""
    expires: str | None = None


class SessionView(msgspec.Struct, frozen=True):
    """One session in public. Times are RFC 3339, costs micro-dollars; `model_kind` says who really answered."""

    id: str
    agent: str
    status: str
    waiting_for: str | None
    reason: str | None
    text: str | None
    goal: str
    model: str
    model_kind: str
    steps: int
    tool_calls: int
    tokens: int
    cost_microusd: int
    started: str
    workspace: str | None
    sandbox: str
    origin: str | None
    approval: Approval | None


def view(state: State) -> SessionView:
    """The public view of a session's state."""
    end = state.end
    return SessionView(
        id=state.session,
        agent=str(state.agent),
        status=state.status,
        waiting_for=state.waiting_for,
        reason=end.reason if end is not None else state.pause,
        text=end.text if end is not None else None,
        goal=state.goal,
        model=f"{state.model.provider}:{state.model.name}",
        model_kind=state.model.kind,
        steps=state.steps,
        tool_calls=state.tool_calls,
        tokens=state.usage.total_tokens,
        cost_microusd=state.cost_microusd,
        started=timestamp(state.started_us),
        workspace=state.workspace,
        sandbox=state.sandbox,
        origin=state.origin,
        approval=approval(state),
    )


def unreadable(session: str, agent: str, status: str, problem: str) -> SessionView:
    """A session whose log cannot be read: what is known of it beside its log."""
    return SessionView(
        id=session,
        agent=agent,
        status=status,
        waiting_for=None,
        reason="unreadable",
        text=problem,
        goal="",
        model="",
        model_kind="",
        steps=0,
        tool_calls=0,
        tokens=0,
        cost_microusd=0,
        started="",
        workspace=None,
        sandbox="",
        origin=None,
        approval=None,
    )


def approval(state: State) -> Approval | None:
    """The question that the session waits for an answer to."""
    question = state.question
    if question is None or state.end is not None:
        return None
    return Approval(
        session=state.session,
        call=question.call,
        tool=question.tool,
        arguments=question.arguments,
        digest=question.digest,
        rule=question.rule,
        reason=question.reason,
        expires=None if question.expires_us is None else timestamp(question.expires_us),
    )
