"""The memory of past calls answers as counting over the whole log would."""

from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.domain.constraint.compile import compile_policy, policy_of
from ostler.domain.constraint.history import Outcome, Past, Question
from ostler.domain.constraint.syntax import Bound, Target
from ostler.domain.constraint.targets import Called, concerns

SECOND = 1_000_000


def tool(name: str) -> Called:
    return Called("tool", name, frozenset(), "once")


def questions(*conditions: str) -> tuple[Question, ...]:
    return compile_policy(policy_of("\n".join(f"DENY * IF {one}" for one in conditions))).history


class Made(NamedTuple):
    """A call: when its outcome was known (None: it is under way), and which."""

    tool: str
    amount: Any
    ended_us: int | None
    outcome: Outcome


def folded(asked: tuple[Question, ...], calls: list[Made]) -> Past:
    past = Past(asked)
    for number, call in enumerate(calls):
        past = past.begun(str(number), tool(call.tool), {"n": call.amount})
        if call.ended_us is not None:
            past = past.ended(str(number), call.ended_us, call.outcome)
    return past


def naive(question: Question, calls: list[Made], at_us: int) -> float:
    """The calls in the order in which they count: by their outcomes, and then those under way."""
    ended = [call for call in calls if call.ended_us is not None and call.outcome != "failed"]
    order = [*ended, *(call for call in calls if call.ended_us is None)]
    recent = [call for call in order if call.ended_us is None or call.ended_us > at_us - question.window_us]
    if question.bound is not None:
        bounds = [n for n, call in enumerate(recent) if concerns((question.bound.target,), tool(call.tool))]
        if question.bound.kind == "after":
            recent = recent[bounds[0] + 1 :] if bounds else []
        elif bounds:
            recent = recent[bounds[-1] + 1 :]
    counted = [call for call in recent if concerns(question.targets, tool(call.tool))]
    if question.kind == "SUCCEEDED":
        counted = [call for call in counted if call.ended_us is not None and call.outcome == "ok"]
    if question.kind != "SUM":
        return len(counted)
    return sum(max(call.amount, 0) for call in counted if type(call.amount) is int)


targets = st.sampled_from(["a", "b", "*"]).map(lambda glob: Target(space="tool", glob=glob))
asked = st.builds(
    Question,
    kind=st.sampled_from(["HAPPENED", "SUCCEEDED", "COUNT", "SUM"]),
    targets=st.tuples(targets),
    window_us=st.integers(1, 40),
    argument=st.just(("n",)),
    bound=st.none() | st.builds(Bound, kind=st.sampled_from(["since", "after"]), target=targets),
)
logs = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.integers(-2, 5) | st.just("x"),
        st.integers(0, 6),
        st.sampled_from(["ok", "ok", "failed", "unknown", None]),
    ),
    max_size=60,
)


@given(asked, logs, st.integers(0, 20))
@settings(deadline=None)
def test_every_question_is_answered_as_by_counting(question: Question, log: Any, later_us: int) -> None:
    now_us, calls = 100, []
    for name, amount, passed_us, outcome in log:
        now_us += passed_us
        calls.append(Made(name, amount, None if outcome is None else now_us, outcome or "ok"))
    now_us += later_us
    assert folded((question,), calls).answers(now_us) == (naive(question, calls, now_us),)


def test_a_call_counts_until_its_window_has_passed_to_the_microsecond() -> None:
    past = folded(questions("HAPPENED(tool.a) WITHIN 10s"), [Made("a", 1, 5 * SECOND, "ok")])
    assert past.answers(15 * SECOND - 1) == (1,)
    assert past.answers(15 * SECOND) == (0,)


@pytest.mark.parametrize(("outcome", "happened", "succeeded"), [("ok", 1, 1), ("unknown", 1, 0), ("failed", 0, 0)])
def test_a_call_that_failed_has_not_happened_and_one_that_may_have_succeeded_has(
    outcome: Outcome, happened: int, succeeded: int
) -> None:
    asked = questions("HAPPENED(tool.a) WITHIN 1m", "SUCCEEDED(tool.a) WITHIN 1m")
    begun = Past(asked).begun("1", tool("a"), {})
    assert begun.answers(0) == (1, 0)
    assert begun.ended("1", 5, outcome).answers(10) == (happened, succeeded)
    assert begun.answers(0) == (1, 0)


def test_the_past_of_a_long_session_is_forgotten_beyond_the_window() -> None:
    past = Past(questions("COUNT(tool.a) WITHIN 1s > 3"))
    for number in range(5000):
        past = past.begun("x", tool("a"), {}).ended("x", number * 10_000, "ok")
    assert past.answers(4999 * 10_000) == (100,)
    assert past.remembered < 1000
