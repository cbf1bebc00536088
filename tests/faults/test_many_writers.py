"""Eight processes write while others read on from wherever they are: no gap, nothing missed, one order for all."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from ostler.kernel.event import Record, first_broken
from ostler.ports import EventStore
from tests.faults.cluster import Cluster
from tests.faults.crew import size
from tests.faults.invariants import EVERYTHING, ledgers, problems
from tests.faults.labour import open_store
from tests.runtime.processes import child

PROCESSES = 8
SECONDS = 5.0
TASKS = 4


async def follow(store: EventStore, start: int, done: asyncio.Event) -> list[Record]:
    """Everything after `start`, read page by page as it comes."""
    seen: list[Record] = []
    while True:
        was_done = done.is_set()
        page = await store.tail(after=start + len(seen), limit=137)
        for place, record in enumerate(page, start + len(seen) + 1):
            assert record.position == place, f"position {record.position} was shown before {place}"
        seen += page
        if was_done and not page:
            return seen
        if not page:
            await store.wait(after=start + len(seen), timeout_s=0.05)


@pytest.mark.fault(29)
async def test_readers_miss_nothing_of_eight_processes_that_write_to_one_postgres(
    cluster: Cluster, tmp_path: Path
) -> None:
    seconds = SECONDS * size(1, 12)
    url = cluster.url(schema="writers")
    async with AsyncExitStack() as stack:
        stores = [(await open_store(url))[0] for _ in range(3)]
        for store in stores:
            stack.push_async_callback(store.close)
        done = asyncio.Event()
        readers = [
            asyncio.create_task(follow(store, start, done)) for store, start in zip(stores, (0, 0, 500), strict=True)
        ]
        processes = [
            await stack.enter_async_context(child("tests.faults.writing", url, tmp_path, f"p{number}", TASKS, seconds))
            for number in range(PROCESSES)
        ]
        for process in processes:
            await process.rest()
            assert await process.ended() == 0
        done.set()
        seen = await asyncio.gather(*readers)
        log = await stores[0].tail(limit=EVERYTHING)
    assert seen == [log, log, log[500:]]
    assert len(log) > 1000
    streams: dict[str, list[Record]] = {}
    for record in log:
        streams.setdefault(record.stream.name, []).append(record)
    assert {name: first_broken(records) for name, records in streams.items()} == dict.fromkeys(streams)
    assert len(streams["shared"]) > PROCESSES
    assert list(problems(log, [], ledgers(tmp_path), are_over=False)) == []
    assert {line.process for line in ledgers(tmp_path)} == {f"p{number}" for number in range(PROCESSES)}
