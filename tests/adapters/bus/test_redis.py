"""What a Redis stream is beyond the contract: its entries are named by positions, and it belongs to one log."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from ostler.adapters.bus.redis import RedisBus
from ostler.kernel.errors import BusError
from ostler.kernel.event import StreamId
from ostler.testing.contracts.event_bus import logged, positions
from tests.adapters.bus.servers import REDIS, RedisStream, require


@pytest.fixture
async def stream() -> AsyncIterator[RedisStream]:
    require(REDIS, "redis")
    stream = RedisStream()
    yield stream
    await stream.close()


@pytest.fixture
async def bus(stream: RedisStream) -> AsyncIterator[RedisBus]:
    bus = RedisBus(REDIS, stream=stream.name)
    yield bus
    await bus.close()


async def test_readers_go_on_from_a_position_with_xread(bus: RedisBus, stream: RedisStream) -> None:
    await bus.publish(logged(10))
    answer: Any = await stream.client.xread({stream.name: "7-0"})
    entries: Any = next(iter(answer.values()))[0] if isinstance(answer, dict) else answer[0][1]
    assert [name for name, _ in entries] == [b"8-0", b"9-0", b"10-0"]


async def test_the_events_of_another_log_are_not_mixed_in(bus: RedisBus, stream: RedisStream) -> None:
    await bus.publish(logged(3))
    with pytest.raises(BusError, match="holds another log's event there") as mixed:
        await bus.publish(logged(2, stream=StreamId("acme", "ses_elsewhere")))
    assert mixed.value.hint
    assert positions(await stream.events()) == [1, 2, 3]


async def test_what_cannot_be_put_in_order_any_more_is_not_passed_over_in_silence(
    bus: RedisBus, stream: RedisStream
) -> None:
    await bus.publish(logged(3, after=10))
    with pytest.raises(BusError, match="has gone past it without it"):
        await bus.publish(logged(2))
    assert positions(await stream.events()) == [11, 12, 13]


async def test_repeats_of_what_readers_have_taken_away_are_repeats(bus: RedisBus, stream: RedisStream) -> None:
    await bus.publish(logged(3))
    await stream.client.xdel(stream.name, "2-0")
    await bus.publish(logged(4))
    assert positions(await stream.events()) == [1, 3, 4]


async def test_a_stream_with_a_length_forgets_its_oldest_entries(stream: RedisStream) -> None:
    bus = RedisBus(REDIS, stream=stream.name, length_max=100)
    for start in range(0, 2000, 500):
        await bus.publish(logged(500, after=start))
    await bus.close()
    left = positions(await stream.events())
    assert 100 <= len(left) < 400
    assert left[-1] == 2000


async def test_a_key_that_is_no_stream_is_an_error_that_says_so(bus: RedisBus, stream: RedisStream) -> None:
    await stream.client.set(stream.name, "taken")
    with pytest.raises(BusError, match="WRONGTYPE") as refused:
        await bus.publish(logged(1))
    assert "the key is a stream" in refused.value.hint


async def test_a_wrong_password_is_an_error_that_does_not_show_it(stream: RedisStream) -> None:
    bus = RedisBus(REDIS.replace("redis://", "redis://anna@"), stream=stream.name, password="hunter2hunter2")
    with pytest.raises(BusError, match="does not let us in") as refused:
        await bus.publish(logged(1))
    await bus.close()
    assert "hunter2" not in repr(refused.value.as_dict())
    assert "secret_env" in refused.value.hint
