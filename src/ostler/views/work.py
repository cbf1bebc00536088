"""The view `work`: what each agent has done so far, by version, as one would look at somebody's record."""

from functools import lru_cache

import msgspec

from ostler.domain.fitness.events import FitnessLowered
from ostler.domain.identity import agent_id
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
from ostler.kernel.event import Record
from ostler.views.fold import Format, Step, View, read

IGNORED = (
    CallExamined,
    ContextCompacted,
    PolicyMoved,
    ToolSuspended,
    ToolResumed,
    FitnessCompared,
    FitnessLowered,
    CompensationRequested,
    RecallRequested,
    EpisodeRequested,
    ApprovalRejected,
    AnswerRefused,
    InputReceived,
    AgentPaused,
    AgentResumed,
    CancelRequested,
)
"""What adds nothing."""


class Work(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What was done under one identity. Calls are counted when they begin; the gate let those that are `refused` not.

    `endings` counts ended sessions by `status (reason)`; `tool_failures` are calls that came to nothing, those of which
    nobody knows (`unknown`) among them. Approvals were `asked` for and then `granted`, `denied`, `returned` with a
    question, or `expired`. `first_us` and `last_us` are microseconds since 1970. `unreadable` events are not counted.
    """

    sessions: int = 0
    endings: dict[str, int] = {}
    model_calls: int = 0
    tool_calls: int = 0
    tool_failures: int = 0
    unknown: int = 0
    refused: int = 0
    asked: int = 0
    granted: int = 0
    denied: int = 0
    returned: int = 0
    expired: int = 0
    tokens: int = 0
    cost_microusd: int = 0
    unreadable: int = 0
    first_us: int = 0
    last_us: int = 0


class Doer(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Whose work the events of a session are; nobody's while they are `past_of` another, where they were counted."""

    agent: str
    past_of: str | None = None


UNKNOWN = Doer("?")
"""Whose work is in events before a session's start or after its end."""
SPANS = ("first_us", "last_us")
COUNTS = tuple(field for field in Work.__struct_fields__ if field not in (*SPANS, "endings"))


def evolve(row: Doer | None, record: Record) -> Step[Doer, Work]:
    """Whose work the session's events are from now on, and what this one adds."""
    event = read(record)
    if isinstance(event, str):
        return Step(row, _counted(row, record, Work(unreadable=1)))
    if isinstance(event, AgentStarted):
        row = Doer(agent_id(event.agent.name, event.agent.version), event.origin)
    elif isinstance(event, AgentForked) and row is not None and row.past_of == event.origin:
        # The past may hold forks of its own, and they name another origin.
        row = Doer(row.agent if event.trial is None else f"{row.agent} (trial)")
    if row is not None and row.past_of is not None:
        return Step(row)
    work = _work(event)
    if work is None:
        return Step(row)
    has_ended = isinstance(event, AgentCompleted | AgentFailed | AgentCancelled)
    return Step(None if has_ended else row, _counted(row, record, work))


def _work(event: SessionEvent) -> Work | None:
    """What one event adds; None if nothing."""
    if isinstance(event, IGNORED):
        return None
    match event:
        case AgentStarted() | AgentForked():
            return Work(sessions=1)
        case ModelRequested():
            return Work(model_calls=1)
        case CallRetried() | ModelFailed() if not event.usage.total_tokens:
            return None
        case ModelCompleted() | CallRetried() | ModelFailed():
            return Work(tokens=event.usage.total_tokens, cost_microusd=event.cost_microusd)
        case ToolRequested():
            return Work(tool_calls=1)
        case ToolCompleted():
            return None if event.ok else Work(tool_failures=1, unknown=int(event.kind == "unknown"))
        case ConstraintFailed():
            return Work(refused=1)
        case ApprovalRequested():
            return Work(asked=1)
        case ApprovalGranted():
            return Work(granted=1) if event.is_enough else None
        case ApprovalDenied():
            return Work(denied=1)
        case ApprovalReturned():
            return Work(returned=1)
        case ApprovalExpired():
            return Work(expired=1)
        case AgentCompleted():
            return Work(endings={f"completed ({event.reason})": 1})
        case AgentFailed():
            return Work(endings={f"failed ({event.reason})": 1})
        case AgentCancelled():
            return Work(endings={f"cancelled ({event.reason})": 1})


def _counted(row: Doer | None, record: Record, work: Work) -> tuple[tuple[str, Work]]:
    dated = msgspec.structs.replace(work, first_us=record.at_us, last_us=record.at_us)
    return ((_key((row or UNKNOWN).agent), dated),)


def add(total: Work, more: Work) -> Work:
    """Both together, from the first moment to the last."""
    counts = {field: getattr(total, field) + getattr(more, field) for field in COUNTS}
    endings = dict(total.endings)
    for ending, count in more.endings.items():
        endings[ending] = endings.get(ending, 0) + count
    moments = [moment for moment in (total.first_us, more.first_us) if moment]
    return Work(**counts, endings=endings, first_us=min(moments, default=0), last_us=max(total.last_us, more.last_us))


@lru_cache(maxsize=1024)
def _key(agent: str) -> str:
    return msgspec.json.encode([agent]).decode()


def agent_of(key: str) -> str:
    """The identity whose work a sum is: `agent:coder@3`."""
    (agent,) = msgspec.json.decode(key, type=tuple[str])
    return agent


WORK: View[Doer, Work] = View(
    "work",
    2,
    Format(Doer),
    evolve,
    Format(Work),
    add,
    ignores=frozenset(str(kind.__struct_config__.tag).encode() for kind in IGNORED),
)
