"""What agents remember, for people: found, looked at, taken back and put in order again, each by whoever may."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ostler.app.bootstrap import Parts
from ostler.app.embedders import embedder_of
from ostler.app.memory_scope import READ, WRITE, check_may, may
from ostler.app.plugins import MEMORY, part
from ostler.domain.identity import Principal
from ostler.domain.memory.memory import Memory, Relation
from ostler.domain.memory.scope import Scope
from ostler.domain.memory.strength import strength
from ostler.kernel.errors import NotFound, UsageError
from ostler.kernel.event import moment, timestamp, timestamp_if_known
from ostler.ports.memory import Entry, Filter, MemoryIndex
from ostler.runtime.memory.consolidation import Became, Consolidation
from ostler.runtime.memory.embedding import Embedding
from ostler.runtime.memory.memories import Memories
from ostler.runtime.memory.recalling import Ranked

PAGE = 500
POSITION_MAX = 2**63 - 1
"""No store counts further."""
SUFFIX = ".memory"
"""What is added to the name of a store's file for that of its index."""


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """A memory, with all that is known of it. Times are RFC 3339; `strength` is what is left of its importance now."""

    id: str
    kind: str
    text: str
    agent: str
    user: str
    session: str
    writer: str
    call: str
    happened: str
    remembered: str
    position: int
    strength: float
    importance: float
    recalls: int
    labels: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    made_of: tuple[str, ...] = ()
    key: str = ""
    relation: Relation | None = None
    caused_by: str = ""
    is_pinned: bool = False
    valid_from: str = ""
    valid_to: str = ""
    ended_by: str = ""
    contradicts: tuple[str, ...] = ()


class Found(msgspec.Struct, frozen=True):
    """A memory that was found, and why it stands where it does: what it scored, and each lane of that, 0 to 1."""

    memory: Told
    score: float
    lanes: dict[str, float]
    is_neighbour: bool


class Search(msgspec.Struct, frozen=True):
    """What a question found. So many were left out; `missing` says what could not be asked."""

    found: list[Found]
    left_out: int
    missing: tuple[str, ...]


class ScopeStats(msgspec.Struct, frozen=True):
    """How much one scope holds. `closed` are not in force any more."""

    level: str
    agent: str
    user: str
    session: str
    episodes: int
    facts: int
    files: int
    closed: int
    text_bytes: int
    relations: int
    entities: int
    recalls: int
    vectors: dict[str, int]


class Stats(msgspec.Struct, frozen=True):
    """How much a tenant remembers, and what keeps its memories from being found by vectors, if anything."""

    scopes: list[ScopeStats]
    embedder: str
    problem: str


async def memories_of(parts: Parts) -> Memories:
    """The memories of the store that `parts` are of. Raises `ConfigurationError`, `StoreError`, `NotAStore`."""
    index = await _index(parts)
    embedder = embedder_of(parts.settings)
    embedding = None
    if embedder is not None:
        embedding = Embedding(embedder, index, parts.clock, trouble=lambda error: parts.trouble(error))
    return Memories(
        parts.store,
        index,
        parts.clock,
        keeping=parts.settings.memory.keeping,
        embedding=embedding,
        detectors=parts.detectors,
    )


async def _index(parts: Parts) -> MemoryIndex:
    """The index of the store: beside its file, in memory, or in its database."""
    scheme, _, rest = parts.settings.store.partition(":")
    if scheme in ("postgresql", "postgres"):
        store: Any = parts.store
        made: MemoryIndex = part(MEMORY["postgres"], extra="postgres")(store.server)
        return made
    place = rest[3:] + SUFFIX if scheme == "sqlite" else ":memory:"
    opened: MemoryIndex = await part(MEMORY["sqlite"]).open(place if scheme == "memory" else Path(place))
    return opened


