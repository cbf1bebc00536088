"""Events of a memory stream as changes of rows, written together."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any

import msgspec

from ostler.adapters.index import rows
from ostler.adapters.index.postgres_reading import LOOKED, Question, Server, plain, storable
from ostler.adapters.index.postgres_words import tokens, vector
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
from ostler.domain.memory.memory import Memory, normal
from ostler.domain.memory.scope import Scope
from ostler.ports.memory import Noted

OWN = "(tenant, agent, person, session) = ($1, $2, $3, $4)"
LOCK = "SELECT own.key FROM looked JOIN @schema.memory_scopes AS own USING (key) ORDER BY own.key FOR UPDATE OF own"
UNHURRIED = "set_config('synchronous_commit', 'off', true)"
"""Nobody waits for the disk of the server here: what a crash takes of the index is filled again from the log."""
BEGIN = f"""
    INSERT INTO @schema.memory_scopes (tenant, agent, person, session, applied, hash) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT DO NOTHING RETURNING key, {UNHURRIED}
"""
MOVE = f"""
    UPDATE @schema.memory_scopes SET applied = $5, hash = $6 WHERE {OWN} AND applied = $7 RETURNING key, {UNHURRIED}
"""
APPLIED = f"SELECT applied FROM @schema.memory_scopes WHERE {OWN}"
STATES = """
    SELECT id, kind, bytes, length, is_pinned, until, ended_by, subject, object, contradicts, key
    FROM @schema.memories WHERE scope = $1 AND id = ANY ($2::text[])
