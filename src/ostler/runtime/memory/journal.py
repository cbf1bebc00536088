"""Streams of memories: applied to the index, and written to by whoever decides, on what the index then says."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeVar
from weakref import WeakValueDictionary

from ostler.domain.memory.events import MEMORY_CODEC, MemoryEvent, MemoryOpened
from ostler.domain.memory.scope import MEMORY, PREFIX, Scope
from ostler.kernel.errors import OstlerError, StaleWrite, StoreCorrupt
from ostler.kernel.event import ERASED, GENESIS, Record, StreamId, first_broken, link
from ostler.ports import Append, Clock, EventStore, Standing
from ostler.ports.memory import MemoryIndex, Noted

T = TypeVar("T")

PAGE = 250
"""Events that are read and applied together: what the event loop waits for."""
TRIES_MAX = 50
AT_ONCE = 8
"""Scopes that are looked at side by side."""
HEADS_MAX = 10_000
"""Streams of which is remembered how they end."""
STREAMS_PAGE = 1_000

STANDING = Standing(MEMORY, MEMORY, None)
"""Memory streams are in nobody's queue."""


class Head(NamedTuple):
    """The last event of a stream that was applied: its number, its hash and its position; of none, what is before."""

    seq: int = 0
    hash: bytes = GENESIS
    position: int = 0


Decided = tuple[Sequence[MemoryEvent], T]
"""The events to append, and what to tell of them."""


