"""Taking a part of a log along, with all that proves it."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence

import msgspec

from ostler.app.audit.checkpoint import checkpoints, said_by
from ostler.app.audit.lines import FORMAT_VERSION, Gone, Header, Hidden, Line, Removed, Root, Shown
from ostler.app.audit.tree import PAGE, Entry, Tree
from ostler.domain.audit import AUDIT
from ostler.domain.housekeeping import HOUSEKEEPING, HOUSEKEEPING_CODEC, SessionsRemoved
from ostler.domain.registers import REGISTERS
from ostler.kernel.errors import Conflict, NotFound, StoreCorrupt, UnknownEvent, UsageError
from ostler.kernel.event import Record, StreamId
from ostler.kernel.merkle import EMPTY_ROOT, Range
from ostler.ports import EventStore

COMMON = REGISTERS
"""Streams of a tenant that are in every file, whole: what was taken away, what was signed, who might do what."""
GONE_MAX = 1_000
"""Hashes in one line."""


class Cut(msgspec.Struct, frozen=True):
    """What of a tenant's log is taken along: the leaves `period` of a tree of `size`, of all sessions or of these."""

    tenant: str
    size: int
    period: Range
    sessions: tuple[str, ...] | None = None

    @property
    def is_whole(self) -> bool:
        return self.sessions is None and self.period == Range(0, self.size)


async def cut_by_checkpoints(
    store: EventStore, tree: Tree, tenant: str, *, from_us: int | None, to_us: int | None, sessions: Sequence[str] = ()
) -> Cut:
    """Cut at checkpoints, so that a period is whole whoever's clocks were wrong.

    From the last one that was signed at or before `from_us` (None: from the first event) to the first that was signed
    at or after `to_us` (None: to the last one). Single sessions are always taken from their first event. Raises
    `Conflict` if the period, or something that was removed, is not signed for yet.
    """
    records = await store.read(StreamId(tenant, AUDIT))
    signed = [
        (record.at_us, event.size) for record, event in zip(records, await checkpoints(store, tenant), strict=True)
    ]
    hint = f"Sign for it first: ostler audit checkpoint{'' if tenant == 'default' else f' --tenant {tenant}'}"
    if not signed:
        raise Conflict("Nothing was signed yet, so that nothing can be proved to others.", hint=hint)
    if from_us is not None and to_us is not None and from_us >= to_us:
        raise UsageError("The period ends before it begins.")
    start = 0 if from_us is None or sessions else max((size for at, size in signed if at <= from_us), default=0)
    last = signed[-1][1]
    end = last if to_us is None else min((size for at, size in signed if at >= to_us), default=None)
    if end is None:
        raise Conflict("The last checkpoint is older than the end of the period.", hint=hint)
    for note in (await store.read(StreamId(tenant, HOUSEKEEPING)))[-1:]:
        if await tree.index_of(tenant, note.position, last) == last:
            raise Conflict("Something was removed or erased since the last checkpoint.", hint=hint)
    return Cut(tenant, last, Range(min(start, end), end), tuple(sessions) or None)


async def export(
    store: EventStore,
    tree: Tree,
    cut: Cut,
    *,
    written_by: str,
    sizes: Sequence[int] = (),
    progress: Callable[[int], None] = lambda leaves: None,
) -> AsyncIterator[Line]:
    """The lines of a file. Memory grows with the streams in it, about 200 bytes each, and not with the events.

    `sizes` are more sizes whose roots are to be in it. Raises `StoreCorrupt` where log and tree contradict each other,
    and `NotFound`.
    """
    tenant, sessions = cut.tenant, None if cut.sessions is None else list(cut.sessions)
    yield Header(FORMAT_VERSION, written_by, tenant, cut.size, *cut.period, sessions)
    async for root in _roots(store, tree, cut, sizes):
        yield root
    async for note in _stream(store, StreamId(tenant, HOUSEKEEPING), 0, await _position(tree, cut, cut.size)):
        for removed in _removed(note):
            yield removed
    place = 0
    async for record in _chosen(store, tree, cut):
        index = await _leaf_of(tree, cut, record)
        async for line in _between(tree, cut, Range(place, index)):
            yield line
        yield Shown(record.stream.name, record.seq, record.at_us, record.hash.hex(), msgspec.Raw(record.data))
        place = index + 1
        progress(place)
    async for line in _between(tree, cut, Range(place, cut.size)):
        yield line
    progress(cut.size)


async def _roots(store: EventStore, tree: Tree, cut: Cut, sizes: Sequence[int]) -> AsyncIterator[Root]:
    unsigned = {size for size in (*sizes, cut.size) if size <= cut.size}
    for signed in await checkpoints(store, cut.tenant):
        try:
            said = said_by(signed)
        except StoreCorrupt:
            yield Root(0, EMPTY_ROOT, [], signed.note)  # whoever verifies the file says what is wrong with it
            continue
        proof = await tree.consistency(cut.tenant, said.size, cut.size) if said.size <= cut.size else []
        yield Root(said.size, said.root, proof, signed.note)
        unsigned.discard(said.size)
    for size in sorted(unsigned):
        proof = await tree.consistency(cut.tenant, size, cut.size)
        yield Root(size, await tree.root(cut.tenant, size), proof)


