"""What happens now: `decide`, the one place where a session's next step is chosen and judged."""

from typing import Any, Literal, assert_never

import msgspec

from ostler.domain import context, gate
from ostler.domain.hook import combine
from ostler.domain.identity import DEFAULT_TENANT
from ostler.domain.model import AskedCall, cost_microusd
from ostler.domain.protocols import react
from ostler.domain.protocols.moves import Answer, AskModel
from ostler.domain.session import approvals
from ostler.domain.session import commands as command
from ostler.domain.session.commands import SessionCommand
from ostler.domain.session.events import (
    AgentCancelled,
    AgentCompleted,
    AgentFailed,
    AgentPaused,
    AgentResumed,
    AgentStarted,
    AnswerRefused,
    ApprovalDenied,
    ApprovalExpired,
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRequested,
    ApprovalReturned,
    CallRetried,
    CancelRequested,
    ConstraintFailed,
    InputReceived,
    ModelCompleted,
    ModelFailed,
    ModelRequested,
    PolicyMoved,
    SessionEvent,
    ToolCompleted,
    ToolRequested,
    ToolResumed,
    ToolSuspended,
)
from ostler.domain.session.evolve import evolve
from ostler.domain.session.state import LOST, OpenCall, Question, State, deadline_us, under_way
from ostler.domain.tool import FailureKind, Suspension
from ostler.kernel.errors import ConfigurationError, Conflict, DefinitionInvalid, NotAllowed, NotFound

LOSSES_MAX = 20
"""A session whose workers were lost so often in the middle of its calls waits for a person, even if it gets on."""
MIN_REPLY_TOKENS = 16
"""A budget that leaves less than this for the reply is spent."""


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


def decide(asked: SessionCommand, state: State | None, *, may_begin: bool = True) -> Decision:
    """The events that follow from a command, and the state after them. No events: it changes nothing (any more).

    `may_begin` False records what came of a call and takes no further step: the worker is about to stop.
    Raises `Conflict` or `NotFound` for what a person asks and the state does not allow. Touches nothing.
    """
    if state is None:
        if not isinstance(asked, command.Start):
            raise NotFound("There is no such session.")
        return _start(asked)
    decision = Decision(state, asked.at_us, may_begin)
    match asked:
        case command.ToolReturned():
            _tool_returned(decision, asked)
        case command.ReplyReceived():
            _reply_received(decision, asked)
        case command.Proceed():
            _advance(decision)
        case command.Examined():
            _examined(decision, asked)
        case command.TakeOver():
            _take_over(decision)
        case command.ReplyFailed():
            _reply_failed(decision, asked)
        case command.CapacityMissed() | command.CapacityFound():
            _capacity_changed(decision, asked)
        case command.Fail():
            _end(decision, AgentFailed(asked.reason, asked.message), "unknown")
        case command.Start():
            raise Conflict(f"The session {state.session} has started already.")
        case _:
            _decide_people(decision, asked)
    return decision


def _decide_people(
    decision: Decision,
    asked: command.Approve
    | command.Deny
    | command.AskBack
    | command.MovePolicy
    | command.Send
    | command.Pause
    | command.Resume
    | command.Cancel
    | command.Kill,
) -> None:
    """Record what a person decided. Nothing begins here: that is for the worker that holds the session."""
    state, by = decision.state, asked.by.id
    if asked.by.tenant not in (state.by.tenant, DEFAULT_TENANT):
        raise NotAllowed(f"{by} is of the tenant {asked.by.tenant}, and this is a session of another one.")
    if isinstance(asked, command.Approve | command.Deny | command.AskBack):
        _answer(decision, asked)
        return
    if state.end is not None:
        raise Conflict(
            f"The session {state.session} has {state.end.status} already.",
            hint=f"`ostler inspect {state.session}` shows how; `ostler fork {state.session}` goes on from its past.",
        )
    match asked:
        case command.MovePolicy():
            decision.emit(PolicyMoved(by, asked.policy, asked.layers, asked.shadow, asked.reason))
        case command.Send():
            decision.emit(InputReceived(asked.text, by))
        case command.Pause():
            if state.pause is None:
                decision.emit(AgentPaused(by, asked.reason))
        case command.Resume():
            if state.pause is not None:
                decision.emit(AgentResumed(by))
        case command.Cancel():
            if state.cancelling_by is None:
                decision.emit(CancelRequested(by, asked.reason))
            if not under_way(state):
                _end(decision, AgentCancelled(by), "cancelled")
        case command.Kill():
            _end(decision, AgentCancelled(by, "killed"), "unknown")
        case _:
            assert_never(asked)


