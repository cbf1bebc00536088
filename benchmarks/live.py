"""What live text costs the session whose model talks: CPU time for each token. `python -m benchmarks.live`.

Unwatched it is to be at most 1 us. Watched, a process hands pieces on every 50 ms, however many tokens that is.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from tempfile import TemporaryDirectory

from ostler.adapters.live.memory import MemoryLive
from ostler.adapters.live.unix import UnixLive
from ostler.kernel.event import StreamId
from ostler.ports import LiveReply, LiveText

TOKENS = 200_000
BATCH = 100
ROUNDS = 7
HERE = StreamId("acme", "ses_1")


async def told(reply: LiveReply) -> float:
    """Microseconds of CPU for each token; others get their turn after every batch, as between network reads."""
    say, before = reply.say, time.process_time()
    for _ in range(TOKENS // BATCH):
        for _ in range(BATCH):
            say("word ")
        await asyncio.sleep(0)
    return (time.process_time() - before) * 1e6 / TOKENS


async def nothing() -> float:
    """The same loop with a function that does nothing."""
    before = time.process_time()
    say: Callable[[str], None] = lambda text: None  # noqa: E731 - what a provider calls where nobody can watch
    for _ in range(TOKENS // BATCH):
        for _ in range(BATCH):
            say("word ")
        await asyncio.sleep(0)
    return (time.process_time() - before) * 1e6 / TOKENS


async def unwatched(live: LiveText) -> float:
    reply = live.begin(HERE, "1", 1)
    try:
        return await told(reply)
    finally:
        reply.end()


async def watched(live: LiveText) -> float:
    """By one who reads all."""

    async def read() -> None:
        async with aclosing(live.watch(HERE)) as pieces:
            async for _ in pieces:
                pass

    reply, reading = live.begin(HERE, "1", 1), asyncio.create_task(read())
    try:
        await asyncio.sleep(0.2)
        return await told(reply)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        reply.end()


async def median(measure: Callable[[], Awaitable[float]]) -> float:
    return statistics.median([await measure() for _ in range(ROUNDS)])


async def main() -> None:
    with TemporaryDirectory() as folder:
        memory, unix = MemoryLive(), UnixLive(Path(folder) / "store.db")
        await unix.serve()
        bare = await median(nothing)
        rows = {
            "unwatched": await median(lambda: unwatched(memory)),
            "watched in the process": await median(lambda: watched(memory)),
            "unwatched, with a socket": await median(lambda: unwatched(unix)),
        }
        print(f"{'a function that does nothing':32} {bare:7.3f} us a token")
        for name, cost in rows.items():
            print(f"{name:32} {cost:7.3f} us a token, {cost - bare:+.3f}")
        await unix.close()


if __name__ == "__main__":
    asyncio.run(main())
