"""Sessions as files: self-contained JSON lines that another store can take in and prove.

The first line is a header. Then come, session by session, the bodies that its events refer to (base64) and its events
as they are stored, byte for byte, each with the hash that chains it to the one before.
"""

import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Literal

import msgspec

from ostler.app.verify import check_chain
from ostler.domain.session.bodies import bodies_of
from ostler.domain.session.events import SESSION_CODEC
from ostler.kernel.errors import Conflict, NotFound, StoreCorrupt, UsageError
from ostler.kernel.event import Record, StreamId
from ostler.ports import Append, BlobStore
from ostler.runtime.journal import Journal, standing_of
from ostler.runtime.replay import state_after

FORMAT_VERSION = 1


class Header(msgspec.Struct, frozen=True, tag="ostler.export", tag_field="line"):
    """What the file is, and which sessions are in it."""

    version: int
    written_by: str
    sessions: list[str]


class BlobLine(msgspec.Struct, frozen=True, tag="blob", tag_field="line"):
    """A body under its content hash."""

    tenant: str
    digest: str
    body: bytes


class EventLine(msgspec.Struct, frozen=True, tag="event", tag_field="line"):
    """A record. `event` is its text exactly as stored: the hash is over these bytes."""

    tenant: str
    stream: str
    seq: int
    at_us: int
    hash: str
    event: msgspec.Raw


Line = Header | BlobLine | EventLine


class Imported(msgspec.Struct, frozen=True):
    """A session that was taken in; `is_live` says that it had not ended where it came from."""

    session: str
    events: int
    blobs: int
    status: str
    is_live: bool


async def export(
    journal: Journal, blobs: BlobStore, streams: Sequence[StreamId], *, written_by: str
) -> AsyncIterator[bytes]:
    """The lines of a file with these sessions. Raises `StoreCorrupt` rather than to write what cannot be proved."""
    encode = msgspec.json.Encoder().encode
    yield encode(Header(FORMAT_VERSION, written_by, [stream.name for stream in streams]))
    for stream in streams:
        records = await journal.records(stream)
        check_chain(records)
        for digest in _digests(records):
            yield encode(BlobLine(stream.tenant, digest, await blobs.get(stream.tenant, digest)))
        for record in records:
            yield encode(
                EventLine(
                    *record.stream, record.seq, record.at_us, hash=record.hash.hex(), event=msgspec.Raw(record.data)
                )
            )


async def import_(
    journal: Journal, blobs: BlobStore, lines: Iterable[bytes], *, now_us: int, resume: bool = False
) -> list[Imported]:
    """Take in the sessions of a file, under their own ids. Everything is proved before anything is written.

    A session that had not ended is not due here until somebody resumes it, since it may still be running where it came
    from; `resume` makes it due now. Raises `UsageError` (no such file), `StoreCorrupt` (altered), `Conflict` (a session
    is here already), `NotFound` (a body is missing).
    """
    sessions, bodies = _read(lines)
    for stream, records in sessions.items():
        check_chain(records)
        if await journal.store.read(stream, limit=1):
            raise Conflict(
                f"The session {stream.name} is here already, and nothing is overwritten.",
                hint="Import it into another store: ostler --store sqlite:///other.db import …",
            )
        for digest in _digests(records):
            if (stream.tenant, digest) not in bodies:
                raise NotFound(f"The file does not hold the body {digest}, which {stream.name} refers to.")
    return [await _take_in(journal, blobs, records, bodies, now_us, resume) for records in sessions.values()]


Bodies = dict[tuple[str, str], bytes]


async def _take_in(
    journal: Journal, blobs: BlobStore, records: list[Record], bodies: Bodies, now_us: int, resume: bool
) -> Imported:
    stream, digests = records[0].stream, _digests(records)
    state = state_after(records)
    assert state is not None
    for digest in digests:
        await blobs.put(stream, bodies[stream.tenant, digest])
    standing = standing_of(state, at_us=now_us, before=None)
    if not resume:
        standing = msgspec.structs.replace(standing, due_us=None)
    await journal.store.append(Append(stream, 0, records, standing))
    return Imported(stream.name, len(records), len(digests), state.status, is_live=state.end is None)


def _read(lines: Iterable[bytes]) -> tuple[dict[StreamId, list[Record]], Bodies]:
    """The records by session, and the bodies. Raises `UsageError` for anything that is no line of such a file."""
    sessions: dict[StreamId, list[Record]] = {}
    bodies: Bodies = {}
    decode = msgspec.json.Decoder(Line).decode
    is_begun = False
    for number, text in enumerate(lines, 1):
        try:
            line: Line = decode(text)
            is_begun = _check_place(line, is_begun)
        except (msgspec.MsgspecError, ValueError) as error:
            raise UsageError(
                f"Line {number} is not one of an Ostler export: {error}.", hint="`ostler export` writes such files."
            ) from error
        match line:
            case Header():
                continue
            case BlobLine():
                if hashlib.sha256(line.body).hexdigest() != line.digest:
                    raise StoreCorrupt(f"The body {line.digest} (line {number}) was altered: its hash does not fit.")
                bodies[line.tenant, line.digest] = line.body
            case EventLine():
                stream = StreamId(line.tenant, line.stream)
                record = Record(stream, line.seq, line.at_us, bytes(line.event), bytes.fromhex(line.hash))
                sessions.setdefault(stream, []).append(record)
    if not is_begun:
        raise UsageError("The file is empty.", hint="`ostler export` writes files that can be imported.")
    return sessions, bodies


def _check_place(line: Line, is_begun: bool) -> Literal[True]:
    """Raises `ValueError` unless the header, in a version that is known here, is the first line and only that."""
    if isinstance(line, Header) == is_begun:
        raise ValueError("a header stands on the first line, and only there")
    if isinstance(line, Header) and line.version != FORMAT_VERSION:
        raise ValueError(f"it has format version {line.version}, and this Ostler reads {FORMAT_VERSION}")
    if isinstance(line, EventLine):
        bytes.fromhex(line.hash)
        if not line.stream.startswith("ses_"):
            raise ValueError(f"{line.stream} is no session")
    return True


def _digests(records: Sequence[Record]) -> list[str]:
    """The bodies that these events refer to, each once."""
    events = (SESSION_CODEC.decode(record.data) for record in records)
    return list(dict.fromkeys(digest for event in events for digest in bodies_of(event)))