def _start(asked: command.Start) -> Decision:
    problems = []
    if not asked.goal.strip():
        problems.append(("goal", "is empty: say what the agent is to reach"))
    if asked.agent.limits.cost_microusd is not None and asked.model.kind == "live" and asked.model.price is None:
        problems.append(("limits.cost_microusd", f"cannot be kept: the price of {asked.model} is not known"))
    if problems:
        raise DefinitionInvalid(f"the start of {asked.agent}", problems)
    started = AgentStarted(
        session=asked.session,
        agent=asked.agent,
        model=asked.model,
        goal=asked.goal,
        by=asked.by,
        workspace=asked.workspace,
        sandbox=asked.sandbox,
        priority=asked.priority,
        layers=asked.layers,
        shadow=asked.shadow,
        inputs=asked.inputs,
        grant=asked.grant,
        is_budgeted=asked.is_budgeted,
        holds=asked.holds,
        gate=asked.gate,
    )
    decision = Decision(evolve(None, started, asked.at_us), asked.at_us)
    decision.events.append(started)
    return decision


def _reply_received(decision: Decision, asked: command.ReplyReceived) -> None:
    state, reply = decision.state, asked.reply
    if not _is_open(state, asked.call):
        return
    understood = react.understand(reply, state.model, asked.call)
    decision.emit(
        ModelCompleted(
            call=asked.call,
            text=understood.text,
            calls=understood.calls,
            answer=understood.answer,
            defect=understood.defect,
            stop=reply.stop,
            usage=reply.usage,
            cost_microusd=cost_microusd(reply.usage, state.model.price),
            model="" if reply.model == state.model.name else reply.model,
            redacted=asked.redacted,
            hooks=asked.hooks,
            reasoning=reply.reasoning,
            fingerprint=reply.fingerprint,
        )
    )
    if reply.stop == "refusal":
        _end(decision, AgentFailed("model_refused", understood.text), "cancelled")
    elif decision.state.defects >= state.agent.limits.defects:
        text = f"{decision.state.defects} replies in a row could not be used; the last: {understood.defect}"
        _end(decision, AgentFailed("unusable_replies", text), "cancelled")
    else:
        _advance(decision)


def _reply_failed(decision: Decision, asked: command.ReplyFailed) -> None:
    """Try again later, or give up. What people can mend (a missing key) pauses the session instead of ending it."""
    call = _is_open(decision.state, asked.call)
    if call is None:
        return
    is_wanted = decision.state.cancelling_by is None
    if is_wanted and asked.retry_at_us is not None and call.attempt < decision.state.agent.limits.attempts:
        because = f"{asked.code}: {asked.message}"
        decision.emit(CallRetried(call.id, call.attempt + 1, because, asked.retry_at_us))
        _advance(decision)
        return
    decision.emit(ModelFailed(call.id, asked.code, asked.message, asked.status))
    if not is_wanted:
        _advance(decision)
    elif asked.code == ConfigurationError.code:
        decision.emit(AgentPaused("ostler", asked.message))
    else:
        _end(decision, AgentFailed("error", f"{asked.code}: {asked.message}"), "cancelled")


def _capacity_changed(decision: Decision, asked: command.CapacityMissed | command.CapacityFound) -> None:
    """A call that has not begun waits, or begins after all; unless the session is to begin nothing any more."""
    state = decision.state
    call = _is_open(state, asked.call)
    if call is None:
        return
    if state.cancelling_by is not None:
        decision.emit(ModelFailed(call.id, "cancelled", "the session was cancelled before this call began"))
        _advance(decision)
    elif isinstance(asked, command.CapacityMissed):
        because = f"waits for capacity: {asked.limit}"
        decision.emit(CallRetried(call.id, call.attempt, because, asked.at_us, asked.limit))
    elif decision.may_begin and state.pause is None:
        decision.emit(CallRetried(call.id, call.attempt, "there is capacity"))


def _tool_returned(decision: Decision, asked: command.ToolReturned) -> None:
    if not _is_open(decision.state, asked.call):
        return
    outcome = asked.outcome
    if outcome.suspension is not None:
        _tool_suspended(decision, asked.call, outcome.suspension)
        return
    decision.emit(
        ToolCompleted(
            asked.call,
            outcome.ok,
            outcome.output,
            outcome.kind,
            outcome.is_json,
            outcome.blob,
            outcome.size,
            asked.redacted,
            asked.hooks,
        )
    )
    _advance(decision)


