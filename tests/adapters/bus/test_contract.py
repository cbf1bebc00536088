"""Every bus keeps the contract: on real servers, on librdkafka's own mock cluster, on a local web server."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from ostler.adapters.bus.kafka import KafkaBus
from ostler.adapters.bus.memory import MemoryBus, Subscription
from ostler.adapters.bus.nats import NatsBus
from ostler.adapters.bus.redis import RedisBus
from ostler.adapters.bus.webhook import WebhookBus
from ostler.app.world import SystemClock
from ostler.kernel.event import Record, to_cloudevent
from ostler.ports import EventBus
from ostler.testing.contracts.event_bus import EventBusContract, Target, logged
from tests.adapters.bus.receiver import Receiver
from tests.adapters.bus.servers import NATS, NOWHERE, REDIS, NatsStream, RedisStream, own_name, require

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class RedisTarget(RedisStream, Target):
    def open(self) -> EventBus:
        return RedisBus(REDIS, stream=self.name)

    def unreachable(self, password: str) -> EventBus:
        return RedisBus(f"redis://anna:{password}@{NOWHERE}/0", stream=self.name)


class TestRedisBus(EventBusContract):
    drops_repeats = True

    async def target(self) -> Target:
        require(REDIS, "redis")
        return RedisTarget()


class NatsTarget(NatsStream, Target):
    def open(self) -> EventBus:
        return NatsBus(NATS, stream=self.name, subject=self.name)

    def unreachable(self, password: str) -> EventBus:
        return NatsBus(f"nats://anna:{password}@{NOWHERE}")


class TestNatsBus(EventBusContract):
    drops_repeats = True
    event_bytes = 1024 * 1024 - 1024
    """The server takes a mebibyte, with envelope and headers."""

    async def target(self) -> Target:
        require(NATS, "nats")
        return NatsTarget()


class Cluster:
    """Three brokers that librdkafka plays, in the process and over real sockets."""

    def __init__(self) -> None:
        self._holder = Producer({"bootstrap.servers": "played", "test.mock.num.brokers": 3, "log_level": 0})
        brokers = self._holder.list_topics(timeout=10).brokers.values()
        self.servers = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)


class KafkaTarget(Target):
    """One topic, whose partitions are read in full and put in the order of the log."""

    def __init__(self, servers: str) -> None:
        self._servers = servers
        self.topic = own_name("kafka")

    def open(self) -> EventBus:
        return KafkaBus(self._servers, topic=self.topic)

    def unreachable(self, password: str) -> EventBus:
        return KafkaBus(NOWHERE, topic=self.topic, user="anna", password=password, timeout_s=1.0)

    async def events(self, *, after: int = 0) -> list[dict[str, Any]]:
        partitions = await asyncio.to_thread(self.read)
        everything = [event for events in partitions for _, event in events if int(event["position"]) > after]
        # The order across keys is not Kafka's to keep; that within a key is looked at in a test of its own.
        return sorted(everything, key=lambda event: int(event["position"]))

    async def close(self) -> None:
        """The topic goes with the cluster."""

    def read(self) -> list[list[tuple[str, dict[str, Any]]]]:
        """The key and the event of every message, partition by partition."""
        options = {"bootstrap.servers": self._servers, "group.id": "none", "log_level": 0, "fetch.wait.max.ms": 10}
        reader = Consumer({**options, "enable.auto.commit": False})
        try:
            found = []
            for number in sorted(reader.list_topics(self.topic, timeout=10).topics[self.topic].partitions):
                _, end = reader.get_watermark_offsets(TopicPartition(self.topic, number), timeout=10)
                reader.assign([TopicPartition(self.topic, number, 0)])
                messages: list[Any] = []
                while len(messages) < end:
                    messages += [
                        message for message in reader.consume(end - len(messages), timeout=1) if not message.error()
                    ]
                found.append([(message.key().decode(), json.loads(message.value())) for message in messages])
            return found
        finally:
            reader.close()


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return Cluster()


class TestKafkaBus(EventBusContract):
    @pytest.fixture(autouse=True)
    def _in(self, cluster: Cluster) -> None:
        self._servers = cluster.servers

    async def target(self) -> Target:
        return KafkaTarget(self._servers)

    async def test_the_events_of_a_session_have_one_key_and_stay_in_order(self, bus: EventBus, place: Target) -> None:
        await bus.publish(logged(40))
        assert isinstance(place, KafkaTarget)
        by_key: dict[str, list[int]] = {}
        for partition in await asyncio.to_thread(place.read):
            for key, event in partition:
                by_key.setdefault(key, []).append(int(event["position"]))
        assert by_key == {"acme/ses_order": list(range(1, 41, 2)), "acme/ses_other": list(range(2, 41, 2))}


class WebhookTarget(Target):
    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver

    def open(self) -> EventBus:
        return WebhookBus(self.receiver.url, secrets=[SECRET], clock=SystemClock())

    def unreachable(self, password: str) -> EventBus:
        return WebhookBus(f"http://anna:{password}@{NOWHERE}/events", clock=SystemClock())

    async def events(self, *, after: int = 0) -> list[dict[str, Any]]:
        events = [json.loads(post.body) for post in self.receiver.posts]
        return [event for event in events if int(event["position"]) > after]

    async def close(self) -> None:
        await self.receiver.close()


class TestWebhookBus(EventBusContract):
    async def target(self) -> Target:
        return WebhookTarget(await Receiver.start())


class MemoryTarget(Target):
    """Subscribers that take everything as it comes, one for each bus."""

    def __init__(self) -> None:
        self._subscriptions: list[Subscription] = []
        self._taken: list[dict[str, Any]] = []

    def open(self) -> EventBus:
        bus = MemoryBus()
        self._subscriptions.append(bus.subscribe(limit=5000))
        return bus

    def unreachable(self, password: str) -> EventBus:
        return ClosedBus()

    async def events(self, *, after: int = 0) -> list[dict[str, Any]]:
        for subscription in self._subscriptions:
            while subscription.waiting:
                self._taken.append(to_cloudevent(await anext(subscription)))
        return [event for event in self._taken if int(event["position"]) > after]

    async def close(self) -> None:
        self._subscriptions.clear()


class ClosedBus(MemoryBus):
    """The only way in which a bus of this process cannot be reached."""

    async def publish(self, records: Sequence[Record]) -> None:
        await self.close()
        await super().publish(records)


class TestMemoryBus(EventBusContract):
    has_address = False

    async def target(self) -> Target:
        return MemoryTarget()
