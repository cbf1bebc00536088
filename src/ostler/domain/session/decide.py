"""What happens now: `decide`, the one place where a session's next step is chosen and judged."""

from typing import assert_never

from ostler.domain import context, gate
from ostler.domain.model import cost_microusd
from ostler.domain.protocols import react
from ostler.domain.protocols.moves import Answer, AskModel
from ostler.domain.session import commands as command
from ostler.domain.session.commands import SessionCommand
from ostler.domain.session.events import (
    AgentCancelled,
    AgentCompleted,
    AgentFailed,
    AgentPaused,
    AgentResumed,
    AgentStarted,
    ApprovalDenied,
    ApprovalExpired,
    ApprovalGranted,
    ApprovalRequested,
    CallRetried,
    CancelRequested,
    ConstraintFailed,
    InputReceived,
    ModelCompleted,
    ModelFailed,
    ModelRequested,
    SessionEvent,
    ToolCompleted,
    ToolRequested,
)
from ostler.domain.session.state import LOST, OpenCall, Question, State, deadline_us, evolve
from ostler.domain.tool import FailureKind, ToolOutcome
from ostler.kernel.errors import ConfigurationError, Conflict, DefinitionInvalid, NotFound

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
            _tool_returned(decision, asked.call, asked.outcome)
        case command.ReplyReceived():
            _reply_received(decision, asked)
        case command.Proceed():
            _advance(decision)
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
    | command.Send
    | command.Pause
    | command.Resume
    | command.Cancel
    | command.Kill,
) -> None:
    """Record what a person decided. Nothing begins here: that is for the worker that holds the session."""
    state, by = decision.state, asked.by.id
    if state.end is not None:
        raise Conflict(
            f"The session {state.session} has {state.end.status} already.",
            hint=f"`ostler inspect {state.session}` shows how; `ostler fork {state.session}` goes on from its past.",
        )
    match asked:
        case command.Approve():
            _approve(decision, asked)
        case command.Deny():
            question = _the_question(decision, asked.call)
            decision.emit(ApprovalDenied(asked.call, by, asked.reason))
            _refused(decision, question.tool, f"{by} denied it")
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
            if not state.open:
                decision.emit(AgentCancelled(by))
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


def _tool_returned(decision: Decision, call: str, outcome: ToolOutcome) -> None:
    if not _is_open(decision.state, call):
        return
    decision.emit(
        ToolCompleted(call, outcome.ok, outcome.output, outcome.kind, outcome.is_json, outcome.blob, outcome.size)
    )
    _advance(decision)


def _take_over(decision: Decision) -> None:
    """Every open intent may have been performed by a worker that is gone: the effect class says what may follow."""
    state = decision.state
    is_hopeless = state.losses >= LOSSES_MAX and state.cancelling_by is None
    for call in state.open:
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
        if not state.open:
            decision.emit(AgentCancelled(state.cancelling_by))
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
        return True
    if state.pause is not None:
        return False
    if state.asked:
        return _judge_next(decision)
    if state.open:
        return False
    match react.next_move(state):
        case AskModel():
            _ask_model(decision)
        case Answer(text):
            decision.emit(AgentCompleted(text))
    return False


def _judge_next(decision: Decision) -> bool:
    """Put the first asked call through the gate. Reads of a turn run together; any other call runs alone, in order."""
    state = decision.state
    call, limits = state.asked[0], state.agent.limits
    spec = state.agent.tool(call.name)
    is_read = spec is None or spec.effect == "read"
    if state.open and not (is_read and all(_effect(state, other) == "read" for other in state.open)):
        return False
    approved = state.granted_digest if state.granted == call.id else None
    match gate.judge(state.agent, state.by, call, approved=approved):
        case gate.Passed(arguments, rule):
            if limits.tool_calls is not None and state.tool_calls >= limits.tool_calls:
                text = f"the limit of {limits.tool_calls} tool calls is used up"
                _end(decision, AgentFailed("tool_call_limit", text), "cancelled")
                return False
            decision.emit(ToolRequested(call.id, call.name, arguments, rule))
        case gate.Refused(kind, reason, rule):
            decision.emit(ConstraintFailed(call.id, call.name, kind, reason, rule))
            if kind == "blocked":
                _refused(decision, call.name, reason)
        case gate.Asked(arguments, digest, rule, reason, within_s):
            expires = None if within_s is None else decision.at_us + int(within_s * 1_000_000)
            decision.emit(ApprovalRequested(call.id, call.name, arguments, digest, rule, reason, expires))
    return True


def _refused(decision: Decision, tool: str, reason: str) -> None:
    """A rule or a person has said no; for some agents that is the end."""
    if decision.state.agent.on_refusal == "end":
        _end(decision, AgentFailed("denied", f"{tool} was refused: {reason}"), "cancelled")


def _ask_model(decision: Decision) -> None:
    """Ask for the next reply if the limits leave room for the worst case, which is reserved."""
    state, limits = decision.state, decision.state.agent.limits
    call = str(state.steps + 1)
    if limits.steps is not None and state.steps >= limits.steps:
        _end(decision, AgentFailed("step_limit", f"the limit of {limits.steps} steps is used up"), "cancelled")
    elif limits.tokens is None and limits.cost_microusd is None:
        decision.emit(ModelRequested(call))
    else:
        _ask_model_within_budget(decision, call)


def _ask_model_within_budget(decision: Decision, call: str) -> None:
    state, limits = decision.state, decision.state.agent.limits
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
        )
    )


def _approve(decision: Decision, asked: command.Approve) -> None:
    question = _the_question(decision, asked.call)
    if asked.digest is not None and asked.digest != question.digest:
        raise Conflict(
            f"The arguments of call {asked.call} are not those that were approved.",
            hint=f"Look at them again with `ostler approvals {decision.state.session}`.",
        )
    if question.expires_us is not None and decision.at_us >= question.expires_us:
        raise Conflict(f"The request for approval of call {asked.call} has expired.")
    decision.emit(ApprovalGranted(asked.call, asked.by.id, question.digest, asked.reason))


def _the_question(decision: Decision, call: str) -> Question:
    question = decision.state.question
    if question is None or question.call != call or decision.state.cancelling_by is not None:
        raise Conflict(
            f"No approval of call {call} is being waited for.",
            hint="`ostler approvals` lists what waits for a decision; somebody may have answered already.",
        )
    return question


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
