"""Within a process: everybody gets everything from where they began, and a slow one holds nobody up."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest

from ostler.adapters.bus.feed import Feed
from ostler.adapters.bus.memory import MemoryBus
from ostler.adapters.store.memory import MemoryStore
from ostler.kernel.errors import BusError, StoreUnreachable
from ostler.kernel.event import Record, StreamId
from ostler.ports import Append, Standing
from ostler.testing.contracts.event_bus import logged

STREAM = StreamId("acme", "ses_1")


async def log(store: MemoryStore, count: int) -> None:
    version = len(await store.read(STREAM))
    records = logged(count, after=version, stream=STREAM)
    await store.append(
        Append(STREAM, version, [msgspec.structs.replace(one, position=0) for one in records], Standing("q", "s", None))
    )


async def take(records: AsyncGenerator[Record, None], count: int) -> list[int]:
    return [(await anext(records)).position for _ in range(count)]


async def test_a_slow_subscriber_is_told_where_to_read_on_and_holds_nobody_up() -> None:
    bus = MemoryBus()
    async with bus.subscribe(limit=3) as slow, bus.subscribe() as quick:
        await bus.publish(logged(2))
        assert (await anext(slow)).position == 1
        await bus.publish(logged(10, after=2))
        assert [(await anext(quick)).position for _ in range(12)] == list(range(1, 13))
        assert [(await anext(slow)).position for _ in range(3)] == [2, 3, 4]
        with pytest.raises(BusError, match="too slowly") as behind:
            await anext(slow)
        assert behind.value.kept == 4
        await bus.publish(logged(1, after=12))
        assert (await anext(quick)).position == 13


async def test_closing_ends_subscriptions_after_what_waits_in_them() -> None:
    bus = MemoryBus()
    subscription = bus.subscribe()
    await bus.publish(logged(2))
    await bus.close()
    assert [record.position async for record in subscription] == [1, 2]
    assert [record async for record in bus.subscribe()] == []
    with pytest.raises(BusError):
        await bus.publish(logged(1))


async def test_whoever_has_left_gets_nothing_more() -> None:
    bus = MemoryBus()
    async with bus.subscribe(limit=1) as subscription:
        pass
    await bus.publish(logged(5))
    assert subscription.waiting == 0


async def test_readers_of_a_feed_begin_where_they_like_and_get_each_event_once() -> None:
    store = MemoryStore()
    await log(store, 1200)
    async with Feed(store) as feed:
        everything, some, new = feed.records(after=0), feed.records(after=1150), feed.records()
        latest = asyncio.ensure_future(take(new, 2))
        await asyncio.sleep(0)
        assert await take(some, 50) == list(range(1151, 1201))
        await log(store, 2)
        assert await latest == [1201, 1202]
        assert await take(some, 2) == [1201, 1202]
        assert await take(everything, 1202) == list(range(1, 1203))


async def test_a_reader_that_falls_behind_catches_up_from_the_store() -> None:
    store = MemoryStore()
    async with Feed(store) as feed:
        slow, quick = feed.records(after=0), feed.records(after=0)
        await log(store, 1)
        assert (await take(slow, 1), await take(quick, 1)) == ([1], [1])
        for _ in range(8):
            await log(store, 500)
            await take(quick, 500)
        assert await take(slow, 4000) == list(range(2, 4002))


async def test_the_end_of_a_feed_ends_its_readers() -> None:
    store = MemoryStore()
    await log(store, 3)
    feed = Feed(store)
    async with feed:
        reading = asyncio.ensure_future(_all(feed.records(after=1)))
        await log(store, 1)
        other = feed.records(after=0)
        assert await take(other, 4) == [1, 2, 3, 4]
    assert await reading == [2, 3, 4]


async def _all(records: AsyncGenerator[Record, None]) -> list[int]:
    return [record.position async for record in records]


async def test_what_ends_the_feed_is_told_to_its_readers() -> None:
    class Failing(MemoryStore):
        async def wait(self, **_: Any) -> int:
            raise StoreUnreachable

    store = Failing()
    async with Feed(store) as feed:
        with pytest.raises(StoreUnreachable):
            await take(feed.records(after=0), 1)
