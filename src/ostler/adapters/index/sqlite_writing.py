"""Events of a memory stream as changes of rows."""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from ostler.adapters.index import rows, sqlite_words
from ostler.adapters.index.sqlite_reading import SCOPE, keys, rows_of
from ostler.adapters.index.stemming import terms
from ostler.domain.memory.events import (
    EntityDescribed,
    MemoryConsolidated,
    MemoryContradicted,
    MemoryErased,
    MemoryEvent,
    MemoryOpened,
    MemoryPinned,
    MemoryRecalled,
    MemoryRemembered,
    MemoryRestored,
    MemoryRetracted,
    MemorySuperseded,
)
from ostler.domain.memory.memory import normal
from ostler.domain.memory.scope import Scope
from ostler.ports.memory import Noted

MAKE_SCOPE = "INSERT OR IGNORE INTO scopes (tenant, agent, user, session) VALUES (?, ?, ?, ?)"
MOVE = "UPDATE scopes SET applied = ?, hash = ?, row = ? WHERE key = ?"
PURGED = "UPDATE scopes SET purges = purges + 1 WHERE key = ?"

REMEMBER = f"INSERT INTO memories VALUES ({', '.join('?' * 23)})"
TAG = "INSERT OR IGNORE INTO tags (row, tag) VALUES (?, ?)"
KNOWN = "SELECT 1 FROM memories WHERE scope = ? AND id = ?"
CLOSE = "UPDATE memories SET until = ?, ended_by = ? WHERE scope = ? AND id = ? AND until IS NULL"
KEEP_SPAN = "INSERT INTO spans SELECT row, since, until FROM memories WHERE scope = ? AND id = ? AND until IS NOT NULL"
OPEN_AGAIN = """
    UPDATE memories SET since = ?, until = NULL, ended_by = '' WHERE scope = ? AND id = ? AND until IS NOT NULL
"""
CONTRADICT = """
    INSERT OR IGNORE INTO contradictions
    SELECT one.row, other.row FROM memories AS one, memories AS other
    WHERE one.scope = :scope AND other.scope = :scope AND (one.id, other.id) IN (VALUES (:id, :other), (:other, :id))
"""
RECALL = "INSERT OR IGNORE INTO recalls SELECT row, ? FROM memories WHERE scope = ? AND id = ?"
PIN = "UPDATE memories SET is_pinned = ? WHERE scope = ? AND id = ?"
FIND = "SELECT row, body FROM memories WHERE scope = ? AND id = ?"
TAKE = "DELETE FROM memories WHERE row = ?"
MENTION = """
    INSERT INTO names (scope, name, mentions) VALUES (?, ?, 1)
    ON CONFLICT (scope, name) DO UPDATE SET mentions = mentions + 1
"""
REPLACE_DESCRIPTION = "UPDATE entities SET until = ? WHERE scope = ? AND name = ? AND until IS NULL"
DISOWN = "UPDATE scopes SET tenant = '', agent = '', user = '', session = key WHERE key = ?"
"""What is cleared is nobody's at once, and goes bit by bit."""
NOBODYS = "SELECT key FROM scopes WHERE tenant = '' LIMIT 1"
FIRST = "SELECT min(row) FROM memories WHERE row BETWEEN ? AND ?"
CLEAR_RUN = "DELETE FROM memories WHERE row BETWEEN ? AND ?"
NAMES_AT_ONCE = 500
CLEAR_NAMES = tuple(
    f"DELETE FROM {table} WHERE scope = ?1"
    f" AND name IN (SELECT name FROM {table} WHERE scope = ?1 LIMIT {NAMES_AT_ONCE})"
    for table in ("entities", "names")
)
CLEAR_COUNTS = "DELETE FROM embedded WHERE scope = ?"
FORGET_SCOPE = "DELETE FROM scopes WHERE key = ?"
FORGET_EMBEDDERS = "DELETE FROM embedders WHERE NOT EXISTS (SELECT 1 FROM vectors WHERE embedder = embedders.key)"
DESCRIBE = "INSERT OR REPLACE INTO entities (scope, name, since, body) VALUES (?, ?, ?, ?)"


def apply(connection: sqlite3.Connection, scope: Scope, notes: Sequence[Noted], after: int) -> bool:
    """Take in these events; within a transaction. Whether anything was erased. Raises `StaleWrite`."""
    parts = (scope.tenant, scope.agent, scope.user, scope.session)
    found = connection.execute(SCOPE, parts).fetchone()
    applied = found[1] if found else 0
    if applied != after:
        raise rows.stale(scope, after=after, applied=applied)
    if not notes:
        return False
    if not found:
        connection.execute(MAKE_SCOPE, parts)
        found = connection.execute(SCOPE, parts).fetchone()
    writing = Writing(connection, key=found[0], row=found[2])
    for note in notes:
        if note.event is not None:
            writing.take(note, note.event)
    writing.flush()
    connection.execute(MOVE, (notes[-1].seq, notes[-1].hash, writing.row, found[0]))
    return writing.has_erased


def erase(connection: sqlite3.Connection, scope: Scope, ids: Iterable[str]) -> None:
    """Take these away; within a transaction."""
    for key in keys(connection, [scope]):
        Writing(connection, key=key, row=0).erase(ids)