class MemoryDesk:
    """The memories of one tenant, in the hands of `by`. All methods raise `NotAllowed` where `by` may not."""

    def __init__(self, memories: Memories, by: Principal, parts: Parts) -> None:
        self._memories = memories
        self._index = memories.index
        self._by = by
        self._parts = parts
        self._consolidation = Consolidation(memories, parts.clock, rules=parts.settings.memory.consolidation.rules)

    @classmethod
    async def open(cls, parts: Parts, by: Principal) -> "MemoryDesk":
        return cls(await parts.memories(), by, parts)

    async def page(self, scope: Scope, which: Filter, *, before: int | None = None, limit: int = 100) -> list[Told]:
        """What is kept in exactly this scope, the newest first; `before` pages on by position."""
        check_may(self._by, scope, READ)
        await self._memories.catch_up([scope])
        below = None if before is None else min(before, POSITION_MAX)
        found = await self._index.page([scope], which, before=below, limit=limit)
        return [self._told(entry) for entry in found]

    async def every(self, scope: Scope, which: Filter) -> AsyncIterator[Told]:
        """All of it, page by page."""
        before: int | None = None
        while page := await self.page(scope, which, before=before, limit=PAGE):
            for one in page:
                yield one
            before = page[-1].position

    async def search(
        self, reader: Scope, query: str, which: Filter, *, limit: int = 20, tokens: int | None = None
    ) -> Search:
        """What a session of this scope would recall, without counting it. Of others' memories nothing is shown to those
        who may not see them.
        """
        check_may(self._by, reader, READ)
        recall = await self._memories.recall(reader, query, which=which, limit=limit, tokens=tokens)
        shown = [one for one in recall.found if may(self._by, one.entry.scope, READ)]
        hidden = len(recall.found) - len(shown)
        return Search([self._found(one) for one in shown], recall.left_out + hidden, recall.missing)

    async def get(self, ids: Sequence[str]) -> list[Told]:
        """These memories, in force or not. Raises `NotFound`."""
        return [self._told(entry) for entry in await self._entries(ids, READ)]

    async def forget(self, ids: Sequence[str], *, because: str = "") -> list[str]:
        """Take these out of force; the ids of those that were. Raises `NotFound`."""
        return await self._each(
            ids, lambda scope, some: self._memories.forget(scope, some, by=self._name, because=because)
        )

    async def restore(self, ids: Sequence[str], *, because: str = "") -> list[str]:
        """Put these in force again; the ids of those that were not. What was merged comes back whole. Raises
        `NotFound`.
        """
        return await self._each(
            ids, lambda scope, some: self._consolidation.restore(scope, some, by=self._name, because=because)
        )

    async def consolidate(self, scope: Scope, *, is_trial: bool = False) -> tuple[list[Became], bool]:
        """Merge what is twice in this scope, promote what is told again and again, let go of what faded; or only say
        so. Whether there is more to do.
        """
        check_may(self._by, scope, WRITE)
        report = await (self._consolidation.plan(scope) if is_trial else self._consolidation.consolidate(scope))
        return list(report.became), report.more

    async def pin(self, ids: Sequence[str], *, is_pinned: bool) -> list[str]:
        """Say of these that they are never to make room for others, or may. Raises `NotFound`."""
        entries = await self._entries(ids, WRITE)
        for entry in entries:
            await self._memories.pin(entry.scope, entry.memory.id, by=self._name, is_pinned=is_pinned)
        return [entry.memory.id for entry in entries]

    async def written_by(self, *, session: str = "", source: str = "", after: int = 0) -> list[Told]:
        """What would be rolled back: what is in force and was written by this session, or may be made of what this
        source said (a glob), later than the event at this position; and what was made of it.
        """
        self._check_all(READ)
        found = await self._memories.would_roll_back(self._by.tenant, session=session, source=source, after=after)
        return [self._told(entry) for entries in found.values() for entry in entries]

    async def roll_back(self, *, session: str = "", source: str = "", after: int = 0, because: str) -> list[str]:
        """Take all of that out of force; the ids."""
        self._check_all(WRITE)
        undone = await self._memories.roll_back(
            self._by.tenant, session=session, source=source, after=after, by=self._name, because=because
        )
        return [one for ids in undone.values() for one in ids]

    async def stats(self, scope: Scope | None = None) -> Stats:
        """How much is held in this scope; None: in every scope of the tenant."""
        if scope is None:
            self._check_all(READ)
            scopes = await self._memories.catch_up_all(self._by.tenant)
        else:
            check_may(self._by, scope, READ)
            await self._memories.catch_up([scope])
            scopes = [scope]
        embedding = self._memories.embedding
        return Stats(
            [await self._held(one) for one in sorted(scopes)],
            "" if embedding is None else embedding.fingerprint,
            "" if embedding is None else embedding.problem,
        )

    async def rebuild(self) -> int:
        """Fill the index of the tenant anew from the log; how many events it is made of."""
        self._check_all(WRITE)
        return await self._memories.rebuild(self._by.tenant)

    async def position(self, scopes: Sequence[Scope], text: str) -> int:
        """The position that a text names: a number, or a moment up to which these scopes are to be seen.

        Raises `UsageError`.
        """
        if text.isdecimal() and len(text) <= len(str(POSITION_MAX)):
            return min(int(text), POSITION_MAX)
        at_us = moment(text)
        if at_us is None:
            raise UsageError(f"{text!r} is no position and no moment.", hint="Write 1234, or 2026-03-01T09:30:00Z.")
        return max([await self._position_at(scope, at_us) for scope in scopes], default=0)

    async def _position_at(self, scope: Scope, at_us: int) -> int:
        """The position of the last event of a scope that is not later than this; found by halving."""
        store = self._parts.store
        await self._memories.catch_up([scope])
        low, high = 0, (await self._index.applied([scope]))[scope]
        found = 0
        while low < high:
            middle = (low + high) // 2
            (record,) = await store.read(scope.stream, after=middle, limit=1)
            if record.at_us <= at_us:
                low, found = middle + 1, record.position
            else:
                high = middle
        return found

    @property
    def _name(self) -> str:
        """As who acts, people are called in the log."""
        return f"operator:{self._by.id}"

    def _check_all(self, right: str) -> None:
        """Raises `NotAllowed` for those who may not do that to all memories of the tenant."""
        check_may(self._by, Scope(self._by.tenant), right)

    async def _entries(self, ids: Sequence[str], right: str) -> list[Entry]:
        """The memories with these ids, wherever they are. What somebody may not see is as if it were not there."""
        scopes = await self._memories.catch_up_all(self._by.tenant)
        seen = [scope for scope in scopes if may(self._by, scope, READ)]
        entries = await self._index.get(seen, ids)
        if unknown := sorted(set(ids) - {entry.memory.id for entry in entries}):
            raise NotFound(f"There is no memory {', '.join(unknown)}.", hint="`ostler memory list` names them.")
        for entry in entries:
            check_may(self._by, entry.scope, right)
        return entries

    async def _each(self, ids: Sequence[str], change: Callable[[Scope, list[str]], Awaitable[list[str]]]) -> list[str]:
        """Change these, scope by scope; the ids of those that were changed."""
        entries = await self._entries(ids, WRITE)
        changed: list[str] = []
        for scope in dict.fromkeys(entry.scope for entry in entries):
            changed += await change(scope, [entry.memory.id for entry in entries if entry.scope == scope])
        return changed

    async def _held(self, scope: Scope) -> ScopeStats:
        held = await self._index.held(scope)
        return ScopeStats(
            level=scope.level,
            agent=scope.agent,
            user=scope.user,
            session=scope.session,
            episodes=held.in_force.get("episode", 0),
            facts=held.in_force.get("fact", 0),
            files=held.in_force.get("file", 0),
            closed=held.closed,
            text_bytes=held.text_bytes,
            relations=held.relations,
            entities=held.entities,
            recalls=held.recalls,
            vectors=held.vectors,
        )

    def _found(self, one: Ranked) -> Found:
        lanes = {name: round(value, 4) for name, value in one.lanes.items()}
        return Found(self._told(one.entry), round(one.score, 4), lanes, one.is_neighbour)

    def _told(self, entry: Entry) -> Told:
        memory, scope = entry.memory, entry.scope
        return Told(
            id=memory.id,
            kind=memory.kind,
            text=memory.text,
            agent=scope.agent,
            user=scope.user,
            session=scope.session,
            writer=memory.source.writer,
            call=memory.source.call,
            happened=timestamp(memory.happened_us),
            remembered=timestamp(entry.at_us),
            position=entry.position,
            strength=round(self._strength(memory), 4),
            importance=memory.importance,
            recalls=entry.recalls,
            labels=memory.labels,
            tags=memory.tags,
            sources=memory.source.sources,
            made_of=memory.source.of,
            key=memory.key,
            relation=memory.relation,
            caused_by=memory.caused_by,
            is_pinned=memory.is_pinned,
            valid_from=timestamp_if_known(memory.valid_from_us),
            valid_to=timestamp_if_known(memory.valid_to_us),
            ended_by=entry.ended_by,
            contradicts=entry.contradicts,
        )

    def _strength(self, memory: Memory) -> float:
        """What is left of its importance; facts and files do not fade."""
        if memory.kind != "episode":
            return memory.importance
        age_us = self._parts.clock.now_us() - memory.happened_us
        return strength(memory.importance, age_us=age_us, half_life_us=self._parts.settings.memory.keeping.half_life_us)
