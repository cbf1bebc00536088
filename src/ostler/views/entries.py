"""Events as machines read them: one flat JSON object for each."""

from typing import Any

import msgspec

from ostler.kernel.event import Record, timestamp


class Entry(msgspec.Struct, frozen=True):
    """An event in public: its number, its moment (RFC 3339), its type, and what it says."""

    session: str
    seq: int
    time: str
    type: str
    data: dict[str, Any]


def entry(record: Record) -> Entry:
    """The public shape of a record of a session."""
    body: dict[str, Any] = msgspec.json.decode(record.data)
    return Entry(record.stream.name, record.seq, timestamp(record.at_us), body.pop("type"), body)
