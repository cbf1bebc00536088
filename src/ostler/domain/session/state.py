"""What is true of a session, and what follows from that alone."""

from typing import Any, Literal

import msgspec

from ostler.domain.agent import AgentSpec
from ostler.domain.constraint.history import Past
from ostler.domain.constraint.policy import Policy
from ostler.domain.constraint.verdict import Demand
from ostler.domain.fitness.target import Measured
from ostler.domain.grant import Grant
from ostler.domain.guard import Guard
from ostler.domain.identity import Principal
from ostler.domain.memory.working import EMPTY, WorkingMemory
from ostler.domain.model import AskedCall, Image, ModelRef, Usage, UserMessage
from ostler.domain.provenance import Provenance
from ostler.domain.session.events import AgentCompleted, AgentFailed, CallExamined, Purpose
from ostler.domain.strategy.card import Card
from ostler.domain.strategy.choice import Choice, StrategySpec
from ostler.domain.tool import Effect, Taint, ToolOutcome
from ostler.domain.transcript import Context, Transcript

LOST = "worker lost"
"""Why another attempt is made of a call whose worker is gone."""
TIME_HAS_COME = "its time has come"
"""Why a call begins that has waited."""
Status = Literal["queued", "running", "waiting", "paused", "completed", "failed", "cancelled"]
ENDED = ("completed", "failed", "cancelled")


NOTHING_SAID = Provenance()
NOTHING_SHOWN = Context()


class OpenCall(msgspec.Struct, frozen=True, gc=False):
    """An intent without an outcome. `arguments` None marks a model call. `max_tokens` and `reserved_*` are its own.

    With a `limit` it has not begun: there is no capacity under the limit of this name. `system` is the system prompt
    of this one model call, where hooks have rewritten it.

    One that `is_suspended` is a program, and waits for the last of its `inner_calls`, or for being resumed with the
    `answer` from its `snapshot`.
    Before `not_before_us` it is not tried again; `failures` is how often it failed, or could not even begin, and
    `failing_since_us` since when.
    Of a call for which one of several models was chosen, `choice` is the last and `examined` what it rests on.
    `purpose` is what a model is asked for; a summary `covers` so many messages of the transcript. `fitness` is what was
    measured before the call, `taint` what its arguments may be made of, if its tool remembers.
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
    system: str | None = None
    snapshot: bytes | None = None
    answer: ToolOutcome | None = None
    is_suspended: bool = False
    inner_calls: int = 0
    failures: int = 0
    failing_since_us: int = 0
    choice: Choice | None = None
    examined: CallExamined | None = None
    purpose: Purpose = "turn"
    covers: int = 0
    fitness: tuple[Measured, ...] = ()
    taint: Taint | None = None


class Intervention(msgspec.Struct, frozen=True, gc=False):
    """A call around which targets are measured; or one that is to undo another one (`of`), with what was before that.

    `arguments` and `output` are what undoing it may take.
    """

    call: str
    tool: str
    before: tuple[Measured, ...]
    arguments: dict[str, Any] = {}
    output: str = ""
    of: str = ""


class Mind(msgspec.Struct, frozen=True, gc=False):
    """What a session of an agent with memory has in mind.

    `about` is what is still to be recalled for, `recalls` how often the runtime has asked for that, and `known` the
    memories that the model was told of so. `asked` is the runtime's own call that has no outcome yet. `working` is
    what working memory holds, `shown` how the model is shown it. With an `ending` the session has come to its end,
    which follows as soon as it has remembered it.
    """

    about: str = ""
    recalls: int = 0
    known: tuple[str, ...] = ()
    asked: str = ""
    working: WorkingMemory = EMPTY
    shown: tuple[UserMessage, ...] = ()
    ending: AgentCompleted | AgentFailed | None = None


class Question(msgspec.Struct, frozen=True, gc=False):
    """A call that waits for the decisions of people, and who has approved it so far, with their roles.

    `is_changed`: a person has changed its arguments before, and it had to be asked about once more. `is_outdated`: the
    policies that asked are not those of the session any more, and so what these want is not met by any answer.
    What is there for their eyes only is as in `ApprovalRequested`.
    """

    call: str
    tool: str
    arguments: dict[str, Any]
    digest: str
    rule: str
    reason: str
    expires_us: int | None
    demands: tuple[Demand, ...] = ()
    approved_by: tuple[tuple[str, tuple[str, ...]], ...] = ()
    risk: float | None = None
    risk_parts: tuple[tuple[str, float], ...] = ()
    effect: Effect | None = None
    cost_microusd: int = 0
    evidence: tuple[str, ...] = ()
    is_changed: bool = False
    is_outdated: bool = False


class Approval(msgspec.Struct, frozen=True, gc=False):
    """A call that people have approved: exactly the one with this digest.

    `arguments` are set where a person has changed them; `demands` are what the rules wanted, and have got.
    """

    call: str
    digest: str
    demands: tuple[Demand, ...] = ()
    arguments: dict[str, Any] | None = None


class Lasting(msgspec.Struct, frozen=True, gc=False):
    """An approval that holds for all calls with this digest, until then (None: until the end of the session)."""

    digest: str
    demands: tuple[Demand, ...]
    until_us: int | None


class End(msgspec.Struct, frozen=True, gc=False):
    """How it ended: `reason` is a stable word, `text` the answer or the explanation."""

    status: Status
    reason: str
    text: str


class State(msgspec.Struct, frozen=True, gc=False):
    """A session, folded.

    `asked` are the calls of this turn that the gate has not let pass or refused yet, in order; `open` those under way.
    `granted` is the approval of the call that is judged next, `examined` what was found out about it.
    `senders` are those who have told it something since it started. `provenance` is who said what, `past` what
    policies want to know of the session's own calls; once its policies were moved (`has_moved`), that must be
    looked up in the log. `losses` counts how often a worker was lost in the middle of a call, since somebody last
    resumed it. `waiting_since_us` is set while only a person can move the session on, `waited_us` is how long that
    was before. `images` are all that people have shown it, `misfits` the answers in a row that were not what the agent
    returns, whatever it did in between. `is_trial`: it ends with the next reply, and nothing is performed before that.
    `model` is the one that answers; with `candidates`, `strategy` says which of them is next. `transcript` is what the
    model is shown of what was said, `context` how large that is, and what was left out of it. `measuring` are the calls
    after which targets are still to be measured, `undoing` those that are to undo others and have no outcome yet.
    Without memory there is no `mind`.
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
    guard: Guard
    provenance: Provenance = NOTHING_SAID
    past: Past | None = None
    has_moved: bool = False
    priority: int = 0
    layers: tuple[Policy, ...] = ()
    shadow: tuple[Policy, ...] = ()
    inputs: dict[str, Any] = {}
    grant: Grant | None = None
    is_budgeted: bool = False
    gate: int = 1
    steps: int = 0
    tool_calls: int = 0
    usage: Usage = Usage()
    cost_microusd: int = 0
    defects: int = 0
    inbox: tuple[UserMessage, ...] = ()
    senders: tuple[str, ...] = ()
    asked: tuple[AskedCall, ...] = ()
    open: tuple[OpenCall, ...] = ()
    answer: str | None = None
    question: Question | None = None
    granted: Approval | None = None
    lasting: tuple[Lasting, ...] = ()
    examined: CallExamined | None = None
    pause: str | None = None
    is_parked: bool = False
    cancelling_by: str | None = None
    losses: int = 0
    waiting_since_us: int | None = None
    waited_us: int = 0
    end: End | None = None
    images: tuple[Image, ...] = ()
    misfits: int = 0
    is_trial: bool = False
    strategy: StrategySpec | None = None
    candidates: tuple[Card, ...] = ()
    context: Context = NOTHING_SHOWN
    measuring: tuple[Intervention, ...] = ()
    undoing: tuple[Intervention, ...] = ()
    mind: Mind | None = None

    @property
    def is_routed(self) -> bool:
        """One of several models is chosen for each request."""
        return len(self.candidates) > 1 and not self.is_trial

    @property
    def ending(self) -> AgentCompleted | AgentFailed | None:
        """The end that it has come to, and that follows once it has remembered it."""
        return None if self.mind is None else self.mind.ending

    @property
    def status(self) -> Status:
        if self.end is not None:
            return self.end.status
        if self.pause is not None:
            return "paused"
        if not under_way(self):
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
        return "timer" if under_way(self) else "approval"


