"""When another attempt is made: later and later, as the other side asks, and not for ever."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.domain.resilience.retry import Backoff, Retries, retry_delay_s

CHANCE = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("attempt", "longest_s"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (64, 60), (100, 60), (10**6, 60)]
)
def test_the_delay_doubles_up_to_a_minute_and_never_overflows(attempt: int, longest_s: float) -> None:
    assert retry_delay_s(attempt, 0.0) == 0
    assert retry_delay_s(attempt, 0.5) == longest_s / 2
    assert retry_delay_s(attempt, 1 - 2**-32) == pytest.approx(longest_s)


@given(st.integers(1, 1000), CHANCE, st.floats(0, 1e6))
def test_what_the_other_side_asks_for_is_honoured_and_spread_over_a_second(
    attempt: int, chance: float, asked_s: float
) -> None:
    wait_s = retry_delay_s(attempt, chance, retry_after_s=asked_s)
    assert asked_s <= wait_s <= asked_s + 1


def test_a_negative_wait_is_none() -> None:
    assert retry_delay_s(3, 0.0, retry_after_s=-5) == 0


@given(st.integers(1, 100), CHANCE, st.integers(0, 10**9), st.none() | st.floats(0, 1e5))
def test_no_attempt_is_made_later_than_the_deadline_after_the_first_failure(
    failures: int, chance: float, waited_us: int, asked_s: float | None
) -> None:
    retries, now_us = Retries(for_s=600), 5 * 10**15
    since_us = now_us - waited_us
    again = retries.again_us("x", failures, chance, now_us=now_us, since_us=since_us, retry_after_s=asked_s)
    wait_us = int(retries.delay_s("x", failures, chance, retry_after_s=asked_s) * 1e6)
    assert again == (now_us + wait_us if now_us + wait_us <= since_us + 600_000_000 else None)


def test_a_provider_that_asks_for_longer_than_the_deadline_is_not_waited_for() -> None:
    assert Retries().again_us("rate_limited", 1, 0.0, now_us=0, retry_after_s=3600) == 3_600_000_000
    assert Retries().again_us("rate_limited", 1, 0.0, now_us=0, retry_after_s=3601) is None


def test_a_kind_of_failure_may_have_its_own_base_cap_and_attempts() -> None:
    retries = Retries(kinds=(Backoff("rate_limited", base_s=5, cap_s=9, attempts=8), Backoff("shed", cap_s=0.5)))
    assert [retries.delay_s("rate_limited", failures, 0.999999) for failures in (1, 2, 3)] == pytest.approx(
        [5, 9, 9], abs=0.1
    )
    assert [retries.delay_s("shed", failures, 0.999999) for failures in (1, 9)] == pytest.approx([0.5, 0.5], abs=0.1)
    assert retries.delay_s("incomplete_reply", 3, 0.999999) == pytest.approx(4, abs=0.1)
    assert [retries.attempts(code, 5) for code in ("rate_limited", "shed", "other")] == [8, 5, 5]
