"""A process that appends as fast as it can: `python -m tests.faults.writing URL LEDGER NAME TASKS SECONDS`.

Each task has a stream of its own, and now and then adds to one that all processes share.
"""

import asyncio
import random
import sys
import time
from pathlib import Path
from typing import Any

from ostler.kernel.errors import StaleWrite
from ostler.kernel.event import GENESIS, Record, StreamId, link
from ostler.ports import Append, EventStore, Standing
from tests.faults.cast import Ledger, NotedStore
from tests.faults.labour import open_store

SHARED = StreamId("acme", "shared")
STANDING = Standing("q", "s", None)


def following(last: Record | None, stream: StreamId, count: int, words: str) -> list[Record]:
    """So many events that come after `last` in its stream."""
    records: list[Record] = []
    for _ in range(count):
        seq, previous = (last.seq, last.hash) if last else (0, GENESIS)
        data = f'{{"type":"hay.eaten","by":"{words}","bale":{seq + 1}}}'.encode()
        last = Record(stream, seq + 1, seq, data, link(previous, stream, seq + 1, seq, data))
        records.append(last)
    return records


async def write(store: EventStore, stream: StreamId, end: float, chance: random.Random) -> None:
    last: Record | None = None
    while time.monotonic() < end:
        if chance.random() < 0.1:
            found = await store.read(SHARED)
            try:
                added = following(found[-1] if found else None, SHARED, 1, stream.name)
                await store.append(Append(SHARED, added[0].seq - 1, added, STANDING))
            except StaleWrite:
                pass
        else:
            added = following(last, stream, chance.randint(1, 5), stream.name)
            await store.append(Append(stream, added[0].seq - 1, added, STANDING if last is None else None))
            last = added[-1]


async def main(url: str, folder: Path, name: str, tasks: int, seconds: float) -> None:
    opened, _, _ = await open_store(url)
    store: Any = NotedStore(opened, Ledger(folder / f"{name}.ledger"))
    end = time.monotonic() + seconds
    async with asyncio.TaskGroup() as group:
        for number in range(tasks):
            stream = StreamId("acme", f"{name}-{number}")
            group.create_task(write(store, stream, end, random.Random(f"{name} {number}")))
    await opened.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), float(sys.argv[5])))