class Journal:
    """The memory streams of a store, and the index that they are applied to, for one process."""

    def __init__(self, store: EventStore, index: MemoryIndex, clock: Clock) -> None:
        self._store = store
        self._index = index
        self._clock = clock
        self._locks: WeakValueDictionary[Scope, asyncio.Lock] = WeakValueDictionary()
        self._heads: OrderedDict[Scope, Head] = OrderedDict()

    async def catch_up(self, scopes: Sequence[Scope]) -> dict[Scope, int]:
        """Apply what was written; returns the position of the last event of each scope, 0 where there is none.

        Raises `StoreCorrupt`, `UnknownEvent`.
        """
        applied = await self._index.applied(scopes)
        heads: dict[Scope, Head] = {}
        for start in range(0, len(scopes), AT_ONCE):
            some = scopes[start : start + AT_ONCE]
            found = await asyncio.gather(*(self._looked_after(scope, applied.get(scope, 0)) for scope in some))
            heads |= dict(zip(some, found, strict=True))
        return {scope: head.position for scope, head in heads.items()}

    async def scopes(self, tenant: str) -> list[Scope]:
        """Everyone in a tenant who has memories, in order. A stream that is not indexed yet says itself whose it is."""
        known = {scope.stream.name: scope for scope in await self._index.scopes(tenant)}
        found, before = set(), None
        while page := await self._store.streams(tenant, prefix=PREFIX, before=before, limit=STREAMS_PAGE):
            for info in page:
                scope = known.get(info.stream.name)
                found.add(scope or await self._opened(info.stream))
            before = page[-1].number
        return sorted(scope for scope in found if scope is not None)

    async def write(self, scope: Scope, decide: Callable[[], Awaitable[Decided[T]]]) -> T:
        """Append what `decide` makes of what the index says, which has everything; loses to nobody.

        It decides again if anybody else was quicker, so that it is to do nothing but ask. Returns what it tells, once
        its events are durable. Raises what it raises, and `StaleWrite` if too many write at once.
        """
        async with self._lock(scope):
            for _ in range(TRIES_MAX):
                head = await self._advance(scope)
                events, told = await decide()
                if not events:
                    return told
                if await self._applied(scope) != head.seq:
                    continue  # what was asked of the index was not all of one and the same state
                try:
                    await self._append(scope, head, events)
                except StaleWrite:
                    continue
                await self._apply_soon(scope)
                return told
        raise StaleWrite(f"The memories of {scope} are being written to by too many at once.")

    async def clear(self, scopes: Sequence[Scope]) -> None:
        """Take these out of the index, while nobody decides anything on what it says of them."""
        for scope in scopes:
            async with self._lock(scope):
                await self._index.clear([scope])
                self._heads.pop(scope, None)

    async def _looked_after(self, scope: Scope, applied: int) -> Head:
        """The end of what is applied, once everything is. Whoever writes is not waited for if there is nothing new."""
        head = self._heads.get(scope)
        if head is not None and head.seq == applied:
            if not await self._store.read(scope.stream, after=applied, limit=1):
                return head
        elif not applied and not await self._store.read(scope.stream, limit=1):
            return Head()
        async with self._lock(scope):
            return await self._advance(scope)

    async def _advance(self, scope: Scope) -> Head:
        """Apply what is not applied yet; returns where the stream ends. The scope is locked."""
        head = await self._found(scope)
        while records := await self._store.read(scope.stream, after=head.seq, limit=PAGE):
            broken = first_broken(records, after=head.seq, previous=head.hash)
            if broken is not None:
                raise StoreCorrupt(
                    f"Event {broken} of {scope.stream.name} of {scope.tenant} was altered or is missing.",
                    hint=f"`ostler verify {scope.stream.name}` shows the damage; restore the store from a backup.",
                )
            try:
                await self._index.apply(scope, [_noted(record) for record in records], after=head.seq)
            except StaleWrite:  # another process has applied them, or cleared the index
                head = await self._found(scope)
                continue
            head = Head(records[-1].seq, records[-1].hash, records[-1].position)
            if len(records) < PAGE:
                break
            await asyncio.sleep(0)
        self._keep(scope, head)
        return head

    async def _found(self, scope: Scope) -> Head:
        """Where the index is. If its last event is not in the log, it is of another store, or of one that was set back
        to an earlier state: it begins anew.
        """
        seq, digest = await self._index.last(scope)
        head = self._heads.get(scope)
        if head is not None and (head.seq, head.hash) == (seq, digest):
            return head
        if not seq:
            return Head()
        for last in await self._store.read(scope.stream, after=seq - 1, limit=1):
            if last.hash == digest:
                return Head(last.seq, last.hash, last.position)
        await self._index.clear([scope])
        return Head()

    async def _applied(self, scope: Scope) -> int:
        return (await self._index.applied([scope])).get(scope, 0)

    async def _append(self, scope: Scope, head: Head, events: Sequence[MemoryEvent]) -> None:
        at_us, stream = self._clock.now_us(), scope.stream
        opening = [] if head.seq and await self._opened(scope.stream) else [MemoryOpened(scope)]
        records, previous = [], head.hash
        for seq, event in enumerate([*opening, *events], head.seq + 1):
            data = MEMORY_CODEC.encode(event)
            previous = link(previous, stream, seq, at_us, data)
            records.append(Record(stream, seq, at_us, data, previous))
        standing = None if head.seq else STANDING
        await self._store.append(Append(stream, head.seq, records, standing))

    async def _apply_soon(self, scope: Scope) -> None:
        """Apply what was just written. It is remembered already: if the index fails now, whoever asks it is told."""
        try:
            await self._advance(scope)
        except OstlerError:
            self._heads.pop(scope, None)

    async def _opened(self, stream: StreamId) -> Scope | None:
        """Whose memories a stream holds, by its first event; None if that was erased, and nobody came back since."""
        after, size = 0, 1
        while records := await self._store.read(stream, after=after, limit=size):
            for record in records:
                event = _noted(record).event
                if isinstance(event, MemoryOpened):
                    return event.scope
            after, size = records[-1].seq, PAGE
        return None

    def _keep(self, scope: Scope, head: Head) -> None:
        self._heads[scope] = head
        self._heads.move_to_end(scope)
        if len(self._heads) > HEADS_MAX:
            self._heads.popitem(last=False)

    def _lock(self, scope: Scope) -> asyncio.Lock:
        lock = self._locks.get(scope)
        if lock is None:
            lock = self._locks[scope] = asyncio.Lock()
        return lock


def _noted(record: Record) -> Noted:
    event = None if record.data == ERASED else MEMORY_CODEC.decode(record.data)
    return Noted(record.seq, record.position, record.at_us, event, record.hash)
