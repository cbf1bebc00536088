"""Relations and entities, straight from the rows of the facts that state them."""

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from ostler.adapters.index.rows import decode_described, decode_memory, edge
from ostler.adapters.index.sqlite_reading import Keys, conditions, rows_of
from ostler.domain.memory.memory import normal
from ostler.ports.memory import Direction, Edge, Entity, Filter

EDGES = """
    SELECT m.row, m.body FROM memories AS m
    WHERE m.row BETWEEN :first AND :last AND m.subject IS NOT NULL AND {condition} ORDER BY m.row LIMIT :limit
"""
STEP = """
    SELECT m.row, m.{there}, m.body FROM json_each(:names) AS n CROSS JOIN memories AS m
    WHERE m.scope IN (SELECT value FROM json_each(:scopes)) AND m.{here} = n.value AND m.{here} IS NOT NULL
      AND {condition} AND {relations}
"""
AMONG = "{} IN (SELECT value FROM json_each(:names))"
NAMES_NOW = """
    SELECT DISTINCT name FROM names
    WHERE scope IN (SELECT value FROM json_each(:scopes)) AND {name} ORDER BY name LIMIT :limit
"""
NAMES_DESCRIBED = """
    SELECT DISTINCT name FROM entities
    WHERE scope IN (SELECT value FROM json_each(:scopes)) AND {name} AND {then} ORDER BY name LIMIT :limit
"""
NAMES_THEN = """
    SELECT subject FROM memories AS m
    WHERE scope IN (SELECT value FROM json_each(:scopes)) AND subject IS NOT NULL AND {subject} AND {condition}
    UNION SELECT object FROM memories AS m
    WHERE scope IN (SELECT value FROM json_each(:scopes)) AND object IS NOT NULL AND {object} AND {condition}
    UNION SELECT name FROM entities
    WHERE scope IN (SELECT value FROM json_each(:scopes)) AND {name} AND since <= :as_of
    ORDER BY 1 LIMIT :limit
"""
DESCRIBED = """
    SELECT name, scope, body FROM entities
    WHERE scope IN (SELECT value FROM json_each(:scopes)) AND name IN (SELECT value FROM json_each(:names)) AND {then}
"""
MENTIONED = """
    SELECT n.value, (
        SELECT m.row FROM memories AS m
        WHERE m.scope IN (SELECT value FROM json_each(:scopes)) AND m.{side} = n.value AND m.{side} IS NOT NULL
          AND {condition} LIMIT 1
    ) AS found FROM json_each(:names) AS n WHERE found IS NOT NULL
"""
BODY = "SELECT body FROM memories WHERE row = ?"


def edges(connection: sqlite3.Connection, *, key: int, which: Filter, after: int, limit: int) -> list[tuple[int, Edge]]:
    """The relations of a scope in rows after this one, each with its row."""
    condition, values = conditions(which)
    first, last = rows_of(key)
    place = {"first": max(first, after + 1), "last": last, "limit": limit}
    found = connection.execute(EDGES.format(condition=condition), values | place)
    return [(row, edge(body)) for row, body in found]


class Walk:
    """A way through the relations of some scopes, step by step from some entities on."""

    def __init__(
        self, keys: Sequence[int], which: Filter, *, relations: Sequence[str], direction: Direction, limit: int
    ) -> None:
        condition, self._values = conditions(which)
        self._values |= {"scopes": json.dumps(keys), "relations": json.dumps(list(relations))}
        allowed = "m.relation IN (SELECT value FROM json_each(:relations))" if relations else "true"
        ways = [("subject", "object")] * (direction != "in") + [("object", "subject")] * (direction != "out")
        self._queries = [
            STEP.format(here=here, there=there, condition=condition, relations=allowed) for here, there in ways
        ]
        self._limit = limit
        self._visited = set[str]()
        self._seen = set[int]()
        self.found: list[tuple[int, Edge]] = []
        """The relations on the way, each with its distance."""

    def step(self, connection: sqlite3.Connection, *, frontier: set[str], distance: int) -> set[str]:
        """Take the relations of these entities, and return the entities to go on from: none if enough was found."""
        self._visited |= frontier
        values = self._values | {"names": json.dumps(sorted(frontier))}
        reached = set[str]()
        for query in self._queries:
            for row, there, body in connection.execute(query, values):
                if row not in self._seen:
                    if len(self.found) >= self._limit:
                        return set()
                    self._seen.add(row)
                    self.found.append((distance, edge(body)))
                    reached.add(there)
        return reached - self._visited


def entities(
    connection: sqlite3.Connection,
    keys: Keys,
    *,
    names: Sequence[str] | None,
    as_of: int | None,
    is_described: bool,
    limit: int,
) -> list[tuple[str, Entity]]:
    """Those described by the first of these scopes that does, or named by a relation in force; by normal name."""
    condition, values = conditions(Filter(as_of=as_of))
    values |= {"scopes": json.dumps(list(keys)), "limit": limit}
    if names is not None:
        values["names"] = json.dumps(sorted({normal(name) for name in names}))
    which = {column: "true" if names is None else AMONG.format(column) for column in ("name", "subject", "object")}
    then = "until IS NULL" if as_of is None else "since <= :as_of AND (until IS NULL OR until > :as_of)"
    query = NAMES_DESCRIBED if is_described else NAMES_NOW if as_of is None else NAMES_THEN
    wanted = [name for (name,) in connection.execute(query.format(condition=condition, then=then, **which), values)]
    found = _described(connection, keys, wanted, values, then)
    values["names"] = json.dumps([name for name in wanted if name not in found])
    for side in () if is_described else ("object", "subject"):
        query = MENTIONED.format(side=side, condition=condition)
        for name, row in connection.execute(query, values).fetchall():
            found[name] = _mentioned(connection, row, side)
    return [(name, found[name]) for name in wanted if name in found]


def _described(
    connection: sqlite3.Connection, keys: Keys, names: Sequence[str], values: dict[str, Any], then: str
) -> dict[str, Entity]:
    order = list(keys)
    rows = connection.execute(DESCRIBED.format(then=then), values | {"names": json.dumps(names)}).fetchall()
    found = {}
    for name, _, body in sorted(rows, key=lambda row: order.index(row[1]), reverse=True):
        said = decode_described(body)
        found[name] = Entity(said.name, said.kind, said.properties, said.labels)
    return found


def _mentioned(connection: sqlite3.Connection, row: int, side: str) -> Entity:
    """An entity that nobody described is called as a relation calls it, and trusted as that is."""
    memory = decode_memory(connection.execute(BODY, (row,)).fetchone()[0])
    relation = memory.relation
    assert relation is not None, "the row names an entity"
    return Entity(relation.subject if side == "subject" else relation.object, labels=memory.labels)
