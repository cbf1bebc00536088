"""A relay misses nothing: whatever its bus and its store do, every event is handed over at least once and in order."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec
import pytest

from ostler.adapters.store.memory import MemoryStore
from ostler.adapters.store.memory_views import MemoryViewStore
from ostler.app.world import SystemClock
from ostler.kernel.errors import BusError, EventRefused, NotFound, OstlerError, StaleWrite, StoreBusy
from ostler.kernel.event import GENESIS, Record, StreamId, link
from ostler.ports import Append, Row, Standing
from ostler.runtime.relay import Marker, Relay, RelaySettings, State

STREAM = StreamId("default", "ses_1")


class NoWaiting:
    """Chance that always picks the shortest pause."""

    def chance(self, size: int) -> bytes:
        return bytes(size)


class Bus:
    """Keeps what it is given, and fails as it is told: `failures` are raised first, one a call."""

    def __init__(self) -> None:
        self.taken: list[Record] = []
        self.calls: list[list[int]] = []
        self.failures: list[Exception] = []
        self.poison: set[int] = set()
        self.news = asyncio.Condition()

    async def publish(self, records: Sequence[Record]) -> None:
        self.calls.append([record.position for record in records])
        if self.failures:
            raise self.failures.pop(0)
        for record in records:
            if record.position in self.poison:
                raise EventRefused(f"I do not like {record.position}.", position=record.position)
            self.taken.append(record)
        async with self.news:
            self.news.notify_all()

    async def close(self) -> None: ...

    @property
    def positions(self) -> list[int]:
        return [record.position for record in self.taken]


class World:
    """A store, its views and a bus."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.views = MemoryViewStore()
        self.bus = Bus()
        self.troubles: list[OstlerError] = []
        self.states: list[State] = []

    async def log(self, count: int, *, kind: str = "hay.eaten", stream: StreamId = STREAM) -> None:
        records = await self.store.read(stream)
        seq, previous = (records[-1].seq, records[-1].hash) if records else (0, GENESIS)
        added = []
        for number in range(seq + 1, seq + 1 + count):
            data = msgspec.json.encode({"type": kind, "number": number})
            previous = link(previous, stream, number, number, data)
            added.append(Record(stream, number, number, data, previous))
        await self.store.append(Append(stream, seq, added, Standing("q", "running", None)))

    def relay(self, **settings: object) -> Relay:
        relay = Relay(
            store=self.store,
            views=self.views,
            bus=self.bus,
            clock=SystemClock(),
            entropy=NoWaiting(),
            settings=msgspec.convert({"name": "out", **settings}, RelaySettings),
            trouble=self.troubles.append,
        )
        relay.on_change = self.states.append
        return relay

    @asynccontextmanager
    async def running(self, **settings: object) -> AsyncIterator[Relay]:
        relay = self.relay(**settings)
        task = asyncio.create_task(relay.run())
        try:
            yield relay
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def drained(self, relay: Relay) -> None:
        """Wait until the relay has handed over the whole log."""
        await until(lambda: relay.state == "following" and relay._position == len(self.store._log))

    @property
    def marker(self) -> Marker:
        return Marker(self.views, "out")


async def until(is_so: Callable[[], bool]) -> None:
    end_s = asyncio.get_running_loop().time() + 30
    while not is_so():
        assert asyncio.get_running_loop().time() < end_s, "it has not come about"
        await asyncio.sleep(0)


@pytest.fixture
def world() -> World:
    return World()


async def test_what_is_there_and_what_comes_is_handed_over_in_order(world: World) -> None:
    await world.log(5)
    async with world.running(batch=2) as relay:
        await world.drained(relay)
        await world.log(1)
        await world.drained(relay)
    assert world.bus.positions == [1, 2, 3, 4, 5, 6]
    assert await world.marker.read() == 6
    assert (relay.handed_over, await relay.lag()) == (6, 0)
    assert world.states == ["catching up", "following", "stopped"]


