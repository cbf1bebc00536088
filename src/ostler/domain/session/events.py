"""What can happen in a session. Events are for ever: fields are added with defaults, a new meaning is a new event."""

from typing import Any, Literal

import msgspec

from ostler.domain.agent import AgentSpec, ContextStep
from ostler.domain.constraint.policy import Policy
from ostler.domain.constraint.verdict import Demand
from ostler.domain.fitness.events import FitnessLowered
from ostler.domain.fitness.target import Measured
from ostler.domain.grant import Grant
from ostler.domain.hook import Ruling
from ostler.domain.identity import Principal
from ostler.domain.model import AskedCall, Image, ModelRef, Reasoning, StopReason, Usage
from ostler.domain.strategy.card import Card
from ostler.domain.strategy.choice import Choice, Routing, StrategySpec
from ostler.domain.tool import Effect, FailureKind, Taint
from ostler.kernel.codec import Codec
from ostler.kernel.event import Event

Purpose = Literal["turn", "summary"]
"""What a model is asked for."""

NOTHING_USED = Usage()
"""What an attempt is counted with that was never begun; as the default of a field it takes no room in the log."""

Lasts = Literal["once", "session", "until"]
"""How long an approval of a call holds for other calls that are equal to it."""


class AgentStarted(Event, tag="agent.started"):
    """The session exists. Everything that determines how it runs is here, so that its log explains itself.

    `origin` is the session that this one was forked from. Of the sessions of a tenant that are due, those of higher
    `priority` go first. `layers` are the policies above the agent's own, the outermost first, and `shadow` those that
    are only tried; `inputs` are the values of what they declare. `grant` bounds what the session may do, whatever its
    principal and its agent may. `is_budgeted`: budgets are asked before each call. `holds` are the attacks
    that the sandbox was found to hold against, where commands may be run. `gate` is the version of the gate
    that wrote what follows: since 2, decisions name their policy, and digests cover the whole call; since 3, failed
    attempts say more of themselves, and are counted with what they used; since 4, tokens are counted by what texts are
    made of, and windows are kept to. `images` belong to the goal.
    With a `strategy`, one of the `candidates` is chosen for each request; `model` is the first of them.
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
    images: tuple[Image, ...] = ()
    strategy: StrategySpec | None = None
    candidates: tuple[Card, ...] = ()


class CallExamined(Event, tag="call.examined"):
    """What was found out about a call before it was judged, that the session's own past does not say.

    The call `end` is the answer that the session is about to end with.

    `answers` are those to the questions of the policies about other sessions, in their order. `refused` says which
    budget or limit has no room for it, and `asks` that a person may let it pass all the same, beyond these `budgets`;
    `warnings` are budgets that are nearly used up. `hooks` is what the agent's hooks said, but for those that had
    nothing against it; with `arguments`, they have rewritten them (`system`: the system prompt of a model call;
    `answer`: the answer).
    `tokens_left`, `cost_left_microusd` and `calls_left` are what the tightest budget leaves. `routing` is what a choice
    among several models depends on.
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
    routing: Routing | None = None
    fitness: tuple[Measured, ...] = ()


class PolicyMoved(Event, tag="policy.moved"):
    """From here on other policies hold for this session: all of those that are named here, and no others."""

    by: str
    policy: Policy
    layers: tuple[Policy, ...] = ()
    shadow: tuple[Policy, ...] = ()
    reason: str = ""


