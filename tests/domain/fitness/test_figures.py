"""The measures over the log, on sessions whose figures are known."""

from typing import Any

import pytest

from ostler.domain.agent import AgentSpec
from ostler.domain.fitness.figures import Figures, figures, reading
from ostler.domain.fitness.target import Goal, Target
from ostler.domain.identity import Principal
from ostler.domain.model import AskedCall, ModelRef, Usage
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

S = 1_000_000
STARTED = AgentStarted("ses_1", AgentSpec("clerk"), ModelRef("scripted", "scripted", "s"), "Go.", Principal("ada"))
ASK = AskedCall("1.1", "deploy", "{}")
BUSY: tuple[SessionEvent, ...] = (
    STARTED,
    ModelCompleted("1", calls=(ASK,), usage=Usage(10, 5), cost_microusd=300_000),
    ToolRequested("1.1", "deploy", {}),
    CallRetried("1.1", 2, "transient: no", code="transient"),
    ToolCompleted("1.1", ok=False, kind="permanent"),
    ConstraintFailed("1.2", "rollback", "blocked", "no"),
    ToolRequested("1.3", "look", {}),
    ToolCompleted("1.3"),
    ModelCompleted("2", usage=Usage(20, 5), cost_microusd=100_000),
    AgentCompleted("done"),
)


def told(*events: SessionEvent, begin_s: int = 0) -> Figures | None:
    return figures([((begin_s + number) * S, event) for number, event in enumerate(events)])


def value(measure: Any, sessions: list[Figures], **more: Any) -> float | None:
    target = Target(name="t", goal=Goal(">=", 0.0), measure=measure, min_sessions=1, **more)
    return reading(target, sessions, 1000 * S).value


BUSY_ONE = told(*BUSY)
FAILED_ONE = told(STARTED, ModelFailed("1", "error", "no"), AgentFailed("error"))
CANCELLED_ONE = told(STARTED, AgentCancelled("ada"))


@pytest.mark.parametrize(
    ("measure", "more", "expected"),
    [
        ("success_rate", {}, 1 / 3),
        ("failure_rate", {}, 1 / 3),
        ("refusal_rate", {}, 1 / 6),
        ("refusal_rate", {"tool": "rollback"}, 1.0),
        ("tool_failure_rate", {}, 1 / 2),
        ("tool_failure_rate", {"tool": "look"}, 0.0),
        ("tool_failure_rate", {"tool": "nothing"}, None),
        ("model_failure_rate", {}, 1 / 3),
        ("retry_rate", {"tool": "deploy"}, 1.0),
        ("duration_p50_s", {}, 2.0),
        ("duration_p95_s", {}, 9.0),
        ("cost_per_session_usd", {}, 0.4 / 3),
        ("steps_per_session", {}, 2 / 3),
        ("tokens_per_session", {}, 40 / 3),
    ],
)
def test_each_measure_is_what_its_name_says(measure: str, more: dict[str, str], expected: float | None) -> None:
    assert BUSY_ONE is not None
    assert FAILED_ONE is not None
    assert CANCELLED_ONE is not None
    found = value(measure, [BUSY_ONE, FAILED_ONE, CANCELLED_ONE], **more)
    assert found == (None if expected is None else pytest.approx(expected))


def test_too_few_sessions_are_unknown_and_neither_pass_nor_fail() -> None:
    assert BUSY_ONE is not None
    found = reading(Target(name="t", goal=Goal(">=", 1.0), measure="success_rate"), [BUSY_ONE], 1000 * S)
    assert (found.value, found.reason, found.is_fault) == (None, "1 of 5 sessions", False)


def test_only_sessions_that_ended_within_the_window_count_and_of_the_agent_that_is_named() -> None:
    early, late = told(STARTED, AgentFailed("error")), told(STARTED, AgentCompleted("ok"), begin_s=900)
    assert early is not None
    assert late is not None
    assert value("success_rate", [early, late], window_us=200 * S) == 1.0
    assert value("success_rate", [early, late]) == 0.5
    assert value("success_rate", [early, late], agent="another") is None


def test_forks_trials_and_what_goes_on_count_for_nothing() -> None:
    assert told(STARTED, ModelCompleted("1")) is None
    assert told(STARTED, AgentForked("ses_0", 1, "ada"), AgentCompleted("done")) is None
