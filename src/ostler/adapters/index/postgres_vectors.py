"""Vectors in PostgreSQL: rows there, searched as matrices here, or there by pgvector where that is the better way."""

from array import array
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from itertools import groupby
from sys import byteorder
from typing import Any

import msgspec

from ostler.adapters.index import rows
from ostler.adapters.index.postgres_reading import Question, Server
from ostler.adapters.index.postgres_writing import UNHURRIED, owner
from ostler.domain.memory.scope import Scope
from ostler.kernel.errors import ConfigurationError
from ostler.ports.memory import Filter, Hit

MATRICES_BYTES_MAX = 256 * 1024 * 1024
"""More than this is not fetched for one search where pgvector can do it, which takes some ten times as long."""
PAGE = 4000
"""Vectors that are fetched at once."""
GROWTH = 4
HEAD_BYTES = 20
FLOAT_BYTES = 4

SPACES = """
    SELECT space.key, space.dimensions, space.last, space.purges, space.vectors,
        (SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'vector')
    FROM looked JOIN @schema.memory_spaces AS space ON space.scope = looked.key
    WHERE space.fingerprint = {fingerprint} AND space.vectors > 0
"""
LOAD = """
    SELECT number, memory, array_send(vector) FROM @schema.memory_vectors
    WHERE space = $1 AND number > $2 AND number <= $3 ORDER BY number LIMIT $4
"""
NEAREST = """
    SELECT looked.number, m.id, -(v.vector::{extension}.vector OPERATOR({extension}.<#>) {query}) AS score
    FROM looked JOIN @schema.memory_spaces AS space ON space.scope = looked.key AND space.fingerprint = {fingerprint}
    JOIN @schema.memory_vectors AS v ON v.space = space.key JOIN @schema.memories AS m ON m.key = v.memory
    WHERE {condition} ORDER BY score DESC, m.position DESC LIMIT {limit}
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
    SELECT $1, m.key, ($4::real[])[(given.place - 1) * $5::integer + 1 : given.place * $5]
    FROM unnest($3::text[]) WITH ORDINALITY AS given (id, place)
    JOIN @schema.memories AS m ON m.scope = $2 AND m.id = given.id
    ON CONFLICT (memory, space) DO UPDATE SET vector = excluded.vector, number = DEFAULT
    RETURNING number, xmax = 0
"""
COUNT = """
    UPDATE @schema.memory_spaces AS space SET last = greatest(last, $2), vectors = vectors + $3, complete = coalesce(
        (
            SELECT m.position - 1 FROM @schema.memories AS m
            WHERE m.scope = space.scope AND m.position > space.complete AND m.until IS NULL AND (
                SELECT true FROM @schema.memory_vectors AS v WHERE v.memory = m.key AND v.space = space.key
            ) IS NULL ORDER BY m.position LIMIT 1
        ),
        (SELECT max(position) FROM @schema.memories WHERE scope = space.scope)
    ) WHERE key = $1
"""


class Space(msgspec.Struct, frozen=True):
    """The vectors of one scope and one embedder, as far as they are numbered, and where pgvector is (None: nowhere)."""

    key: int
    dimensions: int
    last: int
    purges: int
    vectors: int
    extension: str | None


class PostgresVectors:
    """Keeps vectors, and finds the nearest, always exactly; what was fetched once is kept until others want the room.

    Without numpy, and for more vectors than fit into `bytes_max`, pgvector searches if the database has it. An index of
    its own (HNSW) it does not get: with one, the server takes some 70 memories in a second, and misses neighbours.
    """

    def __init__(self, server: Server, *, bytes_max: int = MATRICES_BYTES_MAX) -> None:
        self._server = server
        self._bytes_max = bytes_max
        self._shelf: Any = None

    async def nearest(
        self, scopes: Sequence[Scope], fingerprint: str, vector: Sequence[float], which: Filter, *, limit: int
    ) -> list[Hit]:
        """Raises `DimensionMismatch`, and `ConfigurationError` if there is neither numpy nor pgvector."""
        question = Question(scopes)
        found = await question.ask(self._server, SPACES.format(fingerprint=question.put(fingerprint)))
        spaces = [Space(*row) for row in found]
        for space in spaces:
            if space.dimensions != len(vector):
                raise rows.mismatch(fingerprint, expected=space.dimensions, found=len(vector))
        query, count = rows.unit(vector), limit
        extension = spaces[0].extension if spaces else None
        if extension is not None and not self._is_for_matrices(spaces):
            return await self._nearest_there(scopes, fingerprint, query, which, extension=extension, limit=limit)
        matrices = [await self._matrix(space) for space in spaces]
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
            numbers = [number for vector in vectors.values() for number in rows.unit(vector)]
            kept = await connection.fetch(self._server.sql(PUT), key, scope_key, list(vectors), numbers, expected)
            if kept:
                more = sum(is_new for _, is_new in kept)
                await connection.fetch(self._server.sql(COUNT), key, max(number for number, _ in kept), more)

    def _is_for_matrices(self, spaces: Sequence[Space]) -> bool:
        size = sum(space.vectors * space.dimensions * FLOAT_BYTES for space in spaces)
        return size <= self._bytes_max and find_spec("numpy") is not None

    async def _nearest_there(
        self,
        scopes: Sequence[Scope],
        fingerprint: str,
        vector: Sequence[float],
        which: Filter,
        *,
        extension: str,
        limit: int,
    ) -> list[Hit]:
        """All that are meant are compared there: by inner products, which of unit length are the cosines."""
        question = Question(scopes)
        query = NEAREST.format(
            extension=extension,
            query=f"{question.put(vector)}::real[]::{extension}.vector",
            fingerprint=question.put(fingerprint),
            condition=question.conditions(which),
            limit=question.put(limit),
        )
        found = await question.ask(self._server, query)
        return [Hit(question.scopes[number - 1], known, score) for number, known, score in found]

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
            matrix.put([row[1] for row in page], _floats([row[2] for row in page], space.dimensions))
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


def _floats(sent: Sequence[bytes], dimensions: int) -> list[bytes]:
    """Arrays as the server sends them, as the floats of this machine.

    After a head of 20 bytes, each element is its length and itself, the greatest byte first (`array_send` in
    https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/arrayfuncs.c).
    """
    numbers = array("I", b"".join(one[HEAD_BYTES:] for one in sent))
    if byteorder == "little":
        numbers.byteswap()
    whole = numbers[1::2].tobytes()
    size = dimensions * FLOAT_BYTES
    return [whole[start : start + size] for start in range(0, len(whole), size)]
