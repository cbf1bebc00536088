"""In what order memories are told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.domain.memory.ranking import (
    DEFAULT_WEIGHTS,
    RECALLS_ENOUGH,
    Lanes,
    Weights,
    blended,
    frequency,
    hopeful,
    recency,
    score,
    shares,
    spread,
    with_named,
    with_neighbours,
    with_onward,
    within,
)

lane = st.floats(0, 1)


def test_what_is_best_in_all_ways_is_as_relevant_as_can_be() -> None:
    found = blended([(2, {"a": 1.0, "b": 0.6}), (1, {"a": 1.0, "c": 0.5})])
    assert found == pytest.approx({"a": 1, "b": 0.4, "c": 0.5 / 3})


def test_a_way_that_found_nothing_or_counts_for_nothing_takes_nothing_from_the_others() -> None:
    alone = blended([(2, {"a": 1.0, "b": 0.3})])
    assert blended([(2, {"a": 1.0, "b": 0.3}), (1, {}), (0, {"c": 1.0})]) == alone == {"a": 1, "b": 0.3}


def test_what_fits_nearly_alike_is_nearly_as_relevant() -> None:
    found = blended([(0.7, shares({"a": 5.0, "b": 4.95, "c": 1.0}))])
    assert found["a"] - found["b"] == pytest.approx(0.01)
    assert found["b"] - found["c"] > 0.7


def test_a_fact_about_what_is_named_comes_before_what_fits_as_well_but_not_before_what_fits_far_better() -> None:
    found = with_named({"a": 1.0, "b": 0.5, "c": 0.5}, {"b", "d"}, graph=0.3)
    assert found == pytest.approx({"a": 1 / 1.3, "b": 0.8 / 1.3, "c": 0.5 / 1.3, "d": 0.3 / 1.3})
    assert with_named({"a": 0.5}, (), graph=0.3) == with_named({"a": 0.5}, {"a"}, graph=0) == {"a": 0.5}


def test_where_no_text_fits_a_fact_about_what_is_named_is_as_relevant_as_can_be() -> None:
    assert with_named({}, {"a"}, graph=0.3) == {"a": 1}


def test_what_a_fact_leads_to_has_a_share_of_its_relevance_and_gives_nothing_on() -> None:
    ways = {"a": {"b": 0.8, "c": 0.4}, "b": {"c": 0.5, "d": 0.8}, "x": {"e": 0.8}}
    found, given_to = with_onward({"a": 1.0, "c": 0.7, "b": 0.1}, ways)
    assert found == pytest.approx({"a": 1, "b": 0.8, "c": 0.7, "d": 0.08})
    assert given_to == {"b": 0.8, "c": 0.5, "d": 0.8}


@given(
    ways=st.lists(st.tuples(st.floats(0, 3), st.dictionaries(st.sampled_from("abcdefgh"), lane)), max_size=3),
    named=st.sets(st.sampled_from("abcdefgh")),
    onward=st.dictionaries(st.sampled_from("abcd"), st.dictionaries(st.sampled_from("efgh"), lane)),
    graph=st.floats(0, 3),
)
def test_relevance_is_between_nothing_and_all(
    ways: list[tuple[float, dict[str, float]]],
    named: set[str],
    onward: dict[str, dict[str, float]],
    graph: float,
) -> None:
    before = with_named(blended(ways), named, graph=graph)
    found, _ = with_onward(before, onward)
    assert all(0 <= value <= 1 for value in found.values())
    assert all(found[name] >= value for name, value in before.items())


@given(lanes=st.tuples(lane, lane, lane, lane), weights=st.tuples(lane, lane, lane, lane))
def test_a_score_is_between_nothing_and_all(lanes: tuple[float, ...], weights: tuple[float, ...]) -> None:
    relevance, new, important, frequent = weights
    given_weights = Weights(relevance=relevance, recency=new, importance=important, frequency=frequent)
    assert 0 <= score(Lanes(*lanes), given_weights) <= 1


@given(
    found=st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.tuples(lane, lane, lane, lane)),
    wanted=st.integers(0, 8),
)
def test_nothing_that_would_come_among_the_first_is_left_out(
    found: dict[str, tuple[float, float, float, float]], wanted: int
) -> None:
    kept = hopeful({name: lanes[0] for name, lanes in found.items()}, wanted)
    best = sorted(found, key=lambda name: score(Lanes(*found[name])), reverse=True)[:wanted]
    left_out = [score(Lanes(*found[name])) for name in found if name not in kept]
    assert all(score(Lanes(*found[name])) >= max(left_out, default=0) - 1e-12 for name in best)
    assert len(kept) >= min(wanted, len(found))


def test_what_fits_beats_what_is_merely_important_new_and_often_used() -> None:
    fits = score(Lanes(relevance=1, recency=0, importance=0, frequency=0))
    matters = score(Lanes(relevance=0, recency=1, importance=1, frequency=1))
    assert fits > matters
    assert DEFAULT_WEIGHTS.relevance > 0.5


def test_recency_halves_and_is_never_more_than_all() -> None:
    assert recency(100, now_us=300, half_life_us=200) == 0.5
    assert recency(500, now_us=300, half_life_us=200) == 1


def test_frequency_grows_ever_more_slowly_up_to_its_cap() -> None:
    grown = [frequency(recalls) for recalls in (0, 1, 5, RECALLS_ENOUGH, 10 * RECALLS_ENOUGH)]
    assert grown[0] == 0
    assert grown == sorted(grown)
    assert grown[-2:] == [1, 1]
    assert frequency(1) - frequency(0) > frequency(2) - frequency(1)


def test_neighbours_in_time_are_given_a_share_both_ways() -> None:
    together, given_to = with_neighbours({"b": 10.0, "c": 4.0}, {"b": ["a", "c"], "c": ["b", "d"]}, share=0.35)
    assert together == pytest.approx({"a": 3.5, "b": 11.4, "c": 7.5, "d": 1.4})
    assert given_to == pytest.approx({"a": 3.5, "b": 1.4, "c": 3.5, "d": 1.4})


def test_scores_below_nothing_give_neighbours_nothing() -> None:
    together, _ = with_neighbours({"b": -3.0}, {"b": ["a"]}, share=0.35)
    assert together == {"a": 0, "b": 0}


def test_similarities_are_spread_over_the_whole_whatever_the_model_has_for_strangers() -> None:
    assert spread({"a": 0.9, "b": 0.8, "c": 0.7}) == pytest.approx({"a": 1, "b": 0.5, "c": 0})
    assert spread({"a": 0.7}) == spread({"a": 0.0}) == {"a": 1}
    assert spread({}) == {}


def test_shares_are_of_the_best_and_of_nothing_there_are_none() -> None:
    assert shares({"a": 4.0, "b": 1.0, "c": -1.0}) == {"a": 1, "b": 0.25, "c": 0}
    assert shares({"a": 0.0}) == {"a": 0}
    assert shares({}) == {}


@pytest.mark.parametrize(
    ("sizes", "tokens", "limit", "expected"),
    [
        ([5, 5, 5], None, 2, ([0, 1], 0)),
        ([5, 50, 5], 10, 8, ([0, 2], 1)),
        ([50, 5, 5, 5], 10, 2, ([1, 2], 1)),
        ([50], 10, 8, ([], 1)),
        ([5, 5], 10, 0, ([], 0)),
        ([], 10, 8, ([], 0)),
    ],
)
def test_what_is_too_long_is_passed_over_and_counted(
    sizes: list[int], tokens: int | None, limit: int, expected: tuple[list[int], int]
) -> None:
    assert within(sizes, tokens=tokens, limit=limit) == expected


@given(sizes=st.lists(st.integers(1, 50)), tokens=st.integers(0, 200), limit=st.integers(0, 20))
def test_no_more_is_told_than_there_is_room_for(sizes: list[int], tokens: int, limit: int) -> None:
    kept, left_out = within(sizes, tokens=tokens, limit=limit)
    assert sum(sizes[number] for number in kept) <= tokens
    assert len(kept) <= limit
    assert kept == sorted(kept)
    assert left_out == (len(sizes) if len(kept) < limit else max(kept, default=-1) + 1) - len(kept)
