"""How strong memories are, and that asking changes nothing of it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.domain.memory.settings import Keeping
from ostler.domain.memory.strength import rank_in_strength, strength

HALF_LIFE_US = Keeping().half_life_us
importances = st.floats(0, 1)
moments = st.integers(0, 2_000_000_000_000_000)


@pytest.mark.parametrize(
    ("importance", "half_lives", "expected"),
    [(1.0, 0, 1.0), (1.0, 1, 0.5), (1.0, 2, 0.25), (0.8, 1, 0.4), (0.0, 3, 0.0), (0.5, 10_000, 0.0)],
)
def test_strength_halves_with_each_half_life(importance: float, half_lives: int, expected: float) -> None:
    age_us = half_lives * HALF_LIFE_US
    assert strength(importance, age_us=age_us, half_life_us=HALF_LIFE_US) == pytest.approx(expected)


def test_a_half_life_is_thirty_days_if_nobody_says_otherwise() -> None:
    assert HALF_LIFE_US == 30 * 24 * 60 * 60 * 1_000_000


def test_what_is_yet_to_happen_is_as_strong_as_it_is_important() -> None:
    assert strength(0.7, age_us=-5 * HALF_LIFE_US, half_life_us=HALF_LIFE_US) == 0.7


@given(importance=importances, age_us=moments, reads=st.integers(1, 50))
def test_however_often_it_is_asked_for_the_strength_is_the_same(importance: float, age_us: int, reads: int) -> None:
    asked = {strength(importance, age_us=age_us, half_life_us=HALF_LIFE_US) for _ in range(reads)}
    assert len(asked) == 1
    assert 0 <= asked.pop() <= importance


@given(one=st.tuples(importances, moments), other=st.tuples(importances, moments), later=st.integers(0, 10**15))
def test_the_stronger_of_two_is_the_stronger_at_every_moment(
    one: tuple[float, int], other: tuple[float, int], later: int
) -> None:
    now_us = max(one[1], other[1]) + later
    ranks = [rank_in_strength(*each, half_life_us=HALF_LIFE_US) for each in (one, other)]
    strengths = [
        strength(importance, age_us=now_us - happened_us, half_life_us=HALF_LIFE_US)
        for importance, happened_us in (one, other)
    ]
    if strengths[0] > strengths[1] * (1 + 1e-9):
        assert ranks[0] > ranks[1]
    elif ranks[0] > ranks[1] + 1e-9:
        assert strengths[0] >= strengths[1]


@given(importance=st.floats(1e-9, 1), happened_us=moments, age_us=st.integers(0, 10**15))
def test_the_rank_is_the_logarithm_of_the_strength_but_for_what_is_the_same_for_all(
    importance: float, happened_us: int, age_us: int
) -> None:
    now = (happened_us + age_us) / HALF_LIFE_US
    logarithm = math.log2(importance) - age_us / HALF_LIFE_US
    assert rank_in_strength(importance, happened_us, half_life_us=HALF_LIFE_US) - now == pytest.approx(logarithm)


def test_what_has_no_importance_is_the_weakest_whenever_it_happened() -> None:
    late = rank_in_strength(0, 2_000_000_000_000_000, half_life_us=HALF_LIFE_US)
    assert late == -math.inf
    assert late < rank_in_strength(1e-300, 0, half_life_us=HALF_LIFE_US)
