"""What JetStream is given beyond the contract: subjects, ids against repeats, and a stream if there is none."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from nats.js.api import DiscardPolicy, StreamConfig

from ostler.adapters.bus.nats import NatsBus
from ostler.kernel.errors import BusError, EventRefused
from ostler.kernel.event import StreamId
from ostler.testing.contracts.event_bus import logged, positions
from tests.adapters.bus.servers import NATS, NatsStream, require


@pytest.fixture
async def stream() -> AsyncIterator[NatsStream]:
    require(NATS, "nats")
    stream = NatsStream()
    yield stream
    await stream.close()


@pytest.fixture
async def bus(stream: NatsStream) -> AsyncIterator[NatsBus]:
    bus = NatsBus(NATS, stream=stream.name, subject=stream.name)
    yield bus
    await bus.close()


async def test_a_subject_names_tenant_and_type_and_an_id_the_event(bus: NatsBus, stream: NatsStream) -> None:
    (record,) = logged(1, stream=StreamId("acme inc.*", "ses_1"))
    await bus.publish([record])
    (message,) = await stream.messages()
    assert message.subject == f"{stream.name}.acme%20inc%2E%2A.hay.eaten"
    assert message.headers["Nats-Msg-Id"] == "acme%20inc.%2A/ses_1/1"
    assert message.headers["Content-Type"] == "application/cloudevents+json"


async def test_the_stream_that_is_made_takes_every_subject_and_knows_repeats(bus: NatsBus, stream: NatsStream) -> None:
    await bus.publish(logged(1))
    config = (await (await stream.connected()).stream_info(stream.name)).config
    assert (config.subjects, config.duplicate_window) == ([f"{stream.name}.>"], 120.0)


async def test_a_stream_that_is_there_is_left_as_it_is(bus: NatsBus, stream: NatsStream) -> None:
    jetstream = await stream.connected()
    await jetstream.add_stream(StreamConfig(stream.name, subjects=[f"{stream.name}.acme.>"], max_msgs=7))
    await bus.publish(logged(9))
    assert positions(await stream.events()) == list(range(3, 10))


async def test_a_stream_without_our_subjects_is_an_error_that_says_what_to_do(bus: NatsBus, stream: NatsStream) -> None:
    jetstream = await stream.connected()
    await jetstream.add_stream(StreamConfig(stream.name, subjects=[f"{stream.name}.rival.>"]))
    with pytest.raises(BusError, match="No JetStream stream") as refused:
        await bus.publish(logged(1))
    assert stream.name in refused.value.hint


async def test_subjects_of_another_stream_are_an_error_that_says_what_to_do(bus: NatsBus, stream: NatsStream) -> None:
    jetstream = await stream.connected()
    other = f"{stream.name}-other"
    await jetstream.add_stream(StreamConfig(other, subjects=[f"{stream.name}.>"]))
    try:
        with pytest.raises(BusError, match="another stream"):
            await bus.publish(logged(1))
    finally:
        await jetstream.delete_stream(other)


async def test_after_one_that_the_server_does_not_take_none_is_taken(bus: NatsBus, stream: NatsStream) -> None:
    jetstream = await stream.connected()
    config = StreamConfig(stream.name, subjects=[f"{stream.name}.>"], max_bytes=20_000, discard=DiscardPolicy.NEW)
    await jetstream.add_stream(config)
    records = [*logged(2), *logged(1, after=2, size=30_000), *logged(2, after=3)]
    with pytest.raises(BusError, match="maximum bytes exceeded") as full:
        await bus.publish(records)
    assert full.value.kept == 2
    assert positions(await stream.events()) == [1, 2]
    await jetstream.update_stream(config.evolve(max_bytes=100_000))
    await bus.publish(records)
    assert positions(await stream.events()) == [1, 2, 3, 4, 5]


async def test_another_writer_to_the_stream_disturbs_nothing(bus: NatsBus, stream: NatsStream) -> None:
    other = NatsBus(NATS, stream=stream.name, subject=stream.name)
    rival = StreamId("rival", "ses_9")
    for start in range(0, 2000, 20):
        await asyncio.gather(
            bus.publish(logged(20, after=start, stream=StreamId("acme", "ses_1"))),
            other.publish(logged(20, after=start, stream=rival)),
        )
    await other.close()
    found = [msgspec.json.decode(message.data) for message in await stream.messages()]
    for tenant in ("acme", "rival"):
        own = [event for event in found if event["source"].startswith(f"/tenants/{tenant}/")]
        assert positions(own) == list(range(1, 2001))


async def test_an_event_larger_than_the_server_takes_is_refused_by_name(bus: NatsBus, stream: NatsStream) -> None:
    with pytest.raises(EventRefused, match="position 1 has"):
        await bus.publish(logged(1, size=1024 * 1024))