def as_asked(state: State) -> State:
    """The state without what was said since an open call began: that is no part of its request."""
    return msgspec.structs.replace(state, inbox=()) if state.inbox else state


def under_way(state: State) -> tuple[OpenCall, ...]:
    """The open calls but for programs that wait for a call of their own."""
    for call in state.open:
        if call.is_suspended:
            return tuple([other for other in state.open if not other.is_suspended])
    return state.open


def waits_for_timer(state: State) -> bool:
    """Every open call is to be tried again later. (Whether that moment has come is not the state's to know.)"""
    calls = under_way(state)
    for call in calls:
        if not call.not_before_us:
            return False
    return bool(calls)


def waits_for_capacity(state: State) -> bool:
    """An open call has not begun, because there is no capacity; a call that waits so is always the only open one."""
    return any(call.limit is not None for call in state.open)


def is_under_way(state: State) -> bool:
    """It is running and nothing else: neither over, nor paused, nor being cancelled, nor waiting."""
    is_held_up = state.end is not None or state.pause is not None or state.cancelling_by is not None
    return not is_held_up and bool(under_way(state)) and not waits_for_timer(state)


def deadline_us(state: State) -> int | None:
    """When the time limit ends the session; None without one, while only a person can move it on, or at its end."""
    if state.agent.limits.seconds is None or state.waiting_since_us is not None or state.ending is not None:
        return None
    return state.started_us + state.waited_us + int(state.agent.limits.seconds * 1_000_000)


def due_us(state: State) -> int | None:
    """When the session next needs a worker: 0 is now, None not before somebody says something."""
    if state.end is not None or (state.is_parked and state.cancelling_by is None):
        return None
    if state.measuring and state.cancelling_by is None:
        return 0
    if calls := under_way(state):
        if state.cancelling_by is not None or not waits_for_timer(state):
            return 0
        if state.pause is not None:
            return None
        moments = [call.not_before_us for call in calls]
    elif state.pause is not None:
        return None
    elif state.question is not None:
        moments = [] if state.question.expires_us is None else [state.question.expires_us]
    else:
        return 0
    deadline = deadline_us(state)
    return min([*moments, deadline] if deadline is not None else moments, default=None)
