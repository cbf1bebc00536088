"""Events and the records that keep them: a fact, its place in the log, and the chain that binds it to the past."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, dataclass_transform

import msgspec

GENESIS = bytes(32)
"""The hash before the first event of every stream."""

ERASED = b'{"type":"event.erased"}'
"""The data of an event whose content was erased. Its hash stays, so that the chain holds before and after it."""


class StreamId(NamedTuple):
    """Names one append-only stream of events. Nothing crosses a tenant, so the tenant is part of the name."""

    tenant: str
    name: str


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class Event(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=False, gc=False):
    """A fact, past tense. Subclasses set `tag="noun.verbed"`, which is stored with the fields and never changes."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """One stored event.

    `seq` counts 1, 2, 3 … within its stream; `position` orders the whole store (0 before it is stored);
    `at_us` is microseconds since 1970 UTC; `data` is the encoded event; `hash` chains it to its predecessor.
    """

    stream: StreamId
    seq: int
    at_us: int
    data: bytes
    hash: bytes
    position: int = 0


def link(previous: bytes, stream: StreamId, seq: int, at_us: int, data: bytes) -> bytes:
    """SHA-256 over the previous hash and everything that identifies and says this event."""
    header = f"ostler.event.1\0{stream.tenant}\0{stream.name}\0{seq}\0{at_us}\0"
    return hashlib.sha256(previous + header.encode() + data).digest()


def first_broken(records: list[Record], *, after: int = 0, previous: bytes = GENESIS) -> int | None:
    """The `seq` of the first record that is missing, out of order or altered; None if the chain holds.

    Of an erased record only its place can be proved: what it said has to be believed to be gone by somebody's will.
    """
    for record in records:
        after += 1
        expected = link(previous, record.stream, after, record.at_us, record.data)
        if record.seq != after or (record.hash != expected and record.data != ERASED):
            return after
        previous = record.hash
    return None


def to_cloudevent(record: Record) -> dict[str, Any]:
    """The record as a CloudEvents 1.0 JSON object (https://github.com/cloudevents/spec, structured mode).

    Two attributes are extensions: `sequence` is the number within the stream, `position` that in the whole log. Both
    are texts, because an integer of CloudEvents has 32 bits.
    """
    body: dict[str, Any] = msgspec.json.decode(record.data)
    kind = body.pop("type")
    return {
        "specversion": "1.0",
        "id": f"{record.stream.name}/{record.seq}",
        "source": f"/tenants/{record.stream.tenant}/streams/{record.stream.name}",
        "type": f"dev.ostler.{kind}",
        "subject": record.stream.name,
        "time": timestamp(record.at_us),
        "datacontenttype": "application/json",
        "sequence": str(record.seq),
        "position": str(record.position),
        "data": body,
    }


def timestamp(at_us: int) -> str:
    """RFC 3339 in UTC with microseconds."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def timestamp_if_known(at_us: int | None) -> str:
    """The same; empty for None."""
    return "" if at_us is None else timestamp(at_us)


def moment(text: str) -> int | None:
    """The moment that RFC 3339 text names, in microseconds since 1970; of a day its beginning, in UTC.

    None if it names none. Without a zone it is UTC.
    """
    try:
        named = datetime.fromisoformat(text)
    except ValueError:
        return None
    since = (named if named.tzinfo else named.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    return since // timedelta(microseconds=1)
