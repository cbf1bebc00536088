"""How targets stand by what was recorded of them, and what is worth recording."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ostler.domain.fitness.events import (
    FITNESS_CODEC,
    KEPT,
    REPEATED_US,
    Because,
    FitnessFollowed,
    FitnessKept,
    FitnessLowered,
    FitnessMeasured,
    Standings,
    evolve,
    is_news,
)
from ostler.domain.fitness.target import Goal, Measured, Reading, Target, measured

TARGET = Target(name="up", goal=Goal("==", 0.0), tolerance=0.5)


def at(moment: int, value: float | None, because: Because = "schedule", **more: Any) -> FitnessMeasured:
    return FitnessMeasured(measured(TARGET, Reading(value, "" if value is not None else "?")), because, moment, **more)


def standing(*events: Any) -> Standings:
    return evolve(Standings(), events)


def test_it_fails_since_it_first_did_and_no_more_once_it_passes() -> None:
    course = standing(at(1, 0.0), at(2, 1.0), at(3, 2.0)).courses["up"]
    assert (course.failing_since_us, course.values) == (2, ((1, 0.0), (2, 1.0), (3, 2.0)))
    assert standing(at(1, 1.0), at(2, 0.0)).courses["up"].failing_since_us is None


def test_what_is_unknown_changes_nothing_about_passing_or_failing() -> None:
    assert standing(at(1, 1.0), at(2, None)).courses["up"].failing_since_us == 1
    course = standing(at(1, 0.0), at(2, None)).courses["up"]
    assert (course.failing_since_us, course.values) == (None, ((1, 0.0),))


def test_a_change_is_put_down_to_the_session_after_whose_call_it_was_found() -> None:
    events = at(1, 0.0), at(2, 0.0, "before", session="a"), at(3, 1.0, "after", session="a", call="1.1")
    assert standing(*events).courses["up"].changed_by == "a"
    assert standing(*events, at(4, 1.0, "after", session="b")).courses["up"].changed_by == "a"
    assert standing(*events, at(4, 0.0, "schedule")).courses["up"].changed_by == "a"


def test_what_followed_is_forgotten_once_it_passes() -> None:
    halted = FitnessFollowed("up", "halted", 2)
    assert standing(at(1, 1.0), halted, at(3, 2.0)).courses["up"].followed == ("halted",)
    assert standing(at(1, 1.0), halted, at(3, 0.0), at(4, 1.0)).courses["up"].followed == ()


def test_who_lowered_it_stays_known() -> None:
    lowered = FitnessLowered("1.1", "deploy", Measured("up", "== 0", 0.0), Measured("up", "== 0", 1.0), "a")
    assert standing(at(1, 1.0), lowered, at(3, 0.0)).courses["up"].lowered == lowered
    assert standing(lowered) == Standings()


def test_a_result_that_says_nothing_new_is_recorded_once_an_hour() -> None:
    course = standing(at(0, 0.0)).courses["up"]
    assert not is_news(course, at(1, 0.0))
    assert is_news(course, at(1, 1.0))
    assert is_news(course, at(1, None))
    assert is_news(course, at(REPEATED_US, 0.0))
    assert is_news(course, at(1, 0.0, "asked"))
    assert is_news(course, at(1, 0.0, "after"))
    assert not is_news(course, at(1, 0.0, "before"))


def test_values_within_the_tolerance_are_no_news() -> None:
    loose = Target(name="up", goal=Goal("<=", 9.0), tolerance=0.5)
    first, near, far = (
        FitnessMeasured(measured(loose, Reading(value)), "schedule", moment)
        for moment, value in ((0, 1.0), (1, 1.4), (2, 1.6))
    )
    course = standing(first).courses["up"]
    assert [is_news(course, one) for one in (near, far)] == [False, True]


results = st.builds(at, st.integers(0, 10**9), st.none() | st.floats(-5, 5), st.sampled_from(["schedule", "after"]))


@given(st.lists(results | st.builds(FitnessKept, st.just("w"), st.integers(0, 9)), max_size=2 * KEPT))
def test_folding_at_once_or_one_by_one_is_the_same_and_bounded(events: list[Any]) -> None:
    state = Standings()
    for event in events:
        state = evolve(state, [FITNESS_CODEC.decode(FITNESS_CODEC.encode(event))])
    assert state == standing(*events)
    assert all(len(course.values) <= KEPT for course in state.courses.values())