def _tool_suspended(decision: Decision, call: str, suspension: Suspension) -> None:
    """A program waits for a call that it made; the call is judged like one that the model asked for."""
    program = _is_open(decision.state, call)
    assert program is not None, "it was asked whether the call is open"
    if decision.state.cancelling_by is not None:
        _close(decision, program, "cancelled", "the session was cancelled during this call")
    else:
        arguments = msgspec.json.encode(suspension.arguments).decode()
        asked = AskedCall(f"{call}.{program.inner_calls + 1}", suspension.tool, arguments)
        decision.emit(ToolSuspended(call, asked, suspension.snapshot))
    _advance(decision)


def _take_over(decision: Decision) -> None:
    """Every open intent may have been performed by a worker that is gone: the effect class says what may follow."""
    state = decision.state
    is_hopeless = state.losses >= LOSSES_MAX and state.cancelling_by is None
    for call in under_way(state):
        if is_hopeless:
            _close(
                decision, call, "unknown", f"given up: workers were lost during {state.losses} calls of this session"
            )
        elif state.cancelling_by is not None:
            _close(decision, call, "unknown", "the worker was lost while it was being cancelled")
        elif call.not_before_us and _effect(state, call) != "once":
            # Nobody was lost: whoever waits for long lets go. A worker that is lost after this is counted as ever.
            decision.emit(CallRetried(call.id, call.attempt, "its time has come"))
        elif call.attempt >= state.agent.limits.attempts:
            reason = f"given up: the worker was lost during attempt {call.attempt} of this call"
            _close(decision, call, "unknown", reason)
            if call.arguments is None:
                _end(decision, AgentFailed("error", reason), "cancelled")
        elif _effect(state, call) == "once":
            _close(decision, call, "unknown", "the worker was lost during this call; nobody knows whether it happened")
            if state.agent.on_unknown == "pause":
                decision.emit(AgentPaused("ostler", f"nobody knows whether call {call.id} ({call.tool}) happened"))
        else:
            decision.emit(CallRetried(call.id, call.attempt + 1, LOST))
    if is_hopeless:
        reason = f"parked: workers were lost during {state.losses} calls; `resume` goes on"
        decision.emit(AgentPaused("ostler", reason, is_parked=True))
    _advance(decision)


def _advance(decision: Decision) -> None:
    """Take every step that can be taken now, up to the next intents or the next wait."""
    while decision.may_begin and _step(decision):
        pass


def _step(decision: Decision) -> bool:
    """Take one step; False when there is none to take before something else happens."""
    state = decision.state
    if state.end is not None:
        return False
    if state.cancelling_by is not None:
        if not under_way(state):
            _end(decision, AgentCancelled(state.cancelling_by), "cancelled")
        return False
    deadline = deadline_us(state)
    if deadline is not None and decision.at_us >= deadline:
        text = f"the time limit of {state.agent.limits.seconds:g} s is used up"
        _end(decision, AgentFailed("timeout", text), "timeout")
        return False
    if state.question is not None:
        expires = state.question.expires_us
        if expires is None or decision.at_us < expires or state.pause is not None:
            return False
        decision.emit(ApprovalExpired(state.question.call))
        if not state.question.tool:
            decision.emit(AgentPaused("ostler", "nobody answered whether the model may be asked; `resume` asks again"))
        return True
    if state.pause is not None:
        return False
    for call in state.open:
        if call.is_suspended and call.answer is not None:
            decision.emit(ToolResumed(call.id))
            return True
    if state.asked:
        return _judge_next(decision)
    if state.open:
        return False
    match react.next_move(state):
        case AskModel():
            _ask_model(decision)
        case Answer(text):
            return _finish(decision, text)
    return False


def _finish(decision: Decision, answer: str) -> bool:
    """End with this answer, unless hooks refuse it or have put another in its place. True if there is more to do."""
    state = decision.state
    if not state.agent.hooks:
        decision.emit(AgentCompleted(answer))
        return False
    found = state.examined
    if found is None or found.call != gate.END:
        return False
    said = combine(found.hooks)
    if said.effect == "deny":
        decision.emit(AnswerRefused(said.reason, found.hooks))
        return True
    decision.emit(AgentCompleted(answer if found.arguments is None else str(found.arguments["answer"])))
    return False


