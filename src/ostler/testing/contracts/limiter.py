"""The contract of `Limiter`: every sentence of the port as a test."""

import asyncio
import tempfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostler.adapters.store.memory_limits import MemoryLimiter
from ostler.domain.capacity import MINUTE_US, PATIENCE_US, TAKEN, Limit, Place, Wait
from ostler.ports import Limiter

Opener = Callable[[], AbstractAsyncContextManager[Limiter]]

HOUR_US = 60 * MINUTE_US
PLACES = Limit("tenants.acme.model_calls", 2)
OTHER = Limit("tenants.rival.model_calls", 1)
RATE = Limit("providers.hay.model_calls_per_minute", 20, MINUTE_US)


def place(holder: str, *, epoch: int = 1, until_us: int = HOUR_US, since_us: int = 0, priority: int = 0) -> Place:
    """A place for tests."""
    return Place(holder, epoch, until_us, since_us, priority)


class LimiterContract(ABC):
    """Inherit, implement `storage`, and pytest asks your back end for every guarantee of the port."""

    pytestmark = pytest.mark.asyncio

    @abstractmethod
    def storage(self, directory: Path) -> Opener:
        """A new empty storage, as a function that opens one more handle onto it. `directory` is empty and yours."""

    @pytest.fixture
    def open_limiter(self, tmp_path: Path) -> Opener:
        return self.storage(tmp_path)

    @pytest_asyncio.fixture
    async def limiter(self, open_limiter: Opener) -> AsyncIterator[Limiter]:
        async with open_limiter() as limiter:
            yield limiter

    # Places

    async def test_as_many_places_are_taken_as_there_are(self, limiter: Limiter) -> None:
        waits = [await limiter.take([PLACES], place(holder), now_us=1) for holder in "abc"]
        assert waits[:2] == [TAKEN, TAKEN]
        assert (waits[2].after_us > 0, waits[2].limit) == (True, PLACES.name)

    async def test_a_place_that_is_given_back_is_there_for_the_next(self, limiter: Limiter) -> None:
        for holder in "ab":
            await limiter.take([PLACES], place(holder), now_us=1)
        await limiter.give_back([place("a"), place("nobody")])
        assert await limiter.take([PLACES], place("c"), now_us=1) == TAKEN
        assert await limiter.take([PLACES], place("d"), now_us=1) != TAKEN

    async def test_a_place_comes_back_by_itself_when_its_time_is_over(self, limiter: Limiter) -> None:
        assert await limiter.take([OTHER], place("dead", until_us=100), now_us=1) == TAKEN
        assert await limiter.take([OTHER], place("heir"), now_us=99) != TAKEN
        assert await limiter.take([OTHER], place("heir"), now_us=100) == TAKEN

    async def test_whoever_takes_again_has_one_place(self, limiter: Limiter) -> None:
        for epoch in (1, 2, 3):
            assert await limiter.take([PLACES], place("a", epoch=epoch), now_us=1) == TAKEN
        assert await limiter.take([PLACES], place("b"), now_us=1) == TAKEN

    async def test_only_whoever_has_it_now_gives_a_place_back(self, limiter: Limiter) -> None:
        for epoch, since_us in ((1, 0), (2, 0), (2, 1)):
            await limiter.take([OTHER], place("a", epoch=epoch, since_us=since_us), now_us=1)
        await limiter.give_back([place("a", epoch=1), place("a", epoch=2)])
        assert await limiter.take([OTHER], place("b"), now_us=1) != TAKEN
        await limiter.give_back([place("b"), place("a", epoch=2, since_us=1)])
        assert await limiter.take([OTHER], place("b"), now_us=1) == TAKEN

    async def test_one_place_under_each_limit_or_none_at_all(self, limiter: Limiter) -> None:
        assert await limiter.take([OTHER], place("a"), now_us=1) == TAKEN
        for holder in "bcd":
            assert (await limiter.take([PLACES, RATE, OTHER], place(holder), now_us=1)).limit == OTHER.name
        for holder in "ef":
            assert await limiter.take([PLACES, RATE], place(holder), now_us=1) == TAKEN
        assert (await limiter.take([PLACES], place("g"), now_us=1)).limit == PLACES.name

    async def test_tenants_do_not_cross(self, limiter: Limiter) -> None:
        for holder in "abc":
            await limiter.take([PLACES], place(holder), now_us=1)
        assert await limiter.take([OTHER], place("a"), now_us=1) == TAKEN
        assert (await limiter.take([OTHER], place("b"), now_us=1)).limit == OTHER.name

    async def test_without_a_limit_there_is_always_a_place(self, limiter: Limiter) -> None:
        assert await limiter.take([], place("a"), now_us=1) == TAKEN
        await limiter.give_back([])

    # Lines

    async def test_who_came_first_goes_first_even_if_another_asks_earlier(self, limiter: Limiter) -> None:
        await limiter.take([OTHER], place("a"), now_us=1)
        assert await limiter.take([OTHER], place("first", since_us=2), now_us=5) != TAKEN
        await limiter.give_back([place("a")])
        assert await limiter.take([OTHER], place("second", since_us=3), now_us=6) != TAKEN
        urgent = place("urgent", since_us=4, priority=1)
        assert await limiter.take([OTHER], urgent, now_us=6) == TAKEN
        await limiter.give_back([urgent])
        assert await limiter.take([OTHER], place("second", since_us=3), now_us=7) != TAKEN
        assert await limiter.take([OTHER], place("first", since_us=2), now_us=8) == TAKEN

    async def test_those_further_behind_in_line_are_told_to_ask_later(self, limiter: Limiter) -> None:
        await limiter.take([OTHER], place("a"), now_us=1)
        waits = [await limiter.take([OTHER], place(f"b{n}", since_us=n), now_us=9) for n in range(6)]
        afters = [wait.after_us for wait in waits]
        assert (afters == sorted(afters), len(set(afters)) > 3) == (True, True)

    async def test_whoever_stops_waiting_leaves_the_line(self, limiter: Limiter) -> None:
        await limiter.take([OTHER], place("a"), now_us=1)
        await limiter.take([OTHER], place("b", since_us=1), now_us=2)
        await limiter.give_back([place("a"), place("b", since_us=1)])
        assert await limiter.take([OTHER], place("c", since_us=2), now_us=3) == TAKEN

    async def test_whoever_dies_in_line_keeps_nobody_waiting_for_long(self, limiter: Limiter) -> None:
        await limiter.take([OTHER], place("a", until_us=10), now_us=1)
        wait = await limiter.take([OTHER], place("dead", since_us=1), now_us=2)
        end_us = 2 + wait.after_us + PATIENCE_US
        assert await limiter.take([OTHER], place("b", since_us=2), now_us=end_us - 1) != TAKEN
        assert await limiter.take([OTHER], place("b", since_us=2), now_us=end_us) == TAKEN

    async def test_whoever_waits_for_one_limit_stands_in_no_other_line(self, limiter: Limiter) -> None:
        await limiter.take([OTHER], place("a"), now_us=1)
        assert (await limiter.take([PLACES, OTHER], place("b"), now_us=1)).limit == OTHER.name
        assert [await limiter.take([PLACES], place(holder, since_us=5), now_us=5) for holder in "cd"] == [TAKEN, TAKEN]
        await limiter.give_back([place("a")])
        assert (await limiter.take([PLACES, OTHER], place("b"), now_us=6)).limit == PLACES.name
        assert await limiter.take([OTHER], place("e", since_us=6), now_us=6) == TAKEN

    # Rates

    async def test_a_burst_may_begin_at_once_and_the_rest_one_by_one(self, limiter: Limiter) -> None:
        now_us = MINUTE_US
        for number in range(RATE.burst):
            assert await limiter.take([RATE], place(f"b{number}"), now_us=now_us) == TAKEN
        for number in range(5):
            wait = await limiter.take([RATE], place(f"c{number}"), now_us=now_us)
            assert wait == Wait(RATE.interval_us, RATE.name)
            assert await limiter.take([RATE], place(f"c{number}"), now_us=now_us + wait.after_us - 1) != TAKEN
            now_us += wait.after_us
            assert await limiter.take([RATE], place(f"c{number}"), now_us=now_us) == TAKEN

    async def test_never_more_than_the_rate_in_any_minute(self, limiter: Limiter) -> None:
        now_us, taken = 0, list[int]()
        while now_us < 5 * MINUTE_US:
            wait = await limiter.take([RATE], place(f"{len(taken)}"), now_us=now_us)
            if wait.after_us:
                now_us += wait.after_us + (7_000_000 if len(taken) % 11 == 0 else 0)
            else:
                taken.append(now_us)
        for begin_us in taken:
            assert sum(begin_us <= moment < begin_us + MINUTE_US for moment in taken) <= RATE.most
        assert len(taken) > 4 * RATE.most * 0.8

    async def test_what_is_given_back_stays_used_of_a_rate(self, limiter: Limiter) -> None:
        one = Limit("slow", 1, MINUTE_US)
        assert await limiter.take([one], place("a"), now_us=1) == TAKEN
        await limiter.give_back([place("a")])
        assert await limiter.take([one], place("b"), now_us=1) == Wait(MINUTE_US, "slow")

    async def test_a_clock_that_is_set_back_costs_no_more_than_a_moment(self, limiter: Limiter) -> None:
        assert await limiter.take([RATE], place("a"), now_us=HOUR_US) == TAKEN
        assert (await limiter.take([RATE], place("b"), now_us=1)).after_us <= RATE.interval_us

    # All at once

    async def test_concurrent_takers_never_exceed(self, open_limiter: Opener) -> None:
        async with open_limiter() as one, open_limiter() as two:
            four, wide = Limit("four", 4), Limit("wide", 5)
            inside, most = Counter[str](), Counter[str]()

            async def call(number: int) -> None:
                limiter, mine = (one, two)[number % 2], place(f"call{number}", since_us=number)
                limits = [[four], [wide], [four, wide], [wide, four]][number % 4]
                now_us = number
                while (wait := await limiter.take(limits, mine, now_us=now_us)).after_us:
                    now_us += 1
                    await asyncio.sleep(0)
                for limit in limits:
                    inside[limit.name] += 1
                    most[limit.name] = max(most[limit.name], inside[limit.name])
                assert wait == TAKEN
                await asyncio.sleep(0)
                for limit in limits:
                    inside[limit.name] -= 1
                await limiter.give_back([mine])

            async with asyncio.timeout(60):
                await asyncio.gather(*(call(number) for number in range(40)))
            assert most["four"] <= 4
            assert most["wide"] <= 5
            assert [await one.take([four, wide], place(f"z{n}"), now_us=50) for n in range(4)] == [TAKEN] * 4

    # Several classes inherit this test, which is what `differing_executors` warns of and what is meant here.
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    @given(steps=st.lists(st.deferred(lambda: A_STEP), max_size=25))
    async def test_it_does_what_the_limiter_in_memory_does(self, steps: list["Step"]) -> None:
        with tempfile.TemporaryDirectory() as directory:
            model = MemoryLimiter()
            async with self.storage(Path(directory))() as limiter:
                for method, arguments in steps:
                    assert await getattr(limiter, method)(**arguments) == await getattr(model, method)(**arguments)


