"""Questions about the rows of scopes, and rows as entries."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from ostler.adapters.index.rows import decode_memory
from ostler.domain.memory.memory import Kind
from ostler.domain.memory.scope import Scope
from ostler.ports.memory import Entry, Filter, Held

SCOPE_BITS = 32
"""The rows of a scope begin at its key shifted by so many bits."""

Keys = dict[int, Scope]
"""Scopes of which anything was applied, in the order in which they were named, by their keys in this file."""

SCOPES = "SELECT tenant, agent, user, session FROM scopes WHERE tenant = ? AND applied > 0"
LAST = "SELECT applied, hash FROM scopes WHERE key = ?"
SCOPE = "SELECT key, applied, row FROM scopes WHERE tenant = ? AND agent = ? AND user = ? AND session = ?"
SCOPE_OF = "SELECT key, tenant, agent, user, session FROM scopes WHERE key IN (SELECT value FROM json_each(?))"

ENTRIES = """
    SELECT m.row, m.body, m.is_pinned, m.position, m.at, m.until, m.ended_by,
      (SELECT count(*) FROM recalls AS r WHERE r.row = m.row)
    FROM json_each(?) AS n CROSS JOIN memories AS m ON m.row = n.value
"""
CONTRADICTIONS = """
    SELECT c.row, m.id FROM contradictions AS c CROSS JOIN memories AS m ON m.row = c.other
    WHERE c.row IN (SELECT value FROM json_each(?)) AND m.until IS NULL ORDER BY m.row
"""
WITH_IDS = "SELECT id, row FROM memories WHERE scope = ? AND id IN (SELECT value FROM json_each(?))"
SAME = """
    SELECT row FROM memories
    WHERE scope = ? AND digest IN (SELECT value FROM json_each(?)) AND until IS NULL ORDER BY row
"""
PAGE = """
    SELECT m.position, m.row FROM memories AS m
    WHERE {place} AND m.position < :before AND {condition} ORDER BY m.row DESC LIMIT :limit
"""
IN_ROWS = "m.row BETWEEN :first AND :last"
IN_SCOPE = "m.scope = :scope"
WITH_KEY = "SELECT row FROM memories WHERE scope = ? AND key = ? AND key <> '' AND until IS NULL"
STATING = "SELECT row FROM memories WHERE scope = ? AND subject = ? AND relation = ? AND until IS NULL"

OF_A_KIND = "scope = :scope AND kind = :kind AND until IS NULL"
WEIGHT_FROM = f"SELECT min(weight) FROM memories WHERE {OF_A_KIND} AND NOT is_pinned AND weight {{}} :weight"
OF_WEIGHT = f"""
    SELECT happened, row FROM memories WHERE {OF_A_KIND} AND NOT is_pinned AND weight = :weight
    ORDER BY happened, row LIMIT :limit
"""
OLDEST = f"SELECT min(happened) FROM memories WHERE {OF_A_KIND}"

# In two parts, because SQLite looks through all that happened at the same moment to compare pairs.
NEAR = """
    (SELECT json_group_array(row) FROM (
      SELECT * FROM (
        SELECT happened, row FROM memories
        WHERE scope = :scope AND kind = m.kind AND until IS NULL AND happened = m.happened AND row {past} m.row
        ORDER BY row {way} LIMIT :span
      ) UNION ALL SELECT * FROM (
        SELECT happened, row FROM memories
        WHERE scope = :scope AND kind = m.kind AND until IS NULL AND happened {past} m.happened
        ORDER BY happened {way}, row {way} LIMIT :span
      ) ORDER BY happened {way}, row {way} LIMIT :span
    ))
"""
BESIDE = f"""
    SELECT m.id, {NEAR.format(past="<", way="DESC")}, {NEAR.format(past=">", way="ASC")}
    FROM memories AS m WHERE m.scope = :scope AND m.id IN (SELECT value FROM json_each(:ids))
"""
AMONG = """
    SELECT m.row, m.id FROM json_each(:rows) AS n CROSS JOIN memories AS m ON m.row = n.value WHERE {condition}
"""
HELD = "SELECT applied, episodes, facts, files, closed, bytes, relations, entities, recalls FROM scopes WHERE key = ?"
VECTORS_HELD = """
    SELECT fingerprint, vectors FROM embedded JOIN embedders ON key = embedder WHERE scope = ? AND vectors > 0
