"""What Kafka is given beyond the contract: keys that keep a session in order, and nothing that arrives late."""

import asyncio
from typing import Any

import pytest

from ostler.adapters.bus.kafka import KafkaBus
from ostler.kernel.errors import BusError
from ostler.testing.contracts.event_bus import logged, positions, without_repeats
from tests.adapters.bus.test_contract import Cluster, KafkaTarget


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


async def test_a_batch_that_is_not_acknowledged_in_time_is_handed_over_again(cluster: Cluster) -> None:
    place = KafkaTarget(cluster.servers)
    hasty = KafkaBus(cluster.servers, topic=place.topic, timeout_s=0.001)
    with pytest.raises(BusError) as late:
        await hasty.publish(logged(300))
    await hasty.close()
    assert (late.value.retryable, bool(late.value.hint)) == (True, True)
    patient = KafkaBus(cluster.servers, topic=place.topic)
    await patient.publish(logged(300))
    await patient.close()
    found = await place.events()
    assert positions(without_repeats(found)) == list(range(1, 301))
    for events in await asyncio.to_thread(place.read):
        by_key: dict[str, list[dict[str, Any]]] = {}
        for key, event in events:
            by_key.setdefault(key, []).append(event)
        for own in by_key.values():
            assert positions(without_repeats(own)) == sorted(positions(without_repeats(own)))


async def test_a_bus_that_failed_works_again_with_the_next_batch() -> None:
    place_nowhere = KafkaBus("127.0.0.1:1", timeout_s=0.2)
    for _ in range(2):
        with pytest.raises(BusError, match=r"127\.0\.0\.1:1 did not take the events within 0\.2 s: .*refused"):
            await place_nowhere.publish(logged(1))
    await place_nowhere.close()


async def test_cancelling_stops_waiting_and_leaves_nothing_behind() -> None:
    bus = KafkaBus("127.0.0.1:1", timeout_s=3600)
    publishing = asyncio.create_task(bus.publish(logged(2)))
    assert await asyncio.wait([publishing], timeout=0.05) == (set(), {publishing})
    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publishing
    await bus.close()


async def test_options_of_the_library_can_be_given_and_win(cluster: Cluster) -> None:
    place = KafkaTarget(cluster.servers)
    bus = KafkaBus("nowhere:1", topic=place.topic, options={"bootstrap.servers": cluster.servers})
    await bus.publish(logged(1))
    await bus.close()
    assert positions(await place.events()) == [1]


async def test_an_option_that_the_library_does_not_know_is_an_error_that_says_so() -> None:
    bus = KafkaBus("127.0.0.1:1", options={"no.such.option": 1})
    with pytest.raises(BusError, match=r"no\.such\.option"):
        await bus.publish(logged(1))
    await bus.close()
