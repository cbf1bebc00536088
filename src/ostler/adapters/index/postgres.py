"""An index of memories in the PostgreSQL database of the events that it is made from."""

from collections.abc import Sequence
from typing import Any

from ostler.adapters.index import postgres_graph, postgres_words, postgres_writing
from ostler.adapters.index.postgres_reading import COLUMNS, IN_FORCE, MEMORIES, Question, Server, storable
from ostler.adapters.index.postgres_vectors import MATRICES_BYTES_MAX, PostgresVectors
from ostler.adapters.index.postgres_writing import NAME_CHARACTERS
from ostler.domain.memory.memory import Kind, normal
from ostler.domain.memory.scope import Scope
from ostler.ports.memory import EVERYTHING, Direction, Edge, Entity, Entry, Filter, Held, Hit, Noted

APPLIED = "SELECT looked.number, applied FROM looked JOIN @schema.memory_scopes USING (key)"
LAST = "SELECT applied, hash FROM looked JOIN @schema.memory_scopes USING (key)"
SCOPES = """
    SELECT tenant, agent, person, session FROM @schema.memory_scopes WHERE tenant = $1 AND applied > 0
    ORDER BY agent, person, session
"""
GET = f"""
    SELECT {COLUMNS} FROM unnest({{ids}}::text[]) WITH ORDINALITY AS wanted (id, place) CROSS JOIN looked
    JOIN @schema.memories AS m ON m.scope = looked.key AND m.id = wanted.id ORDER BY wanted.place, looked.number
"""
PAGE = f"""
    SELECT {COLUMNS} FROM looked CROSS JOIN LATERAL (
        SELECT * FROM @schema.memories AS m WHERE m.scope = looked.key AND {{condition}}
        ORDER BY m.position DESC LIMIT {{limit}}
    ) AS m ORDER BY m.position DESC LIMIT {{limit}}
"""
HOLDING = f"""
    SELECT {COLUMNS} FROM ({{either}}) AS found JOIN @schema.memories AS m USING (key)
    JOIN looked ON looked.key = m.scope ORDER BY m.position
"""
WITH_KEY = f"""
    SELECT m.key {MEMORIES} WHERE {IN_FORCE} AND m.name <> '' AND m.name = {{name}}
        AND left(m.name, {NAME_CHARACTERS}) = left({{name}}, {NAME_CHARACTERS})
"""
STATING = f"""
    SELECT m.key {MEMORIES} WHERE {IN_FORCE} AND m.subject = {{subject}} AND m.relation = {{name}}
        AND left(m.subject, {NAME_CHARACTERS}) = left({{subject}}, {NAME_CHARACTERS})
"""
SAME = f"SELECT {COLUMNS} {MEMORIES} WHERE {IN_FORCE} AND m.digest = ANY ({{digests}}::text[]) ORDER BY m.position"
WEAKEST = f"""
    , weak AS MATERIALIZED (
        SELECT m.scope, m.position, m.weight + m.happened / {{half_life}}::float8 AS strength,
            CASE WHEN m.weight = '-infinity' THEN m.happened END AS moment
        {MEMORIES} WHERE m.kind = {{kind}} AND {IN_FORCE} AND NOT m.is_pinned
        ORDER BY strength, moment, m.position LIMIT {{limit}}
    )
    SELECT {COLUMNS} FROM weak JOIN looked ON looked.key = weak.scope
    JOIN @schema.memories AS m ON (m.scope, m.position) = (weak.scope, weak.position)
    ORDER BY weak.strength, weak.moment, weak.position
"""
BESIDE = f"""
    SELECT own.id, {COLUMNS} FROM looked
    JOIN @schema.memories AS own ON own.scope = looked.key AND own.id = ANY ({{ids}}::text[])
    CROSS JOIN LATERAL (
        (
            SELECT * FROM @schema.memories AS m WHERE m.scope = own.scope AND m.kind = own.kind AND {IN_FORCE}
                AND (m.happened, m.position) < (own.happened, own.position)
            ORDER BY m.happened DESC, m.position DESC LIMIT {{span}}
        ) UNION ALL (
            SELECT * FROM @schema.memories AS m WHERE m.scope = own.scope AND m.kind = own.kind AND {IN_FORCE}
                AND (m.happened, m.position) > (own.happened, own.position)
            ORDER BY m.happened, m.position LIMIT {{span}}
        )
    ) AS m ORDER BY looked.number, own.position, m.happened, m.position
"""
UNEMBEDDED = f"""
    SELECT {COLUMNS} FROM looked
    LEFT JOIN @schema.memory_spaces AS space ON space.scope = looked.key AND space.fingerprint = {{fingerprint}}
    CROSS JOIN LATERAL (
        SELECT * FROM @schema.memories AS m
        WHERE m.scope = looked.key AND {IN_FORCE} AND m.position > coalesce(space.complete, 0) AND (
            SELECT true FROM @schema.memory_vectors AS v WHERE v.memory = m.key AND v.space = space.key
        ) IS NULL ORDER BY m.position DESC LIMIT {{limit}}
    ) AS m ORDER BY m.position DESC LIMIT {{limit}}
"""
HELD = """
    SELECT applied, episodes, facts, files, closed, bytes, relations, entities, recalls
    FROM looked JOIN @schema.memory_scopes USING (key)
"""
VECTORS_HELD = """
    SELECT fingerprint, vectors FROM looked JOIN @schema.memory_spaces AS space ON space.scope = looked.key
    WHERE vectors > 0
"""
CLEAR = """
    WITH cleared AS (SELECT unnest($1::bigint[]) AS key),
    spaces AS (DELETE FROM @schema.memory_spaces WHERE scope IN (SELECT key FROM cleared) RETURNING key),
    vectors AS (DELETE FROM @schema.memory_vectors WHERE space IN (SELECT key FROM spaces)),
    recalls AS (DELETE FROM @schema.memory_recalls WHERE scope IN (SELECT key FROM cleared)),
    entities AS (DELETE FROM @schema.memory_entities WHERE scope IN (SELECT key FROM cleared)),
    names AS (DELETE FROM @schema.memory_names WHERE scope IN (SELECT key FROM cleared)),
    memories AS (DELETE FROM @schema.memories WHERE scope IN (SELECT key FROM cleared))
    DELETE FROM @schema.memory_scopes WHERE key IN (SELECT key FROM cleared)
"""
OF_ALL = "SELECT tenant, agent, person, session FROM @schema.memory_scopes ORDER BY key"
CLEARED_AT_ONCE = 10
"""Scopes, of which each may hold so much that taking it away lasts for seconds."""
SCRUB = (
    "VACUUM @schema.memories, @schema.memory_names, @schema.memory_vectors, @schema.memory_recalls",
    # What nobody holds any more stays in an index, and a word even as a live entry, until it is made anew.
    "REINDEX TABLE CONCURRENTLY @schema.memories",
    "REINDEX TABLE CONCURRENTLY @schema.memory_names",
)
SCRUB_SCOPES = (
    "VACUUM @schema.memory_entities, @schema.memory_scopes",
    "REINDEX TABLE CONCURRENTLY @schema.memory_entities",
    "REINDEX TABLE CONCURRENTLY @schema.memory_scopes",
)


