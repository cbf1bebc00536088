"""The calls of a session: what was asked, what the gate said, who approved, and what came of it."""

from collections.abc import Iterable
from typing import Any, Literal, assert_never

import msgspec

from ostler.domain.fitness.events import FitnessLowered
from ostler.domain.fitness.target import Measured
from ostler.domain.hook import Ask, Continue, Deny, Rewrite, Ruling
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
    ToolCompleted,
    ToolRequested,
    ToolResumed,
    ToolSuspended,
)
from ostler.domain.session.fork import Fact
from ostler.domain.session.state import TIME_HAS_COME
from ostler.domain.strategy.choice import Choice, Routing
from ostler.kernel.event import timestamp

Stage = Literal["asked", "waiting", "approved", "under way", "done", "failed", "refused"]


_OfCall = (
    CallExamined
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
    | ConstraintFailed
    | ApprovalRequested
    | ApprovalGranted
    | ApprovalDenied
    | ApprovalReturned
    | ApprovalRejected
    | ApprovalExpired
)
_WITHOUT_CALL = (
    AgentStarted,
    ContextCompacted,
    PolicyMoved,
    AnswerRefused,
    InputReceived,
    AgentPaused,
    AgentResumed,
    AgentForked,
    CancelRequested,
    AgentCompleted,
    AgentFailed,
    AgentCancelled,
)
_BEGINNINGS = (ModelRequested, ToolRequested)
_ENDS = (
    ModelCompleted,
    ModelFailed,
    ToolCompleted,
    ConstraintFailed,
    ApprovalDenied,
    ApprovalReturned,
    ApprovalExpired,
)


class CallView(msgspec.Struct, omit_defaults=True):
    """One call, folded from the events at `seqs`.

    `tool` is empty for a call of the model. `asked` is the JSON text that the model wrote, `arguments` what the gate
    made of it. `decided_by` is who approved or denied it; `kind` why it has no good outcome; `waits_for` the limit
    under which there is no capacity for it yet. `policy` is the one that decided, `shadow` what others would have said
    that are only tried; `evidence` is who said each of the values, as people were shown it; `examined` what was found
    out about the call before it was judged, and what hooks said of it; `rejected` are decisions of people that did not
    count; `tokens` and `cost_microusd` are those of all attempts. Times are RFC 3339.
    """

    call: str
    tool: str = ""
    stage: Stage = "asked"
    asked: str = ""
    arguments: dict[str, Any] | None = None
    rule: str = ""
    policy: str = ""
    risk: float | None = None
    shadow: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    examined: list[str] = []
    reason: str = ""
    rejected: list[str] = []
    redacted: dict[str, int] = {}
    decided_by: str = ""
    decision: str = ""
    attempts: int = 0
    retries: list[str] = []
    waits_for: str = ""
    outcome: str = ""
    kind: str = ""
    blob: str = ""
    tokens: int = 0
    cost_microusd: int = 0
    began: str = ""
    ended: str = ""
    took_us: int | None = None
    seqs: list[int] = []


def calls(facts: Iterable[Fact]) -> list[CallView]:
    """Every call of these events of one session, from its first on, in the order in which they were first asked for."""
    found: dict[str, CallView] = {}
    begun: dict[str, int] = {}
    for seq, (at_us, event) in enumerate(facts, 1):
        if isinstance(event, _WITHOUT_CALL):
            continue
        if isinstance(event, CompensationRequested | RecallRequested | EpisodeRequested):
            asked, why = event.asked, _why(event)
            found[asked.id] = CallView(asked.id, asked.name, asked=asked.arguments, examined=[why], seqs=[seq])
            continue
        _note(found, seq, event)
        view = found[event.call]
        if isinstance(event, _BEGINNINGS):
            view.began, begun[event.call] = timestamp(at_us), at_us
        elif isinstance(event, _ENDS):
            view.ended = timestamp(at_us)
            view.took_us = max(0, at_us - begun[event.call]) if event.call in begun else None
    return list(found.values())


def _why(event: CompensationRequested | RecallRequested | EpisodeRequested) -> str:
    """Why the runtime asks for a call."""
    match event:
        case CompensationRequested():
            return f"undoes call {event.of}: {event.because}"
        case RecallRequested():
            return "the runtime recalls what bears on what was said"
        case EpisodeRequested():
            return "the runtime remembers how the session ended"


