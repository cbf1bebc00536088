"""Taking streams and their content out of a SQLite database: operations for a group's commit."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence

from ostler.adapters.store.rules import is_newest, not_at_rest
from ostler.domain.housekeeping import ERASED as ERASED_STATUS
from ostler.kernel.event import ERASED, StreamId

AT_REST = """
    SELECT key, key = (SELECT max(key) FROM streams) FROM streams
    WHERE tenant = ? AND name = ? AND version = ? AND due IS NULL AND worker IS NULL
"""
DELETE_EVENTS = "DELETE FROM events WHERE stream = ?"
DELETE_STREAM = "DELETE FROM streams WHERE key = ?"
ERASE_EVENTS = "UPDATE events SET data = ? WHERE stream = ?"
ERASE_EVENT = f"{ERASE_EVENTS} AND seq = ?"
ERASE_STREAM = "UPDATE streams SET status = ? WHERE key = ?"
FORGET_FREED = "PRAGMA secure_delete = ON"
"""What is deleted is overwritten with zeros, and not only marked as free."""

Operation = Callable[[sqlite3.Connection], None]


def remove(streams: Mapping[StreamId, int], note: Operation) -> Operation:
    """The operation that deletes these streams; `note` is written before, so that no position is given twice."""

    def work(connection: sqlite3.Connection) -> None:
        keys = [_at_rest(connection, stream, version, may_be_newest=False) for stream, version in streams.items()]
        note(connection)
        connection.executemany(DELETE_EVENTS, keys)
        connection.executemany(DELETE_STREAM, keys)

    return work


def erase(stream: StreamId, version: int, note: Operation, *, only: Sequence[int] | None = None) -> Operation:
    """The operation that erases the content of a stream, or of `only` these of its events."""

    def work(connection: sqlite3.Connection) -> None:
        (key,) = _at_rest(connection, stream, version, may_be_newest=True)
        note(connection)
        if only is None:
            connection.execute(ERASE_EVENTS, (ERASED, key))
            connection.execute(ERASE_STREAM, (ERASED_STATUS, key))
        else:
            connection.executemany(ERASE_EVENT, [(ERASED, key, seq) for seq in only])

    return work


def _at_rest(connection: sqlite3.Connection, stream: StreamId, version: int, *, may_be_newest: bool) -> tuple[int]:
    row = connection.execute(AT_REST, (*stream, version)).fetchone()
    if row is None:
        raise not_at_rest(stream)
    key, newest = row
    if newest and not may_be_newest:
        raise is_newest(stream)
    return (key,)
