"""Group commit: what is written at the same time becomes durable together, at the price of one commit."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from ostler.kernel.errors import StoreBusy, StoreError

Work = TypeVar("Work")

GROUP_MAX = 1024
"""Works in one commit; it bounds how long the event loop stands still for it."""

QUIET_ROUNDS = 4
ROUNDS_MAX = 32
"""A group in company is complete after so many turns of the event loop without a newcomer, or after so many at all."""

RETRY_FIRST_S = 0.001
RETRY_GROWTH = 1.5
RETRY_MAX_S = 0.05


class Group(Generic[Work]):
    """Queues works and commits them together, on the event loop, in the order in which they came.

    `commit` writes all works in one transaction and returns an outcome for each: its result, or the exception that
    refuses this one alone. It raises if it could write nothing; `StoreBusy` is tried again, for `busy_timeout_s`.
    A lone work is committed in the next turn of the loop. After a group of several, the next one waits for a few turns
    for the others: those whom a commit has resumed together come back almost together, and turns are cheaper than
    commits.
    """

    def __init__(self, commit: Callable[[Sequence[Work]], Sequence[Any]], *, busy_timeout_s: float) -> None:
        self._commit = commit
        self._busy_timeout_s = busy_timeout_s
        self._queue: list[tuple[Work, asyncio.Future[Any]]] = []
        self._in_company = False
        self._busy_since: float | None = None
        self._delay_s = RETRY_FIRST_S
        self.commits = 0

    def add(self, work: Work) -> asyncio.Future[Any]:
        """The outcome of the work, once it is durable. A work whose future is cancelled before that is left out."""
        loop = asyncio.get_running_loop()
        if not self._queue:
            loop.call_soon(self._gather, 0, 0, 0)
        future = loop.create_future()
        self._queue.append((work, future))
        return future

    async def drain(self) -> None:
        """Return when all that was added before is done, one way or the other."""
        if self._queue:
            await asyncio.wait([future for _, future in self._queue])

    def _gather(self, seen: int, rounds: int, quiet: int) -> None:
        """Commit, or let the others come: `seen` were here before, `quiet` of these `rounds` brought nobody."""
        size = len(self._queue)
        quiet = quiet + 1 if size == seen else 0
        if not self._in_company or quiet >= QUIET_ROUNDS or rounds >= ROUNDS_MAX or size >= GROUP_MAX:
            self._flush()
        else:
            asyncio.get_running_loop().call_soon(self._gather, size, rounds + 1, quiet)

    def _take(self) -> "Sequence[tuple[Work, asyncio.Future[Any]]]":
        """The next group, taken from the queue."""
        waiting = [entry for entry in self._queue if not entry[1].done()]
        group, self._queue = waiting[:GROUP_MAX], waiting[GROUP_MAX:]
        self._in_company = len(group) > 1
        return group

    def _flush(self) -> None:
        group = self._take()
        if not group:
            return
        try:
            outcomes = self._commit([work for work, _ in group])
            self.commits += 1
        except StoreBusy as error:
            self._queue = [*group, *self._queue]
            self._retry(error)
            return
        except Exception as error:
            outcomes = [error] * len(group)
        self._busy_since = None
        self._settle(group, outcomes)
        if self._queue:
            asyncio.get_running_loop().call_soon(self._flush)

    def _retry(self, error: StoreBusy) -> None:
        """Later: the loop goes on while another process holds the store. Gives up after the timeout."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._busy_since is None:
            self._busy_since, self._delay_s = now, RETRY_FIRST_S
        if now - self._busy_since < self._busy_timeout_s:
            loop.call_later(self._delay_s, self._flush)
            self._delay_s = min(self._delay_s * RETRY_GROWTH, RETRY_MAX_S)
            return
        refused, self._queue, self._busy_since = self._queue, [], None
        self._settle(refused, [error] * len(refused))

    @staticmethod
    def _settle(group: Sequence[tuple[Work, asyncio.Future[Any]]], outcomes: Sequence[Any]) -> None:
        for (_, future), outcome in zip(group, outcomes, strict=True):
            if future.done():  # whoever waited has gone
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)


class RemoteGroup(Group[Work]):
    """The same with a store that is elsewhere: while a group is on its way, those who come form the next one.

    `commit` is tried once, being patient is its own affair.
    """

    def __init__(self, commit: Callable[[Sequence[Work]], Awaitable[Sequence[Any]]]) -> None:
        super().__init__(_never, busy_timeout_s=0)
        self._commit_there = commit
        self._under_way: asyncio.Task[None] | None = None

    async def drain(self) -> None:
        while self._queue or self._under_way is not None:
            waiting = [self._under_way] if self._under_way is not None else [future for _, future in self._queue]
            await asyncio.wait(waiting)

    def _flush(self) -> None:
        if self._under_way is not None:
            return
        group = self._take()
        if group:
            self._under_way = asyncio.get_running_loop().create_task(self._send(group))

    async def _send(self, group: Sequence[tuple[Work, asyncio.Future[Any]]]) -> None:
        outcomes: Sequence[Any] = [StoreError("The store was left before this was written.")] * len(group)
        try:
            outcomes = await self._commit_there([work for work, _ in group])
            self.commits += 1
        except Exception as error:
            outcomes = [error] * len(group)
        finally:
            self._under_way = None
            self._settle(group, outcomes)
            if self._queue:
                self._gather(len(self._queue), 0, 0)


def _never(works: Sequence[Any]) -> Sequence[Any]:
    raise AssertionError("a remote group commits elsewhere")
