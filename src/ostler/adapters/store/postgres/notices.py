"""Learning that others have written: the server's notifications as a hint, looking again and again as the truth."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress

import asyncpg

from ostler.adapters.store.postgres.server import RETRY_MAX_S, Server
from ostler.adapters.store.waiters import Waiters
from ostler.kernel.errors import StoreError
from ostler.kernel.event import StreamId

HINTED_POLL_S = 1.0
"""How often the log is looked at by those who are notified of what they wait for."""
POLL_S = 0.05
"""How often it is looked at by others: behind a pooler, or waiting for what no notification is sent for."""


class Notices:
    """Wakes those who wait for the log to grow; does nothing while nobody waits.

    The server notifies of appends from outside, without a fence: they are few, and what workers wait for. Everything
    else, and everything when notifications do not get through, is found by looking at the head of the log.
    """

    def __init__(self, server: Server, sender: str, head: Callable[[], Awaitable[int]]) -> None:
        self._server = server
        self._sender = sender
        self._head = head
        self._waiters = Waiters()
        self._own_begun = 0
        self._own_written = 0
        self._own_head = 0
        self._foreign_events = 0
        self._foreign_head = 0
        self._stir = asyncio.Event()
        self._has_heard = False
        self._is_hearing = False
        self._tasks: list[asyncio.Task[None]] = []

    async def wait(self, *, after: int, timeout_s: float, foreign: bool, stream: StreamId | None) -> int:
        """See `EventStore.wait`."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._watch(), name="watch")]
            if not self._server.address.is_pooled:
                self._tasks.append(asyncio.create_task(self._listen(), name="listen"))
        own_head = self._own_head
        head = await self._head()
        if self._own_head > own_head and not foreign:
            head = max(head, self._own_head)  # written while we asked, and so before anybody could be woken
        if (self._foreign_head if foreign else head) > after:
            return head
        if not self._waiters:
            self._stir.set()
        return await self._waiters.wait(after=after, timeout_s=timeout_s, foreign=foreign, stream=stream)

    def begins(self, count: int) -> None:
        """This process is about to add so many events."""
        self._own_begun += count

    def wrote(self, head: int, count: int, streams: Collection[StreamId]) -> None:
        """It has added so many of them, to these streams, the last at `head`; the rest was refused."""
        self._own_written += count
        self._own_begun = self._own_written
        self._own_head = max(self._own_head, head)
        self._waiters.wake(head, streams=streams)

    async def close(self) -> None:
        self._waiters.fail(StoreError(f"The store {self._server.address} is closed."))
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self) -> None:
        """Look when a notification was heard, and now and then while anybody waits.

        That somebody begins to wait is no reason to look: a busy worker does so all the time.
        """
        loop, next_look = asyncio.get_running_loop(), 0.0
        while True:
            self._stir.clear()
            pause_s = HINTED_POLL_S if self._is_hearing and self._waiters.are_foreign else POLL_S
            next_look = min(next_look, loop.time() + pause_s)
            if self._has_heard or (self._waiters and loop.time() >= next_look):
                next_look = loop.time() + pause_s
                try:
                    await self._look()
                except StoreError as error:
                    self._waiters.fail(error)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(next_look if self._waiters else None):
                    await self._stir.wait()

    async def _look(self) -> None:
        """Positions have no gaps, so that what was not written here was written elsewhere.

        While something of ours is on its way one cannot tell; then it is taken to be foreign, and looked at in vain.
        """
        has_heard, self._has_heard = self._has_heard, False
        written = self._own_written
        is_certain = self._own_begun == written
        head = await self._head()
        foreign = head - self._own_written
        is_certain = is_certain and self._own_begun == written
        if has_heard or not is_certain or foreign > self._foreign_events:
            self._foreign_head = head
            self._waiters.wake(head)
        if is_certain:
            self._foreign_events = foreign

    async def _listen(self) -> None:
        """Hear the server's notifications, on a connection of one's own, as long as it can be had."""
        while True:
            with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection = await self._server.connect()
                try:
                    await self._hear(connection)
                finally:
                    self._is_hearing = False
                    self._stir.set()
                    connection.terminate()
            await asyncio.sleep(RETRY_MAX_S)

    async def _hear(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        """Until the connection ends."""
        ended = asyncio.Event()
        connection.add_termination_listener(lambda _: ended.set())
        await connection.add_listener(f"{self._server.address.schema}.log", self._heard)
        self._is_hearing = True
        await ended.wait()

    def _heard(self, connection: object, process: int, channel: str, sender: object) -> None:
        if sender != self._sender:
            self._has_heard = True
            self._stir.set()