def _judge_next(decision: Decision) -> bool:
    """Put the first asked call through the gate. Reads of a turn run together; any other call runs alone, in order."""
    state = decision.state
    call, limits = state.asked[0], state.agent.limits
    spec = state.agent.tool(call.name)
    if under_way(state) and not (spec is None or gate.runs_beside_others(state, spec)):
        return False
    match gate.judge(state, call, decision.at_us):
        case gate.Unexamined():
            return False
        case gate.Passed() as passed:
            if limits.tool_calls is not None and state.tool_calls >= limits.tool_calls:
                text = f"the limit of {limits.tool_calls} tool calls is used up"
                _end(decision, AgentFailed("tool_call_limit", text), "cancelled")
                return False
            decision.emit(ToolRequested(call.id, call.name, passed.arguments, **gate.recorded(state, passed)))
        case gate.Refused(kind, reason) as refused:
            decision.emit(ConstraintFailed(call.id, call.name, kind, reason, **gate.recorded(state, refused)))
            if kind == "blocked":
                _refused(decision, call.name, reason)
        case gate.Asked() as asked:
            _ask_people(decision, call.id, call.name, asked)
    return True


def _ask_people(decision: Decision, call: str, tool: str, asked: gate.Asked) -> None:
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


def _examined(decision: Decision, asked: command.Examined) -> None:
    """Something was found out about the call that is judged next, if it still is that one.

    It is only recorded where the judgement follows at once: who knows how things stand when another worker goes on.
    """
    state, found = decision.state, asked.found
    is_next = decision.may_begin and found.call == gate.unexamined(state)
    is_wanted = is_next and (asked.before is None or gate.still_holds(asked.before, state))
    if is_wanted and gate.answers_suffice(state, found):
        decision.emit(found)
    _advance(decision)


def _refused(decision: Decision, tool: str, reason: str, *, is_final: bool = True) -> None:
    """A rule or a person has said no. For some agents that is the end, and for all if the model may not be asked."""
    if not tool:
        _end(decision, AgentFailed("denied", f"the model may not be asked: {reason}"), "cancelled")
    elif is_final and decision.state.agent.on_refusal == "end":
        _end(decision, AgentFailed("denied", f"{tool} was refused: {reason}"), "cancelled")


def _ask_model(decision: Decision) -> None:
    """Ask for the next reply if the gate lets it pass and the limits leave room for the worst case."""
    state, limits = decision.state, decision.state.agent.limits
    call = str(state.steps + 1)
    if limits.steps is not None and state.steps >= limits.steps:
        _end(decision, AgentFailed("step_limit", f"the limit of {limits.steps} steps is used up"), "cancelled")
        return
    match gate.judge_model(state, decision.at_us):
        case gate.Unexamined():
            pass
        case gate.Refused(kind, reason) as refused:
            decision.emit(ConstraintFailed(call, "", kind, reason, **gate.recorded(state, refused)))
            why = "budget" if refused.verdict.rule == "budget" else "denied"
            _end(decision, AgentFailed(why, f"the model may not be asked: {reason}"), "cancelled")
        case gate.Asked() as asked:
            _ask_people(decision, call, "", asked)
        case gate.Passed() as passed:
            _ask_model_within_budget(decision, call, gate.recorded(state, passed) if state.gate > 1 else {})


