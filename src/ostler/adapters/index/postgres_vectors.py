"""Vectors in PostgreSQL: rows there, and matrices of them here, which are searched."""

from array import array
from collections.abc import Sequence
from importlib import import_module
from itertools import groupby
from typing import Any

import msgspec

from ostler.adapters.index import rows
from ostler.adapters.index.postgres_reading import Question, Server
from ostler.adapters.index.postgres_writing import UNHURRIED, owner
from ostler.domain.memory.scope import Scope
from ostler.kernel.errors import ConfigurationError
from ostler.ports.memory import Filter, Hit

PAGE = 4000
"""Vectors that are fetched at once."""
GROWTH = 4

SPACES = """
    SELECT space.key, space.dimensions, space.last, space.purges
    FROM looked JOIN @schema.memory_spaces AS space ON space.scope = looked.key
    WHERE space.fingerprint = {fingerprint} AND space.vectors > 0
"""
LOAD = """
    SELECT number, memory, vector FROM @schema.memory_vectors
    WHERE space = $1 AND number > $2 AND number <= $3 ORDER BY number LIMIT $4
"""
FOUND = """
    SELECT m.key, looked.number, m.id FROM looked JOIN @schema.memories AS m ON m.scope = looked.key
    WHERE m.key = ANY ({keys}::bigint[]) AND {condition}
"""
SPACE = f"""
    INSERT INTO @schema.memory_spaces AS old (scope, fingerprint, dimensions)
    SELECT key, $5, $6 FROM @schema.memory_scopes WHERE (tenant, agent, person, session) = ($1, $2, $3, $4)
    ON CONFLICT (scope, fingerprint)
        DO UPDATE SET dimensions = CASE WHEN old.vectors > 0 THEN old.dimensions ELSE excluded.dimensions END
    RETURNING key, scope, dimensions, {UNHURRIED}
"""
PUT = """
    INSERT INTO @schema.memory_vectors AS old (space, memory, vector)
    SELECT $1, m.key, given.vector FROM unnest($3::text[], $4::bytea[]) AS given (id, vector)
    JOIN @schema.memories AS m ON m.scope = $2 AND m.id = given.id
    ON CONFLICT (memory, space) DO UPDATE SET vector = excluded.vector, number = DEFAULT
    RETURNING number, xmax = 0
"""
COUNT = "UPDATE @schema.memory_spaces SET last = greatest(last, $2), vectors = vectors + $3 WHERE key = $1"


class Space(msgspec.Struct, frozen=True):
    """The vectors of one scope and one embedder, as far as they are numbered."""

    key: int
    dimensions: int
    last: int
    purges: int


class PostgresVectors:
    """Keeps vectors, and finds the nearest; what was fetched once is kept until others want the room."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._shelf: Any = None

    async def nearest(
        self, scopes: Sequence[Scope], fingerprint: str, vector: Sequence[float], which: Filter, *, limit: int
    ) -> list[Hit]:
        """Raises `DimensionMismatch`, and `ConfigurationError` if numpy is not installed."""
        question = Question(scopes)
        found = await question.ask(self._server, SPACES.format(fingerprint=question.put(fingerprint)))
        spaces = [Space(*row) for row in found]
        for space in spaces:
            if space.dimensions != len(vector):
                raise rows.mismatch(fingerprint, expected=space.dimensions, found=len(vector))
        matrices = [await self._matrix(space) for space in spaces]
        query, count = rows.unit(vector), limit
        while matrices:
            nearest = [matrix.nearest(query, count) for matrix in matrices]
            hits = await self._in(scopes, which, dict(row for some in nearest for row in some))
            # What was not seen of a matrix is no nearer than the last that was.
            unseen = [some[-1][1] for some, matrix in zip(nearest, matrices, strict=True) if len(some) < len(matrix)]
            if not unseen or (len(hits) >= limit and hits[limit - 1].score >= max(unseen)):
                return hits[:limit]
            count *= GROWTH
        return []

    async def put(self, fingerprint: str, vectors: Sequence[tuple[Scope, str, Sequence[float]]]) -> None:
        """Raises `DimensionMismatch`, and keeps nothing then."""

        async def work(connection: Any) -> None:
            for scope, some in groupby(sorted(vectors, key=lambda given: given[0]), key=lambda given: given[0]):
                await self._put(connection, scope, fingerprint, {known: vector for _, known, vector in some})

        await self._server.patiently(lambda: self._server.transact(work))

    def forget(self) -> None:
        """Let go of what was fetched."""
        if self._shelf is not None:
            self._shelf.clear()

    async def _put(self, connection: Any, scope: Scope, fingerprint: str, vectors: dict[str, Sequence[float]]) -> None:
        dimensions = len(next(iter(vectors.values())))
        query = self._server.sql(SPACE)
        for key, scope_key, expected, _ in await connection.fetch(query, *owner(scope), fingerprint, dimensions):
            for vector in vectors.values():
                if len(vector) != expected:
                    raise rows.mismatch(fingerprint, expected=expected, found=len(vector))
            blobs = [array("f", rows.unit(vector)).tobytes() for vector in vectors.values()]
            kept = await connection.fetch(self._server.sql(PUT), key, scope_key, list(vectors), blobs)
            if kept:
                more = sum(is_new for _, is_new in kept)
                await connection.fetch(self._server.sql(COUNT), key, max(number for number, _ in kept), more)

    async def _in(self, scopes: Sequence[Scope], which: Filter, scores: dict[int, float]) -> list[Hit]:
        """Those of these rows that are meant, best first; of equals, the newest."""
        question = Question(scopes)
        query = FOUND.format(keys=question.put(list(scores)), condition=question.conditions(which))
        found = [(scores[key], key, number, known) for key, number, known in await question.ask(self._server, query)]
        return [
            Hit(question.scopes[number - 1], known, score) for score, _, number, known in sorted(found, reverse=True)
        ]

    async def _matrix(self, space: Space) -> Any:
        """The vectors of a space as a matrix, by the keys of the memories; fetched is only what was added."""
        if self._shelf is None:
            self._shelf = _vectors().Shelf()
        matrix, last = _vectors().Matrix(space.dimensions), 0
        known = self._shelf.get(space.key)
        if known is not None and known[1][0] == (space.dimensions, space.purges):
            matrix, last = known[0], known[1][1]
        while last < space.last:
            page = await self._server.fetch(self._server.sql(LOAD), space.key, last, space.last, PAGE)
            if not page:
                break
            matrix.put([row[1] for row in page], [row[2] for row in page])
            last = page[-1][0]
        self._shelf.put(space.key, matrix, ((space.dimensions, space.purges), max(last, space.last)))
        return matrix


def _vectors() -> Any:
    try:
        return import_module("ostler.adapters.index.vectors")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "Vectors are compared with numpy, which is not installed.", hint="Install it: pip install 'ostler[memory]'."
        ) from error
