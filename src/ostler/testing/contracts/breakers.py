"""The contract of `Breakers`: every sentence of the port as a test."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest
import pytest_asyncio

from ostler.domain.resilience.breaker import Admitted, Breaker, Change, Key, Open, Outcome
from ostler.ports import Breakers

Opener = Callable[[], AbstractAsyncContextManager[Breakers]]

SECOND_US = 1_000_000
KEY = Key("acme", "provider", "hay")
RIVAL = Key("rival", "provider", "hay")
TOOL = Key("acme", "tool", "hay")
BREAKER = Breaker(failures=3, recovery_s=10.0, probe_s=5.0)
CALLERS = 200


async def begin(breakers: Breakers, key: Key = KEY, *, now_us: int = 0) -> Admitted:
    """A call that must be let begin."""
    answer = await breakers.admit(key, BREAKER, now_us=now_us)
    assert isinstance(answer, Admitted), answer
    return answer


async def call(breakers: Breakers, outcome: Outcome, key: Key = KEY, *, now_us: int = 0) -> Change | None:
    """A call that is let begin, and ends at once."""
    admitted = await begin(breakers, key, now_us=now_us)
    return await breakers.report(admitted, BREAKER, outcome, now_us=now_us, because="it fell over")


async def opened(breakers: Breakers, key: Key = KEY, *, now_us: int = 0) -> int:
    """Make it fail until its breaker opens, and return until when it is."""
    for _ in range(BREAKER.failures - 1):
        assert await call(breakers, "failed", key, now_us=now_us) is None
    change = await call(breakers, "failed", key, now_us=now_us)
    assert change is not None
    assert change.until_us is not None
    return change.until_us


class BreakersContract(ABC):
    """Inherit, implement `storage`, and pytest asks your back end for every guarantee of the port."""

    pytestmark = pytest.mark.asyncio

    @abstractmethod
    def storage(self) -> Opener:
        """A new empty storage, as a function that opens one more handle onto it."""

    @pytest.fixture
    def open_breakers(self) -> Opener:
        return self.storage()

    @pytest_asyncio.fixture
    async def breakers(self, open_breakers: Opener) -> AsyncIterator[Breakers]:
        async with open_breakers() as breakers:
            yield breakers

    async def test_a_breaker_that_nobody_knows_is_closed(self, breakers: Breakers) -> None:
        assert await breakers.look(KEY, now_us=0) is None
        assert await call(breakers, "ok") is None

    async def test_failures_open_it_and_whoever_asks_is_told_until_when_and_why(self, breakers: Breakers) -> None:
        until_us = await opened(breakers, now_us=SECOND_US)
        assert until_us == 11 * SECOND_US
        refused = Open(until_us, "3 failures in a row, the last: it fell over", SECOND_US)
        assert await breakers.admit(KEY, BREAKER, now_us=until_us - 1) == refused
        assert await breakers.look(KEY, now_us=until_us - 1) == refused

    async def test_looking_changes_nothing(self, breakers: Breakers) -> None:
        until_us = await opened(breakers)
        for _ in range(3):
            assert await breakers.look(KEY, now_us=until_us) is None
        await begin(breakers, now_us=until_us)
        probing = await breakers.look(KEY, now_us=until_us)
        assert probing is not None
        assert probing.until_us == until_us + 5 * SECOND_US

    async def test_a_probe_that_does_well_closes_it_and_one_that_fails_doubles_the_wait(
        self, breakers: Breakers
    ) -> None:
        until_us = await opened(breakers)
        change = await call(breakers, "failed", now_us=until_us)
        assert change == Change(KEY, until_us + 20 * SECOND_US, "the probe failed: it fell over")
        assert await call(breakers, "ok", now_us=until_us + 20 * SECOND_US) == Change(KEY, None)
        assert await call(breakers, "ok", now_us=until_us + 20 * SECOND_US) is None

    async def test_a_probe_that_says_nothing_lets_the_next_one_probe(self, breakers: Breakers) -> None:
        until_us = await opened(breakers)
        assert await call(breakers, "ignored", now_us=until_us) is None
        await begin(breakers, now_us=until_us)
        assert isinstance(await breakers.admit(KEY, BREAKER, now_us=until_us), Open)

    async def test_a_probe_of_which_nothing_is_heard_is_replaced_in_time(self, breakers: Breakers) -> None:
        until_us = await opened(breakers)
        await begin(breakers, now_us=until_us)
        end_us = until_us + 5 * SECOND_US
        assert isinstance(await breakers.admit(KEY, BREAKER, now_us=end_us - 1), Open)
        await begin(breakers, now_us=end_us)
        assert isinstance(await breakers.admit(KEY, BREAKER, now_us=end_us), Open)

    async def test_what_began_before_it_opened_neither_closes_it_nor_makes_it_wait_longer(
        self, breakers: Breakers
    ) -> None:
        late = [await begin(breakers) for _ in range(2)]
        until_us = await opened(breakers)
        outcomes: tuple[Outcome, ...] = ("ok", "failed")
        for admitted, outcome in zip(late, outcomes, strict=True):
            assert await breakers.report(admitted, BREAKER, outcome, now_us=1) is None
        assert isinstance(await breakers.admit(KEY, BREAKER, now_us=until_us - 1), Open)
        await begin(breakers, now_us=until_us)

    @pytest.mark.parametrize("other", [RIVAL, TOOL, Key("acme", "provider", "straw")])
    async def test_nothing_crosses_a_tenant_a_kind_or_a_name(self, breakers: Breakers, other: Key) -> None:
        await opened(breakers)
        await begin(breakers, other)
        assert await breakers.look(other, now_us=0) is None
        assert set(await breakers.states("rival")) <= {RIVAL}

    async def test_names_may_hold_whatever_they_like(self, breakers: Breakers) -> None:
        keys = [
            Key(tenant, "tool", name) for tenant in ("a", "a:tool", "a*", "é ") for name in ("b", "tool:b", ":", "é")
        ]
        for key in keys:
            await opened(breakers, key)
        assert set(await breakers.states("*")) == set(keys)
        assert set(await breakers.states("a*")) == {key for key in keys if key.tenant == "a*"}

    async def test_a_reset_closes_it_and_what_was_under_way_teaches_nothing(self, breakers: Breakers) -> None:
        until_us = await opened(breakers)
        probe = await begin(breakers, now_us=until_us)
        assert await breakers.reset(KEY) == Change(KEY, None)
        assert await breakers.reset(KEY) is None
        assert await breakers.report(probe, BREAKER, "failed", now_us=until_us) is None
        assert await call(breakers, "failed", now_us=until_us) is None
        await begin(breakers, now_us=until_us)

    async def test_states_are_those_of_the_tenant_that_was_named(self, breakers: Breakers) -> None:
        until_us = await opened(breakers)
        await opened(breakers, RIVAL)
        (state,) = (await breakers.states("acme")).values()
        assert (state.until_us, state.opened_us) == (until_us, 0)
        assert set(await breakers.states("*")) == {KEY, RIVAL}
        assert await breakers.states("nobody") == {}

    async def test_of_many_who_ask_when_the_wait_is_over_exactly_one_probes(self, open_breakers: Opener) -> None:
        async with open_breakers() as one, open_breakers() as another:
            until_us = await opened(one)
            for wait_us in (20 * SECOND_US, 40 * SECOND_US):
                asked = (
                    two.admit(KEY, BREAKER, now_us=until_us) for two in (one, another) for _ in range(CALLERS // 2)
                )
                answers = await asyncio.gather(*asked)
                (probe,) = [answer for answer in answers if isinstance(answer, Admitted)]
                change = await another.report(probe, BREAKER, "failed", now_us=until_us)
                until_us += wait_us
                assert change == Change(KEY, until_us, "the probe failed")

    async def test_of_many_calls_that_fail_at_once_one_opens_it(self, open_breakers: Opener) -> None:
        async with open_breakers() as one, open_breakers() as another:
            places = [(two, await begin(two)) for two in (one, another) for _ in range(20)]
            reports = (two.report(admitted, BREAKER, "failed", now_us=1) for two, admitted in places)
            changes = [change for change in await asyncio.gather(*reports) if change is not None]
            assert [change.until_us for change in changes] == [1 + 10 * SECOND_US]
