"""Real places to hand events to, each with a name of its own, and taken away after the test."""

import json
import os
import secrets
import socket
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest

REDIS = os.environ.get("OSTLER_TEST_REDIS", "redis://127.0.0.1:6379")
NATS = os.environ.get("OSTLER_TEST_NATS", "nats://127.0.0.1:4222")
NOWHERE = "127.0.0.1:1"
"""Where nothing listens."""


def own_name(kind: str) -> str:
    """A name that no other test and no other run uses."""
    return f"ostler-test-{kind}-{secrets.token_hex(6)}"


def require(url: str, service: str) -> None:
    """Skip the test at home if the server is not there."""
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=5).close()
    except OSError as error:
        pytest.skip(reason=f"{service} does not run at {parts.hostname}:{parts.port}: {error}; nats or redis is needed")


class RedisStream:
    """One stream of a Redis server."""

    def __init__(self) -> None:
        from redis.asyncio import Redis

        self.name = own_name("redis")
        self.client = Redis.from_url(REDIS)

    async def events(self, *, after: int = 0) -> list[dict[str, Any]]:
        entries: Any = await self.client.xrange(self.name, f"({after}-0")
        assert all(list(fields) == [b"event"] for _, fields in entries)
        return [json.loads(fields[b"event"]) for _, fields in entries]

    async def close(self) -> None:
        await self.client.delete(self.name)
        await self.client.aclose()


class NatsStream:
    """One stream of JetStream, with its subjects."""

    def __init__(self) -> None:
        self.name = own_name("nats")
        self.client: Any = None

    async def connected(self) -> Any:
        import nats

        if self.client is None:
            self.client = await nats.connect(NATS, allow_reconnect=False)
        return self.client.jetstream()

    async def messages(self) -> list[Any]:
        """Every message in the order of the stream."""
        from nats.js.api import AckPolicy, ConsumerConfig

        jetstream = await self.connected()
        left = (await jetstream.stream_info(self.name)).state.messages
        found: list[Any] = []
        if left:
            config = ConsumerConfig(ack_policy=AckPolicy.NONE)
            reading = await jetstream.pull_subscribe(f"{self.name}.>", stream=self.name, config=config)
            while len(found) < left:
                found += await reading.fetch(min(500, left - len(found)), timeout=10)
            await reading.unsubscribe()
        return found

    async def events(self, *, after: int = 0) -> list[dict[str, Any]]:
        events = [json.loads(message.data) for message in await self.messages()]
        return [event for event in events if int(event["position"]) > after]

    async def close(self) -> None:
        from nats.js.errors import NotFoundError

        jetstream = await self.connected()
        with suppress(NotFoundError):
            await jetstream.delete_stream(self.name)
        await self.client.close()