class ContextCompacted(Event, tag="context.compacted"):
    """From here on the model is shown less than before; the log keeps all of it.

    `by` is the step of the agent's settings. The results of these `calls` have become one line each; the messages in
    the `spans` (from, up to), of those that the model was shown, are left out, which are so many `turns`. A `summary`
    stands in the place of all that was left out so far. `tokens_before` and `tokens_after` are estimates of the next
    request, `window_tokens` is what the window holds.
    """

    by: ContextStep
    because: str
    tokens_before: int
    tokens_after: int
    window_tokens: int
    calls: tuple[str, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()
    turns: int = 0
    summary: str = ""


class ModelRequested(Event, tag="model.requested"):
    """Intent: the model is asked, with the prompt that the log up to here determines.

    `max_tokens` is set where the budget left less than the agent's settings allow; `reserved_*` is the worst case.
    `rule`, `policy`, `risk` and `shadow` as in `ToolRequested`.
    With a `choice`, the model that was chosen is the one that is asked, from here on. It is asked for its next `turn`,
    or for a `summary` of the first so many messages that it is shown (`covers`).
    """

    call: str
    max_tokens: int | None = None
    reserved_tokens: int = 0
    reserved_microusd: int = 0
    rule: str = ""
    policy: str = ""
    risk: float | None = None
    shadow: tuple[str, ...] = ()
    choice: Choice | None = None
    purpose: Purpose = "turn"
    covers: int = 0


class ModelCompleted(Event, tag="model.completed"):
    """The whole reply, as the protocol understood it.

    No `calls` and no `defect` makes it the answer: `answer`, or else the whole `text`. A `defect` is what the model is
    told of a reply that cannot be used. `redacted` counts what was taken out of it, by kind; `hooks` is what the
    agent's hooks said of it. `reasoning` and `fingerprint` as in `Reply`. `unfit`: the defect is that it answers, and
    not with what the agent returns. `shared_with` is the equal call (`ses_…/3`) whose outcome this is, at no cost.
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
    unfit: bool = False
    shared_with: str = ""


class ModelFailed(Event, tag="model.failed"):
    """No reply came, and no further attempt is made. `message` is the provider's own.

    `partial` is how the reply began, `usage` and `cost_microusd` what this attempt is counted with.
    """

    call: str
    code: str
    message: str
    status: int | None = None
    partial: str = ""
    usage: Usage = NOTHING_USED
    cost_microusd: int = 0


class CallRetried(Event, tag="call.retried"):
    """Attempt `attempt` of an open call begins, not before `not_before_us`; `because` says what became of the last.

    With `limit` it has not begun, because there is no capacity under the limit of this name; another event of this
    type, with the same attempt, says when it does. After a failure it has a `code`, and has not begun either before
    another event says that its time has come, unless that is at once. The code, the HTTP `status`, the beginning of the
    reply (`partial`), `usage` and `cost_microusd` are of the attempt that failed. `max_tokens` and `reserved_*` as in
    `ModelRequested`, where they are others from now on.
    With a `choice`, another model is asked, or the same once more.
    """

    call: str
    attempt: int
    because: str
    not_before_us: int | None = None
    limit: str | None = None
    code: str = ""
    status: int | None = None
    partial: str = ""
    usage: Usage = NOTHING_USED
    cost_microusd: int = 0
    max_tokens: int | None = None
    reserved_tokens: int = 0
    reserved_microusd: int = 0
    choice: Choice | None = None


class ToolRequested(Event, tag="tool.requested"):
    """Intent: the gate let this call pass. `rule` is the one that allowed it, if one had to.

    `policy` is the one that decided, as `name@version/digest` with 16 digits of its digest; `risk` the risk score, if
    it was looked at. `shadow` is what each policy that is only tried would have said, as `deny name@version#rule`.
    Of a tool that remembers, `taint` is what the arguments may be made of.
    """

    call: str
    tool: str
    arguments: dict[str, Any]
    rule: str = ""
    policy: str = ""
    risk: float | None = None
    shadow: tuple[str, ...] = ()
    taint: Taint | None = None


class ToolCompleted(Event, tag="tool.completed"):
    """What came of a call; see `ToolOutcome`. `redacted`, `hooks` and `shared_with` as in `ModelCompleted`."""

    call: str
    ok: bool = True
    output: str = ""
    kind: FailureKind | None = None
    is_json: bool = False
    blob: str | None = None
    size: int | None = None
    redacted: dict[str, int] = msgspec.field(default_factory=dict)
    hooks: tuple[Ruling, ...] = ()
    shared_with: str = ""


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


class FitnessCompared(Event, tag="fitness.compared"):
    """What was measured after a call around which targets are measured.

    Of a call that was to undo another one, `is_restored` says whether all is as good again as before that one.
    """

    call: str
    fitness: tuple[Measured, ...] = ()
    is_restored: bool | None = None


class CompensationRequested(Event, tag="compensation.requested"):
    """The runtime asks for a call, `because` another one (`of`) has lowered fitness. The gate judges it like any.

    `before` is what was measured before that one, and is to be again.
    """

    asked: AskedCall
    of: str
    because: str
    before: tuple[Measured, ...] = ()


class RecallRequested(Event, tag="recall.requested"):
    """The runtime asks for a call that recalls what bears on what a person has said. The gate judges it like any."""

    asked: AskedCall


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
    """A person said something to a running session; the model sees it with its next request, and `images` with it."""

    text: str
    by: str
    images: tuple[Image, ...] = ()


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

    `idle_us` is the time between that event and this one, which nobody used. With `trial`, this model is asked for one
    reply in place of the session's own; nothing that it asks for is performed, and then the session ends.
    """

    origin: str
    seq: int
    by: str
    idle_us: int = 0
    trial: ModelRef | None = None


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


class EpisodeRequested(Event, tag="episode.requested"):
    """The session is about to end like this (`end`), and nothing else begins in it any more.

    Before that the runtime asks for a call that remembers what came of it. The gate judges it like any.
    """

    asked: AskedCall
    end: AgentCompleted | AgentFailed


SessionEvent = (
    AgentStarted
    | CallExamined
    | PolicyMoved
    | ContextCompacted
    | ModelRequested
    | ModelCompleted
    | ModelFailed
    | CallRetried
    | ToolRequested
    | ToolCompleted
    | ToolSuspended
    | ToolResumed
    | FitnessCompared
    | FitnessLowered
    | CompensationRequested
    | RecallRequested
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
    | EpisodeRequested
    | AgentCompleted
    | AgentFailed
    | AgentCancelled
)

SESSION_CODEC: Codec[SessionEvent] = Codec(SessionEvent)
