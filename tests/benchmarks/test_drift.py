"""What `ostler drift` finds among simulated sessions: nothing where nothing is, and what is there, as often as said."""

from benchmarks.drift import Nature, false_findings, found
from ostler.adapters.statistics import Significance
from ostler.domain.drift import FAMILY, LEVEL
from ostler.domain.effects import POWER, detectable_share, wilson

TESTS = Significance(permutations=500)
SIZES = (40, 35)


def test_equal_models_are_told_apart_in_no_more_than_one_of_twenty_of_a_thousand_pairs() -> None:
    rate = wilson(false_findings(SIZES, 1_000, 1, TESTS), 1_000)
    assert rate.low <= LEVEL
    assert rate.value <= LEVEL + 0.01


def test_a_difference_that_is_called_detectable_is_found_four_times_in_five() -> None:
    gap = detectable_share(Nature().success, *SIZES, LEVEL / FAMILY)
    assert gap is not None
    worse = Nature(success=Nature().success - gap)
    assert wilson(found("completed", worse, SIZES, 150, 5_000, TESTS), 150).high >= POWER


def test_a_slower_model_with_other_habits_is_found_out() -> None:
    slower = Nature(step_s=6.0, tools=(1, 5, 3, 2))
    assert found("time per step", slower, SIZES, 30, 9_000, TESTS) == 30
    assert found("tools", slower, SIZES, 30, 9_000, TESTS) >= 24
