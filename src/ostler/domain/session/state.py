"""What is true of a session after its events: `evolve`, and what follows from the state alone."""

from typing import Any, Literal, NamedTuple, assert_never

import msgspec

from ostler.domain.agent import AgentSpec
from ostler.domain.identity import Principal
from ostler.domain.model import AskedCall, AssistantMessage, Message, ModelRef, ToolMessage, Usage, UserMessage
from ostler.domain.session.events import (
    AgentCancelled,
    AgentCompleted,
    AgentFailed,
    AgentForked,
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
from ostler.domain.tool import ToolOutcome, ToolSpec, failed, observation
from ostler.domain.transcript import Transcript

LOST = "worker lost"
"""Why another attempt is made of a call whose worker is gone."""
Status = Literal["queued", "running", "waiting", "paused", "completed", "failed", "cancelled"]
ENDED = ("completed", "failed", "cancelled")


class OpenCall(msgspec.Struct, frozen=True, gc=False):
    """An intent without an outcome. `arguments` None marks a model call. `max_tokens` and `reserved_*` are its own.

    With a `limit` it has not begun: there is no capacity under the limit of this name.
    """

    id: str
    tool: str = ""
    arguments: dict[str, Any] | None = None
    attempt: int = 1
    not_before_us: int = 0
    max_tokens: int | None = None
    reserved_tokens: int = 0
    reserved_microusd: int = 0
    limit: str | None = None


class Question(msgspec.Struct, frozen=True, gc=False):
    """A call that waits for a person's decision."""

    call: str
    tool: str
    arguments: dict[str, Any]
    digest: str
    rule: str
    reason: str
    expires_us: int | None


class End(msgspec.Struct, frozen=True, gc=False):
    """How it ended: `reason` is a stable word, `text` the answer or the explanation."""

    status: Status
    reason: str
    text: str


class State(msgspec.Struct, frozen=True, gc=False):
    """A session, folded.

    `asked` are the calls of this turn that the gate has not let pass or refused yet, in order; `open` those under way.
    `losses` counts how often a worker was lost in the middle of a call, since somebody last resumed it.
    `waiting_since_us` is set while only a person can move the session on, `waited_us` is how long that was before.
    """

    session: str
    agent: AgentSpec
    model: ModelRef
    goal: str
    by: Principal
    workspace: str | None
    sandbox: str
    started_us: int
    origin: str | None
    transcript: Transcript
    transcript_bytes: int
    priority: int = 0
    steps: int = 0
    tool_calls: int = 0
    usage: Usage = Usage()
    cost_microusd: int = 0
    defects: int = 0
    inbox: tuple[str, ...] = ()
    asked: tuple[AskedCall, ...] = ()
    open: tuple[OpenCall, ...] = ()
    answer: str | None = None
    question: Question | None = None
    granted: str | None = None
    granted_digest: str | None = None
    pause: str | None = None
    is_parked: bool = False
    cancelling_by: str | None = None
    losses: int = 0
    waiting_since_us: int | None = None
    waited_us: int = 0
    end: End | None = None

    @property
    def status(self) -> Status:
        if self.end is not None:
            return self.end.status
        if self.pause is not None:
            return "paused"
        if not self.open:
            if self.question is not None:
                return "waiting"
            return "queued" if self.steps == 0 else "running"
        return "waiting" if waits_for_timer(self) else "running"

    @property
    def waiting_for(self) -> str | None:
        """`approval`, `timer` or `capacity` for a waiting session."""
        if self.status != "waiting":
            return None
        if waits_for_capacity(self):
            return "capacity"
        return "timer" if self.open else "approval"


def waits_for_timer(state: State) -> bool:
    """Every open call is to be tried again later. (Whether that moment has come is not the state's to know.)"""
    for call in state.open:
        if not call.not_before_us:
            return False
    return bool(state.open)


def waits_for_capacity(state: State) -> bool:
    """An open call has not begun, because there is no capacity; a call that waits so is always the only open one."""
    return any(call.limit is not None for call in state.open)


def is_under_way(state: State) -> bool:
    """It is running and nothing else: neither over, nor paused, nor being cancelled, nor waiting."""
    is_held_up = state.end is not None or state.pause is not None or state.cancelling_by is not None
    return not is_held_up and bool(state.open) and not waits_for_timer(state)


class ModelWork(NamedTuple):
    """A model is to be asked."""

    call: OpenCall


class ToolWork(NamedTuple):
    """A tool is to be used."""

    call: OpenCall
    spec: ToolSpec


Work = ModelWork | ToolWork


def pending(state: State) -> tuple[Work, ...]:
    """What remains to be performed: every intent without an outcome. None once it has ended or is being cancelled."""
    if state.end is not None or state.cancelling_by is not None:
        return ()
    return tuple([_work(state, call) for call in state.open])


def _work(state: State, call: OpenCall) -> Work:
    if call.arguments is None:
        return ModelWork(call)
    spec = state.agent.tool(call.tool)
    assert spec is not None, f"the gate let pass a call of the unknown tool {call.tool}"
    return ToolWork(call, spec)


def deadline_us(state: State) -> int | None:
    """When the time limit ends the session; None without one, or while only a person can move it on."""
    if state.agent.limits.seconds is None or state.waiting_since_us is not None:
        return None
    return state.started_us + state.waited_us + int(state.agent.limits.seconds * 1_000_000)


def due_us(state: State) -> int | None:
    """When the session next needs a worker: 0 is now, None not before somebody says something."""
    if state.end is not None or (state.is_parked and state.cancelling_by is None):
        return None
    if state.open:
        if state.cancelling_by is not None or not waits_for_timer(state):
            return 0
        if state.pause is not None and waits_for_capacity(state):
            return None
        moments = [call.not_before_us for call in state.open]
    elif state.pause is not None:
        return None
    elif state.question is not None:
        moments = [] if state.question.expires_us is None else [state.question.expires_us]
    else:
        return 0
    deadline = deadline_us(state)
    return min([*moments, deadline] if deadline is not None else moments, default=None)


def evolve(state: State | None, event: SessionEvent, at_us: int) -> State:
    """What is true after `event`, which happened at `at_us`. Constant time, however long the session is."""
    if state is None:
        assert isinstance(event, AgentStarted), f"a session begins with agent.started, not {type(event).__name__}"
        return _started(event, at_us)
    match event:
        case ToolCompleted():
            outcome = ToolOutcome(event.ok, event.output, event.kind, event.is_json, event.blob, event.size)
            call = next(call for call in state.open if call.id == event.call)
            still_open = _without(state.open, event.call)
            if event.kind == "unknown":
                return _observed(state, event.call, call.tool, outcome, open=still_open, losses=state.losses + 1)
            return _observed(state, event.call, call.tool, outcome, open=still_open)
        case ModelRequested():
            return _model_requested(state, event)
        case ModelCompleted():
            return _model_completed(state, event)
        case ToolRequested():
            begun = OpenCall(event.call, event.tool, event.arguments)
            return _replace(
                state,
                open=(*state.open, begun),
                asked=_without(state.asked, event.call),
                tool_calls=state.tool_calls + 1,
                granted=None,
                granted_digest=None,
            )
        case ConstraintFailed():
            outcome = failed(event.kind, f"{event.reason} [{event.rule}]" if event.rule else event.reason)
            return _refused(state, event.call, event.tool, outcome)
        case ModelFailed():
            return _replace(state, open=_without(state.open, event.call))
        case CallRetried():
            retried = tuple(
                msgspec.structs.replace(
                    call, attempt=event.attempt, not_before_us=event.not_before_us or 0, limit=event.limit
                )
                if call.id == event.call
                else call
                for call in state.open
            )
            return _replace(state, open=retried, losses=state.losses + (event.because == LOST))
        case _:
            return _evolve_people(state, event, at_us)


def _evolve_people(
    state: State,
    event: AgentStarted
    | ApprovalRequested
    | ApprovalGranted
    | ApprovalDenied
    | ApprovalExpired
    | InputReceived
    | AgentPaused
    | AgentResumed
    | AgentForked
    | CancelRequested
    | AgentCompleted
    | AgentFailed
    | AgentCancelled,
    at_us: int,
) -> State:
    """The rarer events: what people decide, and the end."""
    match event:
        case ApprovalRequested():
            question = Question(
                event.call, event.tool, event.arguments, event.digest, event.rule, event.reason, event.expires_us
            )
            return _clocked(_replace(state, question=question), at_us)
        case ApprovalGranted():
            granted = _replace(state, question=None, granted=event.call, granted_digest=event.digest)
            return _clocked(granted, at_us)
        case ApprovalDenied():
            text = f"{event.by} denied it: {event.reason}" if event.reason else f"{event.by} denied it"
            return _clocked(_answered(state, event.call, failed("blocked", text)), at_us)
        case ApprovalExpired():
            text = "nobody answered the request for approval in time; it was neither granted nor denied"
            return _clocked(_answered(state, event.call, failed("timeout", text)), at_us)
        case InputReceived():
            return _replace(state, inbox=(*state.inbox, event.text), answer=None)
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
            return _replace(state, waited_us=state.waited_us + idle)
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


_replace = msgspec.structs.replace


def _started(event: AgentStarted, at_us: int) -> State:
    return State(
        session=event.session,
        agent=event.agent,
        model=event.model,
        goal=event.goal,
        by=event.by,
        workspace=event.workspace,
        sandbox=event.sandbox,
        started_us=at_us,
        origin=event.origin,
        transcript=Transcript([UserMessage(event.goal)]),
        transcript_bytes=len(event.goal),
        priority=event.priority,
    )


def _model_requested(state: State, event: ModelRequested) -> State:
    begun = OpenCall(
        event.call,
        max_tokens=event.max_tokens,
        reserved_tokens=event.reserved_tokens,
        reserved_microusd=event.reserved_microusd,
    )
    if not state.inbox:
        return _replace(state, open=(begun,), steps=state.steps + 1)
    messages = [UserMessage(text) for text in state.inbox]
    return _replace(
        state,
        open=(begun,),
        steps=state.steps + 1,
        inbox=(),
        transcript=state.transcript.plus(*messages),
        transcript_bytes=state.transcript_bytes + sum(len(text) for text in state.inbox),
    )


def _model_completed(state: State, event: ModelCompleted) -> State:
    used, usage = event.usage, state.usage
    messages: list[Message] = [AssistantMessage(event.text, event.calls)]
    size = len(event.text) + sum(len(call.name) + len(call.arguments) for call in event.calls)
    if event.defect is not None:
        messages.append(UserMessage(event.defect))
        size += len(event.defect)
    is_final = not event.calls and event.defect is None and not state.inbox
    return _replace(
        state,
        open=(),
        asked=event.calls,
        answer=(event.text if event.answer is None else event.answer) if is_final else None,
        defects=0 if event.defect is None else state.defects + 1,
        transcript=state.transcript.plus(*messages),
        transcript_bytes=state.transcript_bytes + size,
        usage=Usage(
            usage.input_tokens + used.input_tokens,
            usage.output_tokens + used.output_tokens,
            usage.cache_read_tokens + used.cache_read_tokens,
            usage.cache_write_tokens + used.cache_write_tokens,
        ),
        cost_microusd=state.cost_microusd + event.cost_microusd,
    )


def _refused(state: State, call: str, tool: str, outcome: ToolOutcome) -> State:
    """An asked call that was not begun, and what the model is told instead."""
    return _observed(state, call, tool, outcome, asked=_without(state.asked, call), granted=None, granted_digest=None)


def _answered(state: State, call: str, outcome: ToolOutcome) -> State:
    tool = state.question.tool if state.question is not None else ""
    return _replace(_refused(state, call, tool, outcome), question=None)


def _observed(state: State, call: str, tool: str, outcome: ToolOutcome, **changes: Any) -> State:
    text = observation(outcome)
    message: Message
    if state.model.tools == "native":
        message = ToolMessage(call, tool, text, outcome.ok)
    else:
        message = UserMessage(f"Observation: {text}")
    return _replace(
        state,
        transcript=state.transcript.plus(message),
        transcript_bytes=state.transcript_bytes + len(text),
        **changes,
    )


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
