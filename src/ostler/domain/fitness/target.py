"""Targets, what was measured of them, and whether something has lowered them."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import msgspec

OnFail = Literal["record", "warn", "ask", "halt", "veto"]
"""What follows while a target fails, beside that it is recorded.

`record`  nothing
`warn`    operators are told
`ask`     calls of the tools `around` which it is measured (of all but reads, without any) need a person's approval
`halt`    its agent is halted (without one, the tenant) until a person releases it
`veto`    no session starts that would change the model of an agent
"""

When = Literal["schedule", "session_end", "intervention"]

MeasureName = Literal[
    "success_rate",
    "failure_rate",
    "refusal_rate",
    "tool_failure_rate",
    "model_failure_rate",
    "retry_rate",
    "duration_p50_s",
    "duration_p95_s",
    "cost_per_session_usd",
    "steps_per_session",
    "tokens_per_session",
]
"""What can be measured over the sessions that have ended within a window; rates are shares from 0 to 1."""

Operator = Literal[">=", "<=", "==", "!=", ">", "<"]

_GOAL = re.compile(r"\s*(>=|<=|==|!=|>|<)\s*(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*")


_NOISE = 1e-12
"""What part of a value its arithmetic may be off by: from 0.8 to 0.7 it is a little more than 0.1."""


class Goal(msgspec.Struct, frozen=True):
    """What a value must be: `>= 0.9`."""

    operator: Operator
    bound: float

    def __str__(self) -> str:
        short = f"{self.bound:g}"
        return f"{self.operator} {short if float(short) == self.bound else repr(self.bound)}"

    def holds(self, value: float) -> bool:
        match self.operator:
            case ">=":
                return value >= self.bound
            case "<=":
                return value <= self.bound
            case "==":
                return value == self.bound
            case "!=":
                return value != self.bound
            case ">":
                return value > self.bound
            case "<":
                return value < self.bound

    def distance(self, value: float) -> float:
        """How bad a value is: of two, the one further off is worse. Of `!=`, none is worse than another."""
        match self.operator:
            case ">=" | ">":
                return -value
            case "<=" | "<":
                return value
            case "==":
                return abs(value - self.bound)
            case "!=":
                return 0.0


def parse_goal(text: str) -> Goal:
    """Raises `ValueError` for what is none."""
    found = _GOAL.fullmatch(text)
    if found is None or math.isinf(float(found[2])):
        raise ValueError("write an operator and a number, such as '>= 0.9', '<= 200' or '== 0'")
    operator: Operator = found[1]  # type: ignore[assignment]
    return Goal(operator, float(found[2]))


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One fitness function: a `measure` over the log, or a `command`.

    The value of a command is its exit status, or with `reads_output` the number on the last line of its output. A
    measure takes the sessions that ended in the last `window_us`, of this `agent`, its tool rates of this `tool`; with
    fewer than `min_sessions` its value is unknown. `around` are globs of tools whose calls it is measured before and
    after; what is worse by no more than `tolerance` is not lowered.
    """

    name: str
    goal: Goal
    measure: MeasureName | None = None
    command: tuple[str, ...] = ()
    reads_output: bool = False
    timeout_s: float = 30.0
    agent: str = ""
    tool: str = ""
    window_us: int = 7 * 86_400_000_000
    min_sessions: int = 5
    unit: str = ""
    weight: float = 1.0
    every_us: int | None = None
    at: tuple[When, ...] = ()
    around: tuple[str, ...] = ()
    tolerance: float = 0.0
    on_fail: OnFail = "record"


class Reading(NamedTuple):
    """What measuring brought. `value` None is unknown, for this `reason`; `is_fault` says that it should not be."""

    value: float | None = None
    reason: str = ""
    is_fault: bool = False
    took_us: int = 0


