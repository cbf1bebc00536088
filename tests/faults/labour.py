"""A worker process for the fault tests: `python -m tests.faults.labour ORDERS`, as JSON; see `Orders`.

It says `ready`, runs until it gets a SIGTERM or a line on its standard input, and says `stopping` and `stopped`.
"""

import asyncio
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import msgspec

from ostler.adapters.store.postgres.store import PostgresStore
from ostler.adapters.store.sqlite import SqliteStore
from ostler.adapters.tools.functions import FunctionTools
from ostler.app.plugins import STORES, part
from ostler.app.world import SystemClock, SystemEntropy
from ostler.domain.scheduling import Caps, WorkerSettings
from ostler.kernel.errors import OstlerError
from ostler.ports import BlobStore, Clock, EventStore
from ostler.runtime.journal import Journal
from ostler.runtime.performer import Performer
from ostler.runtime.worker import Worker
from tests.faults.cast import Ledger, NotedModel, NotedStore, Outside, complain


class Orders(msgspec.Struct, frozen=True):
    """What a worker process is to be like.

    `host` is another name for the machine, so that others cannot see whether it lives. `rate` is how much faster its
    clock goes than the machine's.
    """

    url: str
    folder: str
    name: str
    lease_s: float = 2.0
    sweep_s: float = 0.25
    grace_s: float = 5.0
    patience_s: float = 30.0
    concurrency: int = 1000
    claims_per_s: float = 1000.0
    caps: Caps = Caps()
    pause_s: float = 0.0
    host: str = ""
    rate: float = 1.0
    seed: int = 0


class FastClock:
    """The machine's clock, in fast motion."""

    def __init__(self, rate: float) -> None:
        self._clock = SystemClock()
        self._begin_us = self._clock.now_us()
        self._rate = rate

    def now_us(self) -> int:
        return self._begin_us + int((self._clock.now_us() - self._begin_us) * self._rate)


async def open_store(url: str, *, patience_s: float = 30.0) -> tuple[EventStore, BlobStore, Clock]:
    """The store at this URL, its blobs, and the clock that goes with it."""
    if url.startswith("sqlite:///"):
        file = await SqliteStore.open(url.removeprefix("sqlite:///"), busy_timeout_s=patience_s)
        return file, part(STORES["sqlite blobs"])(file), SystemClock()
    server = await PostgresStore.open(url, patience_s=patience_s)
    return server, part(STORES["postgres blobs"])(server), server.clock


async def hire(orders: Orders) -> tuple[Worker, EventStore]:
    """A worker that has not started yet, and its store."""
    folder = Path(orders.folder)
    ledger = Ledger(folder / f"{orders.name}.ledger")
    opened, blobs, clock = await open_store(orders.url, patience_s=orders.patience_s)
    if orders.rate != 1.0:
        clock = FastClock(orders.rate)
    noted: Any = NotedStore(opened, ledger)
    outside = Outside(folder, ledger, pause_s=orders.pause_s, seed=orders.seed)
    provider = NotedModel(ledger)
    performer = Performer(provider.find, FunctionTools(outside.tools()), blobs, clock, SystemEntropy())
    settings = WorkerSettings(
        concurrency=orders.concurrency,
        claims_per_s=orders.claims_per_s,
        caps=orders.caps,
        lease_s=orders.lease_s,
        sweep_s=orders.sweep_s,
        grace_s=orders.grace_s,
    )
    worker = Worker(
        journal=Journal(noted),
        performer=performer,
        clock=clock,
        entropy=SystemEntropy(),
        settings=settings,
        trouble=complain(ledger),
    )
    return worker, opened


async def main(orders: Orders) -> None:
    if orders.host:
        socket.sethostname(orders.host)
    worker, store = await hire(orders)
    await worker.start()
    _say(f"ready {worker.name}")
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    loop.add_reader(sys.stdin, told.set)
    await told.wait()
    loop.remove_reader(sys.stdin)
    stopping = asyncio.create_task(worker.stop())
    loop.add_signal_handler(signal.SIGTERM, stopping.cancel)  # a second signal: nothing more is waited for
    _say("stopping")
    await asyncio.wait([stopping])
    await store.close()
    _say("stopped")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        asyncio.run(main(msgspec.json.decode(sys.argv[1], type=Orders)))
    except OstlerError as error:
        sys.exit(f"{error.message} {error.hint}")
