"""What is true of a session after one more event: `evolve`."""

from typing import Any, assert_never

import msgspec

from ostler.domain.constraint.history import Past
from ostler.domain.constraint.verdict import Demand
from ostler.domain.context import view
from ostler.domain.context.estimate import estimated_input_tokens
from ostler.domain.fitness.events import FitnessLowered
from ostler.domain.guard import Guard
from ostler.domain.memory.taint import said_by_memory
from ostler.domain.model import AssistantMessage, Message, ToolMessage, UserMessage
from ostler.domain.provenance import Said, said_by_tool
from ostler.domain.session import interventions, mind
from ostler.domain.session.attempts import counted
from ostler.domain.session.events import (
    AgentCancelled,
    AgentCompleted,
    AgentFailed,
    AgentForked,
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
    CallExamined,
    CallRetried,
    CancelRequested,
    CompensationRequested,
    ConstraintFailed,
    ContextCompacted,
    EpisodeRequested,
    FitnessCompared,
    InputReceived,
    ModelCompleted,
    ModelFailed,
    ModelRequested,
    PolicyMoved,
    RecallRequested,
    SessionEvent,
    ToolCompleted,
    ToolRequested,
    ToolResumed,
    ToolSuspended,
)
from ostler.domain.session.past import OF_CALLS, grown
from ostler.domain.session.state import (
    LOST,
    NOTHING_SAID,
    Approval,
    End,
    Lasting,
    OpenCall,
    Question,
    State,
)
from ostler.domain.strategy.choice import Choice
from ostler.domain.tool import CODE, ToolOutcome, failed, observation
from ostler.domain.transcript import Transcript
from ostler.kernel.errors import ContextTooLong

_OfApproval = (
    ApprovalRequested | ApprovalGranted | ApprovalDenied | ApprovalReturned | ApprovalRejected | ApprovalExpired
)


def evolve(state: State | None, event: SessionEvent, at_us: int) -> State:
    """What is true after `event`, which happened at `at_us`. Constant time, however long the session is."""
    if state is None:
        assert isinstance(event, AgentStarted), f"a session begins with agent.started, not {type(event).__name__}"
        return _started(event, at_us)
    after = _evolve_calls(state, event, at_us)
    if isinstance(event, ModelRequested | CallRetried) and event.choice is not None:
        after = _chosen(state, after, event.call, event.choice)
    if state.has_moved or not isinstance(event, OF_CALLS) or not state.guard.own_questions:
        return after
    past = state.past or Past(state.guard.own_questions)
    name, model = state.session, after.model.name
    return _replace(after, past=grown(past, event, at_us, session=name, tool=state.agent.tool, model=model))