class Measured(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a target was found to be, with all that a decision depends on.

    `value` None is unknown, for this `reason`, and then nothing passes or fails; `is_fault` says that it could not be
    measured, rather than that there is too little to measure. `is_known`: it was not measured for this, but before.
    """

    target: str
    goal: str
    value: float | None = None
    passed: bool | None = None
    reason: str = ""
    is_fault: bool = False
    tolerance: float = 0.0
    on_fail: OnFail = "record"
    is_known: bool = False

    def __str__(self) -> str:
        if self.value is None:
            return f"unknown ({self.reason})"
        return f"{self.value:g}"


def measured(target: Target, reading: Reading, *, is_known: bool = False) -> Measured:
    """A reading, judged."""
    return Measured(
        target.name,
        str(target.goal),
        reading.value,
        None if reading.value is None else target.goal.holds(reading.value),
        reading.reason,
        reading.is_fault,
        target.tolerance,
        target.on_fail,
        is_known,
    )


def unmeasured(before: Iterable[Measured], reason: str) -> tuple[Measured, ...]:
    """The same targets, of which nothing is known any more."""
    return tuple(
        msgspec.structs.replace(one, value=None, passed=None, reason=reason, is_fault=True, is_known=False)
        for one in before
    )


class Fall(NamedTuple):
    """A target was better before something than after it."""

    before: Measured
    after: Measured


def falls(before: Iterable[Measured], after: Iterable[Measured]) -> list[Fall]:
    """Which targets are lower `after` something: worse than before by more than their tolerance, or failing since.

    What cannot be measured any more is lower, too, where others must be kept from going on (`ask`, `halt`).
    """
    now = {one.target: one for one in after}
    return [Fall(one, now[one.target]) for one in before if one.target in now and _is_lower(one, now[one.target])]


def _is_lower(before: Measured, after: Measured) -> bool:
    if before.value is None:
        return False
    if after.value is None:
        return after.is_fault and after.on_fail in ("ask", "halt")
    if before.passed and not after.passed:
        return True
    goal = parse_goal(after.goal)
    worse = goal.distance(after.value) - goal.distance(before.value)
    noise = _NOISE * max(abs(before.value), abs(after.value))
    return worse > after.tolerance + noise


def are_restored(before: Iterable[Measured], after: Iterable[Measured]) -> bool:
    """Whether every target is as good as before something: known, passing if it did, no worse beyond its tolerance."""
    now = {one.target: one for one in after}
    return all(
        one.target in now and now[one.target].value is not None and not _is_lower(one, now[one.target])
        for one in before
    )


class Obstacle(NamedTuple):
    """What a target has against a call: that it must not be, or that a person is to decide."""

    effect: Literal["deny", "ask"]
    target: str
    reason: str


def obstacles(found: Iterable[Measured]) -> list[Obstacle]:
    """What stands in the way of a call by what was measured before it."""
    against = []
    for one in found:
        if one.value is None and one.is_fault and one.on_fail in ("ask", "halt"):
            reason = f"the fitness target {one.target!r} cannot be measured: {one.reason}"
            against.append(Obstacle("deny" if one.on_fail == "halt" else "ask", one.target, reason))
        elif one.passed is False and one.on_fail == "ask":
            reason = f"the fitness target {one.target!r} fails: {one.value:g}, and should be {one.goal}"
            against.append(Obstacle("ask", one.target, reason))
    return against


class Scored(NamedTuple):
    """How much a target counts, and whether it passes; None is unknown."""

    weight: float
    passed: bool | None


def score(targets: Iterable[Scored]) -> float | None:
    """The share of what is known that passes, by weight, from 0 to 100; None if nothing is known."""
    known = [one for one in targets if one.passed is not None]
    total = sum(one.weight for one in known)
    return 100 * sum(one.weight for one in known if one.passed) / total if total else None


def levels(values: Sequence[float], count: int = 8) -> list[int]:
    """Each value as one of so many levels between the least and the greatest; in the middle if all are equal."""
    if not values:
        return []
    low, high = min(values), max(values)
    if high == low:
        return [count // 2] * len(values)
    return [min(count - 1, int((value - low) / (high - low) * count)) for value in values]