"""

IN_FORCE = "m.until IS NULL"
WAS_IN_FORCE = """(
    m.since <= :as_of AND (m.until IS NULL OR m.until > :as_of)
    OR EXISTS (SELECT 1 FROM spans AS s WHERE s.row = m.row AND s.since <= :as_of AND s.until > :as_of)
)"""
WAS_TRUE = "coalesce(m.valid_from <= :valid_at, true) AND coalesce(m.valid_to > :valid_at, true)"
TAGGED = "EXISTS (SELECT 1 FROM tags AS t WHERE t.row = m.row AND t.tag IN (SELECT value FROM json_each(:{})))"
TAGGED_ALL = """
    (SELECT count(*) FROM tags AS t WHERE t.row = m.row AND t.tag IN (SELECT value FROM json_each(:all_of)))
    = :all_count
"""
BEYOND = chr(0x10FFFF)
LATEST = 2**62


def keys(connection: sqlite3.Connection, scopes: Iterable[Scope]) -> Keys:
    """Those of these scopes that there are here."""
    found = {}
    for scope in scopes:
        row = connection.execute(SCOPE, (scope.tenant, scope.agent, scope.user, scope.session)).fetchone()
        if row:
            found[row[0]] = scope
    return found


def rows_of(key: int) -> tuple[int, int]:
    """The first and the last row that a scope can have."""
    return key << SCOPE_BITS, (key + 1 << SCOPE_BITS) - 1


def last(connection: sqlite3.Connection, keys: Keys) -> Iterator[tuple[int, bytes]]:
    """The number and the hash of the last event that each of these scopes is applied up to."""
    for key in keys:
        yield from connection.execute(LAST, (key,))


def applied(connection: sqlite3.Connection, keys: Keys) -> Iterator[tuple[Scope, int]]:
    """Up to which event each of these scopes is applied."""
    for scope in keys.values():
        parts = (scope.tenant, scope.agent, scope.user, scope.session)
        yield scope, connection.execute(SCOPE, parts).fetchone()[1]


def with_ids(connection: sqlite3.Connection, keys: Keys, *, ids: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Ids and rows of what has one of these ids."""
    wanted = json.dumps(list(ids))
    for key in keys:
        yield from connection.execute(WITH_IDS, (key, wanted))


def newest(
    connection: sqlite3.Connection, keys: Keys, *, which: Filter, before: int | None, limit: int
) -> Iterator[tuple[int, int]]:
    """Positions and rows, so many of each scope."""
    condition, values = conditions(which)
    query = PAGE.format(condition=condition, place=IN_SCOPE if which.key_prefix else IN_ROWS)
    for key in keys:
        first, last = rows_of(key)
        place = {"scope": key, "first": first, "last": last, "before": LATEST if before is None else before}
        yield from connection.execute(query, values | place | {"limit": limit})


def holding(connection: sqlite3.Connection, keys: Keys, *, key: str, subject: str, name: str) -> Iterator[int]:
    """Rows in force with this key, or that state this relation of this subject."""
    for scope in keys:
        if key:
            yield from (row for (row,) in connection.execute(WITH_KEY, (scope, key)))
        if subject:
            yield from (row for (row,) in connection.execute(STATING, (scope, subject, name)))


def same(connection: sqlite3.Connection, keys: Keys, *, digests: Sequence[str]) -> Iterator[int]:
    """Rows in force with one of these digests, the oldest first."""
    wanted = json.dumps(list(digests))
    for key in keys:
        yield from (row for (row,) in connection.execute(SAME, (key, wanted)))


def weakest(connection: sqlite3.Connection, keys: Keys, *, kind: Kind, half_life_us: int, limit: int) -> list[int]:
    """Weight by weight, from the least, until what is oldest of all could not be weaker with the next."""
    found: list[tuple[float, int]] = []
    for key in keys:
        which: dict[str, Any] = {"scope": key, "kind": kind, "limit": limit, "weight": float("-inf")}
        ((oldest,),) = connection.execute(OLDEST, which)
        ((weight,),) = connection.execute(WEIGHT_FROM.format(">="), which)
        while weight is not None and (len(found) < limit or weight + oldest / half_life_us <= found[-1][0]):
            which["weight"] = weight
            found += [(weight + happened / half_life_us, row) for happened, row in connection.execute(OF_WEIGHT, which)]
            found = sorted(found)[:limit]
            ((weight,),) = connection.execute(WEIGHT_FROM.format(">"), which)
    return [row for _, row in found]