def _evolve_calls(state: State, event: SessionEvent, at_us: int) -> State:
    """What begins and ends, which is most of what happens."""
    match event:
        case ToolCompleted():
            outcome = ToolOutcome(event.ok, event.output, event.kind, event.is_json, event.blob, event.size)
            call = next(call for call in state.open if call.id == event.call)
            if call.is_suspended:
                state = _clocked(_given_up(state, f"{call.id}.{call.inner_calls}"), at_us)
            state = _replace(
                _heard(state, call, outcome),
                open=_without(state.open, event.call),
                losses=state.losses + (event.kind == "unknown"),
            )
            if state.mind is not None:
                state = mind.worked(state, call, outcome)
            return interventions.ended(_observed(state, event.call, call.tool, outcome), call, outcome)
        case ContextCompacted():
            return mind.compacted(view.compacted(state, event), event)
        case ModelRequested():
            return _model_requested(state, event)
        case ModelCompleted():
            return _model_completed(state, event)
        case ToolRequested():
            begun = OpenCall(event.call, event.tool, event.arguments, taint=event.taint)
            if state.examined is not None and state.examined.fitness:
                begun = _replace(begun, fitness=state.examined.fitness)
            return _replace(
                state,
                open=(*state.open, begun),
                asked=_without(state.asked, event.call),
                tool_calls=state.tool_calls + (state.mind is None or state.mind.asked != event.call),
                granted=_granted_to_another(state, event.call),
                examined=None,
            )
        case ConstraintFailed(tool=""):
            return _replace(state, examined=None)
        case ConstraintFailed():
            outcome = failed(event.kind, f"{event.reason} [{event.rule}]" if event.rule else event.reason)
            return _refused(state, event.call, event.tool, outcome)
        case ModelFailed():
            failed_call = next(call for call in state.open if call.id == event.call)
            after = _replace(state, open=_without(state.open, event.call))
            if failed_call.purpose == "summary":
                after = _replace(after, context=_replace(state.context, draft=""))
            elif event.code == ContextTooLong.code:
                too_long = estimated_input_tokens(state)
                after = view.counted(_replace(after, context=_replace(state.context, too_long=too_long)))
            return counted(after, event.usage, event.cost_microusd) if event.usage.total_tokens else after
        case CallRetried():
            retried = tuple([_retried(call, event, at_us) if call.id == event.call else call for call in state.open])
            after = _replace(state, open=retried, losses=state.losses + (event.because == LOST))
            return counted(after, event.usage, event.cost_microusd) if event.usage.total_tokens else after
        case CallExamined():
            return _replace(state, examined=event)
        case ToolSuspended():
            return _suspended(state, event)
        case ToolResumed():
            return _changed(state, event.call, is_suspended=False)
        case FitnessCompared() | FitnessLowered() | CompensationRequested():
            return interventions.evolve(state, event)
        case RecallRequested() | EpisodeRequested():
            return _clocked(mind.evolve(state, event), at_us)
        case _:
            return _evolve_people(state, event, at_us)


def _evolve_people(
    state: State,
    event: AgentStarted
    | _OfApproval
    | PolicyMoved
    | InputReceived
    | AgentPaused
    | AgentResumed
    | AgentForked
    | CancelRequested
    | AnswerRefused
    | AgentCompleted
    | AgentFailed
    | AgentCancelled,
    at_us: int,
) -> State:
    """The rarer events: what people decide, and the end."""
    if isinstance(event, _OfApproval):
        return _evolve_approval(state, event, at_us)
    match event:
        case PolicyMoved():
            return _moved(state, event)
        case InputReceived():
            heard = state.provenance.plus(Said("user", event.text))
            senders = state.senders if event.by in state.senders else (*state.senders, event.by)
            said = UserMessage(event.text, event.images)
            images = state.images + event.images
            state = mind.heard_person(state, event.text)
            return _replace(
                state, inbox=(*state.inbox, said), answer=None, provenance=heard, senders=senders, images=images
            )
        case AgentPaused():
            return _clocked(
                _replace(state, pause=event.reason or f"paused by {event.by}", is_parked=event.is_parked), at_us
            )
        case AgentResumed():
            return _clocked(_replace(state, pause=None, is_parked=False, losses=0), at_us)
        case CancelRequested():
            return _replace(state, cancelling_by=event.by)
        case AgentForked():
            # A question that is open since then accounts for that time when it is answered.
            idle = event.idle_us if state.waiting_since_us is None else 0
            question = None if state.question is None else _replace(state.question, approved_by=())
            forked = _replace(state, waited_us=state.waited_us + idle, lasting=(), question=question)
            return forked if event.trial is None else _replace(forked, model=event.trial, is_trial=True, examined=None)
        case AnswerRefused():
            text = f"The session does not end with this answer: {event.reason}"
            return _replace(state, answer=None, examined=None, **view.told(state, (UserMessage(text),), len(text)))
        case AgentCompleted():
            return _replace(state, end=End("completed", event.reason, event.answer))
        case AgentFailed():
            return _replace(state, end=End("failed", event.reason, event.message))
        case AgentCancelled():
            return _replace(state, end=End("cancelled", event.reason, f"by {event.by}"))
        case AgentStarted():
            raise AssertionError("a session starts once")
        case _:
            assert_never(event)


