"""The bus within a process: subscribers get events as they are handed over, and nobody waits for a slow one."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Self

from ostler.kernel.errors import BusError
from ostler.kernel.event import Record

QUEUE_MAX = 1000


class MemoryBus:
    """Keeps nothing: what was published before somebody subscribed is in the log, and is read there."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()
        self._is_closed = False

    async def publish(self, records: Sequence[Record]) -> None:
        if self._is_closed:
            raise BusError("The bus of this process is closed.", hint="Open the runtime again.")
        for subscription in self._subscriptions:
            subscription.offer(records)

    def subscribe(self, *, limit: int = QUEUE_MAX) -> "Subscription":
        """Everything that is published from now on; `limit` is how many events may wait to be taken."""
        subscription = Subscription(self, limit)
        if self._is_closed:
            subscription.end()
        else:
            self._subscriptions.add(subscription)
        return subscription

    def forget(self, subscription: "Subscription") -> None:
        """Hand this one nothing more."""
        self._subscriptions.discard(subscription)

    async def close(self) -> None:
        """Every subscription ends when what waits in it has been taken."""
        self._is_closed = True
        for subscription in self._subscriptions:
            subscription.end()
        self._subscriptions.clear()


class Subscription:
    """The events of a bus, one after another: iterate over it within `async with`.

    Who takes them too slowly is cut off: after those that waited comes a `BusError` whose `kept` is the position of the
    last one, from which to read on in the log (`EventStore.tail`) before subscribing again.
    """

    def __init__(self, bus: MemoryBus, limit: int) -> None:
        self._bus = bus
        self._limit = limit
        self._waiting: deque[Record] = deque()
        self._news = asyncio.Event()
        self._is_over = self._is_behind = False
        self._taken = 0

    @property
    def waiting(self) -> int:
        """How many events can be taken without waiting."""
        return len(self._waiting)

    def offer(self, records: Sequence[Record]) -> None:
        """Take these on, up to the limit; the first that has no place ends it."""
        if self._is_behind:
            return
        room = self._limit - len(self._waiting)
        self._waiting.extend(records[:room])
        self._is_behind = len(records) > room
        self._news.set()

    def end(self) -> None:
        """Nothing more will come."""
        self._is_over = True
        self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Record:
        while not self._waiting:
            if self._is_behind:
                self._bus.forget(self)
                raise BusError(
                    f"This subscriber took events too slowly; {self._limit} were waiting.",
                    kept=self._taken,
                    hint="Read on in the log from the position of the last event, then subscribe again.",
                )
            if self._is_over:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        record = self._waiting.popleft()
        self._taken = record.position
        return record

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._bus.forget(self)
