"""What can happen in a session. Events are for ever: fields are added with defaults, a new meaning is a new event."""

from typing import Any, Literal

import msgspec

from ostler.domain.agent import AgentSpec
from ostler.domain.constraint.policy import Policy
from ostler.domain.constraint.verdict import Demand
from ostler.domain.grant import Grant
from ostler.domain.hook import Ruling
from ostler.domain.identity import Principal
from ostler.domain.model import AskedCall, ModelRef, Reasoning, StopReason, Usage
from ostler.domain.tool import Effect, FailureKind
from ostler.kernel.codec import Codec
from ostler.kernel.event import Event

Lasts = Literal["once", "session", "until"]
"""How long an approval of a call holds for other calls that are equal to it."""


class AgentStarted(Event, tag="agent.started"):
    """The session exists. Everything that determines how it runs is here, so that its log explains itself.

    `origin` is the session that this one was forked from. Of the sessions of a tenant that are due, those of higher
    `priority` go first. `layers` are the policies above the agent's own, the outermost first, and `shadow` those that
    are only tried; `inputs` are the values of what they declare. `grant` bounds what the session may do, whatever its
    principal and its agent may. `is_budgeted`: budgets are asked before each call. `holds` are the attacks
    that the sandbox was found to hold against, where commands may be run. `gate` is the version of the gate
    that wrote what follows: since 2, decisions name their policy, and digests cover the whole call.
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
    layers: tuple[Policy, ...] = ()
    shadow: tuple[Policy, ...] = ()
    inputs: dict[str, Any] = msgspec.field(default_factory=dict)
    grant: Grant | None = None
    is_budgeted: bool = False
    holds: tuple[str, ...] = ()
    gate: int = 1


class CallExamined(Event, tag="call.examined"):
    """What was found out about a call before it was judged, that the session's own past does not say.

    The call `end` is the answer that the session is about to end with.

    `answers` are those to the questions of the policies about other sessions, in their order. `refused` says which
    budget or limit has no room for it, and `asks` that a person may let it pass all the same, beyond these `budgets`;
    `warnings` are budgets that are nearly used up. `hooks` is what the agent's hooks said, but for those that had
    nothing against it; with `arguments`, they have rewritten them (`system`: the system prompt of a model call;
    `answer`: the answer).
    `tokens_left`, `cost_left_microusd` and `calls_left` are what the tightest budget leaves.
    """

    call: str
    answers: tuple[float, ...] = ()
    refused: str | None = None
    asks: bool = False
    warnings: tuple[str, ...] = ()
    hooks: tuple[Ruling, ...] = ()
    arguments: dict[str, Any] | None = None
    tokens_left: int | None = None
    cost_left_microusd: int | None = None
    calls_left: int | None = None
    budgets: tuple[str, ...] = ()


class PolicyMoved(Event, tag="policy.moved"):
    """From here on other policies hold for this session: all of those that are named here, and no others."""

    by: str
    policy: Policy
    layers: tuple[Policy, ...] = ()
    shadow: tuple[Policy, ...] = ()
    reason: str = ""


class ModelRequested(Event, tag="model.requested"):
    """Intent: the model is asked, with the prompt that the log up to here determines.

    `max_tokens` is set where the budget left less than the agent's settings allow; `reserved_*` is the worst case.
    `rule`, `policy`, `risk` and `shadow` as in `ToolRequested`.
    """

    call: str
    max_tokens: int | None = None
    reserved_tokens: int = 0
    reserved_microusd: int = 0
    rule: str = ""
    policy: str = ""
    risk: float | None = None
    shadow: tuple[str, ...] = ()


class ModelCompleted(Event, tag="model.completed"):
    """The whole reply, as the protocol understood it.

    No `calls` and no `defect` makes it the answer: `answer`, or else the whole `text`. A `defect` is what the model is
    told of a reply that cannot be used. `redacted` counts what was taken out of it, by kind; `hooks` is what the
    agent's hooks said of it. `reasoning` and `fingerprint` as in `Reply`.
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
    redacted: dict[str, int] = msgspec.field(default_factory=dict)
    hooks: tuple[Ruling, ...] = ()
    reasoning: tuple[Reasoning, ...] = ()
    fingerprint: str = ""


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
    """Intent: the gate let this call pass. `rule` is the one that allowed it, if one had to.

    `policy` is the one that decided, as `name@version/digest` with 16 digits of its digest; `risk` the risk score, if
    it was looked at. `shadow` is what each policy that is only tried would have said, as `deny name@version#rule`.
    """

    call: str
    tool: str
    arguments: dict[str, Any]
    rule: str = ""
    policy: str = ""
    risk: float | None = None
    shadow: tuple[str, ...] = ()


