"""The contract of `EventBus`: every sentence of the port as a test."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any, ClassVar

import msgspec
import pytest
import pytest_asyncio

from ostler.kernel.errors import BusError, EventRefused
from ostler.kernel.event import GENESIS, Record, StreamId, link
from ostler.ports import EventBus

ORDER = StreamId("acme", "ses_order")
OTHER = StreamId("acme", "ses_other")
BASE_US = 1_700_000_000_000_000
PASSWORD = "opensesame-1001"
MEBIBYTE = 1024 * 1024


def logged(count: int, *, after: int = 0, stream: StreamId | None = None, size: int = 0) -> list[Record]:
    """Records as a store gives them, at the positions behind `after`: of two streams in turn, or of this one.

    `size` is that of a text in each.
    """
    made = []
    for position in range(after + 1, after + count + 1):
        own = stream or (ORDER if position % 2 else OTHER)
        seq = position if stream else (position + 1) // 2
        body = {"type": "hay.eaten", "bale": position, "text": "x" * size}
        data = msgspec.json.encode(body)
        made.append(
            Record(own, seq, BASE_US + position, data, link(GENESIS, own, seq, BASE_US + position, data), position)
        )
    return made


class Target(ABC):
    """One empty place to hand events to, made for one test."""

    @abstractmethod
    def open(self) -> EventBus:
        """A bus that hands over to it. The contract closes it."""

    @abstractmethod
    async def events(self, *, after: int = 0) -> list[dict[str, Any]]:
        """What is there from behind this position on, as whoever takes events gets it: CloudEvents, in order."""

    @abstractmethod
    def unreachable(self, password: str) -> EventBus:
        """A bus whose target does not answer at all, given these credentials."""

    @abstractmethod
    async def close(self) -> None:
        """Take everything away again."""


class EventBusContract(ABC):
    """Inherit, implement `target`, and pytest asks your back end for every guarantee of the port."""

    pytestmark = pytest.mark.asyncio
    drops_repeats: ClassVar[bool] = False
    """Whether the target itself leaves out what is handed over again at once."""
    event_bytes: ClassVar[int] = MEBIBYTE
    """The size of a large event that it has to take."""

    has_address: ClassVar[bool] = True
    """Whether it has one that an error can name (127.0.0.1 in the tests)."""

    @abstractmethod
    async def target(self) -> Target:
        """A new, empty one."""

    @pytest_asyncio.fixture
    async def place(self) -> AsyncIterator[Target]:
        place = await self.target()
        yield place
        await place.close()

    @pytest_asyncio.fixture
    async def open_bus(self, place: Target) -> AsyncIterator[Callable[[], EventBus]]:
        opened: list[EventBus] = []

        def open_one() -> EventBus:
            opened.append(place.open())
            return opened[-1]

        yield open_one
        for bus in opened:
            await bus.close()

    @pytest.fixture
    def bus(self, open_bus: Callable[[], EventBus]) -> EventBus:
        return open_bus()

    async def test_everything_is_there_in_order_when_publish_returns(self, bus: EventBus, place: Target) -> None:
        await bus.publish(logged(3))
        assert positions(await place.events()) == [1, 2, 3]
        await bus.publish(logged(4, after=3))
        assert positions(await place.events()) == list(range(1, 8))

    async def test_nothing_is_handed_over_when_there_is_nothing(self, bus: EventBus, place: Target) -> None:
        await bus.publish([])
        await bus.publish(logged(1))
        assert positions(await place.events()) == [1]

    async def test_an_event_is_a_cloudevent_with_its_number_and_its_position(
        self, bus: EventBus, place: Target
    ) -> None:
        await bus.publish(logged(1, after=6))
        (event,) = await place.events()
        assert event["specversion"] == "1.0"
        assert (event["id"], event["type"]) == ("ses_order/4", "dev.ostler.hay.eaten")
        assert event["source"] == "/tenants/acme/streams/ses_order"
        assert (event["sequence"], event["position"]) == ("4", "7")
        assert datetime.fromisoformat(event["time"]).timestamp() == pytest.approx((BASE_US + 7) / 1_000_000)
        assert event["data"] == {"bale": 7, "text": ""}

    async def test_repeats_have_the_id_of_the_first_and_change_no_order(self, bus: EventBus, place: Target) -> None:
        await bus.publish(logged(3))
        await bus.publish(logged(4, after=1))
        found = await place.events()
        if self.drops_repeats:
            assert positions(found) == [1, 2, 3, 4, 5]
        assert positions(without_repeats(found)) == [1, 2, 3, 4, 5]

    async def test_a_second_relay_goes_on_where_the_first_has_stopped(
        self, open_bus: Callable[[], EventBus], place: Target
    ) -> None:
        first = open_bus()
        await first.publish(logged(3))
        await first.close()
        await open_bus().publish(logged(3, after=2))
        assert positions(without_repeats(await place.events())) == [1, 2, 3, 4, 5]

    async def test_whoever_takes_events_may_begin_at_any_position(self, bus: EventBus, place: Target) -> None:
        records = logged(20)
        await bus.publish(records[:7] + records[11:])
        assert positions(await place.events(after=5)) == [6, 7, *range(12, 21)]
        assert positions(await place.events(after=9)) == list(range(12, 21))
        assert await place.events(after=20) == []

    async def test_a_thousand_events_go_at_once(self, bus: EventBus, place: Target) -> None:
        await bus.publish(logged(1000))
        assert positions(await place.events()) == list(range(1, 1001))

    async def test_a_large_event_is_taken_whole(self, bus: EventBus, place: Target) -> None:
        (record,) = logged(1, size=self.event_bytes)
        await bus.publish([record])
        (event,) = await place.events()
        assert len(event["data"]["text"]) == self.event_bytes

    async def test_one_that_is_too_large_is_refused_and_those_before_it_are_there(
        self, bus: EventBus, place: Target
    ) -> None:
        (giant,) = logged(1, size=20 * MEBIBYTE)
        first = await self.refusal(bus, [giant])
        assert first is None or first.position == 1
        records = [*logged(2, after=1), *logged(1, after=3, size=20 * MEBIBYTE), *logged(2, after=4)]
        before = positions(await place.events())
        refused = await self.refusal(bus, records)
        if refused is None:
            assert positions(await place.events()) == [1, 2, 3, 4, 5, 6]
            return
        assert refused.position == 4
        assert refused.hint
        assert not refused.retryable
        assert positions(await place.events()) == [*before, 2, 3]
        await bus.publish(records[3:])
        assert positions(await place.events()) == [*before, 2, 3, 5, 6]

    async def refusal(self, bus: EventBus, records: list[Record]) -> EventRefused | None:
        """What comes of handing these over, if one of them is refused."""
        try:
            await bus.publish(records)
        except EventRefused as refused:
            return refused
        return None

    async def test_an_unreachable_target_is_a_bus_error_that_says_what_to_do_and_shows_no_secret(
        self, place: Target
    ) -> None:
        bus = place.unreachable(PASSWORD)
        try:
            with pytest.raises(BusError) as failed:
                await bus.publish(logged(2))
        finally:
            await bus.close()
        assert not isinstance(failed.value, EventRefused)
        assert failed.value.retryable
        assert failed.value.hint
        assert PASSWORD not in repr(failed.value.as_dict())
        assert ("127.0.0.1" in failed.value.message) is self.has_address

    async def test_closing_twice_or_without_having_published_does_no_harm(
        self, bus: EventBus, open_bus: Callable[[], EventBus], place: Target
    ) -> None:
        await open_bus().close()
        await bus.publish(logged(1))
        await bus.close()
        await bus.close()
        assert positions(await place.events()) == [1]


def positions(events: list[dict[str, Any]]) -> list[int]:
    """Where these stand in the log."""
    return [int(event["position"]) for event in events]


def without_repeats(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is left when events that were there before are left out, by source and id as CloudEvents says."""
    seen: dict[tuple[str, str], dict[str, Any]] = {}
    for event in events:
        seen.setdefault((event["source"], event["id"]), event)
    return list(seen.values())
