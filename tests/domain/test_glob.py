"""Globs: what they match, and that one is within another exactly when it matches nothing more."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.domain.glob import is_within, matches, matches_any, outside

GLOBS = st.text("ab.*", max_size=8)
NAMES = st.text("ab.", max_size=10)


def by_expression(glob: str, name: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, glob.split("*"))), name) is not None


@given(GLOBS, NAMES)
def test_a_glob_matches_what_the_regular_expression_matches(glob: str, name: str) -> None:
    assert matches(glob, name) == by_expression(glob, name)


@given(GLOBS, GLOBS, st.lists(NAMES, max_size=8))
def test_what_is_within_another_never_matches_more(narrow: str, wide: str, fillings: list[str]) -> None:
    if is_within(narrow, wide):
        for filling in fillings:
            name = narrow.replace("*", filling)
            assert by_expression(wide, name)


@given(GLOBS, GLOBS)
def test_what_is_not_within_another_matches_something_more(narrow: str, wide: str) -> None:
    if not is_within(narrow, wide):
        witness = narrow.replace("*", "x")  # which stands in no glob here
        assert by_expression(narrow, witness)
        assert not by_expression(wide, witness)


@pytest.mark.parametrize(
    ("narrow", "wide", "holds"),
    [
        ("crm.read", "crm.read", True),
        ("crm.read", "crm.*", True),
        ("crm.*", "crm.*", True),
        ("crm.read.*", "crm.*", True),
        ("crm.*.read", "crm.*", True),
        ("crm.*", "crm.*.*", False),
        ("*", "*", True),
        ("**", "*", True),
        ("*", "**", True),
        ("*", "crm.*", False),
        ("crm.*", "crm.read", False),
        ("crm*", "crm.*", False),
        ("*.read", "crm.*", False),
        ("a*b*c", "a*c", True),
        ("a*c", "a*b*c", False),
        ("ab", "a*b*", True),
        ("a*b", "ab", False),
        ("", "*", True),
        ("*", "", False),
    ],
)
def test_a_glob_inside_a_glob(narrow: str, wide: str, holds: bool) -> None:
    assert is_within(narrow, wide) is holds


def test_of_several_one_must_be_wide_enough() -> None:
    assert outside(["crm.read", "mail.*", "pay"], ["crm.*", "mail.send"]) == ["mail.*", "pay"]
    assert outside([], []) == []


def test_a_hostile_glob_costs_no_more_than_its_length() -> None:
    assert not matches("a*" * 60 + "b", "a" * 2000)


def test_no_globs_match_nothing() -> None:
    assert not matches_any((), "crm.read")
    assert matches_any(("pay", "crm.*"), "crm.read")
    assert matches_any(("*",), "crm.read")
