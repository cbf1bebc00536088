"""A worker of an agent with memory dies around every outside call: each memory is wholly there once, or not at all."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from ostler.adapters.index.sqlite import SqliteIndex
from ostler.adapters.store.memory import MemoryBlobStore, MemoryStore
from ostler.adapters.store.sqlite import SqliteStore
from ostler.domain.agent import AgentSpec, Limits
from ostler.domain.identity import LOCAL_USER
from ostler.domain.memory.events import MEMORY_CODEC, MemoryRecalled, MemoryRemembered
from ostler.domain.memory.memory import Source
from ostler.domain.memory.scope import PREFIX, Scope
from ostler.domain.memory.settings import MemorySettings
from ostler.domain.memory.tools import MEMORY_TOOLS
from ostler.domain.memory.writing import Wish
from ostler.domain.session import commands as command
from ostler.domain.session.events import SESSION_CODEC, CallRetried
from ostler.domain.session.state import ENDED
from ostler.kernel.event import StreamId, first_broken
from ostler.ports import EventStore
from ostler.runtime.journal import Journal
from ostler.runtime.memory.memories import Memories
from ostler.runtime.memory.tools import MemoryTools
from ostler.runtime.replay import replay
from ostler.testing import Scripted, calls
from tests.runtime.crash import LEASE_S, Clock, Crash, Fuse, Fused, Process

STREAM = StreamId(LOCAL_USER.tenant, "ses_crash")
OWNER = Scope(LOCAL_USER.tenant, "clerk", LOCAL_USER.id)
SEED = "The shop is painted blue"
Open = Callable[[], Awaitable[EventStore]]


def clerk() -> AgentSpec:
    return AgentSpec("clerk", tools=MEMORY_TOOLS, limits=Limits(attempts=50), memory=MemorySettings())


def script() -> Scripted:
    return Scripted(
        calls(("memory.remember", {"text": "The door is painted red"}), ("working.put", {"key": "a", "text": "b"})),
        calls(
            ("memory.relate", {"subject": "shop", "relation": "has", "object": "door"}), ("working.get", {"key": "a"})
        ),
        "painted",
    )


CHANGING = ("append", "perform", "complete")
"""Between two calls of these no session and no memory changes: one moment there is like another."""


async def test_a_crash_around_whatever_changes_something_leaves_each_memory_once() -> None:
    async def fresh() -> Open:
        store = MemoryStore()

        async def reopen() -> EventStore:
            return store

        return reopen

    await check_every_crash(fresh, lambda number, moment: moment.endswith(CHANGING) or number % 7 == 0)


async def test_a_crash_after_any_append_on_sqlite_leaves_each_memory_once(tmp_path: Path) -> None:
    numbers = iter(range(10_000))

    async def fresh() -> Open:
        path = tmp_path / f"{next(numbers)}.db"
        return lambda: SqliteStore.open(path)

    await check_every_crash(fresh, lambda number, moment: moment.startswith("after") and moment.endswith("append"))


async def check_every_crash(fresh: Callable[[], Awaitable[Open]], is_deadly: Callable[[int, str], bool]) -> None:
    """Run once undisturbed; then once for each moment of that run that `is_deadly`, by its number and name."""
    undisturbed = Fuse()
    expected, kept = await life_and_death(await fresh(), undisturbed)
    assert "episode.requested" in expected
    assert len(undisturbed.moments) > 40
    assert kept[SEED] == kept["The door is painted red"] == kept["shop has door"] == 1
    assert kept["Goal: Paint the shop.\nCompleted: painted"] == 1
    assert len(kept) == 5, "these, and the call that recalled"
    deaths = [number for number, moment in enumerate(undisturbed.moments, 1) if is_deadly(number, moment)]
    assert len(deaths) > 10
    for moment in deaths:
        fuse = Fuse(moment)
        found, remembered = await life_and_death(await fresh(), fuse)
        where = f"crash {fuse.moments[-1]} (moment {moment})"
        assert found == expected, where
        assert remembered == kept, where


async def life_and_death(open_store: Open, fuse: Fuse) -> tuple[list[str], Counter[str]]:
    """One session, with a first worker that dies if the fuse says so, and a second one that comes after it.

    Returns what happened but for attempts, and how often each memory was written and each call was counted.
    """
    clock, store = Clock(), await open_store()
    before = Memories(store, await SqliteIndex.open(":memory:"), clock)
    await before.remember(OWNER, Wish("fact", SEED, Source("user:anna")), key="seed")
    await before.close()
    start = command.Start(clock.now_us(), STREAM.name, clerk(), script().ref, "Paint the shop.", LOCAL_USER)
    await Journal(store).start(STREAM.tenant, start)
    await lead(store, clock, fuse)
    if fuse.blown.is_set():
        reopened = await open_store()
        if reopened is not store:
            await store.close()
        store = reopened
        clock.us += int(LEASE_S * 2_000_000)
        await lead(store, clock, Fuse())
    records = await store.read(STREAM)
    assert first_broken(records) is None
    replay(records)
    kept = await memories_in(store)
    await store.close()
    events = [SESSION_CODEC.decode(record.data) for record in records]
    return [str(type(one).__struct_config__.tag) for one in events if not isinstance(one, CallRetried)], kept


async def lead(store: EventStore, clock: Clock, fuse: Fuse) -> None:
    """A worker's life, to the end of the session or its own. Its index dies with it."""
    others = asyncio.all_tasks()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)  # tasks that died of the crash
    index = await SqliteIndex.open(":memory:")
    memories = Memories(Fused(store, fuse, "memories"), Fused(index, fuse, "index"), clock)

    async def opened() -> Memories:
        return memories

    tools = MemoryTools(opened, clock)
    process = Process(store, MemoryBlobStore(), tools, script(), clock, fuse=fuse)
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
    leftover = asyncio.all_tasks() - others
    for task in leftover:
        task.cancel()
    await asyncio.gather(*leftover, return_exceptions=True)
    await index.close()
    assert not process.errors, process.errors


async def until_ended(store: EventStore) -> None:
    while True:
        position = await store.head()
        (info,) = await store.streams(STREAM.tenant, prefix=STREAM.name)
        if info.standing.status in ENDED:
            return
        await store.wait(after=position, timeout_s=5)


async def memories_in(store: EventStore) -> Counter[str]:
    """How often each memory was remembered, and each call was counted as having recalled, in the log."""
    found: Counter[str] = Counter()
    for info in await store.streams(STREAM.tenant, prefix=PREFIX):
        records = await store.read(info.stream)
        assert first_broken(records) is None
        for event in (MEMORY_CODEC.decode(record.data) for record in records):
            if isinstance(event, MemoryRemembered):
                found[event.memory.text] += 1
            elif isinstance(event, MemoryRecalled):
                found[event.call] += 1
    return found
