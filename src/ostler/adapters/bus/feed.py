"""The log as it grows, for any number of readers in one process that each begin where they like."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from types import TracebackType
from typing import Self

from ostler.adapters.bus.memory import MemoryBus
from ostler.kernel.errors import BusError, StoreError
from ostler.kernel.event import Record
from ostler.ports import EventStore

PAGE = 500
WAIT_S = 5.0


class Feed:
    """Reads the end of the log once, however many follow it, and hands it to them over a bus.

    Use as `async with Feed(store) as feed: async for record in feed.records(after=0)`.
    """

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._bus = MemoryBus()
        self._following: asyncio.Task[None] | None = None
        self._failure: StoreError | None = None

    async def __aenter__(self) -> Self:
        self._following = asyncio.create_task(self._follow(await self._store.head()), name="feed")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop. Whoever follows gets what is there, then the end."""
        if self._following is not None:
            self._following.cancel()
            with suppress(asyncio.CancelledError):
                await self._following
        await self._bus.close()

    async def records(self, *, after: int | None = None) -> AsyncGenerator[Record, None]:
        """Every record with `position > after`, in order, each once, and then as they come.

        None is the end of the log when the first is asked for.
        A reader may take its time; who falls behind is served from the store until it has caught up. Raises the
        `StoreError` that ended the feed.
        """
        if after is None:
            after = await self._store.head()
        while True:
            async with self._bus.subscribe() as subscription:
                # What is published from here on waits in the subscription; what came before is in the store.
                while records := await self._store.tail(after=after, limit=PAGE):
                    for record in records:
                        after = record.position
                        yield record
                try:
                    async for record in subscription:
                        if record.position > after:
                            after = record.position
                            yield record
                except BusError:
                    continue
            if self._failure is not None:
                raise self._failure
            return

    async def _follow(self, position: int) -> None:
        try:
            while True:
                while records := await self._store.tail(after=position, limit=PAGE):
                    position = records[-1].position
                    await self._bus.publish(records)
                await self._store.wait(after=position, timeout_s=WAIT_S)
        except StoreError as error:
            self._failure = error
            await self._bus.close()