class ToolCompleted(Event, tag="tool.completed"):
    """What came of a call; see `ToolOutcome`. `redacted` and `hooks` as in `ModelCompleted`."""

    call: str
    ok: bool = True
    output: str = ""
    kind: FailureKind | None = None
    is_json: bool = False
    blob: str | None = None
    size: int | None = None
    redacted: dict[str, int] = msgspec.field(default_factory=dict)
    hooks: tuple[Ruling, ...] = ()


class ToolSuspended(Event, tag="tool.suspended"):
    """A program that an agent wrote waits for what comes of another call, which goes through the gate like any other.

    `asked` is that call; `snapshot` is everything that the program is while it waits.
    """

    call: str
    asked: AskedCall
    snapshot: bytes


class ToolResumed(Event, tag="tool.resumed"):
    """Intent: a program goes on with what came of the call that it waited for."""

    call: str


class ConstraintFailed(Event, tag="constraint.failed"):
    """The gate refused a call; nothing was performed. Of a call of the model itself, `tool` is empty.

    `kind` is `not_found` (no such tool), `invalid` (its arguments) or `blocked` (a rule, or a person's refusal).
    `policy`, `risk` and `shadow` as in `ToolRequested`.
    """

    call: str
    tool: str
    kind: FailureKind
    reason: str
    rule: str = ""
    policy: str = ""
    risk: float | None = None
    shadow: tuple[str, ...] = ()


class ApprovalRequested(Event, tag="approval.requested"):
    """A call waits for people. `digest` is that of exactly this call; see `ostler.domain.gate.digest_of`.

    `demands` is what each rule wants that asks for approvals (none: one approval, of anybody). For their eyes: the
    `risk` score and its `risk_parts` (what, and how much), what the tool does to the world (`effect`), what the session
    has cost so far, and `evidence`: who said each of the values.
    """

    call: str
    tool: str
    arguments: dict[str, Any]
    digest: str
    rule: str
    reason: str = ""
    expires_us: int | None = None
    demands: tuple[Demand, ...] = ()
    policy: str = ""
    risk: float | None = None
    risk_parts: tuple[tuple[str, float], ...] = ()
    effect: Effect | None = None
    cost_microusd: int = 0
    evidence: tuple[str, ...] = ()
    shadow: tuple[str, ...] = ()


class ApprovalGranted(Event, tag="approval.granted"):
    """A person lets the call begin, with exactly the arguments of this digest.

    `roles` are those of the person. `is_enough`: nobody else has to approve. With `arguments` the person has changed
    them, and the digest is that of the call with these. `lasts` beyond this once: the same call, with the same digest,
    needs no other approval in this `session`, or `until_us`.
    """

    call: str
    by: str
    digest: str
    reason: str = ""
    roles: tuple[str, ...] = ()
    is_enough: bool = True
    arguments: dict[str, Any] | None = None
    lasts: Lasts = "once"
    until_us: int | None = None


class ApprovalDenied(Event, tag="approval.denied"):
    """A person refuses the call; it is never begun. `roles` are those of the person."""

    call: str
    by: str
    reason: str = ""
    roles: tuple[str, ...] = ()


class ApprovalReturned(Event, tag="approval.returned"):
    """A person asks back instead of deciding; the call is not begun, and the model is told the question."""

    call: str
    by: str
    question: str
    roles: tuple[str, ...] = ()


class ApprovalRejected(Event, tag="approval.rejected"):
    """A decision about a call that does not count: too late, a second one, or of somebody who may not decide."""

    call: str
    by: str
    decision: Literal["grant", "deny", "return"]
    reason: str


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


class AnswerRefused(Event, tag="answer.refused"):
    """Hooks did not let the session end with its answer; the model is told the reason, and goes on."""

    reason: str
    hooks: tuple[Ruling, ...] = ()


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
    | CallExamined
    | PolicyMoved
    | ModelRequested
    | ModelCompleted
    | ModelFailed
    | CallRetried
    | ToolRequested
    | ToolCompleted
    | ToolSuspended
    | ToolResumed
    | ConstraintFailed
    | ApprovalRequested
    | ApprovalGranted
    | ApprovalDenied
    | ApprovalReturned
    | ApprovalRejected
    | ApprovalExpired
    | InputReceived
    | AgentPaused
    | AgentResumed
    | AgentForked
    | CancelRequested
    | AnswerRefused
    | AgentCompleted
    | AgentFailed
    | AgentCancelled
)

SESSION_CODEC: Codec[SessionEvent] = Codec(SessionEvent)
