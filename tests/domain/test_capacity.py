"""Limits as numbers: what a rate lets through, and when it makes sense to ask again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.domain.capacity import (
    LOOK_AGAIN_MAX_US,
    MINUTE_US,
    TAKEN,
    Limit,
    Quota,
    Quotas,
    Seen,
    Wait,
    judge,
    spend,
)


@given(
    most=st.integers(1, 3_000),
    gaps=st.lists(st.integers(0, MINUTE_US) | st.just(0), max_size=300),
    period_us=st.sampled_from([MINUTE_US, 1_000_003]),
)
def test_no_period_sees_more_than_the_rate_wherever_it_begins(most: int, gaps: list[int], period_us: int) -> None:
    limit = Limit("rate", most, period_us)
    now_us, spent_us, let_through = 0, 0, list[int]()
    for gap_us in gaps:
        now_us += gap_us
        wait = judge([limit], [Seen(0, 0, spent_us)], now_us)
        now_us += wait.after_us
        assert judge([limit], [Seen(0, 0, spent_us)], now_us) == TAKEN
        spent_us = spend(limit, spent_us, now_us)
        let_through.append(now_us)
    for place, first_us in enumerate(let_through[: -limit.most]):
        assert let_through[place + limit.most] - first_us >= period_us


@pytest.mark.parametrize(
    ("most", "burst", "interval_us"), [(1, 1, 60_000_000), (6, 1, 10_000_000), (20, 2, 3_157_895), (600, 60, 110_906)]
)
def test_a_tenth_may_come_at_once_and_the_rest_evenly(most: int, burst: int, interval_us: int) -> None:
    limit = Limit("rate", most, MINUTE_US)
    assert (limit.burst, limit.interval_us, limit.slack_us) == (burst, interval_us, (burst - 1) * interval_us)


def test_the_longest_wait_counts_and_of_equal_ones_the_first() -> None:
    one, rate, two = Limit("one", 1), Limit("rate", 6, MINUTE_US), Limit("two", 1)
    full, used = Seen(1, 0, 0), Seen(0, 0, 30_000_000)
    assert judge([one, rate, two], [full, used, full], 0).limit == "rate"
    assert judge([one, two], [full, full], 0).limit == "one"
    assert judge([one, two], [Seen(0, 0, 0)] * 2, 0) == TAKEN
    assert judge([], [], 0) == TAKEN


def test_those_who_stand_in_line_ask_one_after_the_other_and_at_least_every_second() -> None:
    waits = [judge([Limit("one", 1)], [Seen(1, ahead, 0)], 0).after_us for ahead in range(6)]
    assert waits == [250_000, 500_000, 750_000, 1_000_000, LOOK_AGAIN_MAX_US, LOOK_AGAIN_MAX_US]
    assert judge([Limit("two", 2)], [Seen(0, 2, 0)], 0).after_us > 0


def test_a_clock_that_was_set_back_does_not_keep_anybody_waiting() -> None:
    rate = Limit("rate", 6, MINUTE_US)
    assert judge([rate], [Seen(0, 0, 10**15)], 0) == Wait(10_000_000, "rate")


def test_a_table_of_its_own_comes_before_that_of_all_others_field_by_field() -> None:
    quotas = Quotas(agents={"*": Quota(5, 100), "coder": Quota(model_calls=1)}, providers={"p": Quota(2)})
    found = quotas.limits(tenant="acme", agent="coder", provider="q")
    assert found == (Limit("agents.coder.model_calls", 1), Limit("agents.coder.model_calls_per_minute", 100, MINUTE_US))
    assert [limit.most for limit in quotas.limits(tenant="acme", agent="x", provider="p")] == [5, 100, 2]
    assert not Quotas()
    assert Quotas().limits(tenant="acme", agent="x", provider="p") == ()
