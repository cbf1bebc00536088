"""Group commit: alone without delay, in company at the price of one, and never in the way of the loop."""

import asyncio
import random
from collections.abc import Sequence

import pytest

from ostler.adapters.store.group import GROUP_MAX, Group
from ostler.kernel.errors import StoreBusy, StoreFull


class Commits:
    """A commit that keeps what it was given and fails as often as it is told to."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.groups: list[list[int]] = []

    def __call__(self, works: Sequence[int]) -> Sequence[int]:
        if self.failures:
            raise self.failures.pop(0)
        self.groups.append(list(works))
        return [work * 10 for work in works]


async def turns(count: int) -> None:
    """Let the loop turn, as a task that is started and awaited does."""
    for _ in range(count):
        await asyncio.create_task(asyncio.sleep(0))


async def test_works_added_together_are_committed_together_in_their_order():
    commits = Commits()
    group = Group(commits, busy_timeout_s=1)
    assert await asyncio.gather(*(group.add(number) for number in range(5))) == [0, 10, 20, 30, 40]
    assert (commits.groups, group.commits) == ([[0, 1, 2, 3, 4]], 1)


async def test_a_lone_work_is_committed_in_the_next_turn_of_the_loop():
    group = Group(Commits(), busy_timeout_s=1)
    for number in range(20):
        future = group.add(number)
        await asyncio.sleep(0)
        assert future.done()
        await turns(3)
    assert group.commits == 20


@pytest.mark.parametrize("hops", [1, 6])
async def test_those_whom_a_commit_resumes_are_in_the_next_one_together(hops):
    rng = random.Random(f"hops {hops}")
    group = Group(Commits(), busy_timeout_s=1)

    async def session():
        for number in range(10):
            await group.add(number)
            await turns(rng.randint(1, hops))

    await asyncio.gather(*(session() for _ in range(1_000)))
    assert group.commits < 0.01 * 10_000


async def test_a_group_is_bounded():
    commits = Commits()
    group = Group(commits, busy_timeout_s=1)
    await asyncio.gather(*(group.add(number) for number in range(2 * GROUP_MAX + 1)))
    assert [len(works) for works in commits.groups] == [GROUP_MAX, GROUP_MAX, 1]


async def test_a_work_nobody_waits_for_any_more_is_left_out():
    commits = Commits()
    group = Group(commits, busy_timeout_s=1)
    one, two = group.add(1), group.add(2)
    one.cancel()
    assert await two == 20
    group.add(3).cancel()
    await group.drain()
    await turns(3)
    assert (commits.groups, group.commits) == ([[2]], 1)


async def test_a_busy_store_is_tried_again_until_it_is_free():
    commits = Commits(*(StoreBusy() for _ in range(4)))
    group = Group(commits, busy_timeout_s=60)
    assert await asyncio.gather(*(group.add(number) for number in (1, 2))) == [10, 20]
    assert (commits.groups, group.commits) == ([[1, 2]], 1)


async def test_a_store_that_stays_busy_is_given_up_and_can_be_used_again():
    commits = Commits(StoreBusy("held"))
    group = Group(commits, busy_timeout_s=0)
    assert [type(error) for error in await asyncio.gather(group.add(1), group.add(2), return_exceptions=True)] == [
        StoreBusy,
        StoreBusy,
    ]
    assert await group.add(3) == 30


async def test_a_failed_commit_fails_for_all_in_it_and_for_nobody_else():
    group = Group(Commits(StoreFull()), busy_timeout_s=1)
    results = await asyncio.gather(group.add(1), group.add(2), return_exceptions=True)
    assert [type(result) for result in results] == [StoreFull, StoreFull]
    assert await group.add(3) == 30


async def test_draining_waits_for_what_is_queued_however_busy_the_store():
    group = Group(Commits(StoreBusy(), StoreFull()), busy_timeout_s=60)
    future = group.add(1)
    await group.drain()
    assert isinstance(future.exception(), StoreFull)
    await group.drain()