class PostgresIndex:
    """A `MemoryIndex` beside a `PostgresStore`, on whose `server` it is; for any number of processes on any machine.

    Changes of a scope wait for one another; questions wait for nobody. It is closed with the store. Vectors are fetched
    and searched here, up to `matrices_bytes_max`; more than that pgvector searches, where the database has it.
    """

    def __init__(self, server: Server, *, matrices_bytes_max: int = MATRICES_BYTES_MAX) -> None:
        self._server = server
        self._vectors = PostgresVectors(server, bytes_max=matrices_bytes_max)

    async def applied(self, scopes: Sequence[Scope]) -> dict[Scope, int]:
        question = Question(scopes)
        found = dict.fromkeys(question.scopes, 0)
        for number, applied in await question.ask(self._server, APPLIED):
            found[question.scopes[number - 1]] = applied
        return found

    async def last(self, scope: Scope) -> tuple[int, bytes]:
        for seq, digest in await Question([scope]).ask(self._server, LAST):
            return seq, digest
        return 0, b""

    async def apply(self, scope: Scope, notes: Sequence[Noted], *, after: int) -> None:
        if not notes:
            return

        async def work(connection: Any) -> bool:
            writing = postgres_writing.Writing(self._server, connection)
            return await writing.apply(scope, notes, after=after)

        if await self._server.patiently(lambda: self._server.transact(work)):
            await self._scrub()

    async def scopes(self, tenant: str) -> list[Scope]:
        return sorted(Scope(*parts) for parts in await self._server.fetch(self._server.sql(SCOPES), tenant))

    async def get(self, scopes: Sequence[Scope], ids: Sequence[str]) -> list[Entry]:
        question = Question(scopes)
        return await self._entries(question, GET.format(ids=question.put(list(dict.fromkeys(ids)))))

    async def page(
        self, scopes: Sequence[Scope], which: Filter = EVERYTHING, *, before: int | None = None, limit: int = 100
    ) -> list[Entry]:
        question = Question(scopes)
        condition = question.conditions(which)
        if before is not None:
            condition += f" AND m.position < {question.put(before)}"
        return await self._entries(question, PAGE.format(condition=condition, limit=question.put(limit)))

    async def holding(self, scope: Scope, *, key: str = "", subject: str = "", name: str = "") -> list[Entry]:
        question = Question([scope])
        parts = [WITH_KEY.format(name=question.put(storable(key)))] if key else []
        if subject:
            places = question.put(storable(normal(subject))), question.put(storable(name))
            parts.append(STATING.format(subject=places[0], name=places[1]))
        return await self._entries(question, HOLDING.format(either=" UNION ".join(parts))) if parts else []

    async def same(self, scopes: Sequence[Scope], digests: Sequence[str]) -> list[Entry]:
        question = Question(scopes)
        return await self._entries(question, SAME.format(digests=question.put(list(digests))))

    async def weakest(self, scope: Scope, kind: Kind, *, half_life_us: int, limit: int = 1) -> list[Entry]:
        question = Question([scope])
        half_life, place, most = question.put(half_life_us), question.put(kind), question.put(limit)
        return await self._entries(question, WEAKEST.format(half_life=half_life, kind=place, limit=most))

    async def beside(self, scopes: Sequence[Scope], ids: Sequence[str], *, span: int) -> dict[str, list[Entry]]:
        question = Question(scopes)
        query = BESIDE.format(ids=question.put(list(ids)), span=question.put(span))
        found: dict[str, list[Entry]] = {known: [] for known in ids}
        for own, *row in await question.ask(self._server, query):
            found[own].append(question.entry(*row))
        return found

    async def words(
        self, scopes: Sequence[Scope], terms: Sequence[str], which: Filter = EVERYTHING, *, limit: int = 100
    ) -> list[Hit]:
        question = Question(scopes)
        query = postgres_words.search(question, terms, question.conditions(which), limit=limit)
        found = await question.ask(self._server, query) if query else []
        return [Hit(question.scopes[number - 1], known, score) for number, known, score in found]

    async def vectors(
        self,
        scopes: Sequence[Scope],
        fingerprint: str,
        vector: Sequence[float],
        which: Filter = EVERYTHING,
        *,
        limit: int = 100,
    ) -> list[Hit]:
        return await self._vectors.nearest(scopes, fingerprint, vector, which, limit=limit)

    async def unembedded(self, scopes: Sequence[Scope], fingerprint: str, *, limit: int = 100) -> list[Entry]:
        question = Question(scopes)
        query = UNEMBEDDED.format(fingerprint=question.put(fingerprint), limit=question.put(limit))
        return await self._entries(question, query)

    async def embed(self, fingerprint: str, vectors: Sequence[tuple[Scope, str, Sequence[float]]]) -> None:
        await self._vectors.put(fingerprint, vectors)

    async def held(self, scope: Scope) -> Held:
        question = Question([scope])
        found = await question.ask(self._server, HELD)
        if not found:
            return Held(scope, 0, {}, 0, 0, 0, 0, 0, {})
        ((applied, episodes, facts, files, closed, text_bytes, relations, entities, recalls),) = found
        in_force = {"episode": episodes, "fact": facts, "file": files}
        vectors = dict(await question.ask(self._server, VECTORS_HELD))
        kinds = {kind: count for kind, count in in_force.items() if count}
        return Held(scope, applied, kinds, closed, text_bytes, relations, entities, recalls, vectors)

    async def entities(
        self,
        scopes: Sequence[Scope],
        names: Sequence[str] | None = None,
        *,
        as_of: int | None = None,
        is_described: bool = False,
        limit: int = 1000,
    ) -> list[Entity]:
        return await postgres_graph.entities(
            self._server, scopes, names, as_of=as_of, is_described=is_described, limit=limit
        )

    async def edges(
        self,
        scopes: Sequence[Scope],
        *,
        as_of: int | None = None,
        valid_at_us: int | None = None,
        after: int = 0,
        limit: int = 100_000,
    ) -> list[tuple[int, Edge]]:
        which = Filter(as_of=as_of, valid_at_us=valid_at_us)
        return await postgres_graph.edges(self._server, scopes, which, after=after, limit=limit)

    async def neighbourhood(
        self,
        scopes: Sequence[Scope],
        names: Sequence[str],
        *,
        depth: int = 1,
        relations: Sequence[str] = (),
        direction: Direction = "both",
        as_of: int | None = None,
        valid_at_us: int | None = None,
        limit: int = 1000,
    ) -> list[tuple[int, Edge]]:
        return await postgres_graph.neighbourhood(
            self._server,
            scopes,
            names,
            Filter(as_of=as_of, valid_at_us=valid_at_us),
            depth=depth,
            relations=relations,
            direction=direction,
            limit=limit,
        )

    async def erase(self, scope: Scope, ids: Sequence[str]) -> None:
        """Nobody else waits for it. No row and no index has them any more; what is left of them in the log of the
        server and in the free space of its tables goes as it writes on.
        """

        async def work(connection: Any) -> bool:
            return await postgres_writing.Writing(self._server, connection).erase(scope, ids)

        await self._server.patiently(lambda: self._server.transact(work))
        await self._scrub()

    async def clear(self, scopes: Sequence[Scope] | None = None) -> None:
        """Of scopes that are named nothing is left in rows and indexes either, as of what is erased."""
        found = scopes
        if found is None:
            found = [Scope(*parts) for parts in await self._server.fetch(self._server.sql(OF_ALL))]
        for start in range(0, len(found), CLEARED_AT_ONCE):
            await self._clear(found[start : start + CLEARED_AT_ONCE])
        self._vectors.forget()
        if scopes:
            await self._scrub((*SCRUB, *SCRUB_SCOPES))

    async def close(self) -> None:
        self._vectors.forget()

    async def _entries(self, question: Question, query: str) -> list[Entry]:
        return question.entries(await question.ask(self._server, query))

    async def _clear(self, scopes: Sequence[Scope]) -> None:
        async def work(connection: Any) -> None:
            keys = await postgres_writing.Writing(self._server, connection).lock(scopes)
            await connection.fetch(self._server.sql(CLEAR), keys)

        await self._server.patiently(lambda: self._server.transact(work))

    async def _scrub(self, statements: Sequence[str] = SCRUB) -> None:
        self._vectors.forget()
        for statement in statements:
            await self._server.alone(self._server.sql(statement))
