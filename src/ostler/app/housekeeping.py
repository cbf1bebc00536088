"""Taking what is no longer needed, or must not be kept, out of a store; a stream of its own says what was taken."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from ostler.app.audit.tree import Tree
from ostler.app.transfer import export
from ostler.domain.housekeeping import (
    ERASED,
    HOUSEKEEPING,
    HOUSEKEEPING_CODEC,
    HousekeepingEvent,
    Remains,
    SessionErased,
    SessionsRemoved,
    taken_away,
)
from ostler.domain.session.events import SESSION_CODEC, AgentStarted
from ostler.domain.session.state import ENDED
from ostler.kernel.errors import Conflict, NotFound, StaleWrite
from ostler.kernel.event import ERASED as ERASED_DATA
from ostler.kernel.event import GENESIS, Record, StreamId, link
from ostler.ports import Append, BlobStore, Clock, EventStore, Row, Standing, StreamInfo, ViewStore
from ostler.runtime.journal import Journal
from ostler.views.catalogue import VIEWS

PAGE = 500
BATCH = 100
"""Sessions that are removed together."""
TRIES_MAX = 20


class Removed(msgspec.Struct, frozen=True):
    """What was taken away; `archive` is the file that holds it."""

    sessions: list[str]
    events: int
    archive: str | None


class Housekeeping:
    """Removes and erases sessions of one tenant that have ended; what goes on is never touched."""

    def __init__(
        self, journal: Journal, blobs: BlobStore, views: ViewStore, clock: Clock, *, tenant: str, by: str
    ) -> None:
        self._journal = journal
        self._store: EventStore = journal.store
        self._blobs = blobs
        self._views = views
        self._clock = clock
        self._tenant = tenant
        self._by = by

    async def ended_before(self, before_us: int) -> AsyncIterator[StreamInfo]:
        """Sessions whose last event is older than that and their end, newest first; erased ones too."""
        async for info in self._sessions((*ENDED, ERASED)):
            (last,) = await self._store.read(info.stream, after=info.version - 1, limit=1)
            if last.at_us < before_us:
                yield info

    async def started_by(self, subject: str) -> AsyncIterator[StreamInfo]:
        """Every session that this principal has started, whatever its status, newest first."""
        async for info in self._sessions(()):
            (first,) = await self._store.read(info.stream, limit=1)
            if first.data != ERASED_DATA:
                event = SESSION_CODEC.decode(first.data)
                if isinstance(event, AgentStarted) and event.by.id == subject:
                    yield info

    async def remove(
        self,
        infos: Sequence[StreamInfo],
        *,
        because: str,
        archive: Path | None,
        written_by: str,
        progress: Callable[[int], None] = lambda done: None,
    ) -> Removed:
        """Delete these sessions with their bodies and rows, after writing them to `archive`, a file that is not there.

        The newest session of a store stays. One that has been resumed or claimed meanwhile stays, with a `StaleWrite`.
        """
        await self._finish_the_last()
        newest = max((info.number for info in await self._store.streams(self._tenant, limit=1)), default=0)
        going = [info for info in infos if info.number != newest]
        if going:
            await Tree(self._store, self._views).catch_up()  # what is removed leaves its hashes there
        if archive is not None and going:
            await self._write(archive, [info.stream for info in going if info.standing.status != ERASED], written_by)
        for start in range(0, len(going), BATCH):
            batch = going[start : start + BATCH]
            remains = tuple([await self._remains(info) for info in batch])
            event = SessionsRemoved(remains, self._by, because, archive.name if archive else "")
            await self._noting(event, partial(self._store.remove, {info.stream: info.version for info in batch}))
            await self._clean_up([info.stream for info in batch])
            progress(start + len(batch))
        names = [info.stream.name for info in going]
        return Removed(names, sum(info.version for info in going), str(archive) if archive else None)

    async def erase(self, info: StreamInfo, *, because: str) -> None:
        """Erase the content of one session, its bodies and its rows. Raises `Conflict` if it has not ended."""
        if info.standing.status == ERASED:
            await self._clean_up([info.stream])
            return
        if info.standing.status not in ENDED:
            raise Conflict(
                f"{info.stream.name} is {info.standing.status}: only what has ended can be erased.",
                hint=f"Cancel it first: ostler cancel {info.stream.name}",
            )
        await self._finish_the_last()
        event = SessionErased(await self._remains(info), self._by, because)
        await self._noting(event, partial(self._store.erase, info.stream, info.version))
        await self._clean_up([info.stream])

    async def history(self) -> list[tuple[int, HousekeepingEvent]]:
        """All that was ever taken out, with the moments in microseconds since 1970."""
        records = await self._store.read(StreamId(self._tenant, HOUSEKEEPING))
        return [(record.at_us, HOUSEKEEPING_CODEC.decode(record.data)) for record in records]

    async def _sessions(self, statuses: Sequence[str]) -> AsyncIterator[StreamInfo]:
        before: int | None = None
        while page := await self._store.streams(
            self._tenant, prefix="ses_", statuses=statuses, before=before, limit=PAGE
        ):
            for info in page:
                yield info
            before = page[-1].number

    async def _remains(self, info: StreamInfo) -> Remains:
        (last,) = await self._store.read(info.stream, after=info.version - 1, limit=1)
        return Remains(info.stream.name, info.version, last.hash.hex())

    async def _clean_up(self, streams: Sequence[StreamId]) -> None:
        """What belongs to sessions that are gone goes, too; whoever died before this does it with the next command."""
        await self._blobs.drop(streams)
        await self._forget_rows(streams)

    async def _finish_the_last(self) -> None:
        """Clean up after the last note, in case whoever wrote it died before doing so. Doing it twice does nothing."""
        for record in await self._last_note():
            event = HOUSEKEEPING_CODEC.decode(record.data)
            await self._clean_up([StreamId(self._tenant, one.session) for one in taken_away(event)])

    async def _last_note(self) -> list[Record]:
        for info in await self._store.streams(self._tenant, prefix=HOUSEKEEPING, limit=1):
            return await self._store.read(info.stream, after=info.version - 1)
        return []

    async def _noting(self, event: HousekeepingEvent, act: Callable[[Append], Awaitable[None]]) -> None:
        """Act, with the note of it as the next event of the tenant's housekeeping."""
        stream = StreamId(self._tenant, HOUSEKEEPING)
        for left in range(TRIES_MAX, 0, -1):
            records = await self._last_note()
            seq, previous = (records[-1].seq, records[-1].hash) if records else (0, GENESIS)
            now, data = self._clock.now_us(), HOUSEKEEPING_CODEC.encode(event)
            record = Record(stream, seq + 1, now, data, link(previous, stream, seq + 1, now, data))
            try:
                await act(Append(stream, seq, [record], Standing(HOUSEKEEPING, HOUSEKEEPING, None)))
            except StaleWrite:
                if left == 1 or len(await self._store.read(stream, after=seq)) == 0:
                    raise  # it was not the note that was too late
            else:
                return

    async def _forget_rows(self, streams: Sequence[StreamId]) -> None:
        """Take the rows of these sessions out of the views; sums, which name nobody, stay."""
        rows = [Row(stream.tenant, stream.name, None) for stream in streams]
        for view in VIEWS:
            while position := await self._views.position(view.id):
                try:
                    await self._views.advance(view.id, after=position, position=position, rows=rows)
                except StaleWrite:
                    continue
                break

    async def _write(self, archive: Path, streams: Sequence[StreamId], written_by: str) -> None:
        try:
            file = archive.open("xb")
        except FileExistsError as error:
            raise Conflict(f"{archive} is there already.", hint="Name another file; nothing was removed.") from error
        except OSError as error:
            raise NotFound(f"{archive} cannot be written: {error.strerror}.", hint="Nothing was removed.") from error
        with file:
            async for line in export(self._journal, self._blobs, streams, written_by=written_by):
                file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())
