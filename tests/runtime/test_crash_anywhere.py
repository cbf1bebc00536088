"""A worker dies before and after every outside call it makes; the next one finishes, and nothing is lost or twice."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ostler.adapters.store.memory import MemoryBlobStore, MemoryStore
from ostler.adapters.store.sqlite import SqliteStore
from ostler.domain.identity import LOCAL_USER
from ostler.domain.session import commands as command
from ostler.domain.session.events import SESSION_CODEC, CallRetried, SessionEvent, ToolCompleted
from ostler.domain.session.state import ENDED
from ostler.kernel.event import StreamId, first_broken
from ostler.ports import EventStore
from ostler.runtime.journal import Journal
from ostler.runtime.replay import replay
from tests.runtime.crash import LEASE_S, Clock, Crash, Fuse, Process, World, clerk, script

STREAM = StreamId(LOCAL_USER.tenant, "ses_crash")
Open = Callable[[], Awaitable[EventStore]]


async def test_a_crash_at_any_outside_call_in_memory_loses_nothing_and_does_nothing_twice() -> None:
    async def fresh() -> Open:
        store = MemoryStore()

        async def reopen() -> EventStore:
            return store

        return reopen

    await check_every_crash(fresh)


@pytest.mark.timeout(300)
async def test_a_crash_at_any_outside_call_on_sqlite_loses_nothing_and_does_nothing_twice(tmp_path: Path) -> None:
    numbers = iter(range(10_000))

    async def fresh() -> Open:
        path = tmp_path / f"{next(numbers)}.db"
        return lambda: SqliteStore.open(path)

    await check_every_crash(fresh)


async def check_every_crash(fresh: Callable[[], Awaitable[Open]]) -> None:
    """Run once undisturbed; then once for each moment of that run, dying there."""
    undisturbed = Fuse()
    expected, _ = await life_and_death(await fresh(), undisturbed)
    assert len(undisturbed.moments) > 60
    for moment in range(1, len(undisturbed.moments) + 1):
        fuse = Fuse(moment)
        found, world = await life_and_death(await fresh(), fuse)
        where = f"crash {fuse.moments[-1]} (moment {moment})"
        assert normal(found, expected) == expected, where
        done = Counter(world.done)
        assert all(count == 1 for effect, count in done.items() if effect.startswith(("pay", "book"))), where
        assert len([effect for effect in done if effect.startswith("pay")]) <= 2, where


async def life_and_death(open_store: Open, fuse: Fuse) -> tuple[list[SessionEvent], World]:
    """One session, with a first worker that dies if the fuse says so, and a second one that comes after it."""
    world, clock = World(), Clock()
    store = await open_store()
    start = command.Start(clock.now_us(), STREAM.name, clerk(world), script().ref, "Go.", LOCAL_USER)
    await Journal(store).start(STREAM.tenant, start)
    acknowledged = await lead(store, world, clock, fuse)
    if fuse.blown.is_set():
        reopened = await open_store()
        kept = await reopened.read(STREAM)
        assert kept[: len(acknowledged)] == acknowledged, "an acknowledged event is missing"
        if reopened is not store:
            await store.close()
        store = reopened
        clock.us += int(LEASE_S * 2_000_000)
        await lead(store, world, clock, Fuse())
    records = await store.read(STREAM)
    assert first_broken(records) is None
    replay(records)
    await store.close()
    return [SESSION_CODEC.decode(record.data) for record in records], world


async def lead(store: EventStore, world: World, clock: Clock, fuse: Fuse) -> list[object]:
    """A worker's life, to the end of the session or its own; returns the records there were when it was over."""
    before = asyncio.all_tasks()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)  # tasks that died of the crash
    process = Process(store, MemoryBlobStore(), world, script(), clock, fuse=fuse)
    try:
        await process.worker.start()
        ended = asyncio.create_task(until_ended(store))
        blown = asyncio.create_task(fuse.blown.wait())
        await asyncio.wait([ended, blown], return_when=asyncio.FIRST_COMPLETED)
        for waiting in (ended, blown):
            waiting.cancel()
        if not fuse.blown.is_set():
            await process.worker.stop()
    except Crash:
        pass
    records: list[object] = list(await store.read(STREAM))
    leftover = asyncio.all_tasks() - before
    for task in leftover:
        task.cancel()
    await asyncio.gather(*leftover, return_exceptions=True)
    assert not process.errors, process.errors
    return records


async def until_ended(store: EventStore) -> None:
    while True:
        position = await store.head()
        (info,) = await store.streams(STREAM.tenant, prefix=STREAM.name)
        if info.standing.status in ENDED:
            return
        await store.wait(after=position, timeout_s=5)


def normal(found: list[SessionEvent], expected: list[SessionEvent]) -> list[SessionEvent]:
    """Without attempts; and a `once` call whose outcome nobody can know counts as the outcome it might have had."""
    outcomes = {event.call: event for event in expected if isinstance(event, ToolCompleted)}
    return [
        outcomes[event.call] if isinstance(event, ToolCompleted) and event.kind == "unknown" else event
        for event in found
        if not isinstance(event, CallRetried)
    ]


async def test_a_worker_that_dies_again_and_again_while_recovering_still_finishes_the_session() -> None:
    store, world, clock = MemoryStore(), World(), Clock()
    start = command.Start(clock.now_us(), STREAM.name, clerk(world), script().ref, "Go.", LOCAL_USER)
    await Journal(store).start(STREAM.tenant, start)
    lives, status = 0, ""
    while status not in ENDED:
        lives += 1
        assert lives < 200
        await lead(store, world, clock, Fuse(20 + lives % 11))
        clock.us += int(LEASE_S * 2_000_000)
        (info,) = await store.streams(STREAM.tenant, prefix=STREAM.name)
        status = info.standing.status
    assert status == "completed"
    effects = Counter(world.done)
    assert all(count == 1 for effect, count in effects.items() if effect.startswith(("pay", "book")))
    records = await store.read(STREAM)
    retries = [e for e in (SESSION_CODEC.decode(r.data) for r in records) if isinstance(e, CallRetried)]
    assert lives > 5
    assert retries
    assert first_broken(records) is None
