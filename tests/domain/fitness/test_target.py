"""Targets: what holds, what is lower than before, what stands in the way of a call, what it all comes to."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.domain.fitness.target import (
    Goal,
    Measured,
    OnFail,
    Operator,
    Reading,
    Scored,
    Target,
    are_restored,
    falls,
    levels,
    measured,
    obstacles,
    parse_goal,
    score,
    unmeasured,
)

OPERATORS: tuple[Operator, ...] = (">=", "<=", "==", "!=", ">", "<")
numbers = st.floats(-1e6, 1e6, allow_nan=False).map(lambda number: round(number, 3))
goals = st.builds(Goal, st.sampled_from(OPERATORS), st.integers(-1000, 1000).map(float))
any_goals = st.builds(Goal, st.sampled_from(OPERATORS), st.floats(allow_nan=False, allow_infinity=False))


def found(goal: Goal, value: float | None, *, tolerance: float = 0.0, on_fail: OnFail = "record") -> Measured:
    target = Target(name="t", goal=goal, tolerance=tolerance, on_fail=on_fail)
    return measured(target, Reading(value, "it broke" if value is None else "", is_fault=value is None))


@given(goals | any_goals)
def test_a_goal_is_read_as_it_is_written(goal: Goal) -> None:
    assert parse_goal(str(goal)) == goal


@pytest.mark.parametrize("text", ["", "0.9", "=> 1", ">= much", ">= 1 %", "== nan", "≥ 1", ">= 1e999"])
def test_what_is_no_goal_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write an operator and a number, such as"):
        parse_goal(text)


@given(goals, numbers, numbers, st.floats(0, 1000))
def test_nothing_is_lowered_both_by_a_step_and_by_the_step_back_unless_it_passes_no_more(
    goal: Goal, one: float, other: float, tolerance: float
) -> None:
    before, after = found(goal, one, tolerance=tolerance), found(goal, other, tolerance=tolerance)
    there, back = bool(falls([before], [after])), bool(falls([after], [before]))
    assert not (there and back)
    if there and goal.distance(other) - goal.distance(one) <= tolerance:
        assert (before.passed, after.passed) == (True, False)


@given(goals, numbers)
def test_what_stays_as_it_was_is_not_lower_and_is_restored(goal: Goal, value: float) -> None:
    one = found(goal, value)
    assert falls([one], [one]) == []
    assert are_restored([one], [one])


@given(goals, numbers, numbers)
def test_a_target_that_passed_and_fails_is_lower_whatever_is_tolerated(goal: Goal, one: float, other: float) -> None:
    before, after = found(goal, one, tolerance=1e9), found(goal, other, tolerance=1e9)
    if before.passed and not after.passed:
        assert [fall.after for fall in falls([before], [after])] == [after]


@pytest.mark.parametrize(
    ("goal", "before", "after", "tolerance", "lower"),
    [
        (">= 0.9", 0.99, 0.97, 0.0, True),
        (">= 0.9", 0.99, 0.97, 0.05, False),
        (">= 0.9", 0.97, 0.99, 0.0, False),
        ("<= 200", 120.0, 150.0, 0.0, True),
        ("<= 200", 120.0, 150.0, 50.0, False),
        ("<= 200", 190.0, 201.0, 50.0, True),
        ("== 0", 0.0, 1.0, 5.0, True),
        ("== 0", 3.0, -2.0, 0.0, False),
        ("== 0", 3.0, -4.0, 0.0, True),
        ("!= 0", 1.0, 5.0, 0.0, False),
        ("!= 0", 1.0, 0.0, 0.0, True),
        ("> 0", 0.0, -1.0, 0.0, True),
        ("< 9", 9.0, 10.0, 2.0, False),
        ("<= 1000000", 900_000.0, 950_000.0, 0.0, True),
        ("== 1234567", 1_234_568.0, 1_234_569.0, 0.0, True),
        (">= 0.5", 0.8, 0.7, 0.1, False),
        ("<= 500", 1.1, 1.4, 0.3, False),
    ],
)
def test_lower_is_worse_by_more_than_is_tolerated(
    goal: str, before: float, after: float, tolerance: float, lower: bool
) -> None:
    wanted = parse_goal(goal)
    one, other = (found(wanted, value, tolerance=tolerance) for value in (before, after))
    assert bool(falls([one], [other])) is lower


@pytest.mark.parametrize(("on_fail", "lower"), [("record", False), ("warn", False), ("ask", True), ("halt", True)])
def test_what_can_be_measured_no_more_is_lower_where_others_are_kept_from_going_on(
    on_fail: OnFail, lower: bool
) -> None:
    before = found(Goal("==", 0.0), 0.0, on_fail=on_fail)
    after = unmeasured([before], "the check is gone")
    assert bool(falls([before], after)) is lower
    assert not are_restored([before], after)
    assert falls(after, [before]) == []


@pytest.mark.parametrize(
    ("on_fail", "value", "effect"),
    [
        ("record", None, None),
        ("warn", None, None),
        ("veto", None, None),
        ("ask", None, "ask"),
        ("halt", None, "deny"),
        ("ask", 1.0, "ask"),
        ("halt", 1.0, None),
        ("warn", 1.0, None),
        ("ask", 0.0, None),
    ],
)
def test_what_stands_in_the_way_of_a_call(on_fail: OnFail, value: float | None, effect: str | None) -> None:
    against = obstacles([found(Goal("==", 0.0), value, on_fail=on_fail)])
    assert [one.effect for one in against] == ([effect] if effect else [])


def test_too_few_data_stand_in_nobodys_way() -> None:
    target = Target(name="t", goal=Goal(">=", 0.9), measure="success_rate", on_fail="halt")
    assert obstacles([measured(target, Reading(reason="2 of 5 sessions"))]) == []


@given(st.lists(st.builds(Scored, st.floats(0, 10), st.sampled_from([True, False, None]))))
def test_the_score_is_the_share_that_passes_of_what_is_known(targets: list[Scored]) -> None:
    value = score(targets)
    known = [one for one in targets if one.passed is not None]
    if not sum(one.weight for one in known):
        assert value is None
        return
    assert value is not None
    assert -1e-9 <= value <= 100 + 1e-9
    if all(one.passed for one in known):
        assert math.isclose(value, 100)
    assert value == score(known)


@given(st.lists(numbers, max_size=30))
def test_levels_keep_the_order_of_the_values(values: list[float]) -> None:
    drawn = levels(values)
    assert len(drawn) == len(values)
    assert all(0 <= level < 8 for level in drawn)
    pairs = list(zip(values, drawn, strict=True))
    assert all(low <= high for one, low in pairs for other, high in pairs if one < other)