"""
LIST = "ARRAY(SELECT jsonb_array_elements_text(given.{}::jsonb))"
REMEMBER = f"""
    INSERT INTO @schema.memories (
        scope, position, at, happened, weight, until, valid_from, valid_to, length, bytes, is_pinned,
        id, kind, ended_by, name, digest, session, subject, relation, object, tags, contradicts, gaps, words, body
    ) SELECT $1, given.position, given.at, given.happened, given.weight, given.until, given.valid_from, given.valid_to,
        given.length, given.bytes, given.is_pinned, given.id, given.kind, given.ended_by, given.name, given.digest,
        given.session, given.subject, given.relation, given.object, {LIST.format("tags")}, {LIST.format("contradicts")},
        given.gaps::int8multirange,
        given.words::tsvector || array_to_tsvector(ARRAY['@' || $1::bigint]), given.body
    FROM unnest(
        $2::bigint[], $3::bigint[], $4::bigint[], $5::float8[], $6::bigint[], $7::bigint[], $8::bigint[], $9::integer[],
        $10::integer[], $11::boolean[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[],
        $18::text[], $19::text[], $20::text[], $21::text[], $22::text[], $23::text[], $24::text[], $25::bytea[]
    ) AS given (
        position, at, happened, weight, until, valid_from, valid_to, length, bytes, is_pinned, id, kind, ended_by,
        name, digest, session, subject, relation, object, tags, contradicts, gaps, words, body
    )
"""
CHANGE = f"""
    UPDATE @schema.memories AS m SET until = given.until, ended_by = given.ended_by, is_pinned = given.is_pinned,
        contradicts = {LIST.format("contradicts")}, gaps = m.gaps + given.gaps::int8multirange
    FROM unnest($2::text[], $3::bigint[], $4::text[], $5::boolean[], $6::text[], $7::text[])
        AS given (id, until, ended_by, is_pinned, contradicts, gaps)
    WHERE m.scope = $1 AND m.id = given.id
"""
RECALL = """
    INSERT INTO @schema.memory_recalls (scope, id, call) SELECT $1, * FROM unnest($2::text[], $3::text[])
    ON CONFLICT DO NOTHING RETURNING id
"""
DESCRIBED = "SELECT DISTINCT name FROM @schema.memory_entities WHERE scope = $1 AND left(name, 100) = ANY ($2::text[])"
DESCRIBE = """
    INSERT INTO @schema.memory_entities (scope, name, position, body)
    SELECT $1, * FROM unnest($2::text[], $3::bigint[], $4::bytea[])
"""
MENTION = """
    INSERT INTO @schema.memory_names AS old (scope, name, digest, mentions)
    SELECT $1, * FROM unnest($2::text[], $3::bytea[], $4::bigint[])
    ON CONFLICT (scope, digest) DO UPDATE SET mentions = old.mentions + excluded.mentions RETURNING xmax = 0 AS is_new
"""
UNMENTIONED = """
    DELETE FROM @schema.memory_names WHERE scope = $1 AND digest = ANY ($2::bytea[]) AND mentions <= 0 RETURNING digest
"""
COUNTED = ("episodes", "facts", "files", "closed", "bytes", "tokens", "relations", "entities", "recalls")
COUNT = f"""
    UPDATE @schema.memory_scopes SET {", ".join(f"{name} = {name} + ${place}" for place, name in enumerate(COUNTED, 2))}
    WHERE key = $1
"""
ERASE = "DELETE FROM @schema.memories WHERE key = ANY ($1::bigint[])"
UNRECALL = "DELETE FROM @schema.memory_recalls WHERE scope = $1 AND id = ANY ($2::text[]) RETURNING id"
UNEMBED = """
    WITH gone AS (DELETE FROM @schema.memory_vectors WHERE memory = ANY ($1::bigint[]) RETURNING space)
    UPDATE @schema.memory_spaces SET purges = purges + 1,
        vectors = vectors - (SELECT count(*) FROM gone WHERE space = key)
    WHERE key IN (SELECT space FROM gone)
"""
NAME_CHARACTERS = 100
"""So many characters of names are in the indexes."""


INCOMPLETE = "UPDATE @schema.memory_spaces SET complete = 0 WHERE scope = $1"


class Standing(msgspec.Struct):
    """How a memory stands while events are taken in: as it was before them if it is `kept`, or made by them."""

    id: str
    kind: str
    bytes: int
    tokens: int
    is_pinned: bool
    until: int | None = None
    ended_by: str = ""
    subject: str | None = None
    object: str | None = None
    contradicts: list[str] = []
    kept: int | None = None
    gaps: list[tuple[int, int]] = []
    made: tuple[Noted, Memory, list[str]] | None = None
    has_changed: bool = False


class Changes:
    """What events make of the rows of one scope."""

    def __init__(self, found: Iterable[Any] = ()) -> None:
        """With how the memories stand that the events speak of, as `STATES` finds it."""
        self.counts: Counter[str] = Counter()
        self.mentions: Counter[str] = Counter()
        self.recalls: list[tuple[str, str]] = []
        self.descriptions: list[tuple[str, int, bytes]] = []
        self.erased: list[Standing] = []
        self.has_restored = False
        self.standings: dict[str, Standing] = {}
        for row in found:
            standing = Standing(*row)
            self.standings[standing.id] = standing

    def take(self, note: Noted, event: MemoryEvent) -> None:
        match event:
            case MemoryOpened():
                pass
            case MemoryRemembered():
                self._remember(note, event.memory)
            case MemorySuperseded():
                self._end([event.id], note, rows.superseded(event.by))
            case MemoryContradicted():
                self._contradict(event.id, event.other)
            case MemoryRetracted():
                self._end(event.ids, note, rows.retracted(event))
            case MemoryRestored():
                self._restore(event.ids, note)
            case MemoryConsolidated():
                if event.how == "merged":
                    self._end(event.of, note, rows.merged(event.into))
            case MemoryRecalled():
                self.recalls += [(standing.id, storable(event.call)) for standing in self._known(event.ids)]
            case MemoryPinned():
                for standing in self._known([event.id]):
                    standing.is_pinned, standing.has_changed = event.is_pinned, True
            case MemoryErased():
                self.erase(event.ids)
            case EntityDescribed():
                body = rows.encode(rows.Described(event.name, event.kind, event.properties, event.labels))
                self.descriptions.append((storable(normal(event.name)), note.position, body))

    def erase(self, ids: Iterable[str]) -> None:
        for standing in self._known(ids):
            self._count(standing, -1)
            self.counts["tokens"] -= standing.tokens
            self.recalls = [recall for recall in self.recalls if recall[0] != standing.id]
            self.erased.append(self.standings.pop(standing.id))

    @property
    def made(self) -> list[Standing]:
        return [standing for standing in self.standings.values() if standing.made is not None]

    @property
    def changed(self) -> list[Standing]:
        return [standing for standing in self.standings.values() if standing.kept is not None and standing.has_changed]

    def _known(self, ids: Iterable[str]) -> list[Standing]:
        return [self.standings[known] for known in dict.fromkeys(ids) if known in self.standings]

    def _remember(self, note: Noted, memory: Memory) -> None:
        if memory.id in self.standings:
            return
        words = tokens(rows.searchable(memory))
        relation = memory.relation
        standing = self.standings[memory.id] = Standing(
            memory.id,
            memory.kind,
            memory.size,
            len(words),
            memory.is_pinned,
            subject=storable(normal(relation.subject)) if relation else None,
            object=storable(normal(relation.object)) if relation else None,
            made=(note, memory, words),
        )
        self.counts["tokens"] += standing.tokens
        self._count(standing, 1)

    def _end(self, ids: Iterable[str], note: Noted, ended_by: str) -> None:
        for standing in self._known(ids):
            if standing.until is None:
                self._count(standing, -1)
                standing.until, standing.ended_by, standing.has_changed = note.position, ended_by, True
                self._count(standing, 1)

    def _restore(self, ids: Iterable[str], note: Noted) -> None:
        for standing in self._known(ids):
            if standing.until is not None:
                self.has_restored = True
                self._count(standing, -1)
                standing.gaps = [*standing.gaps, (standing.until, note.position)]
                standing.until, standing.ended_by, standing.has_changed = None, "", True
                self._count(standing, 1)

    def _contradict(self, one: str, another: str) -> None:
        pair = self._known([one, another])
        if len(pair) == 2:
            for standing, other in (pair, reversed(pair)):
                if other.id not in standing.contradicts:
                    standing.contradicts, standing.has_changed = [*standing.contradicts, other.id], True

    def _count(self, standing: Standing, by: int) -> None:
        if standing.until is not None:
            self.counts["closed"] += by
            return
        self.counts[f"{standing.kind}s"] += by
        self.counts["bytes"] += by * standing.bytes
        if standing.subject is not None and standing.object is not None:
            self.counts["relations"] += by
            self.mentions[standing.subject] += by
            self.mentions[standing.object] += by


class Writing:
    """Changes of one scope within a transaction, by a connection that is in it."""

    def __init__(self, server: Server, connection: Any) -> None:
        self._server = server
        self._connection = connection

    async def apply(self, scope: Scope, notes: Sequence[Noted], *, after: int) -> bool:
        """Take in these events; whether anything was erased. Raises `StaleWrite`."""
        key = await self._moved(scope, after=after, to=notes[-1])
        ids = {known for note in notes if note.event is not None for known in spoken_of(note.event)}
        changes = Changes(await self._fetch(STATES, key, sorted(ids)) if ids else ())
        for note in notes:
            if note.event is not None:
                changes.take(note, note.event)
        await self._write(key, changes)
        return any(standing.kept is not None for standing in changes.erased)

    async def erase(self, scope: Scope, ids: Sequence[str]) -> bool:
        """Take these away; whether there was anything."""
        for key in await self.lock([scope]):
            changes = Changes(await self._fetch(STATES, key, sorted(set(ids))))
            changes.erase(ids)
            await self._write(key, changes)
            return bool(changes.erased)
        return False

    async def lock(self, scopes: Sequence[Scope]) -> list[int]:
        """The keys of those that there are, which nobody else changes before the end of the transaction."""
        return [key for (key,) in await self._fetch(LOOKED + LOCK, *Question(scopes).values)]

    async def _moved(self, scope: Scope, *, after: int, to: Noted) -> int:
        """The key of a scope that is applied up to this from now on, and which nobody else changes meanwhile."""
        found = await self._fetch(MOVE, *owner(scope), to.seq, to.hash, after)
        if not found and not after:
            found = await self._fetch(BEGIN, *owner(scope), to.seq, to.hash)
        if not found:
            seen = await self._fetch(APPLIED, *owner(scope))
            raise rows.stale(scope, after=after, applied=seen[0][0] if seen else 0)
        return int(found[0][0])

    async def _write(self, key: int, changes: Changes) -> None:
        counts = changes.counts
        if changes.erased:
            counts["recalls"] -= await self._erase(key, changes.erased)
        if changes.made:
            await self._fetch(REMEMBER, key, *_columns(_made(standing) for standing in changes.made))
        if changes.changed:
            await self._fetch(CHANGE, key, *_columns(_changed(standing) for standing in changes.changed))
        if changes.has_restored:
            await self._fetch(INCOMPLETE, key)
        if changes.recalls:
            counts["recalls"] += len(await self._fetch(RECALL, key, *_columns(changes.recalls)))
        if changes.descriptions:
            names = {name for name, _, _ in changes.descriptions}
            short = [name[:NAME_CHARACTERS] for name in names]
            changes.mentions.update(names - {name for (name,) in await self._fetch(DESCRIBED, key, short)})
            await self._fetch(DESCRIBE, key, *_columns(changes.descriptions))
        counts["entities"] += await self._mention(key, changes.mentions)
        if any(counts.values()):
            await self._fetch(COUNT, key, *(counts[name] for name in COUNTED))

    async def _erase(self, key: int, erased: Sequence[Standing]) -> int:
        """How many recalls go with them."""
        kept = [standing.kept for standing in erased if standing.kept is not None]
        await self._fetch(ERASE, kept)
        await self._fetch(UNEMBED, kept)
        return len(await self._fetch(UNRECALL, key, [standing.id for standing in erased]))

    async def _mention(self, key: int, mentions: Counter[str]) -> int:
        """By how many names there are more."""
        changed = {name: more for name, more in sorted(mentions.items()) if more}
        if not changed:
            return 0
        digests = [digest(name) for name in changed]
        found = await self._fetch(MENTION, key, list(changed), digests, list(changed.values()))
        more = sum(1 for (is_new,) in found if is_new)
        if min(changed.values()) < 0:
            more -= len(await self._fetch(UNMENTIONED, key, digests))
        return more

    async def _fetch(self, query: str, *arguments: Any) -> list[Any]:
        found: list[Any] = await self._connection.fetch(self._server.sql(query), *arguments)
        return found


def digest(name: str) -> bytes:
    """What stands for the name of an entity where it would be too long."""
    return sha256(name.encode()).digest()


def owner(scope: Scope) -> tuple[str, str, str, str]:
    """What the columns of the owner of a scope hold."""
    return scope.tenant, scope.agent, scope.user, scope.session


def spoken_of(event: MemoryEvent) -> tuple[str, ...]:
    """The memories whose standing an event may change, or depends on."""
    match event:
        case MemoryRemembered():
            return (event.memory.id,)
        case MemorySuperseded() | MemoryPinned():
            return (event.id,)
        case MemoryContradicted():
            return (event.id, event.other)
        case MemoryRetracted() | MemoryRestored() | MemoryRecalled() | MemoryErased():
            return event.ids
        case MemoryConsolidated():
            return event.of
        case MemoryOpened() | EntityDescribed():
            return ()


def _columns(table: Iterable[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*table, strict=True)]


def _made(standing: Standing) -> tuple[Any, ...]:
    assert standing.made is not None, "it is of these events"
    note, memory, words = standing.made
    return (
        note.position,
        note.at_us,
        memory.happened_us,
        rows.weight(memory.importance),
        standing.until,
        memory.valid_from_us,
        memory.valid_to_us,
        standing.tokens,
        standing.bytes,
        standing.is_pinned,
        memory.id,
        memory.kind,
        standing.ended_by,
        storable(memory.key),
        memory.digest,
        storable(memory.source.session),
        standing.subject,
        storable(memory.relation.name) if memory.relation else None,
        standing.object,
        json.dumps(plain(memory.tags)),
        json.dumps(standing.contradicts),
        _multirange(standing.gaps),
        vector(words),
        rows.encode(memory),
    )


def _changed(standing: Standing) -> tuple[Any, ...]:
    contradicts, gaps = json.dumps(standing.contradicts), _multirange(standing.gaps)
    return standing.id, standing.until, standing.ended_by, standing.is_pinned, contradicts, gaps


def _multirange(gaps: Sequence[tuple[int, int]]) -> str:
    return "{" + ",".join(f"[{first},{end})" for first, end in gaps) + "}"
