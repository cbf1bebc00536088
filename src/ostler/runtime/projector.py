"""The projector: reads the log and keeps views up to date with it, each event counting exactly once."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

import msgspec

from ostler.kernel.errors import OstlerError, StaleWrite, StoreError
from ostler.kernel.event import Record, StreamId
from ostler.ports import EventStore, Row, ViewStore
from ostler.views.fold import AnyView, Format, View, taken_away

S = TypeVar("S")
T = TypeVar("T")

BATCH_MAX = 1_000
BATCH_BYTES = 4 * 1024 * 1024
PAGE = 200
"""A batch is read page by page until it holds so many events, or so many bytes."""

ROWS_MAX = 5_000
"""Rows of a view that are remembered between two batches."""

TURN = 200
"""Events that are folded before the event loop gets a turn."""

STAND_BY_S = 5.0
"""How long a projector leaves the views to another that was seen to move them."""

Key = tuple[str, str]
"""A tenant, and a key of its own."""


class Progress(msgspec.Struct, frozen=True):
    """How far a view has read the log by now, how far it is to read, and how many events it has read on the way."""

    view: str
    position: int
    head: int
    events: int


class Projector:
    """Keeps views at the head of the log.

    It may be stopped, cancelled or killed at any moment, and any number of them may run on one store: rows and position
    move together, so that whoever comes too late reads both again. `lag_s` is how long `run` lets events gather, which
    spares a busy store commits; `trouble` is told when the store fails, before it is tried again.
    """

    def __init__(
        self,
        store: EventStore,
        views: ViewStore,
        which: Iterable[AnyView],
        *,
        lag_s: float = 1.0,
        trouble: Callable[[StreamId | None, OstlerError], None] = lambda stream, error: None,
        progress: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self._store = store
        self._views = views
        self._projections = [_Projection(view, store, views) for view in which]
        self._lag_s = lag_s
        self._trouble = trouble
        self._progress = progress

    async def run(self) -> None:
        """Follow the log until cancelled. While another projector moves the views on, this one stands by."""
        while True:
            try:
                if await self._is_led_by_another():
                    await asyncio.sleep(STAND_BY_S)
                    continue
                await self.catch_up()
            except StoreError as error:
                self._trouble(None, error)
            await asyncio.sleep(self._lag_s)

    async def _is_led_by_another(self) -> bool:
        return any([await projection.was_moved() for projection in self._projections])

    async def catch_up(self) -> int:
        """Bring every view to where the head of the log is now, and return that position. Raises `StoreError`."""
        head = await self._store.head()
        for projection in self._projections:
            await self._catch_up(projection, head)
        return head

    async def rebuild(self) -> int:
        """Forget what is there of the views and fold them anew. Whoever shows them meanwhile asks the log."""
        for projection in self._projections:
            await projection.forget()
        return await self.catch_up()

    async def _catch_up(self, projection: "_Projection[object, object]", head: int) -> None:
        view, began, events = projection.view, await projection.position(), 0
        position = began
        while position < head:
            count, before = await projection.advance(), position
            events, position = events + count, await projection.position()
            self._progress(Progress(view.name, position, head, events))
            if not count and position == before:
                break  # the rest of the positions were given to nobody
        if began == 0 < position:
            # Nobody will go on with what older versions of this fold have left.
            for version in range(1, view.version):
                await self._views.forget(view.id_of(version))


class _Projection(Generic[S, T]):
    """One view: where it is, and the rows that were used last. What it remembers is true of that position."""

    def __init__(self, view: View[S, T], store: EventStore, views: ViewStore) -> None:
        self.view = view
        self._store = store
        self._views = views
        self._position: int | None = None
        self._seen: int | None = None
        self._rows: _Remembered[S] = _Remembered(view.id, view.rows, views)
        self._sums: _Remembered[T] = _Remembered(view.id, view.sums, views)

    async def position(self) -> int:
        if self._position is None:
            self._position = await self._views.position(self.view.id)
        return self._position

    async def was_moved(self) -> bool:
        """Whether somebody else has moved the view since this was last asked, or since it was moved here."""
        stored = await self._views.position(self.view.id)
        moved, self._seen = self._seen not in (None, stored), stored
        if moved:
            self._lose()
        return moved

    async def advance(self) -> int:
        """Fold one batch and keep what came of it; returns how many events it was.

        0: there were none, or somebody else was faster.
        """
        after = await self.position()
        records = await self._read(after)
        if not records:
            return 0
        position = records[-1].position
        try:
            changed = await self._fold(records)
            await self._views.advance(self.view.id, after=after, position=position, rows=changed)
        except BaseException as error:
            # Whether it was written is not known, or it was not: what is remembered is true of no position any more.
            self._lose()
            if isinstance(error, StaleWrite):
                return 0
            raise
        self._position = self._seen = position
        self._rows.shrink()
        self._sums.shrink()
        return len(records)

    async def forget(self) -> None:
        self._lose()
        await self._views.forget(self.view.id)

    def _lose(self) -> None:
        self._position = None
        self._rows.clear()
        self._sums.clear()

    async def _read(self, after: int) -> list[Record]:
        """The next batch."""
        records: list[Record] = []
        size = 0
        while size < BATCH_BYTES and (wanted := min(PAGE, BATCH_MAX - len(records))):
            page = await self._store.tail(after=records[-1].position if records else after, limit=wanted)
            records += page
            size += sum(len(record.data) for record in page)
            if len(page) < wanted:
                break
        return records

    async def _fold(self, records: Sequence[Record]) -> list[Row]:
        """The rows that these records change."""
        view, rows = self.view, self._rows
        wanted = [record for record in records if view.wants(record)]
        gone = [(record.stream.tenant, name) for record in records for name in taken_away(record)]
        # Nothing is kept of a stream before its first event.
        rows.add_absent(record.stream for record in wanted if record.seq == 1)
        await rows.load(dict.fromkeys([*(record.stream for record in wanted), *gone]))
        more: dict[Key, T] = {}
        for number, record in enumerate(wanted, 1):
            step = view.evolve(rows.get(record.stream), record)
            rows.put(record.stream, step.row)
            for name, value in step.more:
                key = (record.stream.tenant, name)
                more[key] = view.add(more[key], value) if key in more else value
            if number % TURN == 0:
                await asyncio.sleep(0)
        for key in gone:
            rows.put(key, None)
        await self._sums.load(more)
        for key, value in more.items():
            total = self._sums.get(key)
            self._sums.put(key, value if total is None else view.add(total, value))
        return [*rows.changed(), *self._sums.changed()]


class _Remembered(Generic[S]):
    """Rows of a view in memory, those used last at the end. None: there is no such row."""

    def __init__(self, view: str, form: Format[S], views: ViewStore) -> None:
        self._view = view
        self._form = form
        self._views = views
        self._rows: dict[Key, S | None] = {}
        self._changed: dict[Key, None] = {}

    async def load(self, keys: Iterable[Key]) -> None:
        """Have these rows here, and keep them until the next `shrink`."""
        missing: dict[str, list[str]] = {}
        for key in keys:
            if key in self._rows:
                self._rows[key] = self._rows.pop(key)
            else:
                missing.setdefault(key[0], []).append(key[1])
        for tenant, names in missing.items():
            found = await self._views.rows(self._view, tenant, names)
            for name in names:
                self._rows[tenant, name] = self._form.unpack(found[name]) if name in found else None

    def add_absent(self, keys: Iterable[Key]) -> None:
        """There are no such rows, as is known without asking."""
        for key in keys:
            self._rows.setdefault(key, None)

    def get(self, key: Key) -> S | None:
        return self._rows[key]

    def put(self, key: Key, row: S | None) -> None:
        if row is not self._rows[key]:
            self._rows[key] = row
            self._changed[key] = None

    def changed(self) -> list[Row]:
        """What was put since this was last asked, as it is to be kept."""
        changed, self._changed = self._changed, {}
        rows = ((key, self._rows[key]) for key in changed)
        return [Row(*key, body=None if row is None else self._form.pack(row)) for key, row in rows]

    def shrink(self) -> None:
        """Let go of the rows that were used longest ago, as far as there are too many."""
        for key in list(self._rows)[: max(0, len(self._rows) - ROWS_MAX)]:
            del self._rows[key]

    def clear(self) -> None:
        self._rows.clear()
        self._changed.clear()
