"""Brokers that are killed while the log is relayed to them, and come back: nothing is missing."""

import asyncio
import json
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ostler.adapters.bus.nats import NatsBus
from ostler.adapters.bus.redis import RedisBus
from ostler.adapters.store.memory_views import MemoryViewStore
from ostler.app.world import SystemClock
from ostler.kernel.errors import OstlerError
from ostler.ports import EventBus
from ostler.runtime.relay import Relay, RelaySettings, State
from ostler.testing.contracts.event_bus import positions, without_repeats
from tests.faults.test_broken_connections import NoWaiting, log_of

EVENTS = 3000
KILLS = 4
PATIENCE_S = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """A server of our own, that keeps what it has on a disk."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self._process: asyncio.subprocess.Process | None = None

    def command(self) -> list[str]:
        raise AssertionError("each kind has its own")

    async def start(self) -> None:
        quiet = asyncio.subprocess.DEVNULL
        self._process = await asyncio.create_subprocess_exec(*self.command(), stdout=quiet, stderr=quiet)
        end_s = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            assert asyncio.get_running_loop().time() < end_s, "the server does not come up"
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0)
            else:
                writer.close()
                return

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


class Redis(Broker):
    def command(self) -> list[str]:
        kept = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        return ["redis-server", "--port", str(self.port), "--dir", str(self.folder), *kept]

    def bus(self) -> EventBus:
        return RedisBus(f"redis://127.0.0.1:{self.port}", timeout_s=2.0)

    async def events(self) -> list[dict[str, Any]]:
        from redis.asyncio import Redis as Client

        client = Client(port=self.port)
        entries: Any = await client.xrange("ostler")
        await client.aclose()
        return [json.loads(fields[b"event"]) for _, fields in entries]


class Nats(Broker):
    def command(self) -> list[str]:
        return ["nats-server", "-js", "-a", "127.0.0.1", "-p", str(self.port), "-sd", str(self.folder)]

    def bus(self) -> EventBus:
        return NatsBus(f"nats://127.0.0.1:{self.port}", timeout_s=2.0)

    async def events(self) -> list[dict[str, Any]]:
        import nats
        from nats.js.api import AckPolicy, ConsumerConfig

        client = await nats.connect(f"nats://127.0.0.1:{self.port}")
        reading = await client.jetstream().pull_subscribe(
            "ostler.>", stream="OSTLER", config=ConsumerConfig(ack_policy=AckPolicy.NONE)
        )
        found: list[Any] = []
        while (await reading.consumer_info()).num_pending:
            found += await reading.fetch(500, timeout=10)
        await client.close()
        return [json.loads(message.data) for message in found]


class Halting:
    """A bus that lets the test do something in the middle of each batch at these positions."""

    def __init__(self, bus: EventBus, at: set[int], disturb: Callable[[], None]) -> None:
        self._bus, self._at, self._disturb = bus, at, disturb

    async def publish(self, records: Any) -> None:
        if hit := {record.position for record in records} & self._at:
            self._at -= hit
            asyncio.get_running_loop().call_soon(self._disturb)
        await self._bus.publish(records)

    async def close(self) -> None:
        await self._bus.close()


@asynccontextmanager
async def running(relay: Relay) -> AsyncIterator[None]:
    task = asyncio.create_task(relay.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.parametrize(("kind", "binary"), [(Redis, "redis-server"), (Nats, "nats-server")])
async def test_a_broker_that_is_killed_and_comes_back_has_everything(
    kind: type[Redis] | type[Nats], binary: str, tmp_path: Path
) -> None:
    if shutil.which(binary) is None:
        pytest.skip(reason="redis or nats is not installed here as a server")
    broker = kind(tmp_path, free_port())
    store, kill, done = await log_of(EVENTS), asyncio.Event(), asyncio.Event()
    chosen = {EVENTS * number // (KILLS + 1) for number in range(1, KILLS + 1)}
    bus = Halting(broker.bus(), set(chosen), kill.set)
    troubles: list[OstlerError] = []
    relay = Relay(
        store=store,
        views=MemoryViewStore(),
        bus=bus,
        clock=SystemClock(),
        entropy=NoWaiting(),
        settings=RelaySettings("out", batch=100),
        trouble=troubles.append,
    )

    def on_change(state: State) -> None:
        if state == "following":
            done.set()

    relay.on_change = on_change
    await broker.start()
    try:
        async with running(relay), asyncio.timeout(PATIENCE_S):
            for _ in chosen:
                await kill.wait()
                kill.clear()
                await broker.kill()
                await broker.start()
            await done.wait()
        found = await broker.events()
    finally:
        await bus.close()
        await broker.kill()
    assert positions(without_repeats(found)) == list(range(1, EVENTS + 1))
    assert troubles, "nobody noticed a kill"
