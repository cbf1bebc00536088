"""Two workers on one session, interleaved at random: one history."""

import asyncio
import random
from collections import Counter

import pytest

from ostler.adapters.store.memory import MemoryBlobStore, MemoryStore
from ostler.domain.identity import LOCAL_USER
from ostler.domain.session import commands as command
from ostler.domain.session.events import (
    SESSION_CODEC,
    AgentCompleted,
    AgentStarted,
    CallRetried,
    ModelCompleted,
    ModelRequested,
    ToolCompleted,
    ToolRequested,
)
from ostler.domain.session.state import ENDED
from ostler.kernel.event import StreamId, first_broken
from ostler.runtime.journal import Journal
from ostler.runtime.replay import replay
from tests.runtime.crash import LEASE_S, Clock, Process, World, clerk, script

STREAM = StreamId(LOCAL_USER.tenant, "ses_two")


@pytest.mark.parametrize("hundred", range(4))
async def test_two_workers_that_steal_a_session_from_each_other_write_one_history(
    hundred: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # They steal more often in a row than any session would be tried.
    monkeypatch.setattr("ostler.runtime.worker.ATTEMPTS_MAX", 1_000)
    monkeypatch.setattr("ostler.domain.session.decide.LOSSES_MAX", 1_000)
    stolen = [await check_interleaving(seed) for seed in range(hundred * 50, hundred * 50 + 50)]
    assert sum(stolen) > 50, "they hardly met"


async def check_interleaving(seed: int) -> int:
    """Checks the one history that they wrote; returns how many calls one took from under the hands of the other."""
    chance = random.Random(seed)
    store, world, clock = MemoryStore(), World(), Clock()

    async def at_random() -> None:
        """Let others run, for a random while; now and then so long that every lease has run out."""
        for _ in range(chance.randrange(6)):
            await asyncio.sleep(0)
        if chance.random() < 0.03:
            clock.us += int(LEASE_S * 2_000_000)
            for process in processes:
                process.worker.wake()

    start = command.Start(clock.now_us(), STREAM.name, clerk(world), script().ref, "Go.", LOCAL_USER)
    await Journal(store).start(STREAM.tenant, start)
    blobs = MemoryBlobStore()
    processes = [
        Process(store, blobs, world, script(), clock, seed=seed + number, scheduler=at_random) for number in (1, 2)
    ]
    for process in processes:
        await process.worker.start()
    async with asyncio.timeout(30):
        while True:
            position = await store.head()
            (info,) = await store.streams(STREAM.tenant, prefix=STREAM.name)
            if info.standing.status in ENDED:
                break
            await store.wait(after=position, timeout_s=5)
    for process in processes:
        await process.worker.stop()
    return await check(store, world, f"seed {seed}")


async def check(store: MemoryStore, world: World, seed: str) -> int:
    records = await store.read(STREAM)
    assert first_broken(records) is None, seed
    replay(records)
    events = [SESSION_CODEC.decode(record.data) for record in records]
    assert len([event for event in events if isinstance(event, AgentStarted)]) == 1, seed
    assert isinstance(events[-1], AgentCompleted), seed
    assert len([event for event in events if isinstance(event, AgentCompleted)]) == 1, seed
    begun = Counter(event.call for event in events if isinstance(event, ModelRequested | ToolRequested))
    ended = Counter(event.call for event in events if isinstance(event, ModelCompleted | ToolCompleted))
    assert begun == ended, seed
    assert set(begun.values()) == {1}, seed
    paid = Counter(effect for effect in world.done if effect.startswith("pay"))
    assert set(paid.values()) <= {1}, seed
    unknown = [event for event in events if isinstance(event, ToolCompleted) and event.kind == "unknown"]
    return len(unknown) + len([event for event in events if isinstance(event, CallRetried)])