def _evolve_approval(state: State, event: _OfApproval, at_us: int) -> State:
    """What people decide about a call that waits."""
    match event:
        case ApprovalRequested():
            return _clocked(_asked_for_approval(state, event), at_us)
        case ApprovalGranted():
            return _clocked(_granted(state, event), at_us)
        case ApprovalDenied():
            text = f"{event.by} denied it: {event.reason}" if event.reason else f"{event.by} denied it"
            return _clocked(_answered(state, event.call, failed("blocked", text)), at_us)
        case ApprovalReturned():
            text = f"{event.by} asks before deciding: {event.question}"
            return _clocked(_answered(state, event.call, failed("blocked", text)), at_us)
        case ApprovalExpired():
            text = "nobody answered the request for approval in time; it was neither granted nor denied"
            return _clocked(_answered(state, event.call, failed("timeout", text)), at_us)
        case ApprovalRejected():
            return state
        case _:
            assert_never(event)


def _moved(state: State, event: PolicyMoved) -> State:
    """Other policies hold from here on.

    A rule of another policy may have the name of one that people have met, and ask for something else: what they have
    approved only meets what is demanded from now on if all policies are still there that they were asked by.
    """
    agent = msgspec.structs.replace(state.agent, policy=event.policy)
    guard = Guard(event.policy, event.layers, event.shadow)
    moved = _replace(
        state, agent=agent, guard=guard, layers=event.layers, shadow=event.shadow, has_moved=True, examined=None
    )
    calls = tuple([call if call.examined is None else _unanswered(call, call.examined) for call in state.open])
    moved = _replace(moved, open=calls, context=_replace(state.context, fixed=view.fixed_counts(moved)))
    if all(policy in guard.policies for policy in state.guard.policies):
        return moved
    question = None if state.question is None else _replace(state.question, is_outdated=True)
    granted = None if state.granted is None else _replace(state.granted, demands=())
    return _replace(moved, question=question, granted=granted, lasting=())


_replace = msgspec.structs.replace


def _unanswered(call: OpenCall, found: CallExamined) -> OpenCall:
    """The call without the answers to what other policies wanted to know."""
    return _replace(call, examined=_replace(found, answers=()))


def _started(event: AgentStarted, at_us: int) -> State:
    state = State(
        session=event.session,
        agent=event.agent,
        model=event.model,
        goal=event.goal,
        by=event.by,
        workspace=event.workspace,
        sandbox=event.sandbox,
        started_us=at_us,
        origin=event.origin,
        transcript=Transcript([UserMessage(event.goal, event.images)]),
        transcript_bytes=len(event.goal),
        guard=Guard(event.agent.policy, event.layers, event.shadow),
        provenance=NOTHING_SAID.plus(Said("system", event.agent.instructions), Said("user", event.goal)),
        priority=event.priority,
        layers=event.layers,
        shadow=event.shadow,
        inputs=event.inputs,
        grant=event.grant,
        is_budgeted=event.is_budgeted,
        gate=event.gate,
        images=event.images,
        strategy=event.strategy,
        candidates=event.candidates,
    )
    return view.opened(mind.heard_goal(state))


def _heard(state: State, call: OpenCall, outcome: ToolOutcome) -> State:
    """What a tool said is remembered, with whose words it may be."""
    spec = state.agent.tool(call.tool)
    roles = spec.roles if spec is not None else ()
    if "recalls" in roles:
        said_by = said_by_memory(call.tool, roles, call.arguments or {}, outcome)
        return _replace(state, provenance=state.provenance.plus(*said_by))
    if state.mind is not None and mind.is_working(state, call.tool):
        return state  # working memory says nothing that was not heard before
    said = said_by_tool(call.tool, roles, call.arguments or {}, outcome.output)
    if call.tool == CODE:  # a program can make anything of what it has read, or who wrote it
        said = _replace(said, labels=said.labels | state.provenance.labels)
    return _replace(state, provenance=state.provenance.plus(said))


