"""Streams in one SQLite file, for any number of processes on one machine."""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ostler.adapters.store import census, claims, removal, writer
from ostler.adapters.store.database import Database
from ostler.adapters.store.group import RETRY_FIRST_S, RETRY_GROWTH, RETRY_MAX_S, Group
from ostler.adapters.store.rules import check, check_erasable
from ostler.adapters.store.waiters import Waiters
from ostler.domain.scheduling import NO_CAPS, Caps
from ostler.kernel.errors import StoreBusy, StoreError
from ostler.kernel.event import Record, StreamId
from ostler.ports import Append, Census, Claim, Standing, StreamInfo

T = TypeVar("T")

PAGE = 500
"""Rows fetched before the event loop gets a turn."""

WINDOW = 1_000
"""Streams looked at for a list before the event loop gets a turn."""

FEW = 200
"""Streams of a name that are sorted rather than walked past."""

POLL_S = 0.005
"""How often the file is asked whether another process has written, while somebody waits."""

HEAD = "SELECT coalesce(max(position), 0) FROM events"
READ = """
    SELECT seq, at, data, hash, position FROM events
    WHERE stream = (SELECT key FROM streams WHERE tenant = ? AND name = ?) AND seq > ? ORDER BY seq LIMIT ?
"""
TAIL = """
    SELECT tenant, name, seq, at, data, hash, position FROM events CROSS JOIN streams ON key = stream
    WHERE position > ? ORDER BY position LIMIT ?
"""
LIST = """
    SELECT tenant, name, key, version, queue, status, due, priority, worker FROM streams INDEXED BY {index}
    WHERE tenant = :tenant AND key >= :first AND key < :before AND name >= :prefix AND name < :prefix || char(1114111)
      AND {status} AND {queue}
    ORDER BY key DESC LIMIT :limit
"""
IN_STATUSES = "status IN (SELECT value FROM json_each(:statuses))"
IN_QUEUE = "queue = coalesce(:queue, queue)"
LIST_ALL = LIST.format(index="streams_by_tenant", status="true", queue="true")
LIST_QUEUE = LIST.format(index="streams_by_queue", status="true", queue="queue = :queue")
LIST_STATUS = LIST.format(index="streams_by_status", status=IN_STATUSES, queue=IN_QUEUE)
LIST_NAMED = LIST.format(
    index="sqlite_autoindex_streams_1", status=f"(:statuses IS NULL OR {IN_STATUSES})", queue=IN_QUEUE
)
LAST_KEY = "SELECT coalesce(max(key), 0) FROM streams"
COUNT_NAMED = """
    SELECT count(*) FROM (
        SELECT 1 FROM streams WHERE tenant = :tenant AND name >= :prefix AND name < :prefix || char(1114111) LIMIT :few
    )
"""
WORKERS = "SELECT name, until FROM workers ORDER BY name"


