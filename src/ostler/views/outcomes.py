"""The view `outcomes`: what came of each model's calls, summed up by tenant, agent, hour (UTC) and model.

Adaptive strategies learn from it, and `fastest` takes from it how long replies take.
"""

from functools import lru_cache

import msgspec

from ostler.domain.session.events import (
    AgentCancelled,
    AgentCompleted,
    AgentFailed,
    AgentForked,
    AgentStarted,
    CallRetried,
    ModelCompleted,
    ModelFailed,
    ModelRequested,
    SessionEvent,
)
from ostler.domain.strategy.adaptive import NOTHING, Outcomes
from ostler.kernel.errors import CircuitOpen, ConfigurationError
from ostler.kernel.event import Record
from ostler.views.fold import Format, Step, View, read

COUNTED = (
    AgentStarted,
    AgentForked,
    ModelRequested,
    ModelCompleted,
    ModelFailed,
    CallRetried,
    AgentCompleted,
    AgentFailed,
    AgentCancelled,
)
"""The events that say what came of a call of a model."""

HOUR_US = 3_600_000_000
SUMS_FIRST = "["
"""What the key of every sum begins with."""
BLAMELESS = frozenset((CircuitOpen.code, ConfigurationError.code, "shed", "cancelled", "unknown"))
"""Failures of which the model knows nothing: it was never asked, or nobody waited for it."""
LOST_BY = frozenset(("error", "unusable_replies", "unfit_answer", "model_refused", "step_limit", "timeout"))
"""Ends of sessions that are put down to the model that answered last."""


class Asked(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Who answers in a session that has not ended, and since when; nobody while that is the past of another."""

    agent: str
    model: str
    call: str = ""
    begun_us: int = 0
    past_of: str | None = None


def evolve(row: Asked | None, record: Record) -> Step[Asked, Outcomes]:
    """Who answers from now on, and what came of a call."""
    event = read(record)
    if isinstance(event, str):
        return Step(row)
    if isinstance(event, AgentStarted):
        return Step(Asked(event.agent.name, f"{event.model.provider}:{event.model.name}", past_of=event.origin))
    if row is None:
        return Step(None)
    if isinstance(event, AgentForked):
        is_own = row.past_of == event.origin
        if is_own and event.trial is not None:  # what comes of it is no work of the agent
            return Step(None)
        return Step(msgspec.structs.replace(row, past_of=None) if is_own else row)
    outcome = NOTHING if row.past_of is not None else _outcome(row, event, record.at_us)
    more = () if outcome == NOTHING else ((_key(row.agent, record.at_us // HOUR_US, row.model), outcome),)
    return Step(_next(row, event, record.at_us), more)


def _next(row: Asked, event: SessionEvent, at_us: int) -> Asked | None:
    match event:
        case ModelRequested():
            model = row.model if event.choice is None else event.choice.model
            return Asked(row.agent, model, event.call, at_us, row.past_of)
        case CallRetried() if event.call == row.call:
            model = row.model if event.choice is None else event.choice.model
            return Asked(row.agent, model, event.call, max(at_us, event.not_before_us or 0), row.past_of)
        case AgentCompleted() | AgentFailed() | AgentCancelled():
            return None
        case _:
            return row


def _outcome(row: Asked, event: SessionEvent, at_us: int) -> Outcomes:
    """What one event says of the model that answers."""
    match event:
        case ModelCompleted():
            is_usable = event.defect is None and event.stop != "refusal"
            return Outcomes(
                replies=float(is_usable),
                failures=float(not is_usable),
                timed=1.0,
                microseconds=float(max(0, at_us - row.begun_us)),
                cost_microusd=float(event.cost_microusd),
            )
        case ModelFailed() | CallRetried() if event.call == row.call:
            is_failure = bool(event.code) and event.code not in BLAMELESS
            return Outcomes(failures=float(is_failure), cost_microusd=float(event.cost_microusd))
        case AgentCompleted(reason="final_answer"):
            return Outcomes(won=1.0)
        case AgentFailed() if event.reason in LOST_BY:
            return Outcomes(lost=1.0)
        case _:
            return NOTHING


@lru_cache(maxsize=1024)
def _key(agent: str, hour: int, model: str) -> str:
    return msgspec.json.encode((agent, f"{hour:08d}", model)).decode()


def first_key(agent: str, hour: int) -> str:
    """What sorts before every sum of this agent from this hour on, and after those before."""
    return msgspec.json.encode((agent, f"{max(0, hour):08d}")).decode()[:-1]


def place(key: str) -> tuple[str, int, str]:
    """The agent, the hour since 1970 and the model of a sum."""
    agent, hour, model = msgspec.json.decode(key, type=tuple[str, str, str])
    return agent, int(hour), model


_WANTED = {str(kind.__struct_config__.tag) for kind in COUNTED}

OUTCOMES: View[Asked, Outcomes] = View(
    "outcomes",
    1,
    Format(Asked),
    evolve,
    Format(Outcomes),
    Outcomes.plus,
    ignores=frozenset(
        tag.encode() for kind in SessionEvent.__args__ if (tag := str(kind.__struct_config__.tag)) not in _WANTED
    ),
)
