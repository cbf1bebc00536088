"""What can happen in a session. Events are for ever: fields are added with defaults, a new meaning is a new event."""

from typing import Any

from ostler.domain.agent import AgentSpec
from ostler.domain.identity import Principal
from ostler.domain.model import AskedCall, ModelRef, StopReason, Usage
from ostler.domain.tool import FailureKind
from ostler.kernel.codec import Codec
from ostler.kernel.event import Event


class AgentStarted(Event, tag="agent.started"):
    """The session exists. Everything that determines how it runs is here, so that its log explains itself.

    `origin` is the session that this one was forked from. Of the sessions of a tenant that are due, those of higher
    `priority` go first.
    """

    session: str
    agent: AgentSpec
    model: ModelRef
    goal: str
    by: Principal
    workspace: str | None = None
    sandbox: str = "bwrap"
    origin: str | None = None
    priority: int = 0


class ModelRequested(Event, tag="model.requested"):
    """Intent: the model is asked, with the prompt that the log up to here determines.

    `max_tokens` is set where the budget left less than the agent's settings allow; `reserved_*` is the worst case.
    """

    call: str
    max_tokens: int | None = None
    reserved_tokens: int = 0
    reserved_microusd: int = 0


class ModelCompleted(Event, tag="model.completed"):
    """The whole reply, as the protocol understood it.

    No `calls` and no `defect` makes it the answer: `answer`, or else the whole `text`. A `defect` is what the model is
    told of a reply that cannot be used.
    """

    call: str
    text: str = ""
    calls: tuple[AskedCall, ...] = ()
    answer: str | None = None
    defect: str | None = None
    stop: StopReason = "end"
    usage: Usage = Usage()
    cost_microusd: int = 0
    model: str = ""


class ModelFailed(Event, tag="model.failed"):
    """No reply came, and no further attempt is made. `message` is the provider's own."""

    call: str
    code: str
    message: str
    status: int | None = None


class CallRetried(Event, tag="call.retried"):
    """Attempt `attempt` of an open call begins, not before `not_before_us`; `because` says what became of the last.

    With `limit` it has not begun, because there is no capacity under the limit of this name; another event of this
    type, with the same attempt, says when it does.
    """

    call: str
    attempt: int
    because: str
    not_before_us: int | None = None
    limit: str | None = None


class ToolRequested(Event, tag="tool.requested"):
    """Intent: the gate let this call pass. `rule` is the one that allowed it, if one had to."""

    call: str
    tool: str
    arguments: dict[str, Any]
    rule: str = ""


class ToolCompleted(Event, tag="tool.completed"):
    """What came of a call; see `ToolOutcome`."""

    call: str
    ok: bool = True
    output: str = ""
    kind: FailureKind | None = None
    is_json: bool = False
    blob: str | None = None
    size: int | None = None


class ConstraintFailed(Event, tag="constraint.failed"):
    """The gate refused a call that the model asked for; nothing was performed.

    `kind` is `not_found` (no such tool), `invalid` (its arguments) or `blocked` (a rule, or a person's refusal).
    """

    call: str
    tool: str
    kind: FailureKind
    reason: str
    rule: str = ""


class ApprovalRequested(Event, tag="approval.requested"):
    """A call waits for a person. `digest` is the SHA-256 of the canonical JSON of exactly these arguments."""

    call: str
    tool: str
    arguments: dict[str, Any]
    digest: str
    rule: str
    reason: str = ""
    expires_us: int | None = None


class ApprovalGranted(Event, tag="approval.granted"):
    """A person lets the call begin, with exactly the arguments of this digest."""

    call: str
    by: str
    digest: str
    reason: str = ""


class ApprovalDenied(Event, tag="approval.denied"):
    """A person refuses the call; it is never begun."""

    call: str
    by: str
    reason: str = ""


class ApprovalExpired(Event, tag="approval.expired"):
    """Nobody answered in time, which is neither a yes nor a no."""

    call: str


class InputReceived(Event, tag="input.received"):
    """A person said something to a running session; the model sees it with its next request."""

    text: str
    by: str


class AgentPaused(Event, tag="agent.paused"):
    """No new call begins until the session is resumed; what is under way is finished.

    `is_parked`: nothing is, and no worker takes the session before that, for its workers were lost again and again.
    """

    by: str
    reason: str = ""
    is_parked: bool = False


class AgentResumed(Event, tag="agent.resumed"):
    """The pause is over."""

    by: str


class AgentForked(Event, tag="agent.forked"):
    """What stands before this is the past of session `origin` up to its event `seq`.

    `idle_us` is the time between that event and this one, which nobody used.
    """

    origin: str
    seq: int
    by: str
    idle_us: int = 0


class CancelRequested(Event, tag="cancel.requested"):
    """No new call begins; those under way are stopped, and then the session ends."""

    by: str
    reason: str = ""


class AgentCompleted(Event, tag="agent.completed"):
    """The end that was wanted: the agent has answered."""

    answer: str
    reason: str = "final_answer"


class AgentFailed(Event, tag="agent.failed"):
    """The end without an answer; `reason` is a stable word (`step_limit`, `timeout`, `error` …)."""

    reason: str
    message: str = ""


class AgentCancelled(Event, tag="agent.cancelled"):
    """The end by a person's will; `reason` is `cancelled` or `killed`."""

    by: str
    reason: str = "cancelled"


SessionEvent = (
    AgentStarted
    | ModelRequested
    | ModelCompleted
    | ModelFailed
    | CallRetried
    | ToolRequested
    | ToolCompleted
    | ConstraintFailed
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
    | AgentCancelled
)

SESSION_CODEC: Codec[SessionEvent] = Codec(SessionEvent)
