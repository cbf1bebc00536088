"""The calls that are asked for, put through the gate one by one, in their order."""

from ostler.domain import gate
from ostler.domain.memory.taint import taint_of
from ostler.domain.session import mind
from ostler.domain.session.decision import Decision, end, refused
from ostler.domain.session.events import (
    AgentFailed,
    ApprovalRequested,
    ConstraintFailed,
    ToolCompleted,
    ToolRequested,
)
from ostler.domain.session.interventions import is_undoing
from ostler.domain.session.state import under_way

NOBODY_IS_ASKED = "people would have to approve it, and what the runtime asks for by itself nobody is asked about"


def judge_next(decision: Decision) -> bool:
    """Put the first asked call through the gate. Reads of a turn run together; any other call runs alone, in order.

    Working memory is worked on here and now: all that it is stands in the log of the session.
    """
    state = decision.state
    call, limits = state.asked[0], state.agent.limits
    spec, is_own = state.agent.tool(call.name), state.mind is not None and state.mind.asked == call.id
    if under_way(state) and not (spec is None or gate.runs_beside_others(state, spec)):
        return False
    match gate.judge(state, call, decision.at_us):
        case gate.Unexamined():
            return False
        case gate.Passed() as passed:
            if limits.tool_calls is not None and state.tool_calls >= limits.tool_calls and not is_own:
                text = f"the limit of {limits.tool_calls} tool calls is used up"
                end(decision, AgentFailed("tool_call_limit", text), "cancelled")
                return False
            more = gate.recorded(state, passed)
            if spec is not None and "remembers" in spec.roles:
                more["taint"] = taint_of(state.provenance, passed.arguments)
            decision.emit(ToolRequested(call.id, call.name, passed.arguments, **more))
            if state.mind is not None and mind.is_working(state, call.name):
                outcome = mind.work(state, call.id, call.name, passed.arguments).outcome
                decision.emit(ToolCompleted(call.id, outcome.ok, outcome.output, outcome.kind, outcome.is_json))
        case gate.Refused(kind, reason) as judged:
            decision.emit(ConstraintFailed(call.id, call.name, kind, reason, **gate.recorded(state, judged)))
            if kind == "blocked" and not is_undoing(state, call.id) and not is_own:
                refused(decision, call.name, reason)
        case gate.Asked() as asked if is_own:
            more = gate.recorded(state, asked)
            decision.emit(ConstraintFailed(call.id, call.name, "blocked", NOBODY_IS_ASKED, **more))
        case gate.Asked() as asked:
            ask_people(decision, call.id, call.name, asked)
    return True


def ask_people(decision: Decision, call: str, tool: str, asked: gate.Asked) -> None:
    """Wait for the approvals that rules demand; the shortest of their times counts."""
    state, verdict = decision.state, asked.verdict
    times = [demand.within_s for demand in verdict.demands if demand.within_s is not None]
    expires = decision.at_us + int(min(times) * 1_000_000) if times else None
    extra = gate.shown(state, asked) if state.gate > 1 else {}
    decision.emit(
        ApprovalRequested(
            call,
            tool,
            asked.arguments,
            asked.digest,
            reason=verdict.reason,
            expires_us=expires,
            **gate.recorded(state, asked),
            **extra,
        )
    )
