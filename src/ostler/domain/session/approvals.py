"""Who may decide about a call that waits, and when enough have approved it."""

from ostler.domain.constraint.verdict import Demand
from ostler.domain.identity import LOCAL_USER, Principal
from ostler.domain.session.state import Question, State

APPROVE = "approve"
"""The scope of those who may decide where a rule names no roles."""


def objection(state: State, call: str, by: Principal, at_us: int, digest: str | None = None) -> str | None:
    """Why this decision of `by` about a call does not count; None if it does."""
    question = state.question
    if state.end is not None:
        return f"the session has {state.end.status} already"
    if question is None or question.call != call or state.cancelling_by is not None:
        return "no decision about this call is being waited for; somebody may have been faster"
    if digest is not None and digest != question.digest:
        return "the call is not the one that was looked at"
    if question.expires_us is not None and at_us >= question.expires_us:
        return "the time for it is over"
    if by.tenant != state.by.tenant:
        return "it is a call of another tenant"
    if not any(_may_answer(demand, by) for demand in question.demands):
        roles = sorted({role for demand in question.demands for role in demand.roles})
        return f"it takes the role {' or '.join(roles)}" if roles else f"it takes the scope {APPROVE!r}"
    return None


def objection_to_grant(state: State, by: Principal) -> str | None:
    """Why `by` may refuse the call that waits, but not approve it: nobody approves twice, or for themselves.

    Whoever has told the session what to do has asked for what it does, too.

    But for the person at the keyboard of an embedded runtime, who is alone, where a rule just asks for an approval.
    """
    question = state.question
    assert question is not None, "it was asked whether anybody may decide"
    if any(by.id == name for name, _ in question.approved_by):
        return f"{by.id} has approved it already"
    is_plain = len(question.demands) == 1 and question.demands[0].count == 1 and not question.demands[0].roles
    if by.id in (state.by.id, *state.senders) and not (is_plain and by.id == LOCAL_USER.id):
        return f"{by.id} asked for it, and cannot be the one who approves it"
    return None


def is_enough(question: Question, by: Principal) -> bool:
    """Whether all demands are met once `by` has approved, too."""
    approvers = (*question.approved_by, (by.id, by.roles))
    return all(_is_met(demand, approvers) for demand in question.demands)


def _is_met(demand: Demand, approvers: tuple[tuple[str, tuple[str, ...]], ...]) -> bool:
    wanted = set(demand.roles)
    return sum(1 for _, roles in approvers if not wanted or wanted & set(roles)) >= demand.count


def _may_answer(demand: Demand, by: Principal) -> bool:
    return bool(set(demand.roles) & set(by.roles)) if demand.roles else by.may(APPROVE)
