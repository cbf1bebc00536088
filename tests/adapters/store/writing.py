"""A process that writes to a store and says what was acknowledged: `writing.py PATH NAME COUNT`.

Three tasks append `COUNT` events each, to a stream of their own and to one that all processes share.
"""

import asyncio
import sys

from ostler.adapters.store.sqlite import SqliteStore
from ostler.kernel.errors import StaleWrite
from ostler.kernel.event import GENESIS, StreamId
from ostler.ports import Append, Standing
from ostler.testing.contracts.streams import records

SHARED = StreamId("acme", "shared")


async def write(store: SqliteStore, stream: StreamId, count: int) -> None:
    done = 0
    while done < count:
        last = (await store.read(stream))[-1:]
        seq, previous = (last[0].seq, last[0].hash) if last else (0, GENESIS)
        try:
            await store.append(Append(stream, seq, records(stream, seq, 1, previous), Standing("q", "s", None)))
        except StaleWrite:
            continue
        done += 1
        say(f"{stream.name} {seq + 1}")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def main(path: str, name: str, count: int) -> None:
    store = await SqliteStore.open(path)
    say("ready 0")
    async with asyncio.TaskGroup() as tasks:
        for stream in (SHARED, StreamId("acme", f"{name}-1"), StreamId("acme", f"{name}-2")):
            tasks.create_task(write(store, stream, count))
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
