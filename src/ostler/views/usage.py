"""The view `usage`: what was used, summed up by tenant, day (UTC), agent and model."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec

from ostler.domain.fitness.events import FitnessLowered
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
    ApprovalRequested,
    ApprovalGranted,
    ApprovalRejected,
    AnswerRefused,
    InputReceived,
    AgentPaused,
    AgentResumed,
    CancelRequested,
)
"""What adds nothing."""

DAY_US = 86_400_000_000
SUMS_FIRST = "["
"""What the key of every sum begins with."""


class Tally(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What was used. A call is counted when it is begun, and a `refused` one never was, whoever or whatever refused it.

    `sessions` are those that were started, forks among them; what a fork shares with its origin is counted there only.
    `unknown` are calls of which nobody knows whether they happened, `unreadable` events that could not be counted.
    """

    sessions: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    model_calls: int = 0
    tool_calls: int = 0
    refused: int = 0
    unknown: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_microusd: int = 0
    unreadable: int = 0


class Spender(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """To whom the events of a session that has not ended are counted; to nobody while they are `past_of` another."""

    agent: str
    model: str
    past_of: str | None = None


UNKNOWN = Spender("?", "?")
"""To whom events are counted that come before a session's start or after its end."""


def evolve(row: Spender | None, record: Record) -> Step[Spender, Tally]:
    """To whom the session's events are counted from now on, and what this one adds."""
    event, before = read(record), row
    if isinstance(event, str):
        return Step(row, _counted(row, record, Tally(unreadable=1)))
    if isinstance(event, AgentStarted):
        row = Spender(str(event.agent), f"{event.model.provider}:{event.model.name}", event.origin)
    elif isinstance(event, AgentForked) and row is not None and row.past_of == event.origin:
        # The past may hold forks of its own, and they name another origin.
        trial = event.trial
        row = Spender(
            *((f"{row.agent} (trial)", f"{trial.provider}:{trial.name}") if trial else (row.agent, row.model))
        )
    elif isinstance(event, ModelRequested | CallRetried) and event.choice is not None and row is not None:
        row = Spender(row.agent, event.choice.model, row.past_of)
    if row is not None and row.past_of is not None:
        return Step(row)
    tally = _tally(event)
    if tally is None:
        return Step(row)
    has_ended = isinstance(event, AgentCompleted | AgentFailed | AgentCancelled)
    payer = before if isinstance(event, CallRetried) else row  # what has failed is the model before, if it is another
    return Step(None if has_ended else row, _counted(payer, record, tally))


def _tally(event: SessionEvent) -> Tally | None:
    """What one event adds; None if nothing."""
    if isinstance(event, IGNORED):
        return None
    match event:
        case ModelRequested():
            return Tally(model_calls=1)
        case CallRetried() | ModelFailed() if not event.usage.total_tokens:
            return None
        case ModelCompleted() | CallRetried() | ModelFailed():
            used = event.usage
            return Tally(
                input_tokens=used.input_tokens,
                output_tokens=used.output_tokens,
                cache_read_tokens=used.cache_read_tokens,
                cache_write_tokens=used.cache_write_tokens,
                cost_microusd=event.cost_microusd,
            )
        case ToolRequested():
            return Tally(tool_calls=1)
        case ToolCompleted():
            return Tally(unknown=1) if event.kind == "unknown" else None
        case ConstraintFailed() | ApprovalDenied() | ApprovalReturned() | ApprovalExpired():
            return Tally(refused=1)
        case AgentStarted() | AgentForked():
            return Tally(sessions=1)
        case AgentCompleted():
            return Tally(completed=1)
        case AgentFailed():
            return Tally(failed=1)
        case AgentCancelled():
            return Tally(cancelled=1)


def _counted(row: Spender | None, record: Record, tally: Tally) -> tuple[tuple[str, Tally]]:
    spender = row or UNKNOWN
    return ((_key(record.at_us // DAY_US, spender.agent, spender.model), tally),)


def add(total: Tally, more: Tally) -> Tally:
    """Both together."""
    return Tally(*map(int.__add__, msgspec.structs.astuple(total), msgspec.structs.astuple(more)))


@lru_cache(maxsize=1024)
def _key(day: int, agent: str, model: str) -> str:
    return msgspec.json.encode((day_name(day * DAY_US), agent, model)).decode()


def day_name(at_us: int) -> str:
    """The day of a moment (UTC), as `2026-03-31`; `?` if it is in no year that can be written so."""
    try:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)).date().isoformat()
    except OverflowError:
        return "?"


def first_key(day: str) -> str:
    """What sorts before every sum of this day and after those of the days before."""
    return f'{SUMS_FIRST}"{day}"'


def place(key: str) -> tuple[str, str, str]:
    """The day, the agent and the model of a sum."""
    return msgspec.json.decode(key, type=tuple[str, str, str])


USAGE: View[Spender, Tally] = View(
    "usage",
    2,
    Format(Spender),
    evolve,
    Format(Tally),
    add,
    ignores=frozenset(str(kind.__struct_config__.tag).encode() for kind in IGNORED),
)
