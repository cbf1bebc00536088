"""What is learned from outcomes: the better model is found, a change is noticed, and the same chance says the same."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.domain.strategy.adaptive import NOTHING, Outcomes, discounted, draws

GOOD, POOR = "a:good", "b:poor"
CALL_S = 60.0
HALF_LIFE_S = 100 * CALL_S
BUCKET_S = 10 * CALL_S


def simulated(seed: int, calls: int, succeeds: list[dict[str, float]]) -> list[str]:
    """Who was asked, call by call: each phase has its own chances of success, and outcomes are seen in buckets."""
    chance = random.Random(seed)
    buckets: dict[str, dict[int, Outcomes]] = {GOOD: {}, POOR: {}}
    asked: list[str] = []
    for number in range(calls * len(succeeds)):
        now_s = number * CALL_S
        known = {
            model: discounted([(now_s - at * BUCKET_S, one) for at, one in held.items()], HALF_LIFE_S)
            for model, held in buckets.items()
        }
        drawn = draws(known, [POOR, GOOD], chance.randbytes(8))
        model = max(drawn, key=lambda name: drawn[name])
        is_success = chance.random() < succeeds[number // calls][model]
        more = Outcomes(replies=1, won=1, timed=1) if is_success else Outcomes(failures=1, lost=1, timed=1)
        at = int(now_s // BUCKET_S)
        buckets[model][at] = buckets[model].get(at, NOTHING).plus(more)
        asked.append(model)
    return asked


@pytest.mark.parametrize("seed", range(3))
def test_the_better_of_two_models_is_found_and_a_change_is_noticed(seed: int) -> None:
    """Of 300 calls at most 20 go to a model that succeeds with 0.3 instead of 0.9: a regret of 12, where always asking
    the worse one would cost 180. After a swap the other is found within 150 calls, and then is asked nearly always.
    """
    asked = simulated(seed, 300, [{GOOD: 0.9, POOR: 0.3}, {GOOD: 0.2, POOR: 0.9}])
    assert asked[:300].count(POOR) <= 20
    assert asked[450:].count(GOOD) <= 15


def test_who_costs_and_takes_more_for_the_same_success_is_asked_less() -> None:
    chance = random.Random(1)
    dear = Outcomes(replies=500, won=500, timed=500, microseconds=500e6, cost_microusd=5_000_000)
    cheap = Outcomes(replies=500, won=500, timed=500, microseconds=50e6, cost_microusd=50_000)
    drawn = [draws({"x:dear": dear, "y:cheap": cheap}, ["x:dear", "y:cheap"], chance.randbytes(8)) for _ in range(100)]
    assert sum(one["y:cheap"] > one["x:dear"] for one in drawn) == 100


AMOUNTS = st.just(0.0) | st.floats(0.001, 10_000)
KNOWN = st.dictionaries(
    st.sampled_from([GOOD, POOR, "c:other"]),
    st.builds(Outcomes, AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS),
)


@given(KNOWN, st.binary(min_size=8, max_size=8))
def test_the_same_outcomes_and_the_same_chance_draw_the_same_between_0_and_1(
    known: dict[str, Outcomes], chance: bytes
) -> None:
    drawn = draws(known, [GOOD, POOR], chance)
    assert drawn == draws(known, [GOOD, POOR], chance)
    assert set(drawn) == {GOOD, POOR}
    assert all(0 <= value <= 1 for value in drawn.values())


def test_draws_have_the_mean_of_what_is_known() -> None:
    """The mean of a beta distribution is known: (1 + 30) / (2 + 40), times 1/2 of the sessions that nobody has seen."""
    chance = random.Random(7)
    known = {GOOD: Outcomes(replies=30, failures=10)}
    drawn = [draws(known, [GOOD], chance.randbytes(8))[GOOD] for _ in range(4_000)]
    assert sum(drawn) / len(drawn) == pytest.approx(31 / 42 / 2, abs=0.02)


def test_what_is_older_by_a_half_life_counts_half() -> None:
    aged = [(0.0, Outcomes(replies=4)), (10.0, Outcomes(replies=4)), (20.0, Outcomes(failures=4))]
    assert discounted(aged, 10.0) == Outcomes(replies=6.0, failures=1.0)