async def test_a_relay_goes_on_where_it_has_stopped(world: World) -> None:
    await world.log(3)
    async with world.running() as relay:
        await world.drained(relay)
    await world.log(2)
    async with world.running() as relay:
        await world.drained(relay)
    assert world.bus.positions == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("after", "expected"), [(0, [1, 2, 3, 4]), (2, [3, 4]), (None, [4])])
async def test_a_relay_begins_where_it_is_told(world: World, after: int | None, expected: list[int]) -> None:
    await world.log(3)
    async with world.running(after=after) as relay:
        await world.drained(relay)
        await world.log(1)
        await world.drained(relay)
    assert world.bus.positions == expected


async def test_one_that_began_at_the_end_of_an_empty_log_misses_nothing_while_it_is_away(world: World) -> None:
    async with world.running(after=None) as relay:
        await world.drained(relay)
    await world.log(2)
    async with world.running(after=None) as relay:
        await world.drained(relay)
    assert world.bus.positions == [1, 2]


async def test_a_relay_is_moved_to_any_position_and_keeps_its_dead_letters(world: World) -> None:
    world.bus.poison = {2}
    await world.log(3)
    async with world.running() as relay:
        await world.drained(relay)
    await world.marker.move(0)
    world.bus.poison = set()
    async with world.running(after=None) as relay:
        await world.drained(relay)
    assert world.bus.positions == [1, 3, 1, 2, 3]
    assert [letter.position for letter in await world.marker.letters()] == [2]


async def test_types_and_tenants_choose_and_the_rest_is_passed_over(world: World) -> None:
    await world.log(2, kind="tool.requested")
    await world.log(2, kind="model.requested")
    await world.log(2, kind="tool.completed", stream=StreamId("rival", "ses_2"))
    async with world.running(types=["tool.*"], tenants=["default"]) as relay:
        await world.drained(relay)
        await world.log(600, kind="model.requested")
        await world.drained(relay)
    assert world.bus.positions == [1, 2]
    assert await world.marker.read() == 606


async def test_a_bus_that_fails_is_given_the_same_again_and_that_is_told(world: World) -> None:
    world.bus.failures = [BusError("Away."), BusError("Still away.")]
    await world.log(3)
    async with world.running() as relay:
        await world.drained(relay)
    assert world.bus.calls == [[1, 2, 3]] * 3
    assert [error.message for error in world.troubles] == ["Away.", "Still away."]
    assert world.states == ["catching up", "waiting", "catching up", "following", "stopped"]


async def test_what_is_known_to_be_there_is_not_handed_over_again(world: World) -> None:
    world.bus.failures = [BusError("Broke off.", kept=2)]
    await world.log(4)
    async with world.running() as relay:
        await world.drained(relay)
    assert world.bus.calls == [[1, 2, 3, 4], [3, 4]]
    assert relay.handed_over == 4


async def test_events_that_go_one_by_one_are_counted_one_by_one(world: World) -> None:
    world.bus.poison = {2}
    await world.log(3)
    async with world.running(at_once=1) as relay:
        await world.drained(relay)
    assert world.bus.calls == [[1], [2], [3]]
    assert (world.bus.positions, relay.handed_over) == ([1, 3], 2)


async def test_a_refused_event_becomes_a_dead_letter_and_does_not_stop_the_rest(world: World) -> None:
    world.bus.poison = {1, 3, 5}
    await world.log(5)
    async with world.running() as relay:
        await world.drained(relay)
    assert world.bus.positions == [2, 4]
    letters = await world.marker.letters()
    assert [(letter.position, letter.seq, letter.stream) for letter in letters] == [
        (1, 1, "ses_1"),
        (3, 3, "ses_1"),
        (5, 5, "ses_1"),
    ]
    assert [letter.reason for letter in letters] == [f"I do not like {number}." for number in (1, 3, 5)]


async def test_an_event_that_fails_for_too_long_becomes_a_dead_letter(world: World) -> None:
    world.bus.failures = [BusError("Broken.")]
    await world.log(2)
    async with world.running(give_up_s=0.0) as relay:
        await world.drained(relay)
    assert world.bus.positions == [2]
    assert [letter.position for letter in await world.marker.letters()] == [1]


