"""A process that relays a log until all of it is there, and says what it does: `relaying.py STORE URL NAME`."""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ostler.adapters.bus.nats import NatsBus
from ostler.adapters.bus.redis import RedisBus
from ostler.adapters.store.sqlite import SqliteStore
from ostler.adapters.store.sqlite_views import SqliteViewStore
from ostler.app.world import SystemClock, SystemEntropy
from ostler.kernel.errors import OstlerError
from ostler.kernel.event import Record
from ostler.ports import EventBus, Row
from ostler.runtime.relay import Relay, RelaySettings


def say(line: str) -> None:
    """Write a line at once and as a whole."""
    os.write(1, f"{line}\n".encode())


class TalkingBus:
    """A bus that says what it is about to hand over, and what it has handed over."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus

    async def publish(self, records: Sequence[Record]) -> None:
        say(f"begins {records[0].position}")
        await self._bus.publish(records)
        say(f"has {records[-1].position}")

    async def close(self) -> None:
        await self._bus.close()


class TalkingViews(SqliteViewStore):
    """Views that say when a position is about to be stored, and when it is."""

    async def advance(self, view: str, *, after: int, position: int, rows: Sequence[Row] = ()) -> None:
        say(f"keeps {position}")
        await super().advance(view, after=after, position=position, rows=rows)
        say(f"kept {position}")


def complain(error: OstlerError) -> None:
    """Whatever a relay has trouble with, no test expects it."""
    say(f"trouble {error!r}")


async def main(path: Path, url: str, name: str) -> None:
    store = await SqliteStore.open(path)
    is_redis = url.startswith("redis")
    bus: EventBus = RedisBus(url, stream=name) if is_redis else NatsBus(url, stream=name, subject=name)
    relay = Relay(
        store=store,
        views=TalkingViews(store),
        bus=TalkingBus(bus),
        clock=SystemClock(),
        entropy=SystemEntropy(),
        settings=RelaySettings("out", batch=50),
        trouble=complain,
    )
    over = asyncio.Event()
    relay.on_change = lambda state: over.set() if state == "following" else None
    running = asyncio.create_task(relay.run())
    await over.wait()
    running.cancel()
    await asyncio.wait([running])
    await bus.close()
    await store.close()
    say("over")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