def clear(connection: sqlite3.Connection, scopes: Iterable[Scope]) -> None:
    """Let nothing of these scopes be found any more; within a transaction. It is there until it is swept away."""
    for key in keys(connection, scopes):
        connection.execute(DISOWN, (key,))


def is_littered(connection: sqlite3.Connection) -> bool:
    """Whether there is something left of what was cleared."""
    return connection.execute(NOBODYS).fetchone() is not None


def sweep(connection: sqlite3.Connection) -> None:
    """Take a little of that away; within a transaction."""
    for (key,) in connection.execute(NOBODYS).fetchall():
        first, last = rows_of(key)
        ((row,),) = connection.execute(FIRST, (first, last))
        if row is not None:
            first, last = sqlite_words.run_of(row)
            connection.execute(CLEAR_RUN, (first, last))
        sqlite_words.clear(connection, first, last)
        if row is None and not any(connection.execute(query, (key,)).rowcount for query in CLEAR_NAMES):
            connection.execute(CLEAR_COUNTS, (key,))
            connection.execute(FORGET_SCOPE, (key,))
            connection.execute(FORGET_EMBEDDERS)


class Writing:
    """The rows of one scope, while events are taken in. What is remembered is written in batches."""

    def __init__(self, connection: sqlite3.Connection, *, key: int, row: int) -> None:
        self.key = key
        self.row = max(row, rows_of(key)[0] - 1)
        self.has_erased = False
        self._connection = connection
        self._memories: dict[str, tuple[object, ...]] = {}
        self._terms: dict[int, Counter[str]] = {}
        self._tags: list[tuple[int, str]] = []

    def take(self, note: Noted, event: MemoryEvent) -> None:
        if isinstance(event, MemoryRemembered):
            self._remember(note, event)
            return
        self.flush()
        match event:
            case MemoryOpened():
                pass
            case MemorySuperseded():
                self._close([event.id], note.position, rows.superseded(event.by))
            case MemoryContradicted():
                pair = {"scope": self.key, "id": event.id, "other": event.other}
                self._connection.execute(CONTRADICT, pair)
            case MemoryRetracted():
                self._close(event.ids, note.position, rows.retracted(event))
            case MemoryRestored():
                self._restore(event.ids, note.position)
            case MemoryConsolidated():
                if event.how == "merged":
                    self._close(event.of, note.position, rows.merged(event.into))
            case MemoryRecalled():
                self._connection.executemany(RECALL, [(event.call, self.key, identity) for identity in event.ids])
            case MemoryPinned():
                self._connection.execute(PIN, (event.is_pinned, self.key, event.id))
            case MemoryErased():
                self.erase(event.ids)
            case EntityDescribed():
                self._describe(event, note.position)

    def flush(self) -> None:
        """Write what was remembered since the last time."""
        if self._memories:
            self._connection.executemany(REMEMBER, self._memories.values())
            sqlite_words.post(self._connection, self._terms)
            self._connection.executemany(TAG, self._tags)
            self._memories, self._terms, self._tags = {}, {}, []

    def erase(self, ids: Iterable[str]) -> None:
        """Take these away, with all that hangs on them."""
        for identity in ids:
            found = self._connection.execute(FIND, (self.key, identity)).fetchone()
            if found is None:
                continue
            row, body = found
            sqlite_words.withdraw(self._connection, row, terms(rows.searchable(rows.decode_memory(body))))
            self._close([identity], 0, "erased")
            self._connection.execute(TAKE, (row,))
            self._connection.execute(PURGED, (self.key,))
            self.has_erased = True

    def _remember(self, note: Noted, event: MemoryRemembered) -> None:
        memory = event.memory
        if memory.id in self._memories or self._connection.execute(KNOWN, (self.key, memory.id)).fetchone():
            return
        self.row += 1
        self._terms[self.row] = counted = Counter(terms(rows.searchable(memory)))
        self._tags += [(self.row, tag) for tag in memory.tags]
        relation = memory.relation
        stated = (normal(relation.subject), relation.name, normal(relation.object)) if relation else (None, None, None)
        self._memories[memory.id] = (
            self.row,
            self.key,
            memory.id,
            memory.kind,
            note.position,
            note.at_us,
            note.position,
            None,
            "",
            memory.is_pinned,
            memory.digest,
            memory.key,
            memory.source.session,
            memory.happened_us,
            rows.weight(memory.importance),
            memory.valid_from_us,
            memory.valid_to_us,
            memory.size,
            counted.total(),
            *stated,
            rows.encode(memory),
        )

    def _close(self, ids: Iterable[str], position: int, ended_by: str) -> None:
        self._connection.executemany(CLOSE, [(position, ended_by, self.key, identity) for identity in ids])

    def _restore(self, ids: Sequence[str], position: int) -> None:
        for identity in dict.fromkeys(ids):
            self._connection.execute(KEEP_SPAN, (self.key, identity))
            self._connection.execute(OPEN_AGAIN, (position, self.key, identity))
        self._connection.execute(PURGED, (self.key,))

    def _describe(self, event: EntityDescribed, position: int) -> None:
        name = normal(event.name)
        body = msgspec.msgpack.encode(rows.Described(event.name, event.kind, event.properties, event.labels))
        if not self._connection.execute(REPLACE_DESCRIPTION, (position, self.key, name)).rowcount:
            self._connection.execute(MENTION, (self.key, name))
        self._connection.execute(DESCRIBE, (self.key, name, position, body))