def _model_requested(state: State, event: ModelRequested) -> State:
    begun = OpenCall(
        event.call,
        max_tokens=event.max_tokens,
        reserved_tokens=event.reserved_tokens,
        reserved_microusd=event.reserved_microusd,
        system=_rewritten(state, "system"),
        purpose=event.purpose,
        covers=event.covers,
    )
    if not state.inbox:
        return _replace(state, open=(begun,), steps=state.steps + 1, granted=None, examined=None)
    return _replace(
        state,
        open=(begun,),
        steps=state.steps + 1,
        granted=None,
        examined=None,
        inbox=(),
        **view.told(state, state.inbox, sum(len(message.text) for message in state.inbox)),
    )


def _chosen(before: State, state: State, call: str, choice: Choice) -> State:
    """Another model answers from here on, in as many tokens as it can; the call knows what the choice rests on."""
    card = next(card for card in state.candidates if card.name == choice.model)
    (asked,) = (other for other in state.open if other.id == call)
    most, examined = asked.max_tokens, asked.examined or before.examined
    if card.reply_tokens_max is not None:
        wanted = most or state.agent.settings.max_tokens
        most = card.reply_tokens_max if card.reply_tokens_max < wanted else most
    changed = _changed(state, call, choice=choice, examined=examined, max_tokens=most)
    return _replace(changed, model=card.model)


def _rewritten(state: State, what: str) -> str | None:
    """What hooks have put in its place, if they have."""
    found = state.examined
    return None if found is None or found.arguments is None else found.arguments.get(what)


def _model_completed(state: State, event: ModelCompleted) -> State:
    is_summary = state.open[0].purpose == "summary"
    state = counted(state if is_summary else view.reported(state, event), event.usage, event.cost_microusd)
    if is_summary:
        drafted = _replace(state.context, draft=event.text, covers=state.open[0].covers)
        return _replace(state, open=(), context=drafted)
    messages: tuple[Message, ...] = (AssistantMessage(event.text, event.calls, event.reasoning),)
    size = len(event.text) + sum(len(call.name) + len(call.arguments) for call in event.calls)
    if event.defect is not None:
        messages = (*messages, UserMessage(event.defect))
        size += len(event.defect)
    is_final = not event.calls and event.defect is None and not state.inbox
    return _replace(
        state,
        open=(),
        asked=event.calls,
        answer=(event.text if event.answer is None else event.answer) if is_final else None,
        defects=0 if event.defect is None or event.unfit else state.defects + 1,
        misfits=0 if is_final else state.misfits + event.unfit,
        **view.told(state, messages, size),
    )


def _retried(call: OpenCall, event: CallRetried, at_us: int) -> OpenCall:
    """A call that is tried again, or waits until it is."""
    not_before_us = event.not_before_us or 0
    if event.code and not_before_us <= at_us:
        not_before_us = 0  # it begins with this event
    again = _replace(call, attempt=event.attempt, not_before_us=not_before_us, limit=event.limit)
    if event.reserved_tokens or event.max_tokens is not None or event.choice is not None:
        again = _replace(
            again,
            max_tokens=event.max_tokens,
            reserved_tokens=event.reserved_tokens,
            reserved_microusd=event.reserved_microusd,
        )
    if not event.code:
        return again
    return _replace(again, failures=call.failures + 1, failing_since_us=call.failing_since_us or at_us)


def _refused(state: State, call: str, tool: str, outcome: ToolOutcome) -> State:
    """An asked call that was not begun, and what the model is told instead."""
    granted = _granted_to_another(state, call)
    return _observed(state, call, tool, outcome, asked=_without(state.asked, call), granted=granted, examined=None)


def _granted_to_another(state: State, call: str) -> Approval | None:
    """The approval that is left when this call is judged: that of a model call, before which something is recalled."""
    return None if state.granted is None or state.granted.call == call else state.granted


def _asked_for_approval(state: State, event: ApprovalRequested) -> State:
    question = Question(
        event.call,
        event.tool,
        event.arguments,
        event.digest,
        event.rule,
        event.reason,
        event.expires_us,
        event.demands or (Demand(event.rule, reason=event.reason),),
        (),
        event.risk,
        event.risk_parts,
        event.effect,
        event.cost_microusd,
        event.evidence,
    )
    before = state.granted
    is_changed = before is not None and before.call == event.call and before.arguments is not None
    return _replace(state, question=_replace(question, is_changed=is_changed), granted=None)


