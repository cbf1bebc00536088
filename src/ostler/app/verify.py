"""Proof that logs are what was written, and that they decide today as they did then."""

import hashlib
from collections.abc import Sequence

import msgspec

from ostler.domain.housekeeping import (
    HOUSEKEEPING,
    HOUSEKEEPING_CODEC,
    HousekeepingEvent,
    MemoriesErased,
    SessionErased,
)
from ostler.domain.memory.scope import PREFIX
from ostler.domain.session.bodies import bodies_of
from ostler.domain.session.events import SESSION_CODEC
from ostler.kernel.errors import NotFound, StoreCorrupt, UnknownEvent
from ostler.kernel.event import ERASED, GENESIS, Record, StreamId, first_broken
from ostler.ports import BlobStore, EventStore
from ostler.runtime.journal import Journal
from ostler.runtime.replay import replay, snapshot, state_after

PAGE = 1000


class Verified(msgspec.Struct, frozen=True):
    """One stream: how much was looked at, the hash of its last event, and everything that is wrong with it."""

    stream: str
    events: int
    blobs: int
    head: str
    problems: list[str] = []

    @property
    def is_whole(self) -> bool:
        return not self.problems


class Rehearsed(msgspec.Struct, frozen=True):
    """A session decided again: `digest` is the SHA-256 of its state as canonical JSON, twice the same."""

    session: str
    events: int
    decisions: int
    adopted: int
    status: str
    digest: str


async def verify(store: EventStore, blobs: BlobStore, stream: StreamId) -> Verified:
    """Recompute the chain of one stream, and look for every body that its events refer to. Raises `NotFound`."""
    count, head, bodies = 0, GENESIS, 0
    problems: list[str] = []
    while page := await store.read(stream, after=count, limit=PAGE):
        broken = first_broken(page, after=count, previous=head)
        if broken is not None:
            problems.append(f"event {broken} was altered or is missing: its hash does not fit")
            count += len(page)
            break
        if stream.name.startswith(PREFIX):
            problems += await _problems_of_memories(store, page)
        elif page[0].data == ERASED:
            problems += await _problems_of_erasure(store, page)
        elif stream.name.startswith("ses_"):
            counted, missing = await _bodies(blobs, page)
            bodies += counted
            problems += missing
        count, head = count + len(page), page[-1].hash
    if not count:
        raise NotFound(f"There is nothing called {stream.name}.", hint="`ostler ps --all` lists sessions.")
    return Verified(stream.name, count, bodies, head.hex(), problems)


async def stream_ids(store: EventStore, tenant: str, prefix: str = "") -> list[StreamId]:
    """Every stream of a tenant, oldest first."""
    found: list[StreamId] = []
    before: int | None = None
    while page := await store.streams(tenant, prefix=prefix, before=before, limit=PAGE):
        found += [info.stream for info in page]
        before = page[-1].number
    return found[::-1]


async def rehearse(journal: Journal, stream: StreamId) -> Rehearsed:
    """Verify, fold twice and decide again, touching nothing. Raises `ReplayDiverged`, `StoreCorrupt`, `NotFound`."""
    records = await journal.records(stream)
    check_chain(records)
    replayed = replay(records)
    once, again = (snapshot(state) for state in (state_after(records), state_after(records)) if state is not None)
    if not once == again == snapshot(replayed.state):
        raise StoreCorrupt(f"Folding {stream.name} twice gives two states: its log does not determine it.")
    return Rehearsed(
        session=stream.name,
        events=len(records),
        decisions=replayed.decisions,
        adopted=replayed.adopted,
        status=replayed.state.status,
        digest=hashlib.sha256(once).hexdigest(),
    )


def check_chain(records: Sequence[Record]) -> None:
    """Raises `StoreCorrupt` unless these records are the whole of a stream, unaltered."""
    broken = first_broken(list(records))
    if broken is not None:
        raise StoreCorrupt(
            f"Event {broken} of {records[0].stream.name} was altered or is missing: its hash does not fit.",
            hint="Get it again from where it came from: what stands there is not what happened.",
        )


async def _problems_of_erasure(store: EventStore, records: Sequence[Record]) -> list[str]:
    """What is wrong with events whose content is gone: the housekeeping must say so, or somebody else did it."""
    notes = await _housekeeping(store, records[0].stream.tenant)
    noted = {note.remains.head: note.remains.events for note in notes if isinstance(note, SessionErased)}
    last = (await store.read(records[0].stream, after=records[-1].seq) or records)[-1]
    if noted.get(last.hash.hex()) != last.seq:
        return ["its content is gone, and nothing is written of who erased it"]
    return [f"event {record.seq} is erased only in part" for record in records if record.data != ERASED]


async def _problems_of_memories(store: EventStore, records: Sequence[Record]) -> list[str]:
    """As `_problems_of_erasure`, of a stream of memories: of these, single events are erased."""
    erased = [record.seq for record in records if record.data == ERASED]
    notes = await _housekeeping(store, records[0].stream.tenant) if erased else []
    name = records[0].stream.name
    noted = {seq for note in notes if isinstance(note, MemoriesErased) and note.stream == name for seq in note.events}
    return [
        f"the content of event {seq} is gone, and nothing is written of who erased it"
        for seq in erased
        if seq not in noted
    ]


async def _housekeeping(store: EventStore, tenant: str) -> list[HousekeepingEvent]:
    return [HOUSEKEEPING_CODEC.decode(note.data) for note in await store.read(StreamId(tenant, HOUSEKEEPING))]


async def _bodies(blobs: BlobStore, records: Sequence[Record]) -> tuple[int, list[str]]:
    """How many bodies these events refer to, and what is wrong with them."""
    counted, problems = 0, []
    for record in records:
        try:
            event = SESSION_CODEC.decode(record.data)
        except UnknownEvent as error:
            problems.append(f"event {record.seq}: {error.message}")
            continue
        for digest in bodies_of(event):
            counted += 1
            problem = await _problem_of_body(blobs, record.stream.tenant, digest)
            if problem:
                problems.append(f"event {record.seq}: the body {digest} {problem}")
    return counted, problems


async def _problem_of_body(blobs: BlobStore, tenant: str, digest: str) -> str:
    """What is wrong with a body; hashed here, because a proof believes nobody."""
    try:
        body = await blobs.get(tenant, digest)
    except NotFound:
        return "is missing"
    except StoreCorrupt:
        return "was altered"
    return "" if hashlib.sha256(body).hexdigest() == digest else "was altered"
