"""A session as people and machines look at it."""

import msgspec

from ostler.domain.constraint.verdict import Demand
from ostler.domain.session.approvals import APPROVE
from ostler.domain.session.state import State
from ostler.kernel.event import timestamp


class Approval(msgspec.Struct, frozen=True, omit_defaults=True):
    """A call that waits for people: what would be done, which rules ask, and what there is to know before deciding.

    `tool` is empty where the model itself may not be asked yet. `missing` is what each rule still wants. `undone` says
    whether what the call does can be undone. Costs are micro-dollars so far, `risk_parts` what and how much.
    """

    session: str
    call: str
    tool: str
    arguments: dict[str, object]
    digest: str
    rule: str
    reason: str = ""
    expires: str | None = None
    by: str = ""
    missing: tuple[str, ...] = ()
    approved_by: tuple[str, ...] = ()
    undone: str = ""
    risk: float | None = None
    risk_parts: tuple[tuple[str, float], ...] = ()
    cost_microusd: int = 0
    evidence: tuple[str, ...] = ()


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
        by=state.by.id,
        missing=tuple([_wanted(demand, question.approved_by) for demand in question.demands]),
        approved_by=tuple([name for name, _ in question.approved_by]),
        undone=_UNDONE.get(question.effect or "", ""),
        risk=question.risk,
        risk_parts=question.risk_parts,
        cost_microusd=question.cost_microusd,
        evidence=question.evidence,
    )


_UNDONE = {
    "read": "it changes nothing",
    "idempotent": "doing it again changes nothing; whether it can be undone is not known",
    "reconcilable": "it can be found out whether it happened; whether it can be undone is not known",
    "once": "it happens once, and cannot be taken back",
}


def _wanted(demand: Demand, approved_by: tuple[tuple[str, tuple[str, ...]], ...]) -> str:
    """What a rule still wants, in words."""
    wanted = set(demand.roles)
    there = sum(1 for _, roles in approved_by if not wanted or wanted & set(roles))
    left = max(0, demand.count - there)
    whose = f"the role {' or '.join(demand.roles)}" if demand.roles else f"anybody with the scope {APPROVE}"
    why = f": {demand.reason}" if demand.reason else ""
    return f"{left} approval{'s' if left != 1 else ''} of {whose} [{demand.rule}]{why}"