def _removed(note: Record) -> list[Removed]:
    """What a note of housekeeping says was removed."""
    if note.stream.name != HOUSEKEEPING:
        return []
    try:
        event = HOUSEKEEPING_CODEC.decode(note.data)
    except UnknownEvent:
        return []
    gone = event.sessions if isinstance(event, SessionsRemoved) else ()
    return [Removed(one.session, one.events, one.head) for one in gone]


async def _chosen(store: EventStore, tree: Tree, cut: Cut) -> AsyncIterator[Record]:
    """The records that are in the file, in order of position."""
    start, end = await _position(tree, cut, cut.period.start), await _position(tree, cut, cut.period.end)
    streams: set[StreamId] | None = None
    if cut.sessions is not None:
        streams = {StreamId(cut.tenant, name) for name in cut.sessions}
        start, end = await _first(store, streams), await _last(store, streams, end) + 1
    elif cut.period.start:
        streams, early = set(), set()
        async for record in _tail(store, cut.tenant, start, end):
            if record.stream not in streams and record.seq > 1:
                early.add(record.stream)
            streams.add(record.stream)
        start = min(start, await _first(store, early)) if early else start
    async for record in _common(store, cut.tenant, 0, start):
        yield record
    async for record in _tail(store, cut.tenant, start, end):
        if streams is None or record.stream in streams or record.stream.name in COMMON:
            yield record
    async for record in _common(store, cut.tenant, max(start, end), await _position(tree, cut, cut.size)):
        yield record


async def _common(store: EventStore, tenant: str, start: int, end: int) -> AsyncIterator[Record]:
    """What is in every file, from position `start` up to, and without, `end`."""
    streams = [_stream(store, StreamId(tenant, name), start, end) for name in COMMON]
    following = [(await anext(stream, None), stream) for stream in streams]
    while waiting := [(record, stream) for record, stream in following if record is not None]:
        first = min(waiting, key=lambda one: one[0].position)
        yield first[0]
        following = [(await anext(one[1], None), one[1]) if one is first else one for one in waiting]


async def _stream(store: EventStore, stream: StreamId, start: int, end: int) -> AsyncGenerator[Record, None]:
    """The records of one stream from position `start` up to, and without, `end`."""
    after = 0
    while page := await store.read(stream, after=after, limit=PAGE):
        for record in page:
            if start <= record.position < end:
                yield record
        after = page[-1].seq


async def _position(tree: Tree, cut: Cut, index: int) -> int:
    """The position of a leaf; of the one after the last, the position after that of the last."""
    async for entry in tree.entries(cut.tenant, Range(index, min(index + 1, cut.size))):
        return entry.position
    async for entry in tree.entries(cut.tenant, Range(max(0, cut.size - 1), cut.size)):
        return entry.position + 1
    return 0


async def _first(store: EventStore, streams: Iterable[StreamId]) -> int:
    """The position of the first event of these streams. Raises `NotFound` if one of them is not there."""
    return min([await _first_of(store, stream) for stream in streams])


async def _first_of(store: EventStore, stream: StreamId) -> int:
    for record in await store.read(stream, limit=1):
        return record.position
    raise NotFound(f"There is no session {stream.name}.", hint="`ostler ps --all` lists them.")


async def _last(store: EventStore, streams: Iterable[StreamId], end: int) -> int:
    """The position of the last event of these streams before `end`; 0 if there is none."""
    last = 0
    for stream in streams:
        async for record in _stream(store, stream, 0, end):
            last = max(last, record.position)
    return last


async def _tail(store: EventStore, tenant: str, start: int, end: int) -> AsyncIterator[Record]:
    """The records of a tenant from position `start` up to, and without, `end`."""
    after = start - 1
    while page := await store.tail(after=after, limit=PAGE):
        for record in page:
            if record.position >= end:
                return
            if record.stream.tenant == tenant:
                yield record
        after = page[-1].position


async def _between(tree: Tree, cut: Cut, gap: Range) -> AsyncIterator[Line]:
    """The leaves of a gap. Those of the period are gone from the log, if all that it had of them is in the file."""
    period = cut.period if cut.sessions is None else Range(cut.size, cut.size)
    start = min(max(gap.start, period.start), gap.end)
    end = max(min(gap.end, period.end), start)
    if gap.start < start:
        yield Hidden(start - gap.start, await tree.roots_of(cut.tenant, Range(gap.start, start)))
    for first in range(start, end, GONE_MAX):
        part = Range(first, min(first + GONE_MAX, end))
        yield Gone([entry.hash async for entry in tree.entries(cut.tenant, part)])
    if end < gap.end:
        yield Hidden(gap.end - end, await tree.roots_of(cut.tenant, Range(end, gap.end)))


async def _leaf_of(tree: Tree, cut: Cut, record: Record) -> int:
    """The index of a record. Raises `StoreCorrupt` unless it is what was there when the tree grew."""
    index = await tree.index_of(cut.tenant, record.position, cut.size)
    if await tree.entry(cut.tenant, index) != Entry(record.position, record.hash):
        raise StoreCorrupt(
            f"Event {record.seq} of {record.stream.name}, at position {record.position} of the log, is not what stood "
            "there when it was added to the audit tree.",
            hint="Somebody has rewritten the log, or restored a part of it. Compare it with a backup.",
        )
    return index