def _note(found: dict[str, CallView], seq: int, event: _OfCall) -> None:
    view = found.setdefault(event.call, CallView(event.call))
    view.seqs.append(seq)
    if isinstance(event, ModelRequested | ToolRequested | ConstraintFailed | ApprovalRequested):
        view.policy, view.risk, view.shadow = event.policy, event.risk, event.shadow
    if isinstance(event, ModelCompleted | ModelFailed | CallRetried):
        view.tokens += event.usage.total_tokens
        view.cost_microusd += event.cost_microusd
    match event:
        case CallExamined():
            view.examined += _found_out(event)
        case ModelRequested():
            view.stage, view.attempts = "under way", 1
            view.examined += _chosen(event.choice) if event.choice is not None else []
        case ModelCompleted():
            view.stage, view.outcome, view.redacted = "done", event.text, event.redacted
            view.examined += map(_ruled, event.hooks)
            view.reason = event.defect or ""
            for call in event.calls:
                found[call.id] = CallView(call.id, call.name, asked=call.arguments, seqs=[seq])
        case ModelFailed():
            view.stage, view.kind, view.outcome, view.waits_for = "failed", event.code, event.message, ""
        case CallRetried():
            if event.limit is None and not view.waits_for and event.because != TIME_HAS_COME:
                view.retries.append(event.because)
            view.attempts, view.waits_for = event.attempt, event.limit or ""
            view.examined += _chosen(event.choice) if event.choice is not None else []
        case ToolRequested():
            view.stage, view.attempts = "under way", 1
            view.tool, view.arguments, view.rule = event.tool, event.arguments, event.rule or view.rule
        case ToolCompleted():
            view.stage = "done" if event.ok else "failed"
            view.kind, view.outcome = event.kind or "", event.output
            view.blob, view.redacted = event.blob or "", event.redacted
            view.examined += map(_ruled, event.hooks)
        case ToolSuspended():
            found[event.asked.id] = CallView(event.asked.id, event.asked.name, asked=event.asked.arguments, seqs=[seq])
        case ToolResumed():
            pass
        case FitnessCompared():
            view.examined += [f"after it, {_fitness(one)}" for one in event.fitness]
            if event.is_restored is not None:
                view.examined.append("all is as good again as before" if event.is_restored else "it is not restored")
        case FitnessLowered():
            view.examined.append(f"lowered {event.after.target}: {event.before} before it, {event.after} after it")
        case ConstraintFailed():
            view.stage, view.kind, view.rule, view.reason = "refused", event.kind, event.rule, event.reason
            view.tool = event.tool
        case ApprovalRequested():
            view.stage, view.tool, view.arguments = "waiting", event.tool, event.arguments
            view.rule, view.reason, view.evidence = event.rule, event.reason, event.evidence
        case ApprovalGranted():
            view.stage = "approved" if event.is_enough else view.stage
            view.decided_by = f"{view.decided_by}, {event.by}" if view.decided_by else event.by
            view.decision = event.reason
            view.arguments = event.arguments or view.arguments
        case ApprovalDenied():
            view.stage, view.kind = "refused", "denied"
            view.decided_by, view.decision = event.by, event.reason
        case ApprovalReturned():
            view.stage, view.kind = "refused", "asked back"
            view.decided_by, view.decision = event.by, event.question
        case ApprovalRejected():
            view.rejected.append(f"{event.by} ({event.decision}): {event.reason}")
        case ApprovalExpired():
            view.stage, view.kind = "refused", "expired"


def _found_out(event: CallExamined) -> list[str]:
    """What an examination found out, but for numbers that nobody could read: `ostler policy explain` has those."""
    refused = f"{event.refused}{' (a person may let it pass)' if event.asks else ''}"
    left = [
        f"{amount:,} {what}"
        for amount, what in (
            (event.tokens_left, "tokens"),
            (event.cost_left_microusd, "micro-dollars"),
            (event.calls_left, "calls"),
        )
        if amount is not None
    ]
    return [
        *([refused] if event.refused is not None else []),
        *event.warnings,
        *map(_ruled, event.hooks),
        *(f"before it, {_fitness(one)}" for one in event.fitness),
        *([f"the tightest budget leaves {', '.join(left)}"] if left else []),
        *(_routed(event.routing) if event.routing is not None else []),
    ]


def _fitness(found: Measured) -> str:
    return f"{found.target} is {found} (it should be {found.goal})"


def _routed(routing: Routing) -> list[str]:
    """What was found out about several models."""
    away = [f"{one.model}: {one.reason}" for one in routing.unavailable]
    scores = [f"{model}: {score:.3f}" for model, score in routing.scores.items()]
    return [*away, *([f"scores: {', '.join(scores)}"] if scores else [])]


def _chosen(choice: Choice) -> list[str]:
    """Which of several models is asked, and why none of the others."""
    excluded = [f"not {model}: {reason}" for model, reason in choice.excluded]
    return [f"asks {choice.model}: {choice.because}", *excluded]


def _ruled(ruling: Ruling) -> str:
    """What a hook said, on one line."""
    match ruling.answer:
        case Continue():
            said = "nothing against it"
        case Deny(reason):
            said = f"deny: {reason}"
        case Ask(reason):
            said = f"ask a person: {reason}"
        case Rewrite(_, reason):
            said = f"rewrite: {reason}" if reason else "rewrite"
        case _:
            assert_never(ruling.answer)
    return f"hook {ruling.hook} ({ruling.point}): {said}"
