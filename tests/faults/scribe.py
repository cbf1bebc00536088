"""A process that appends to a SQLite store and says what was acknowledged: `python -m tests.faults.scribe PATH COUNT`.

It says `kept SEQ` for each append, and `refused CODE` for one that failed, which it then tries again, a few times.
"""

import asyncio
import os
import sys

from ostler.adapters.store.sqlite import SqliteStore
from ostler.kernel.errors import StoreError
from ostler.kernel.event import GENESIS, Record, StreamId, link
from ostler.ports import Append, Standing

STREAM = StreamId("acme", "scribe")
STANDING = Standing("q", "s", None)
TRIES = 5
PAUSE_S = 0.01


def say(line: str) -> None:
    """At once and as a whole, so that a trace of this process shows when it was said."""
    os.write(1, f"{line}\n".encode())


def event(seq: int, previous: bytes) -> Record:
    data = b'{"type":"hay.eaten","bale":%d,"words":"%s"}' % (seq, b"hay " * (seq * 37 % 300))
    return Record(STREAM, seq, seq, data, link(previous, STREAM, seq, seq, data))


async def opened(path: str) -> SqliteStore:
    for _ in range(TRIES):
        try:
            return await SqliteStore.open(path, busy_timeout_s=1.0)
        except StoreError as error:
            say(f"refused {error.code}")
            await asyncio.sleep(PAUSE_S)
    sys.exit(3)


async def main(path: str, count: int) -> None:
    store = await opened(path)
    previous = GENESIS
    found = await store.read(STREAM)
    seq = len(found)
    previous = found[-1].hash if found else GENESIS
    tries = 0
    while seq < count and tries < TRIES:
        record = event(seq + 1, previous)
        try:
            await store.append(Append(STREAM, seq, [record], STANDING if seq == 0 else None))
        except StoreError as error:
            say(f"refused {error.code}")
            tries += 1
            await asyncio.sleep(PAUSE_S)
            # Whatever is raised, nothing of it was written.
            continue
        seq, previous = seq + 1, record.hash
        say(f"kept {seq}")
    await store.close()
    say("closed")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
