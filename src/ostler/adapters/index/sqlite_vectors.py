"""The vectors of an index in SQLite: kept as rows, searched in matrices that are filled from them as needed."""

import asyncio
import importlib
import sqlite3
from array import array
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ostler.adapters.index import rows
from ostler.adapters.index.database import IndexDatabase
from ostler.adapters.index.sqlite_reading import Keys, allowed, keys, rows_of
from ostler.domain.memory.scope import Scope
from ostler.kernel.errors import ConfigurationError
from ostler.ports.memory import Filter, Hit

if TYPE_CHECKING:
    from ostler.adapters.index.vectors import Matrix, Shelf

VECTORS_AT_ONCE = 1000
"""Vectors that are read before the event loop gets a turn."""

DONE_MAX = 10_000
"""Scopes of which it is remembered how far nothing was missing."""

EMBEDDER = "SELECT key, dimensions FROM embedders WHERE fingerprint = ?"
MAKE_EMBEDDER = "INSERT INTO embedders (fingerprint, dimensions) VALUES (?, ?) RETURNING key"
FIND = "SELECT row FROM memories WHERE scope = ? AND id = ?"
REPLACED = "DELETE FROM vectors WHERE embedder = ? AND row = ?"
KEEP = "INSERT INTO vectors (embedder, scope, row, vector) VALUES (?, ?, ?, ?)"
MARK = """
    SELECT purges, (SELECT coalesce(max(key), 0) FROM vectors WHERE embedder = :embedder AND scope = :scope)
    FROM scopes WHERE key = :scope
"""
NEXT = """
    SELECT key, row, vector FROM vectors WHERE embedder = ? AND scope = ? AND key > ? ORDER BY key LIMIT ?
"""
LAST = "SELECT row, purges FROM scopes WHERE key = ?"
WITHOUT = """
    SELECT m.position, m.row FROM memories AS m
    WHERE m.row BETWEEN :first AND :last AND m.until IS NULL
      AND NOT EXISTS (SELECT 1 FROM vectors AS v WHERE v.embedder = :embedder AND v.row = m.row)
    ORDER BY m.row DESC LIMIT :limit
"""


class SqliteVectors:
    """Keeps vectors and finds the nearest. Without numpy they can be kept, but not searched."""

    def __init__(self, database: IndexDatabase) -> None:
        self._database = database
        self._shelf: Shelf | None = None
        self._filling = asyncio.Lock()
        self._done: dict[tuple[int, int], tuple[int, int]] = {}

    async def nearest(
        self, keys: Keys, fingerprint: str, vector: Sequence[float], which: Filter, *, limit: int
    ) -> list[Hit]:
        """So many of each scope, by cosine similarity. Raises `DimensionMismatch`."""
        found = await self._database.fetch(EMBEDDER, (fingerprint,))
        if not found or not keys or limit < 1:
            return []
        ((embedder, dimensions),) = found
        if dimensions != len(vector):
            raise rows.mismatch(fingerprint, expected=dimensions, found=len(vector))
        query, hits = rows.unit(vector), list[Hit]()
        for key, scope in keys.items():
            matrix = await self._matrix(key, embedder, dimensions)
            found = await self._allowed(matrix, query, which, limit)
            hits += [Hit(scope, identity, score) for identity, score in found]
        return hits

    def unembedded(
        self, connection: sqlite3.Connection, keys: Keys, *, fingerprint: str, limit: int
    ) -> list[tuple[int, int]]:
        """Positions and rows of what is in force and has no vector, so many of each scope.

        Where nothing was missing, only what came later is looked at, until a memory is restored or taken away.
        """
        embedder = connection.execute(EMBEDDER, (fingerprint,)).fetchone()
        number, found = embedder[0] if embedder else 0, []
        for key in keys:
            ((row, purges),) = connection.execute(LAST, (key,))
            first, last = rows_of(key)
            known, upto = self._done.get((key, number), (purges, first))
            place = {"first": upto if known == purges else first, "last": last, "embedder": number, "limit": limit}
            missing = connection.execute(WITHOUT, place).fetchall()
            if number and not missing:
                if len(self._done) >= DONE_MAX:
                    self._done.clear()
                self._done[key, number] = purges, row
            found += missing
        return found

    async def embed(self, fingerprint: str, vectors: Sequence[tuple[Scope, str, Sequence[float]]]) -> None:
        """Keep these, all or none. Raises `DimensionMismatch`."""
        if vectors:
            packed = [(scope, identity, array("f", rows.unit(vector))) for scope, identity, vector in vectors]
            await self._database.transaction(lambda connection: _keep(connection, fingerprint, packed))

    def clear(self) -> None:
        """Let go of everything that is held in memory."""
        self._done.clear()
        if self._shelf is not None:
            self._shelf.clear()

    async def _matrix(self, key: int, embedder: int, dimensions: int) -> "Matrix":
        """All vectors of a scope, with those that came since the last time."""
        vectors = _with_numpy()
        async with self._filling:
            shelf = self._shelf = self._shelf or vectors.Shelf()
            found = await self._database.fetch(MARK, {"embedder": embedder, "scope": key})
            purges, head = found[0] if found else (0, 0)
            kept = shelf.get((key, embedder))
            if kept is not None and kept[1][0] == purges:
                matrix, (_, upto) = kept
            else:
                matrix, upto = vectors.Matrix(dimensions), 0
            while upto < head:
                page = await self._database.fetch(NEXT, (embedder, key, upto, VECTORS_AT_ONCE))
                if not page:
                    break
                matrix.put([row for _, row, _ in page], [blob for _, _, blob in page])
                upto = page[-1][0]
                await asyncio.sleep(0)
            shelf.put((key, embedder), matrix, (purges, upto))
        return matrix

    async def _allowed(
        self, matrix: "Matrix", query: Sequence[float], which: Filter, limit: int
    ) -> list[tuple[str, float]]:
        """The nearest of those that pass the filter: looked for among ever more, until there are enough."""
        count, done = limit + limit // 2, 0
        found: list[tuple[str, float]] = []
        while len(found) < limit and done < len(matrix):
            near = matrix.nearest(query, count)[done:]
            ids = await self._database.read(partial(allowed, rows=[row for row, _ in near], which=which))
            found += [(ids[row], score) for row, score in near if row in ids]
            done, count = done + len(near), count * 8
        return found[:limit]


def _keep(
    connection: sqlite3.Connection, fingerprint: str, vectors: Sequence[tuple[Scope, str, "array[float]"]]
) -> None:
    found = connection.execute(EMBEDDER, (fingerprint,)).fetchone()
    dimensions = found[1] if found else len(vectors[0][2])
    for _, _, vector in vectors:
        if len(vector) != dimensions:
            raise rows.mismatch(fingerprint, expected=dimensions, found=len(vector))
    embedder = found[0] if found else connection.execute(MAKE_EMBEDDER, (fingerprint, dimensions)).fetchone()[0]
    known = {scope: key for key, scope in keys(connection, {scope for scope, _, _ in vectors}).items()}
    for scope, identity, vector in vectors:
        row = connection.execute(FIND, (known.get(scope, 0), identity)).fetchone()
        if row:
            connection.execute(REPLACED, (embedder, row[0]))
            connection.execute(KEEP, (embedder, known[scope], row[0], vector.tobytes()))


def _with_numpy() -> Any:
    """The module that needs numpy, which is loaded when the first vectors are asked for."""
    try:
        return importlib.import_module("ostler.adapters.index.vectors")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{error.name} is not installed.", hint="Install it with `pip install 'ostler[memory]'`."
        ) from error