def beside(
    connection: sqlite3.Connection, keys: Keys, *, ids: Sequence[str], span: int
) -> Iterator[tuple[str, list[int]]]:
    """For each of these ids the rows that happened before it and after it, in no order."""
    wanted = json.dumps(list(ids))
    for key in keys:
        place = {"scope": key, "ids": wanted, "span": span}
        for identity, before, after in connection.execute(BESIDE, place):
            yield identity, json.loads(before) + json.loads(after)


def allowed(connection: sqlite3.Connection, rows: Iterable[int], which: Filter) -> dict[int, str]:
    """Those of these rows that pass the filter, with the ids of what is in them."""
    condition, values = conditions(which)
    return dict(
        connection.execute(AMONG.format(condition=condition), values | {"rows": json.dumps(list(rows))}).fetchall()
    )


def held(connection: sqlite3.Connection, keys: Keys) -> Iterator[Held]:
    """How much each of these scopes holds."""
    for key, scope in keys.items():
        ((applied, episodes, facts, files, closed, text_bytes, relations, entities, recalls),) = connection.execute(
            HELD, (key,)
        )
        kinds = {"episode": episodes, "fact": facts, "file": files}
        in_force = {kind: count for kind, count in kinds.items() if count}
        vectors = dict(connection.execute(VECTORS_HELD, (key,)).fetchall())
        yield Held(scope, applied, in_force, closed, text_bytes, relations, entities, recalls, vectors)


def entries(connection: sqlite3.Connection, *, numbers: Sequence[int]) -> list[Entry]:
    """What is in these rows, in their order."""
    if not numbers:
        return []
    wanted = json.dumps(numbers)
    scopes = json.dumps(sorted({number >> SCOPE_BITS for number in numbers}))
    scope_of = {key: Scope(*parts) for key, *parts in connection.execute(SCOPE_OF, (scopes,))}
    contradicts: dict[int, list[str]] = {}
    for row, other in connection.execute(CONTRADICTIONS, (wanted,)):
        contradicts.setdefault(row, []).append(other)
    found = []
    for row, body, is_pinned, position, at_us, until, ended_by, recalls in connection.execute(ENTRIES, (wanted,)):
        memory = decode_memory(body)
        if memory.is_pinned != bool(is_pinned):
            memory = msgspec.structs.replace(memory, is_pinned=bool(is_pinned))
        others, scope = tuple(contradicts.get(row, ())), scope_of[row >> SCOPE_BITS]
        found.append(Entry(scope, memory, position, at_us, until, ended_by, recalls, others))
    return found


def conditions(which: Filter) -> tuple[str, dict[str, Any]]:
    """The condition on the table `memories AS m` that stands for a filter, and what it is to be asked with."""
    parts, values = _in_force(which)
    if which.kinds:
        values["kinds"] = json.dumps(which.kinds)
        parts.append("m.kind IN (SELECT value FROM json_each(:kinds))")
    if which.all_of:
        values |= {"all_of": json.dumps(which.all_of), "all_count": len(set(which.all_of))}
        parts.append(TAGGED_ALL)
    if which.any_of:
        values["any_of"] = json.dumps(which.any_of)
        parts.append(TAGGED.format("any_of"))
    if which.none_of:
        values["none_of"] = json.dumps(which.none_of)
        parts.append(f"NOT {TAGGED.format('none_of')}")
    if which.key_prefix:
        values |= {"key": which.key_prefix, "key_end": which.key_prefix + BEYOND}
        parts.append("m.key >= :key AND m.key < :key_end AND m.key <> ''")
    if which.session:
        values["session"] = which.session
        parts.append("m.session = :session")
    if which.from_us is not None:
        values["from_us"] = which.from_us
        parts.append("m.happened >= :from_us")
    if which.to_us is not None:
        values["to_us"] = which.to_us
        parts.append("m.happened < :to_us")
    return " AND ".join(parts) or "true", values


def _in_force(which: Filter) -> tuple[list[str], dict[str, Any]]:
    parts, values = [], dict[str, Any]()
    if which.as_of is not None:
        values["as_of"] = which.as_of
        parts.append("m.position <= :as_of" if which.is_closed_too else WAS_IN_FORCE)
    elif not which.is_closed_too:
        parts.append(IN_FORCE)
    if which.valid_at_us is not None:
        values["valid_at"] = which.valid_at_us
        parts.append(WAS_TRUE)
    return parts, values
