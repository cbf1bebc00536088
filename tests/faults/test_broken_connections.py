"""Connections that break while the log is relayed: nothing is missing, and the order holds once repeats are dropped."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from ostler.adapters.bus.nats import NatsBus
from ostler.adapters.bus.redis import RedisBus
from ostler.adapters.bus.webhook import WebhookBus
from ostler.adapters.store.memory import MemoryStore
from ostler.adapters.store.memory_views import MemoryViewStore
from ostler.app.world import SystemClock
from ostler.kernel.errors import BusError, OstlerError
from ostler.kernel.event import StreamId
from ostler.ports import Append, EventBus, Standing
from ostler.runtime.relay import Relay, RelaySettings
from ostler.testing.contracts.event_bus import logged, positions, without_repeats
from tests.adapters.bus.receiver import Receiver
from tests.adapters.bus.servers import NATS, REDIS, NatsStream, RedisStream, require
from tests.faults.proxy import Proxy

EVENTS = 2000
POSTS = 300
"""Of webhooks fewer, because they go one by one."""
TIMEOUT_S = 0.5
"""How long the buses here wait for an answer that never comes."""
SEEDS = range(3)

Misfortunes = Callable[[Proxy, int], Callable[[], Coroutine[Any, Any, None]]]
Events = Callable[[], Awaitable[list[dict[str, Any]]]]


class NoWaiting:
    """Chance that always picks the shortest pause."""

    def chance(self, size: int) -> bytes:
        return bytes(size)


async def log_of(count: int) -> MemoryStore:
    store = MemoryStore()
    stream = StreamId("acme", "ses_order")
    records = [msgspec.structs.replace(record, position=0) for record in logged(count, stream=stream, size=200)]
    await store.append(Append(stream, 0, records, Standing("q", "running", None)))
    return store


async def relayed(
    bus: EventBus, store: MemoryStore, misfortunes: Callable[[], Coroutine[Any, Any, None]]
) -> list[OstlerError]:
    """Relay the whole log while misfortunes happen; returns the troubles that were met."""
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
    done = asyncio.Event()
    relay.on_change = lambda state: done.set() if state == "following" else None
    running = asyncio.create_task(relay.run())
    happening = asyncio.create_task(misfortunes())
    try:
        async with asyncio.timeout(60):
            await done.wait()
    finally:
        for task in (running, happening):
            task.cancel()
        await asyncio.wait([running, happening])
        await bus.close()
    assert happening.cancelled() or happening.exception() is None, happening.exception()
    return troubles


async def has_passed(proxy: Proxy, size: int) -> None:
    await proxy.until(lambda proxy: proxy.passed >= size)


async def is_called_again(proxy: Proxy, connections: int) -> None:
    await proxy.until(lambda proxy: proxy.connections > connections)


def cuts(proxy: Proxy, seed: int) -> Callable[[], Coroutine[Any, Any, None]]:
    """Ten cuts, each in the middle of what is being sent."""
    chance = random.Random(seed)

    async def happen() -> None:
        for _ in range(10):
            size = chance.randrange(1, 40_000)
            proxy.cut_after(size)
            await has_passed(proxy, proxy.passed + size)

    return happen


def stalls(proxy: Proxy, seed: int) -> Callable[[], Coroutine[Any, Any, None]]:
    """Three times nothing comes through any more, until the relay has tried anew; then the old arrives, late."""
    chance = random.Random(seed)

    async def happen() -> None:
        for _ in range(3):
            await has_passed(proxy, proxy.passed + chance.randrange(1, 100_000))
            proxy.stall()
            await is_called_again(proxy, proxy.connections)
            proxy.resume()

    return happen


class Way:
    """From a relay, through a proxy, to a server."""

    def __init__(self, url: str, make: Callable[[str], EventBus], events: Events, close: Callable[[], Awaitable[None]]):
        self.url, self.make, self.events, self.close = url, make, events, close
        self.count = POSTS if url.startswith("http") else EVENTS


async def redis_way() -> Way:
    require(REDIS, "redis")
    there = RedisStream()
    return Way(REDIS, lambda url: RedisBus(url, stream=there.name, timeout_s=TIMEOUT_S), there.events, there.close)


async def nats_way() -> Way:
    require(NATS, "nats")
    there = NatsStream()

    def make(url: str) -> EventBus:
        return NatsBus(url, stream=there.name, subject=there.name, timeout_s=TIMEOUT_S)

    return Way(NATS, make, there.events, there.close)


async def webhook_way() -> Way:
    there = await Receiver.start()

    async def events() -> list[dict[str, Any]]:
        return [msgspec.json.decode(post.body) for post in there.posts]

    def make(url: str) -> EventBus:
        return WebhookBus(f"{url}/events", clock=SystemClock(), timeout_s=TIMEOUT_S)

    return Way(there.url.removesuffix("/events"), make, events, there.close)


WAYS = {"redis": redis_way, "nats": nats_way, "webhook": webhook_way}


async def assert_nothing_is_lost(way: Way, misfortunes: Misfortunes, seed: int) -> None:
    parts = urlsplit(way.url)
    assert parts.hostname is not None
    assert parts.port is not None
    store = await log_of(way.count)
    try:
        async with Proxy(parts.hostname, parts.port) as proxy:
            bus = way.make(f"{parts.scheme}://{proxy.host}:{proxy.port}")
            troubles = await relayed(bus, store, misfortunes(proxy, seed))
        found = await way.events()
    finally:
        await way.close()
    assert positions(without_repeats(found)) == list(range(1, way.count + 1)), f"seed {seed}"
    assert troubles, f"nothing happened with seed {seed}"
    assert all(isinstance(error, BusError) and error.hint for error in troubles), troubles


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", WAYS)
async def test_connections_that_are_cut_in_the_middle_lose_nothing(name: str, seed: int) -> None:
    await assert_nothing_is_lost(await WAYS[name](), cuts, seed)


@pytest.mark.parametrize("name", WAYS)
async def test_connections_that_fall_silent_lose_nothing(name: str) -> None:
    await assert_nothing_is_lost(await WAYS[name](), stalls, 1)


async def test_the_proxy_passes_everything_on_until_it_is_told_otherwise() -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data.upper())
        writer.close()

    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    async with server, Proxy(*server.sockets[0].getsockname()) as proxy:
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        writer.write(b"hay")
        assert await reader.readexactly(3) == b"HAY"
        proxy.stall()
        writer.write(b"straw")
        answer = asyncio.ensure_future(reader.readexactly(5))
        assert await asyncio.wait([answer], timeout=0.05) == (set(), {answer})
        proxy.resume()
        assert await answer == b"STRAW"
        proxy.cut_after(2)
        writer.write(b"oats")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(4)
        assert (proxy.passed, proxy.connections) == (10, 1)
        writer.close()
