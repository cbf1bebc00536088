"""Writes groups of works to a SQLite database, each group in one transaction."""

import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from ostler.adapters.store.database import Database, is_of_the_store, translated
from ostler.adapters.store.rules import first_standing, stale
from ostler.kernel.errors import StaleWrite, StoreError
from ostler.kernel.event import StreamId
from ostler.ports import Append, Standing

Operation = Callable[[sqlite3.Connection], object]
Work = Append | Operation

KEYS_MAX = 10_000
"""Streams whose keys are remembered."""

FIND = "SELECT key FROM streams WHERE tenant = ? AND name = ?"
STATE = "SELECT version, epoch FROM streams WHERE tenant = ? AND name = ?"
CREATE = "INSERT INTO streams (tenant, name, version, queue, status, due, priority) VALUES (?, ?, ?, ?, ?, ?, ?)"
# Two ways to move a stream on, because naming a column here touches its indexes even if its value stays.
MOVE = "UPDATE streams SET version = ? WHERE key = ? AND version = ? AND epoch = coalesce(?, epoch)"
STAND = """
    UPDATE streams SET queue = ?, status = ?, due = ?, priority = ?, version = ?
    WHERE key = ? AND version = ? AND epoch = coalesce(?, epoch)
"""
INSERT = "INSERT INTO events (stream, seq, at, data, hash) VALUES (?, ?, ?, ?, ?)"
HEAD = "SELECT coalesce(max(position), 0) FROM events"


class Writer:
    """Appends and other operations, in the order given, all in one commit; each is refused alone."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._keys: dict[StreamId, int] = {}
        self._new_keys: dict[StreamId, int] = {}

    def commit(self, works: Sequence[Work]) -> list[Any]:
        """For each work its result or the exception that refuses it. Raises a `StoreError` if nothing can be written.

        The common case is tried first: no one is refused. Else all is undone and done again one by one.
        """
        try:
            return self._transaction(works, self._together)
        except StoreError:
            raise
        except Exception as error:
            return self._transaction(works, self._apart) if len(works) > 1 else [_refusal(error, self._database)]

    def append(self, connection: sqlite3.Connection, *appends: Append) -> None:
        """Appends to different streams as a part of another operation."""
        self._append(connection, appends)

    def forget(self, streams: Iterable[StreamId]) -> None:
        """These streams are gone."""
        for stream in streams:
            self._keys.pop(stream, None)

    def _transaction(
        self, works: Sequence[Work], write: Callable[[sqlite3.Connection, Sequence[Work]], list[Any]]
    ) -> list[Any]:
        self._new_keys = {}
        outcomes = self._database.transaction(lambda connection: write(connection, works))
        if self._new_keys:
            self._keys |= self._new_keys
            for stream in list(self._keys)[: max(0, len(self._keys) - KEYS_MAX)]:
                del self._keys[stream]
        return outcomes

    def _together(self, connection: sqlite3.Connection, works: Sequence[Work]) -> list[Any]:
        outcomes: list[Any] = []
        for batch in _batches(works):
            if isinstance(batch, dict):
                outcomes += self._append(connection, batch.values())
            else:
                outcomes.append(batch(connection))
        return outcomes

    def _apart(self, connection: sqlite3.Connection, works: Sequence[Work]) -> list[Any]:
        outcomes: list[Any] = []
        for work in works:
            known = dict(self._new_keys)
            connection.execute("SAVEPOINT work")
            try:
                outcomes += self._together(connection, [work])
            except Exception as error:
                if isinstance(error, sqlite3.Error) and is_of_the_store(error):
                    raise
                connection.execute("ROLLBACK TO work")
                self._new_keys = known
                outcomes.append(_refusal(error, self._database))
            connection.execute("RELEASE work")
        return outcomes

    def _append(self, connection: sqlite3.Connection, appends: Collection[Append]) -> list[int]:
        """The positions after appends to different streams. Raises `StaleWrite` if any of them is stale."""
        moves, stands, rows, ends = [], [], [], []
        for append in appends:
            key = self._keys.get(append.stream) or self._find(connection, append.stream)
            version, standing = append.expected + len(append.records), append.standing
            if key is None:
                key = self._create(connection, append)
            elif standing is None:
                moves.append((version, key, append.expected, append.epoch))
            else:
                stands.append((*_place(standing), version, key, append.expected, append.epoch))
            rows += [(key, record.seq, record.at_us, record.data, record.hash) for record in append.records]
            ends.append(len(rows))
        moved = connection.executemany(MOVE, moves).rowcount if moves else 0
        stood = connection.executemany(STAND, stands).rowcount if stands else 0
        if moved + stood != len(moves) + len(stands):
            raise _stale(connection, appends)
        if rows:
            connection.executemany(INSERT, rows)
        before = int(connection.execute(HEAD).fetchone()[0]) - len(rows)
        return [before + end for end in ends]

    def _find(self, connection: sqlite3.Connection, stream: StreamId) -> int | None:
        """The key of a stream that is not among the remembered ones; from now on it is, if this commit succeeds."""
        key = self._new_keys.get(stream)
        if key is None:
            row = connection.execute(FIND, stream).fetchone()
            if row is None:
                return None
            self._new_keys[stream] = key = int(row[0])
        return key

    def _create(self, connection: sqlite3.Connection, append: Append) -> int:
        if append.expected or append.epoch:
            raise stale(append, version=0, epoch=0)
        place = _place(first_standing(append))
        key = connection.execute(CREATE, (*append.stream, len(append.records), *place)).lastrowid
        assert key is not None, "SQLite numbers every row"
        self._new_keys[append.stream] = key
        return key


def _batches(works: Sequence[Work]) -> Iterator[dict[StreamId, Append] | Operation]:
    """Runs of appends to different streams, which may be written table by table, and the operations between them."""
    batch: dict[StreamId, Append] = {}
    for work in works:
        if not isinstance(work, Append):
            if batch:
                yield batch
                batch = {}
            yield work
        elif work.stream in batch:
            yield batch
            batch = {work.stream: work}
        else:
            batch[work.stream] = work
    if batch:
        yield batch


def _place(standing: Standing) -> tuple[str, str, int | None, int]:
    return standing.queue, standing.status, standing.due_us, standing.priority


def _stale(connection: sqlite3.Connection, appends: Collection[Append]) -> StaleWrite:
    """The refusal, with the facts if it is clear whom it concerns."""
    if len(appends) > 1:
        return StaleWrite()
    (append,) = appends
    version, epoch = connection.execute(STATE, append.stream).fetchone()
    return stale(append, version=version, epoch=epoch)


def _refusal(error: Exception, database: Database) -> Exception:
    return translated(error, database.path) if isinstance(error, sqlite3.Error) else error
