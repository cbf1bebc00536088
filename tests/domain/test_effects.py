"""Sizes of effects against published figures, another library, and what must hold of all of them."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import astuple
from scipy.stats import binomtest, fisher_exact, mannwhitneyu

from ostler.domain.effects import (
    POWER,
    Interval,
    detectable_dominance,
    detectable_share,
    dominance,
    holm,
    share_difference,
    wilson,
)

VALUES = st.lists(st.integers(0, 9).map(float), min_size=2, max_size=20)


@given(st.integers(0, 60), st.integers(1, 60))
def test_the_interval_of_a_share_is_that_of_scipy(successes: int, count: int) -> None:
    successes = min(successes, count)
    theirs = binomtest(successes, count).proportion_ci(method="wilson")
    ours = wilson(successes, count)
    assert astuple(ours) == pytest.approx((successes / count, theirs.low, theirs.high), abs=1e-9)


def test_of_no_trials_at_all_any_share_is_possible() -> None:
    assert wilson(0, 0) == Interval(0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((10, 10), (0, 10), 0.6075, 1.0000),
    ],
)
def test_the_interval_of_a_difference_of_shares_is_that_of_newcombes_paper(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    """Newcombe 1998, table II, method 10."""
    found = share_difference(second, first)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_dominance_is_the_share_of_pairs_in_which_one_side_is_larger_less_the_share_in_which_it_is_smaller() -> None:
    found = dominance([1, 2, 3], [2, 3, 4])
    assert found.value == pytest.approx((6 - 1) / 9)
    assert dominance([1, 1], [1, 1]).value == 0


@given(VALUES, VALUES)
def test_dominance_turns_round_with_its_sides_and_lies_within_its_interval(
    one: list[float], other: list[float]
) -> None:
    there, back = dominance(one, other), dominance(other, one)
    assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))
    assert -1 <= there.low <= there.value <= there.high <= 1


def test_the_interval_of_dominance_holds_the_truth_about_as_often_as_it_says() -> None:
    chance = np.random.default_rng(7)
    truth = 2 * 0.5 * (1 + math.erf(0.5 / math.sqrt(2) / math.sqrt(2))) - 1  # P(X > Y) of normals half a sd apart
    held = 0
    for _ in range(600):
        found = dominance(chance.normal(0, 1, 30).tolist(), chance.normal(0.5, 1, 25).tolist())
        held += found.low <= truth <= found.high
    assert wilson(held, 600).high > 0.93
    assert wilson(held, 600).low < 0.97


def test_holm_corrects_the_smallest_by_all_and_never_turns_the_order_round() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_between_no_correction_and_bonferronis(values: list[float]) -> None:
    for raw, adjusted in zip(values, holm(values), strict=True):
        assert raw <= adjusted <= min(1.0, raw * len(values)) + 1e-12


@pytest.mark.parametrize(("share", "before", "after"), [(0.8, 40, 35), (0.5, 60, 60), (0.95, 50, 80), (0.1, 30, 90)])
def test_the_difference_that_is_called_detectable_is_found_four_times_in_five_or_a_little_more(
    share: float, before: int, after: int
) -> None:
    gap = detectable_share(share, before, after, 0.05)
    assert gap is not None
    other = share + gap if share <= 0.5 else share - gap
    chance = np.random.default_rng(11)
    runs = 800
    old, new = chance.binomial(before, share, runs), chance.binomial(after, other, runs)
    found = sum(
        float(fisher_exact([[a, before - a], [b, after - b]]).pvalue) < 0.05 for a, b in zip(old, new, strict=True)
    )
    assert POWER - 0.05 <= found / runs <= POWER + 0.1


@pytest.mark.parametrize(("before", "after"), [(40, 35), (20, 60)])
def test_the_dominance_that_is_called_detectable_is_found_four_times_in_five(before: int, after: int) -> None:
    delta = detectable_dominance(before, after, 0.05)
    assert delta is not None
    shift = math.sqrt(2) * NormalDist().inv_cdf((1 + delta) / 2)  # of normals with a deviation of 1
    chance, runs = np.random.default_rng(13), 600
    old, new = chance.normal(0, 1, (runs, before)), chance.normal(shift, 1, (runs, after))
    found = (mannwhitneyu(old, new, axis=1, method="asymptotic").pvalue < 0.05).mean()
    assert POWER - 0.06 <= found <= POWER + 0.06


def test_with_too_few_trials_no_difference_is_detectable() -> None:
    assert detectable_share(0.5, 3, 3, 0.05) is None
    assert detectable_dominance(3, 3, 0.001) is None
    assert detectable_share(0.5, 0, 3, 0.05) is None


@given(st.integers(10, 200), st.integers(10, 200), st.floats(0.05, 0.95))
def test_more_trials_make_smaller_differences_detectable(before: int, after: int, share: float) -> None:
    few, many = detectable_share(share, before, after, 0.05), detectable_share(share, 2 * before, 2 * after, 0.05)
    assert many is not None or few is None
    assert few is None or (many is not None and many <= few)
