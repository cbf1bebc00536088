"""Streams in PostgreSQL."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from ostler.adapters.store.group import RemoteGroup
from ostler.adapters.store.postgres.appends import Appender
from ostler.adapters.store.postgres.census import census
from ostler.adapters.store.postgres.claims import Claimer
from ostler.adapters.store.postgres.clock import ServerClock, monotonic_us
from ostler.adapters.store.postgres.notices import Notices
from ostler.adapters.store.postgres.schema import Schema, migrations
from ostler.adapters.store.postgres.server import PATIENCE_S, Server, address
from ostler.adapters.store.rules import check, check_erasable, is_newest, not_at_rest
from ostler.domain.housekeeping import ERASED as ERASED_STATUS
from ostler.domain.scheduling import NO_CAPS, Caps
from ostler.kernel.errors import StoreCorrupt
from ostler.kernel.event import ERASED, Record, StreamId
from ostler.ports import Append, Census, Claim, Standing, StreamInfo

PAGE = 1000
"""Rows fetched before others get a turn."""

NOTED = """
    SELECT FROM @schema.events JOIN @schema.streams ON key = stream
    WHERE tenant = $1 AND name = $2 AND hash = $3 ORDER BY seq DESC LIMIT 1
"""
AT_REST = """
    SELECT tenant, name, key, (SELECT max(seq) FROM @schema.events WHERE stream = key),
        key = (SELECT max(key) FROM @schema.streams)
    FROM @schema.streams JOIN unnest($1::text[], $2::text[]) AS given (tenant, name) USING (tenant, name)
    WHERE due IS NULL AND worker IS NULL
"""
DELETE_EVENTS = "DELETE FROM @schema.events WHERE stream = ANY ($1::bigint[])"
DELETE_STREAMS = "DELETE FROM @schema.streams WHERE key = ANY ($1::bigint[])"
ERASE_EVENTS = f"UPDATE @schema.events SET data = '{ERASED.decode()}'::bytea WHERE stream = ANY ($1::bigint[])"
ERASE_EVENT = f"{ERASE_EVENTS} AND seq = ANY ($2::integer[])"
ERASE_STREAM = f"UPDATE @schema.streams SET status = '{ERASED_STATUS}' WHERE key = ANY ($1::bigint[])"
NOW = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
HEAD = "SELECT @schema.head(), (SELECT hash FROM @schema.events WHERE position = $1)"
READ = """
    SELECT seq, at, data, hash, position FROM @schema.events
    WHERE stream = (SELECT key FROM @schema.streams WHERE tenant = $1 AND name = $2) AND seq > $3 ORDER BY seq LIMIT $4
"""
TAIL = """
    SELECT tenant, name, seq, at, data, hash, position
    FROM (SELECT * FROM @schema.events WHERE position > $1 ORDER BY position LIMIT $2) AS page
    JOIN @schema.streams ON key = stream ORDER BY position
"""
KNOCKS = """
    SELECT tenant, name, seq, position
    FROM (SELECT * FROM @schema.events WHERE NOT fenced AND position > $1 ORDER BY position LIMIT $2) AS page
    JOIN @schema.streams ON key = stream ORDER BY position
"""
LIST = """
    SELECT tenant, name, key, coalesce((SELECT max(seq) FROM @schema.events WHERE stream = key), 0),
        queue, status, due, priority, worker
    FROM @schema.streams WHERE {conditions} ORDER BY key DESC LIMIT $2
"""
NAMED = "name >= ${0} AND name < ${0} || chr(1114111)"
WORKERS = "SELECT name, until FROM @schema.workers ORDER BY name"
BEAT = f"""
    INSERT INTO @schema.workers (name, until) VALUES ($1, $2)
    ON CONFLICT (name) DO UPDATE SET until = excluded.until RETURNING {NOW}
"""
VOUCH = """
    UPDATE @schema.streams AS stream SET attempts = 0 FROM unnest($2::text[], $3::text[]) AS given (tenant, name)
    WHERE (stream.tenant, stream.name) = (given.tenant, given.name) AND worker = $1 AND attempts > 0