Step = tuple[str, dict[str, Any]]
"""A method of the limiter and what it is called with."""

LIMITS = [Limit("a", 1), Limit("é", 2), Limit("b", 1, 3_000_000), Limit("B", 30, 9_000_000)]
SOME_PLACE = st.builds(
    Place,
    st.sampled_from(["x", "y", "é", "Z"]),
    st.integers(1, 2),
    st.integers(0, 9_000_000),
    st.integers(0, 2),
    st.integers(-1, 1),
)
MOMENT = st.integers(0, 5_000_000) | st.sampled_from([0, 1_000_000, 2_000_000, 3_000_000])

A_STEP: st.SearchStrategy[Step] = st.one_of(
    st.tuples(
        st.just("take"),
        st.fixed_dictionaries(
            {
                "limits": st.lists(st.sampled_from(LIMITS), max_size=4, unique=True),
                "place": SOME_PLACE,
                "now_us": MOMENT,
            }
        ),
    ),
    st.tuples(st.just("give_back"), st.fixed_dictionaries({"places": st.lists(SOME_PLACE, max_size=2)})),
)


def shared(limiter: Limiter) -> Opener:
    """An opener for a storage that is one object."""

    @asynccontextmanager
    async def open_limiter() -> AsyncIterator[Limiter]:
        yield limiter

    return open_limiter
