"""What follows from what several hooks say."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.domain.hook import (
    Ask,
    Combined,
    Continue,
    Deny,
    Rewrite,
    Ruling,
    ToolAsked,
    combine,
    digest_of,
    problem_with,
    rewritten,
    strictest,
    value_of,
)

ANSWERS = st.one_of(
    st.builds(Continue),
    st.builds(Deny, st.text(max_size=3)),
    st.builds(Ask, st.text(max_size=3)),
    st.builds(Rewrite, st.dictionaries(st.text(max_size=2), st.integers(), max_size=2), st.text(max_size=3)),
)
RULINGS = st.lists(st.builds(Ruling, st.sampled_from("abc"), st.just("pre_tool"), ANSWERS), max_size=5)
NUMBER: Any = 5
ORDER = {"allow": 0, "require": 1, "deny": 2}


def rulings(*answers) -> list[Ruling]:
    return [Ruling(f"h{number}", "pre_tool", answer) for number, answer in enumerate(answers, 1)]


@pytest.mark.parametrize(
    ("answers", "combined"),
    [
        ([], Combined("continue")),
        ([Continue(), Continue()], Combined("continue")),
        ([Continue(), Deny("no"), Deny("never")], Combined("deny", "no", ("h2",))),
        ([Ask("why?"), Deny("no")], Combined("deny", "no", ("h2",))),
        ([Rewrite({"a": 1}), Deny("no")], Combined("deny", "no", ("h2",))),
        ([Ask("is it?"), Ask("really?")], Combined("ask", "is it?; really?", ("h1", "h2"))),
        ([Rewrite({"a": 1}), Ask("ok?")], Combined("ask", "ok?", ("h2",), Rewrite({"a": 1}))),
        (
            [Rewrite({"a": 1}, "first"), Continue(), Rewrite({"a": 2}, "then")],
            Combined("rewrite", "first; then", ("h1", "h3"), Rewrite({"a": 2}, "then")),
        ),
    ],
)
def test_a_denial_wins_then_a_question_then_the_last_rewrite(answers, combined: Combined) -> None:
    assert combine(rulings(*answers)) == combined


@given(RULINGS, RULINGS, st.sampled_from(["allow", "require", "deny"]))
def test_more_hooks_only_ever_make_it_stricter_and_no_hook_opens_what_the_gate_has_closed(some, more, decision) -> None:
    one, both = combine(some), combine(some + more)
    assert ORDER[strictest(decision, one)] >= ORDER[decision]
    assert ORDER[strictest(decision, both)] >= ORDER[strictest(decision, one)]
    assert strictest("deny", both) == "deny"
    if any(isinstance(ruling.answer, Deny) for ruling in some):
        assert one.effect == "deny"
        assert one.rewrite is None


@given(RULINGS)
def test_a_rewrite_does_not_decide(some) -> None:
    """What is rewritten is judged anew: what the gate says of it counts, whatever hooks have changed."""
    without = [ruling for ruling in some if not isinstance(ruling.answer, Rewrite)]
    for decision in ("allow", "require", "deny"):
        assert strictest(decision, combine(some)) == strictest(decision, combine(without))


@pytest.mark.parametrize(
    ("point", "answer", "problem"),
    [
        ("pre_tool", Continue(), ""),
        ("pre_tool", Rewrite({"a": [1, 1.5, None]}), ""),
        ("on_end", Rewrite("text"), ""),
        ("pre_model", Ask("ok?"), ""),
        ("pre_tool", None, "returned nothing instead of Continue, Deny, Ask or Rewrite"),
        ("pre_tool", True, "returned a value of type bool instead of Continue, Deny, Ask or Rewrite"),
        ("pre_tool", Continue, "returned a value of type StructMeta instead of Continue, Deny, Ask or Rewrite"),
        ("post_tool", Ask("ok?"), "asked for a person, which cannot be done at post_tool"),
        ("pre_tool", Deny(NUMBER), "gave a reason that is no text"),
        ("pre_tool", Rewrite("x"), "rewrote to a value of type str, and at pre_tool it takes a dict"),
        ("post_tool", Rewrite({}), "rewrote to a value of type dict, and at post_tool it takes a text"),
        ("pre_tool", Rewrite({"a": object()}), "rewrote to something that is not plain JSON"),
        ("pre_tool", Rewrite({"a": float("nan")}), "rewrote to something that is not plain JSON"),
        ("pre_tool", Rewrite({1: 2}), "rewrote to something that is not plain JSON"),
        ("post_tool", Rewrite("\ud800"), "rewrote to something that is not plain JSON"),
    ],
)
def test_an_answer_that_makes_no_sense_at_a_point_is_noticed(point, answer, problem: str) -> None:
    assert problem_with(point, answer) == problem


def test_a_subject_is_rewritten_where_its_point_says() -> None:
    subject = ToolAsked(session="s", tenant="t", agent="a@1", call="1.1", tool="pay", arguments={"a": 1})
    changed = rewritten("pre_tool", subject, {"a": 2})
    assert (value_of("pre_tool", changed), value_of("pre_tool", subject)) == ({"a": 2}, {"a": 1})


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1}) != digest_of({"a": 1, "b": 3})
    assert digest_of({"id": 2**60, "b": 1}) == digest_of({"b": 1, "id": 2**60}) != digest_of({"id": 2**60 + 1, "b": 1})


@given(RULINGS)
def test_a_ruling_can_be_kept_in_the_log(some) -> None:
    assert msgspec.json.decode(msgspec.json.encode(some), type=list[Ruling]) == some