"""
RELEASE = "SELECT @schema.release($1, $2, $3)"
RETIRE = "SELECT @schema.retire($1)"


class PostgresStore:
    """An `EventStore` in one schema of a PostgreSQL database. Made by `open`; belongs to one event loop.

    Appends that arrive while others are on their way are written together, in one statement that is its own
    transaction. `clock` is the server's, which all who use it share. When the server does not answer, everything is
    tried again for a while, and what was sent and not answered is found again rather than written twice. When the
    server turns out to have lost what was acknowledged here, nothing is written any more.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        sender = secrets.token_hex(4)
        self._appender = Appender(server, sender)
        self._group: RemoteGroup[Append] = RemoteGroup(self._write)
        self._claimer = Claimer(server)
        self._notices = Notices(server, sender, self.head)
        self._head_seen = 0
        self._last_kept: tuple[int, bytes] = (0, b"")
        self._loss = ""
        self.clock = ServerClock()

    @classmethod
    async def open(cls, url: str, *, create: bool = True, patience_s: float = PATIENCE_S) -> "PostgresStore":
        """The store at `postgresql://user@host:port/database?schema=ostler&pgbouncer=true`, made if there is none.

        Raises `ConfigurationError`, `NotFound` without `create`, `NotAStore` if the schema holds something else, and
        this and every method `StoreUnreachable` if the server does not answer for `patience_s`.
        """
        server = Server(address(url), patience_s=patience_s)
        try:
            await Schema(server, migrations()).prepare(create=create)
            store = cls(server)
            asked_us = monotonic_us()
            ((now_us,),) = await server.fetch(f"SELECT {NOW}")
            store.clock.set(now_us, asked_us=asked_us)
        except BaseException:
            await server.close()
            raise
        return store

    @property
    def commits(self) -> int:
        """How many groups of appends this object has committed."""
        return self._group.commits

    async def append(self, append: Append) -> int:
        check(append)
        self._refuse_if_lost()
        position: int = await self._group.add(append)
        return position

    async def read(self, stream: StreamId, *, after: int = 0, limit: int | None = None) -> list[Record]:
        query, records = self.server.sql(READ), list[Record]()
        while limit is None or len(records) < limit:
            size = PAGE if limit is None else min(PAGE, limit - len(records))
            rows = await self.server.fetch(query, *stream, records[-1].seq if records else after, size)
            records += [Record(stream, *row) for row in rows]
            if len(rows) < size:
                break
        return records

    async def tail(self, *, after: int = 0, limit: int = 1000) -> list[Record]:
        query, records = self.server.sql(TAIL), list[Record]()
        while len(records) < limit:
            size = min(PAGE, limit - len(records))
            rows = await self.server.fetch(query, records[-1].position if records else after, size)
            records += [Record(StreamId(tenant, name), *row) for tenant, name, *row in rows]
            if len(rows) < size:
                break
        return records

    async def head(self) -> int:
        seen, (position, digest) = self._head_seen, self._last_kept
        ((head, found),) = await self.server.fetch(self.server.sql(HEAD), position)
        if head < seen:
            self._loss = f"it was at {seen} and is at {head} now"
        elif found not in (None, digest):
            self._loss = f"event {position}, which was acknowledged here, is another one now"
        self._refuse_if_lost()
        self._head_seen = max(self._head_seen, head)
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
        conditions, arguments = ["tenant = $1"], [tenant, limit]
        wishes: list[tuple[str, Any]] = [
            (NAMED, prefix or None),
            ("status = ANY (${0}::text[])", list(statuses) or None),
            ("queue = ${0}", queue),
            ("key < ${0}", before),
        ]
        for condition, wanted in wishes:
            if wanted is not None:
                arguments.append(wanted)
                conditions.append(condition.format(len(arguments)))
        query = self.server.sql(LIST.format(conditions=" AND ".join(conditions)))
        return [_info(row) for row in await self.server.fetch(query, *arguments)]

    async def wait(self, *, after: int, timeout_s: float, foreign: bool = False, stream: StreamId | None = None) -> int:
        return await self._notices.wait(after=after, timeout_s=timeout_s, foreign=foreign, stream=stream)

    async def knocks(self, *, after: int) -> tuple[int, dict[StreamId, int]]:
        head = await self.head()
        rows = await self.server.fetch(self.server.sql(KNOCKS), after, PAGE)
        end = rows[-1][3] if len(rows) == PAGE else max(head, after)
        return end, {StreamId(tenant, name): seq for tenant, name, seq, _ in rows}

    async def beat(self, worker: str, *, until_us: int) -> None:
        asked_us = monotonic_us()
        ((now_us,),) = await self.server.fetch(self.server.sql(BEAT), worker, until_us)
        self.clock.set(now_us, asked_us=asked_us)

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
        self._refuse_if_lost()
        return await self._claimer.claim(
            worker, now_us=now_us, limit=limit, queues=queues, only=only, caps=caps, suspects=suspects
        )

    async def vouch(self, worker: str, streams: Sequence[StreamId]) -> None:
        if streams:
            await self.server.fetch(self.server.sql(VOUCH), worker, *_columns(streams))

    async def release(self, worker: str, streams: Sequence[StreamId]) -> None:
        if streams:
            await self.server.fetch(self.server.sql(RELEASE), worker, *_columns(streams))

    async def workers(self) -> list[tuple[str, int]]:
        return [(name, until_us) for name, until_us in await self.server.fetch(self.server.sql(WORKERS))]

    async def census(self, *, now_us: int, without: Sequence[str] = (), most: int = 10_000) -> Census:
        return await census(self.server, now_us=now_us, without=without, most=most)

    async def retire(self, worker: str) -> None:
        await self.server.fetch(self.server.sql(RETIRE), worker)

    async def remove(self, streams: Mapping[StreamId, int], note: Append) -> None:
        check(note)
        await self._take_away(streams, [note], [DELETE_EVENTS, DELETE_STREAMS], may_be_newest=False)
        self._appender.forget(streams)

    async def erase(self, stream: StreamId, version: int, *notes: Append, only: Sequence[int] | None = None) -> None:
        for note in notes:
            check(note)
        check_erasable(stream, version, only)
        if only is None:
            await self._take_away({stream: version}, notes, [ERASE_EVENTS, ERASE_STREAM])
        else:
            await self._take_away({stream: version}, notes, [ERASE_EVENT], list(only))
        await self.server.alone(self.server.sql("VACUUM @schema.events"))

    async def _take_away(
        self,
        streams: Mapping[StreamId, int],
        notes: Sequence[Append],
        queries: Sequence[str],
        *arguments: Any,
        may_be_newest: bool = True,
    ) -> None:
        """Notes first, so that no position is given twice, then what the queries do to the keys (and `arguments`)."""

        async def work(connection: Any) -> None:
            await connection.fetch(self.server.sql("SELECT @schema.lock_log()"))
            if await connection.fetch(self.server.sql(NOTED), *notes[0].stream, notes[0].records[-1].hash):
                return  # the answer to an earlier try was lost
            rows = await connection.fetch(self.server.sql(AT_REST), *_columns(list(streams)))
            found = {StreamId(tenant, name): (key, version, newest) for tenant, name, key, version, newest in rows}
            for stream, version in streams.items():
                if stream not in found or found[stream][1] != version:
                    raise not_at_rest(stream)
                if found[stream][2] and not may_be_newest:
                    raise is_newest(stream)
            await self._appender.append_within(connection, *notes)
            keys = [key for key, _, _ in found.values()]
            for query in queries:
                await connection.fetch(self.server.sql(query), keys, *arguments)

        await self.server.patiently(lambda: self.server.transact(work))

    async def close(self) -> None:
        await self._group.drain()
        await self._notices.close()
        await self.server.close()

    def _refuse_if_lost(self) -> None:
        """Once it is known that the server has forgotten something, nothing is built upon what it still has."""
        if self._loss:
            raise StoreCorrupt(
                f"{self.server.address} has lost events: {self._loss}.",
                hint="Was a standby promoted that lagged behind? Stop all workers, and decide which is true.",
            )

    async def _write(self, appends: Sequence[Append]) -> Sequence[Any]:
        self._notices.begins(sum(len(append.records) for append in appends))
        outcomes = await self._appender.write(appends)
        written = {
            append.stream: len(append.records)
            for append, outcome in zip(appends, outcomes, strict=True)
            if not isinstance(outcome, Exception)
        }
        head = max((outcome for outcome in outcomes if not isinstance(outcome, Exception)), default=0)
        self._head_seen = max(self._head_seen, head)
        for append, outcome in zip(appends, outcomes, strict=True):
            if append.records and not isinstance(outcome, Exception) and outcome > self._last_kept[0]:
                self._last_kept = outcome, append.records[-1].hash
        self._notices.wrote(head, sum(written.values()), written)
        return outcomes


def _columns(streams: Sequence[StreamId]) -> tuple[list[str], list[str]]:
    return [stream.tenant for stream in streams], [stream.name for stream in streams]


def _info(row: Sequence[Any]) -> StreamInfo:
    tenant, name, number, version, *standing, worker = row
    return StreamInfo(StreamId(tenant, name), number, version, Standing(*standing), worker)