def _ask_model_within_budget(decision: Decision, call: str, verdict: dict[str, Any]) -> None:
    """Ask for it with the worst case reserved, if the limits leave room for that."""
    state, limits = decision.state, decision.state.agent.limits
    if limits.tokens is None and limits.cost_microusd is None:
        decision.emit(ModelRequested(call, **verdict))
        return
    max_tokens = wanted = state.agent.settings.max_tokens
    expected = context.estimated_input_tokens(state)
    if limits.tokens is not None:
        max_tokens = min(max_tokens, limits.tokens - state.usage.total_tokens - expected)
        if max_tokens < MIN_REPLY_TOKENS:
            text = f"the budget of {limits.tokens} tokens leaves no room for a reply ({state.usage.total_tokens} used)"
            _end(decision, AgentFailed("token_limit", text), "cancelled")
            return
    price = state.model.price
    if limits.cost_microusd is not None and price is not None:
        left = (limits.cost_microusd - state.cost_microusd) * 1_000_000 - expected * price.input_microusd
        if price.output_microusd:
            max_tokens = min(max_tokens, left // price.output_microusd)
        if left < 0 or max_tokens < MIN_REPLY_TOKENS:
            text = f"the budget of {limits.cost_microusd / 1e6:g} USD leaves no room for a reply"
            _end(decision, AgentFailed("cost_limit", f"{text} ({state.cost_microusd / 1e6:g} spent)"), "cancelled")
            return
    cost = 0 if price is None else expected * price.input_microusd + max_tokens * price.output_microusd
    decision.emit(
        ModelRequested(
            call,
            max_tokens=None if max_tokens == wanted else max_tokens,
            reserved_tokens=expected + max_tokens,
            reserved_microusd=-(-cost // 1_000_000),
            **verdict,
        )
    )


def _answer(decision: Decision, asked: command.Approve | command.Deny | command.AskBack) -> None:
    """What a person says of the call that waits. Whatever does not count is recorded as well, with the reason."""
    state, by = decision.state, asked.by
    digest = asked.digest if isinstance(asked, command.Approve) else None
    problem = approvals.objection(state, asked.call, by, asked.at_us, digest)
    if problem is None and isinstance(asked, command.Approve):
        problem = approvals.objection_to_grant(state, by)
    if problem is not None:
        decision.emit(ApprovalRejected(asked.call, by.id, _DECISIONS[type(asked)], problem))
        return
    question = state.question
    assert question is not None, "an objection was looked for"
    match asked:
        case command.Approve():
            _approve(decision, asked, question)
        case command.Deny():
            decision.emit(ApprovalDenied(asked.call, by.id, asked.reason, by.roles))
            _refused(decision, question.tool, f"{by.id} denied it")
        case command.AskBack():
            decision.emit(ApprovalReturned(asked.call, by.id, asked.question, by.roles))
            _refused(decision, question.tool, f"{by.id} asked back", is_final=False)


_DECISIONS: dict[type, Literal["grant", "deny", "return"]] = {
    command.Approve: "grant",
    command.Deny: "deny",
    command.AskBack: "return",
}


def _approve(decision: Decision, asked: command.Approve, question: Question) -> None:
    digest, arguments = question.digest, asked.arguments
    is_alone = not question.approved_by and approvals.is_enough(question, asked.by)
    if arguments is not None and not is_alone:
        raise Conflict("Arguments can only be changed by the one approval that is enough: others approved these.")
    if arguments is not None and not question.tool:
        raise Conflict("A call of the model has no arguments that could be changed.")
    if asked.lasts != "once" and not is_alone:
        raise Conflict("An approval can only last where it alone is enough: others approved this once.")
    if arguments is not None:
        arguments = gate.changed(decision.state, question.tool, arguments)
        try:
            digest = gate.digest_of(decision.state, question.tool, arguments)
        except ValueError as error:
            raise Conflict(f"The call cannot be approved with these arguments: {error}.") from error
    decision.emit(
        ApprovalGranted(
            asked.call,
            asked.by.id,
            digest,
            asked.reason,
            roles=asked.by.roles,
            is_enough=approvals.is_enough(question, asked.by),
            arguments=arguments,
            lasts=asked.lasts,
            until_us=asked.until_us,
        )
    )


def _end(decision: Decision, end: AgentCompleted | AgentFailed | AgentCancelled, kind: FailureKind) -> None:
    """End the session, giving every open call its one outcome first. An ended session stays as it is."""
    if decision.state.end is not None:
        return
    for call in decision.state.open:
        _close(decision, call, kind, "the session ended during this call")
    decision.emit(end)


def _close(decision: Decision, call: OpenCall, kind: FailureKind, reason: str) -> None:
    """Record that an open call gets no other outcome than this."""
    if call.arguments is None:
        decision.emit(ModelFailed(call.id, kind, reason))
    else:
        decision.emit(ToolCompleted(call.id, ok=False, output=reason, kind=kind))


def _is_open(state: State, call: str) -> OpenCall | None:
    """The open call of this id; None if it has its outcome already, and this one comes too late."""
    if state.end is not None:
        return None
    for other in state.open:
        if other.id == call:
            return other
    return None


def _effect(state: State, call: OpenCall) -> str:
    """The effect class of an open call; a model call changes nothing in the world."""
    if call.arguments is None:
        return "read"
    spec = state.agent.tool(call.tool)
    return "once" if spec is None else spec.effect