def _granted(state: State, event: ApprovalGranted) -> State:
    """One more person has approved; with enough of them the call is judged again, by what is known then."""
    question = state.question
    assert question is not None, "nobody asked for this approval"
    if not event.is_enough:
        approved = (*question.approved_by, (event.by, event.roles))
        return _replace(state, question=msgspec.structs.replace(question, approved_by=approved))
    lasting, met = state.lasting, () if question.is_outdated else question.demands
    if event.lasts != "once":
        lasting = (*lasting, Lasting(event.digest, met, event.until_us))
    changed = question.arguments if event.arguments is None and question.is_changed else event.arguments
    granted = Approval(event.call, event.digest, met, changed)
    return _replace(state, question=None, granted=granted, lasting=lasting, examined=None)


def _answered(state: State, call: str, outcome: ToolOutcome) -> State:
    """A question has its answer, and the call is not begun; of a model call nobody is told."""
    question = state.question
    assert question is not None, "nobody asked for this approval"
    if not question.tool:
        return _replace(state, question=None, examined=None)
    return _replace(_refused(state, call, question.tool, outcome), question=None)


def _suspended(state: State, event: ToolSuspended) -> State:
    """A program waits; what it has asked for comes before anything else but the call that people were asked about."""
    (program,) = (call for call in state.open if call.id == event.call)
    waiting = _changed(
        state,
        event.call,
        is_suspended=True,
        snapshot=event.snapshot,
        answer=None,
        inner_calls=program.inner_calls + 1,
    )
    place = 0 if state.question is None and state.granted is None else 1
    return _replace(waiting, asked=(*state.asked[:place], event.asked, *state.asked[place:]), examined=None)


def _changed(state: State, call: str, **changes: Any) -> State:
    """The state with one open call changed."""
    return _replace(
        state,
        open=tuple([_replace(other, **changes) if other.id == call else other for other in state.open]),
    )


def _program_behind(state: State, call: str) -> OpenCall | None:
    """The program that waits for what comes of a call; None if the model does."""
    for other in state.open:
        if other.is_suspended and call == f"{other.id}.{other.inner_calls}":
            return other
    return None


def _given_up(state: State, inner: str) -> State:
    """The program that has asked for this call has ended before it, and nobody wants it any more."""
    question, granted, examined = state.question, state.granted, state.examined
    return _replace(
        state,
        asked=_without(state.asked, inner),
        question=None if question is not None and question.call == inner else question,
        granted=None if granted is not None and granted.call == inner else granted,
        examined=None if examined is not None and examined.call == inner else examined,
    )


def _observed(state: State, call: str, tool: str, outcome: ToolOutcome, **changes: Any) -> State:
    program = _program_behind(state, call)
    if program is not None:
        return _changed(_replace(state, **changes), program.id, answer=outcome)
    if state.mind is not None and state.mind.asked == call:
        return _replace(mind.came_of_own(state, outcome), **changes)
    text = observation(outcome)
    for undo in state.undoing:
        if undo.call == call:
            return _replace(interventions.undone(state, undo, text), **changes)
    if call.count(".") > 1:  # of a program that has ended before it: the model has not asked for it
        return _replace(state, **changes)
    message: Message
    if state.model.tools == "native":
        message = ToolMessage(call, tool, text, outcome.ok)
    else:
        message = UserMessage(f"Observation: {text}")
    return _replace(state, **view.told(state, (message,), len(text)), **changes)


def _clocked(state: State, at_us: int) -> State:
    """Keeps account of the time during which only a person could move the session on."""
    is_blocked = state.pause is not None or state.question is not None
    if is_blocked and state.waiting_since_us is None:
        return _replace(state, waiting_since_us=at_us)
    if not is_blocked and state.waiting_since_us is not None:
        waited = state.waited_us + max(0, at_us - state.waiting_since_us)
        return _replace(state, waiting_since_us=None, waited_us=waited)
    return state


def _without(calls: tuple[Any, ...], call: str) -> tuple[Any, ...]:
    return tuple([other for other in calls if other.id != call])
