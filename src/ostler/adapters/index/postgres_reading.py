"""Questions to the tables of the index: which scopes, which memories, and what the rows stand for."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from ostler.adapters.index import rows
from ostler.domain.memory.scope import Scope
from ostler.ports.memory import Entry, Filter

T = TypeVar("T")

LOOKED = """
    WITH looked AS MATERIALIZED (
        SELECT own.key, given.number
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY
            AS given (tenant, agent, person, session, number)
        JOIN @schema.memory_scopes AS own USING (tenant, agent, person, session)
    )
"""
"""The one place where it is decided what may be looked into: every query begins so, and joins nothing else."""
COLUMNS = """
    looked.number, m.body, m.is_pinned, m.position, m.at, m.until, m.ended_by,
    (SELECT count(*) FROM @schema.memory_recalls AS r WHERE r.scope = m.scope AND r.id = m.id),
    CASE WHEN cardinality(m.contradicts) > 0 THEN ARRAY(
        SELECT o.id FROM @schema.memories AS o
        WHERE o.scope = m.scope AND o.id = ANY (m.contradicts) AND o.until IS NULL ORDER BY o.position
    ) END
"""
MEMORIES = "FROM looked JOIN @schema.memories AS m ON m.scope = looked.key"
IN_FORCE = "m.until IS NULL"


class Server(Protocol):
    """What the index needs of the server that the events are on, and of the schema there."""

    def sql(self, text: str) -> str:
        """`text` with the schema in place of `@schema`."""
        ...

    async def fetch(self, query: str, *arguments: Any) -> list[Any]:
        """All rows of one query that changes nothing, or may well be done twice."""
        ...

    async def transact(self, work: Callable[[Any], Awaitable[T]]) -> T:
        """What `work` returns when it is given a connection in a transaction, which is then committed; tried once."""
        ...

    async def patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """What `attempt` returns once the server can be reached and nobody is in the way; it may be done twice."""
        ...

    async def alone(self, statement: str) -> None:
        """A statement that must not be in a transaction, for as long as it takes."""
        ...


class Question:
    """A query about some scopes, whose text and values grow together, so that no value is ever part of the text."""

    def __init__(self, scopes: Sequence[Scope]) -> None:
        self.scopes = list(dict.fromkeys(scopes))
        self.values: list[Any] = [
            [scope.tenant for scope in self.scopes],
            [scope.agent for scope in self.scopes],
            [scope.user for scope in self.scopes],
            [scope.session for scope in self.scopes],
        ]

    def put(self, value: Any) -> str:
        """Where a value stands in the text."""
        self.values.append(value)
        return f"${len(self.values)}"

    def conditions(self, which: Filter) -> str:
        """A filter as a condition on `memories AS m`."""
        parts = [*self._in_force(which)]
        if which.valid_at_us is not None:
            moment = self.put(which.valid_at_us)
            parts.append(f"coalesce(m.valid_from <= {moment}, true) AND coalesce(m.valid_to > {moment}, true)")
        if which.kinds:
            parts.append(f"m.kind = ANY ({self.put(list(which.kinds))}::text[])")
        if which.all_of:
            parts.append(f"m.tags @> {self.put(plain(which.all_of))}::text[]")
        if which.any_of:
            parts.append(f"m.tags && {self.put(plain(which.any_of))}::text[]")
        if which.none_of:
            parts.append(f"NOT m.tags && {self.put(plain(which.none_of))}::text[]")
        if which.key_prefix:
            parts.append(f"starts_with(m.name, {self.put(storable(which.key_prefix))})")
        if which.session:
            parts.append(f"m.session = {self.put(storable(which.session))}")
        if which.from_us is not None:
            parts.append(f"m.happened >= {self.put(which.from_us)}")
        if which.to_us is not None:
            parts.append(f"m.happened < {self.put(which.to_us)}")
        return " AND ".join(parts) or "true"

    async def ask(self, server: Server, text: str) -> list[Any]:
        """The rows that a query finds that begins with what is looked into; without scopes it is not even asked."""
        return await server.fetch(server.sql(LOOKED + text), *self.values) if self.scopes else []

    def entries(self, found: Sequence[Any]) -> list[Entry]:
        """What rows of `COLUMNS` stand for, in their order."""
        return [self.entry(*row) for row in found]

    def entry(
        self,
        number: int,
        body: bytes,
        is_pinned: bool,
        position: int,
        at_us: int,
        until: int | None,
        ended_by: str,
        recalls: int,
        contradicts: Sequence[str] | None,
    ) -> Entry:
        memory = rows.decode_memory(body)
        if memory.is_pinned != is_pinned:
            memory = msgspec.structs.replace(memory, is_pinned=is_pinned)
        scope = self.scopes[number - 1]
        return Entry(scope, memory, position, at_us, until, ended_by, recalls, tuple(contradicts or ()))

    def _in_force(self, which: Filter) -> list[str]:
        if which.as_of is None:
            return [] if which.is_closed_too else [IN_FORCE]
        position = self.put(which.as_of)
        known = f"m.position <= {position}"
        if which.is_closed_too:
            return [known]
        return [known, f"(m.until IS NULL OR m.until > {position})", f"NOT m.gaps @> {position}::bigint"]


def storable(text: str) -> str:
    """A text that the server can keep: it has no character zero."""
    return text.replace("\0", "\ufffd")


def plain(texts: Sequence[str]) -> list[str]:
    """Texts that the server can keep."""
    return [storable(text) for text in texts]