class SqliteStore:
    """An `EventStore` in one SQLite file. Made by `open`; belongs to one event loop.

    Commits run on the event loop: one costs less than handing it to a thread would, and what all sessions of the
    process append at the same time is committed together. Nobody waits there for the locks of other processes.
    """

    def __init__(self, database: Database, *, busy_timeout_s: float) -> None:
        self._database = database
        self._writer = writer.Writer(database)
        self._group: Group[writer.Work] = Group(self._commit, busy_timeout_s=busy_timeout_s)
        self._busy_timeout_s = busy_timeout_s
        self._waiters = Waiters()
        self._poll: asyncio.TimerHandle | None = None
        self._foreign_head = 0
        self._lane = claims.FIRST_LANE
        self._change_mark = database.change_mark()

    @classmethod
    async def open(cls, path: str | Path, *, create: bool = True, busy_timeout_s: float = 30.0) -> "SqliteStore":
        """The store in this file, which is made if there is none; without `create` that is `NotFound`.

        Raises `NotAStore` if the file is anything else, and leaves it as it is. One that cannot be written to, because
        the disk is full or protected, can be opened and read; writing raises `StoreFull` or `StoreReadOnly` until it
        can. This and every method raises `StoreBusy` if another process has held the file for `busy_timeout_s`.
        """
        database = Database(Path(path), create=create)
        return await _patiently(lambda: cls(database, busy_timeout_s=busy_timeout_s), busy_timeout_s)

    @property
    def commits(self) -> int:
        """How many transactions this object has committed."""
        return self._group.commits

    async def append(self, append: Append) -> int:
        check(append)
        position: int = await self._group.add(append)
        return position

    async def read(self, stream: StreamId, *, after: int = 0, limit: int | None = None) -> list[Record]:
        records: list[Record] = []
        while limit is None or len(records) < limit:
            size = PAGE if limit is None else min(PAGE, limit - len(records))
            rows = await self._fetch(READ, (*stream, records[-1].seq if records else after, size))
            records += [Record(stream, *row) for row in rows]
            if len(rows) < size:
                break
            await asyncio.sleep(0)
        return records

    async def tail(self, *, after: int = 0, limit: int = 1000) -> list[Record]:
        records: list[Record] = []
        while len(records) < limit:
            size = min(PAGE, limit - len(records))
            rows = await self._fetch(TAIL, (records[-1].position if records else after, size))
            records += [Record(StreamId(tenant, name), *row) for tenant, name, *row in rows]
            if len(rows) < size:
                break
            await asyncio.sleep(0)
        return records

    async def head(self) -> int:
        ((head,),) = await self._fetch(HEAD)
        return int(head)

    async def streams(
        self,
        tenant: str,
        *,
        prefix: str = "",
        statuses: Sequence[str] = (),
        queue: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[StreamInfo]:
        ((last,),) = await self._fetch(LAST_KEY)
        before = last + 1 if before is None else min(before, last + 1)
        wanted = {
            "tenant": tenant,
            "prefix": prefix,
            "queue": queue,
            "statuses": json.dumps(list(statuses)) if statuses else None,
        }
        query, window = LIST_STATUS if statuses else LIST_QUEUE if queue is not None else LIST_ALL, WINDOW
        if prefix and await self._is_rare(tenant, prefix):
            query, window = LIST_NAMED, last
        infos: list[StreamInfo] = []
        while before > 1 and len(infos) < limit:
            first = max(1, before - window)
            span = {"first": first, "before": before, "limit": limit - len(infos)}
            infos += [_info(row) for row in await self._fetch(query, wanted | span)]
            before = first
            await asyncio.sleep(0)
        return infos

    async def wait(self, *, after: int, timeout_s: float, foreign: bool = False, stream: StreamId | None = None) -> int:
        head = await self.head()
        await _patiently(self._notice_others, self._busy_timeout_s)
        if (self._foreign_head if foreign else head) > after:
            return head
        if self._poll is None:
            self._poll = asyncio.get_running_loop().call_later(POLL_S, self._look)
        return await self._waiters.wait(after=after, timeout_s=timeout_s, foreign=foreign, stream=stream)

    async def knocks(self, *, after: int) -> tuple[int, dict[StreamId, int]]:
        records = await self.tail(after=after)
        return records[-1].position if records else after, {record.stream: record.seq for record in records}

    async def beat(self, worker: str, *, until_us: int) -> None:
        await self._group.add(claims.beat(worker, until_us))

    async def claim(
        self,
        worker: str,
        *,
        now_us: int,
        limit: int,
        queues: Sequence[str] | None = None,
        only: StreamId | None = None,
        caps: Caps = NO_CAPS,
        suspects: int = 1,
    ) -> list[Claim]:
        wish = claims.Wish(worker, now_us, limit, queues, only, caps, suspects)
        taken, self._lane = await self._group.add(claims.claim(wish, self._lane))
        return list(taken)

    async def vouch(self, worker: str, streams: Sequence[StreamId]) -> None:
        await self._group.add(claims.vouch(worker, streams))

    async def release(self, worker: str, streams: Sequence[StreamId]) -> None:
        await self._group.add(claims.release(worker, streams))

    async def workers(self) -> list[tuple[str, int]]:
        return await self._fetch(WORKERS)

    async def census(self, *, now_us: int, without: Sequence[str] = (), most: int = 10_000) -> Census:
        return await census.census(self._fetch, now_us=now_us, without=without, most=most)

    async def retire(self, worker: str) -> None:
        await self._group.add(claims.retire(worker))

    async def remove(self, streams: Mapping[StreamId, int], note: Append) -> None:
        await self._group.add(removal.remove(streams, self._noted(note)))
        self._writer.forget(streams)

    async def erase(self, stream: StreamId, version: int, *notes: Append, only: Sequence[int] | None = None) -> None:
        check_erasable(stream, version, only)
        self._database.connection(to_write=True).execute(removal.FORGET_FREED)
        await self._group.add(removal.erase(stream, version, self._noted(*notes), only=only))
        self._database.shorten_log()

    def _noted(self, *notes: Append) -> Callable[[sqlite3.Connection], None]:
        for note in notes:
            check(note)

        def write(connection: sqlite3.Connection) -> None:
            self._writer.append(connection, *notes)

        return write

    async def close(self) -> None:
        await self._group.drain()
        if self._poll is not None:
            self._poll.cancel()
            self._poll = None
        self._waiters.fail(StoreError(f"The store {self._database.path} is closed."))
        self._database.close()

    async def write(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """What this returns, done in one of the commits, all or nothing; for what else is kept in the file."""
        outcome: T = await self._group.add(operation)
        return outcome

    async def fetch(self, query: str, parameters: Any = ()) -> list[Any]:
        """All rows of one query, which is to be a bounded one; for what else is kept in the file."""
        return await self._fetch(query, parameters)

    def _commit(self, works: Sequence[writer.Work]) -> Sequence[Any]:
        outcomes = self._writer.commit(works)
        if self._waiters:
            appended = {
                work.stream: position
                for work, position in zip(works, outcomes, strict=True)
                if isinstance(work, Append) and type(position) is int
            }
            self._waiters.wake(max(appended.values(), default=0), streams=appended)
        return outcomes

    async def _is_rare(self, tenant: str, prefix: str) -> bool:
        """Whether so few streams are named like this that it is best to begin with their names."""
        ((count,),) = await self._fetch(COUNT_NAMED, {"tenant": tenant, "prefix": prefix, "few": FEW})
        return bool(count < FEW)

    async def _fetch(self, query: str, parameters: Any = ()) -> list[Any]:
        return await _patiently(lambda: self._database.fetch(query, parameters), self._busy_timeout_s)

    def _look(self) -> None:
        """Look for what others wrote, again and again as long as anybody waits."""
        self._poll = None
        if not self._waiters:
            return
        try:
            self._notice_others()
        except StoreBusy:
            # The next look will tell.
            pass
        except StoreError as error:
            self._waiters.fail(error)
        self._poll = asyncio.get_running_loop().call_later(POLL_S, self._look)

    def _notice_others(self) -> None:
        mark = self._database.change_mark()
        if mark != self._change_mark:
            ((head,),) = self._database.fetch(HEAD)
            self._change_mark, self._foreign_head = mark, head
            self._waiters.wake(head)


async def _patiently(attempt: Callable[[], T], timeout_s: float) -> T:
    """What `attempt` returns once it no longer finds the store busy; the loop goes on meanwhile."""
    loop = asyncio.get_running_loop()
    end, delay_s = loop.time() + timeout_s, RETRY_FIRST_S
    while True:
        try:
            return attempt()
        except StoreBusy:
            if loop.time() >= end:
                raise
        await asyncio.sleep(delay_s)
        delay_s = min(delay_s * RETRY_GROWTH, RETRY_MAX_S)


def _info(row: Sequence[Any]) -> StreamInfo:
    tenant, name, number, version, *standing, worker = row
    return StreamInfo(StreamId(tenant, name), number, version, Standing(*standing), worker)