async def test_without_a_bound_a_bus_that_is_down_is_waited_for(world: World) -> None:
    world.bus.failures = [BusError("Down.") for _ in range(50)]
    await world.log(1)
    async with world.running() as relay:
        await world.drained(relay)
    assert world.bus.positions == [1]
    assert await world.marker.letters() == []


async def test_a_dead_letter_is_delivered_again_while_the_relay_is_at_work(world: World) -> None:
    world.bus.poison = {2}
    await world.log(3)
    async with world.running() as relay:
        await world.drained(relay)
        (letter,) = await world.marker.letters()
        with pytest.raises(EventRefused):
            await world.marker.deliver(letter, world.store, world.bus)
        assert await world.marker.letters() == [letter]
        world.bus.poison = set()
        await world.marker.deliver(letter, world.store, world.bus)
        assert await world.marker.letters() == []
        await world.log(2)
        await world.drained(relay)
    assert world.bus.positions == [1, 3, 2, 4, 5]
    assert not [error for error in world.troubles if isinstance(error, StaleWrite)]


async def test_a_dead_letter_whose_event_is_gone_is_not_found(world: World) -> None:
    world.bus.poison = {1}
    await world.log(1)
    async with world.running() as relay:
        await world.drained(relay)
    (letter,) = await world.marker.letters()
    with pytest.raises(NotFound):
        await world.marker.deliver(letter, MemoryStore(), world.bus)


async def test_more_dead_letters_than_a_page_are_listed_in_order(world: World) -> None:
    world.bus.poison = set(range(1, 31))
    await world.log(30)
    async with world.running() as relay:
        await world.drained(relay)
    first = await world.marker.letters(limit=12)
    rest = await world.marker.letters(after=first[-1].position)
    assert [letter.position for letter in first + rest] == list(range(1, 31))


async def test_two_relays_of_one_name_hand_over_twice_and_leave_nothing_out(world: World) -> None:
    await world.log(40)
    async with world.running(batch=3) as one, world.running(batch=4) as other:
        await world.drained(one)
        await world.drained(other)
        await world.log(40)
        await world.drained(one)
        await world.drained(other)
    assert list(dict.fromkeys(world.bus.positions)) == list(range(1, 81))
    assert any("Another relay 'out' is at work" in error.message for error in world.troubles)
    assert await world.marker.read() == 80


class Stumbling(MemoryViewStore):
    """Views that cannot be written to now and then, and say so before or after they have done it."""

    def __init__(self) -> None:
        super().__init__()
        self.moves = 0

    async def advance(self, view: str, *, after: int, position: int, rows: Sequence[Row] = ()) -> None:
        self.moves += 1
        if self.moves % 3 == 0:
            raise StoreBusy
        await super().advance(view, after=after, position=position, rows=rows)
        if self.moves % 3 == 1:
            raise StoreBusy


async def test_a_store_that_fails_before_or_after_it_has_written_leaves_no_gap(world: World) -> None:
    world.views = Stumbling()
    world.bus.poison = {4, 9}
    await world.log(12)
    async with world.running(batch=2) as relay:
        await until(lambda: len(world.bus.taken) >= 10)
        await world.log(1)
        await until(lambda: 13 in world.bus.positions)
    assert list(dict.fromkeys(world.bus.positions)) == [1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13]
    assert {letter.position for letter in await world.marker.letters()} == {4, 9}
    assert any(isinstance(error, StoreBusy) for error in world.troubles)
    assert relay.state == "stopped"


async def test_a_position_that_cannot_be_stored_at_the_end_is_told_and_ends_the_relay(world: World) -> None:
    await world.log(1)
    async with world.running() as relay:
        await world.drained(relay)
        await world.marker.move(0)
        await world.log(1)
        world.views.advance = _busy  # type: ignore[method-assign]
        await until(lambda: len(world.bus.taken) == 2)
    assert isinstance(world.troubles[-1], StoreBusy)


async def _busy(*_: object, **__: object) -> None:
    raise StoreBusy
