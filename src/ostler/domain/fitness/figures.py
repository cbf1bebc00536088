"""What the sessions that have ended come to: the measures over the log."""

import math
from collections.abc import Iterable, Sequence

import msgspec

from ostler.domain.fitness.target import Reading, Target
from ostler.domain.session.events import (
    AgentCancelled,
    AgentCompleted,
    AgentFailed,
    AgentForked,
    AgentStarted,
    CallRetried,
    ConstraintFailed,
    ModelCompleted,
    ModelFailed,
    SessionEvent,
    ToolCompleted,
    ToolRequested,
)


class Uses(msgspec.Struct, gc=False):
    """How often a tool was used, and of these how often it failed, was refused and was tried again."""

    used: int = 0
    failed: int = 0
    refused: int = 0
    retried: int = 0


class Figures(msgspec.Struct, gc=False):
    """One session in numbers. Calls of the model are counted under the tool `""`."""

    agent: str
    started_us: int
    ended_us: int = 0
    is_success: bool = False
    is_failure: bool = False
    steps: int = 0
    tokens: int = 0
    cost_microusd: int = 0
    tools: dict[str, Uses] = {}


def figures(facts: Sequence[tuple[int, SessionEvent]]) -> Figures | None:
    """What a session came to; None for one that has not ended, and for forks and trials."""
    at_first, first = facts[0]
    if not isinstance(first, AgentStarted) or first.origin is not None:
        return None
    found = Figures(first.agent.name, at_first, tools={})
    begun: dict[str, str] = {}
    again: set[str] = set()
    for at_us, event in facts:
        match event:
            case AgentForked():
                return None
            case ToolRequested():
                begun[event.call] = event.tool
                _uses(found, event.tool).used += 1
            case ToolCompleted():
                _uses(found, begun.get(event.call, "")).failed += not event.ok
            case ConstraintFailed():
                _uses(found, event.tool).refused += 1
            case CallRetried() if event.code and event.call not in again:
                again.add(event.call)
                _uses(found, begun.get(event.call, "")).retried += 1
            case ModelCompleted():
                _uses(found, "").used += 1
                found.steps += 1
                found.tokens += event.usage.total_tokens
                found.cost_microusd += event.cost_microusd
            case ModelFailed():
                uses = _uses(found, "")
                uses.used, uses.failed = uses.used + 1, uses.failed + 1
            case AgentCompleted() | AgentFailed() | AgentCancelled():
                found.ended_us = at_us
                found.is_success = isinstance(event, AgentCompleted)
                found.is_failure = isinstance(event, AgentFailed)
            case _:
                pass
    return found if found.ended_us else None


def _uses(found: Figures, tool: str) -> Uses:
    return found.tools.setdefault(tool, Uses())


def reading(target: Target, sessions: Iterable[Figures], now_us: int) -> Reading:
    """The value of a measure over these sessions, as far as they are the target's; unknown if they are too few."""
    own = [
        one
        for one in sessions
        if one.ended_us > now_us - target.window_us and (not target.agent or one.agent == target.agent)
    ]
    if len(own) < target.min_sessions:
        return Reading(reason=f"{len(own)} of {target.min_sessions} sessions")
    value = _value(target, own)
    return Reading(reason="there were no such calls") if value is None else Reading(value)


def _value(target: Target, own: Sequence[Figures]) -> float | None:
    count = len(own)
    match target.measure:
        case "success_rate":
            return sum(one.is_success for one in own) / count
        case "failure_rate":
            return sum(one.is_failure for one in own) / count
        case "refusal_rate" | "tool_failure_rate" | "model_failure_rate" | "retry_rate":
            return _rate(target, own)
        case "duration_p50_s":
            return _quantile([one.ended_us - one.started_us for one in own], 0.5) / 1e6
        case "duration_p95_s":
            return _quantile([one.ended_us - one.started_us for one in own], 0.95) / 1e6
        case "cost_per_session_usd":
            return sum(one.cost_microusd for one in own) / count / 1e6
        case "steps_per_session":
            return sum(one.steps for one in own) / count
        case "tokens_per_session":
            return sum(one.tokens for one in own) / count
        case None:
            return None


def _rate(target: Target, own: Sequence[Figures]) -> float | None:
    """What share of the calls failed, were refused, or were tried again; None if there were none."""
    is_of_model = target.measure == "model_failure_rate"
    used = failed = refused = retried = 0
    for one in own:
        for tool, uses in one.tools.items():
            if is_of_model != (not tool) and target.measure in ("model_failure_rate", "tool_failure_rate"):
                continue
            if target.tool and tool != target.tool:
                continue
            used, failed = used + uses.used, failed + uses.failed
            refused, retried = refused + uses.refused, retried + uses.retried
    if target.measure == "refusal_rate":
        return refused / (used + refused) if used + refused else None
    if not used:
        return None
    return (retried if target.measure == "retry_rate" else failed) / used


def _quantile(values: Iterable[int], share: float) -> float:
    """The nearest rank: the least value that so many of them are not above."""
    ordered = sorted(values)
    return float(ordered[max(0, math.ceil(share * len(ordered)) - 1)])
