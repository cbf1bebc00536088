"""The knowledge graph, for people: looked at, asked about, handed over and taken in, by whoever may."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Literal

import msgspec

from ostler.app.bootstrap import Parts
from ostler.app.memory import MemoryDesk
from ostler.app.memory_scope import READ, WRITE, check_may, may
from ostler.app.plugins import GRAPH, part
from ostler.domain.identity import Principal
from ostler.domain.knowledge.exchange import Exchange, Statement, link_of
from ostler.domain.knowledge.graph import Direction, Edge, Entity, Graph
from ostler.domain.memory.events import EntityDescribed
from ostler.domain.memory.memory import ID_PREFIX, Relation, Source, Value
from ostler.domain.memory.scope import Scope
from ostler.domain.memory.writing import Wish
from ostler.domain.provenance import UNTRUSTED
from ostler.kernel.event import timestamp_if_known
from ostler.runtime.memory.graphs import Around, Extent, Graphs, Ranking, Route
from ostler.runtime.memory.memories import Memories

PAGE = 500
Centrality = Literal["degree", "betweenness"]


class EntityView(msgspec.Struct, frozen=True, omit_defaults=True):
    """An entity. It is labelled `untrusted` if nothing but untrusted text speaks of it."""

    name: str
    kind: str = ""
    properties: dict[str, Value] = {}
    labels: tuple[str, ...] = ()


class RelationView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A relation; `id` is that of the fact that states it. `distance` is in steps from what was asked about."""

    id: str
    subject: str
    relation: str
    object: str
    weight: float
    is_untrusted: bool
    distance: int = 0
    labels: tuple[str, ...] = ()
    properties: dict[str, Value] = {}
    valid_from: str = ""
    valid_to: str = ""


class Neighbourhood(msgspec.Struct, frozen=True):
    """What is around some entities. `is_cut`: there is more."""

    entities: list[EntityView]
    relations: list[RelationView]
    is_cut: bool


class Path(msgspec.Struct, frozen=True):
    """A way from one entity to another, if there is one, and the sum of its weights."""

    is_found: bool
    relations: list[RelationView]
    cost: float


class Rank(msgspec.Struct, frozen=True):
    """How central an entity is."""

    name: str
    value: float


class Ranks(msgspec.Struct, frozen=True):
    """The most central entities, of so many. If it `is_sampled`, an estimate from ways that begin at `pivots`."""

    by: Centrality
    ranks: list[Rank]
    entities: int
    is_sampled: bool
    pivots: int


class Communities(msgspec.Struct, frozen=True):
    """Entities that are related to one another more than to others, the largest community first."""

    communities: list[list[str]]


class Cycles(msgspec.Struct, frozen=True):
    """A cycle, if there is one; else all entities, each before those that it is related to."""

    is_cyclic: bool
    cycle: list[RelationView]
    order: list[str]


class Imported(msgspec.Struct, frozen=True):
    """What came of taking a graph in: relations that are new here, were known, or replaced or contradict others.

    Of the known, `ended` are not in force: forgotten, rolled back, or superseded since they were first taken in.
    """

    entities: int
    new: int
    known: int
    ended: int
    superseded: int
    contradicts: int


class GraphDesk:
    """The knowledge graph of one tenant, in the hands of `by`. All methods raise `NotAllowed` where `by` may not.

    Of the scopes that `scope` lies in, those are left out that `by` may not see.
    """

    def __init__(self, graphs: Graphs, memories: Memories, desk: MemoryDesk, by: Principal) -> None:
        self._graphs = graphs
        self._memories = memories
        self._desk = desk
        self._by = by

    @classmethod
    @asynccontextmanager
    async def open(cls, parts: Parts, by: Principal) -> "AsyncIterator[GraphDesk]":
        """What computes on the graph is ended with it."""
        memories = await parts.memories()
        graphs = Graphs(memories, part(GRAPH)())
        try:
            yield cls(graphs, memories, await MemoryDesk.open(parts, by), by)
        finally:
            await graphs.close()

    async def extent(
        self, scope: Scope, *, as_of: str | None = None, valid_at_us: int | None = None, relations: Sequence[str] = ()
    ) -> Extent:
        """Which relations are meant; `as_of` is a position or a moment. Raises `UsageError`."""
        position = None if as_of is None else await self._desk.position(self.visible(scope), as_of)
        return Extent(position, valid_at_us, tuple(relations))

    async def around(
        self, scope: Scope, names: Sequence[str], *, depth: int, direction: Direction, extent: Extent, limit: int
    ) -> Around:
        """What is at most `depth` steps from these entities. Raises `NotFound`."""
        return await self._graphs.around(
            self.visible(scope), names, depth=depth, direction=direction, extent=extent, limit=limit
        )

    async def path(
        self, scope: Scope, start: str, goal: str, *, by_weight: bool, direction: Direction, extent: Extent
    ) -> Path:
        """The way with the fewest steps, or the smallest sum of weights. Raises `NotFound`, `GraphInvalid`."""
        ask = self._graphs.cheapest if by_weight else self._graphs.shortest
        found = await ask(self.visible(scope), start, goal, extent=extent, direction=direction)
        return path_view(found)

    async def rank(self, scope: Scope, by: Centrality, *, limit: int, extent: Extent) -> Ranks:
        """The most central entities."""
        visible = self.visible(scope)
        if by == "degree":
            return _ranks(await self._graphs.degrees(visible, extent), by, limit)
        return _ranks(await self._graphs.betweenness(visible, extent), by, limit)

    async def communities(self, scope: Scope, *, extent: Extent) -> Communities:
        """Which entities belong together."""
        return Communities(await self._graphs.communities(self.visible(scope), extent))

    async def cycles(self, scope: Scope, *, extent: Extent) -> Cycles:
        """Whether relations go round in circles."""
        visible = self.visible(scope)
        cycle = await self._graphs.cycle(visible, extent)
        if cycle is not None:
            return Cycles(True, [relation_view(edge) for edge in cycle], [])
        return Cycles(False, [], await self._graphs.topological(visible, extent))

    async def graph(self, scope: Scope, *, extent: Extent) -> Graph:
        """All of it."""
        return await self._graphs.graph(self.visible(scope), extent)

    async def exchange(self, scope: Scope, *, extent: Extent) -> Exchange:
        """All of it, with what its facts say and where they came from, to be handed over."""
        graph, visible = await self.graph(scope, extent=extent), self.visible(scope)
        edges, statements = list(graph.edges()), list[Statement]()
        for first in range(0, len(edges), PAGE):
            page = edges[first : first + PAGE]
            entries = await self._memories.index.get(visible, [edge.id for edge in page])
            facts = {entry.memory.id: entry.memory for entry in entries}
            for edge in page:
                fact = facts[edge.id]
                is_single = fact.relation is not None and fact.relation.is_single
                statements.append(Statement(edge, fact.text, is_single, fact.source.writer, fact.source.sources))
        return Exchange(tuple(graph.entities), tuple(statements))

    async def take_in(
        self,
        scope: Scope,
        exchange: Exchange,
        *,
        name: str,
        is_trusted: bool = True,
        progress: Callable[[int], None] = lambda done: None,
    ) -> Imported:
        """Remember what a file with this `name` states, as facts of this scope; each once, however often it is read.

        Labels are kept; `untrusted` is added unless it `is_trusted`. What is written says that it came from the file,
        which it can be rolled back by (`import:NAME`). `progress` is told how many relations are done.
        """
        check_may(self._by, scope, WRITE)
        more = () if is_trusted else (UNTRUSTED,)
        counts = {"new": 0, "known": 0, "ended": 0, "superseded": 0, "contradicts": 0}
        wishes = [self._wish(statement, name, more) for statement in exchange.statements]
        for first in range(0, len(wishes), PAGE):
            page = await self._memories.remember_all(scope, wishes[first : first + PAGE])
            known = [remembered.id for remembered in page if remembered.outcome != "new"]
            counts["ended"] += sum(bool(one.ended_by) for one in await self._memories.index.get([scope], known))
            for remembered in page:
                counts["new" if remembered.outcome == "new" else "known"] += 1
                counts["superseded"] += len(remembered.superseded)
                counts["contradicts"] += bool(remembered.contradicts)
            progress(min(first + PAGE, len(wishes)))
        described = [entity for entity in exchange.entities if entity.kind or entity.properties]
        for entity in described:
            source, labels = self._source(name), _union(entity.labels, more)
            await self._memories.describe(
                scope, EntityDescribed(entity.name, entity.kind, source, entity.properties, labels)
            )
        return Imported(len(described), **counts)

    def visible(self, scope: Scope) -> list[Scope]:
        """What may be seen from this scope by whoever asks."""
        check_may(self._by, scope, READ)
        return [scope, *(one for one in scope.visible[1:] if may(self._by, one, READ))]

    def _wish(self, statement: Statement, name: str, labels: Sequence[str]) -> tuple[str, Wish]:
        """What is to be remembered of a statement, with the key that makes it the same each time."""
        edge = statement.edge
        key = sha256(msgspec.json.encode(link_of(statement), order="deterministic")).hexdigest()
        wish = Wish(
            "fact",
            statement.text or f"{edge.subject} {edge.name} {edge.object}",
            self._source(name, statement),
            labels=_union(edge.labels, labels),
            relation=Relation(edge.subject, edge.name, edge.object, edge.weight, statement.is_single, edge.properties),
            valid_from_us=edge.valid_from_us,
            valid_to_us=edge.valid_to_us,
        )
        return f"import/{key}", wish

    def _source(self, name: str, statement: Statement | None = None) -> Source:
        """Who has taken it in and from where, and what it was made of there."""
        writer, source = f"operator:{self._by.id}", f"import:{name}"
        if statement is None:
            return Source(writer, sources=(source,))
        fact = statement.edge.id
        of = (fact,) if fact.startswith(ID_PREFIX) else ()
        return Source(writer, sources=_union(statement.sources, [source]), of=of)


def relation_view(edge: Edge, distance: int = 0) -> RelationView:
    """The public form of a relation."""
    return RelationView(
        edge.id,
        edge.subject,
        edge.name,
        edge.object,
        edge.weight,
        edge.is_untrusted,
        distance,
        edge.labels,
        edge.properties,
        timestamp_if_known(edge.valid_from_us),
        timestamp_if_known(edge.valid_to_us),
    )


def neighbourhood_view(found: Around) -> Neighbourhood:
    """The public form of what is around some entities."""
    relations = [relation_view(edge, distance) for distance, edge in found.edges]
    return Neighbourhood([_entity_view(entity) for entity in found.graph.entities], relations, found.is_cut)


def path_view(found: Route | None) -> Path:
    """The public form of a way."""
    if found is None:
        return Path(False, [], 0.0)
    return Path(True, [relation_view(edge, step) for step, edge in enumerate(found.edges, 1)], found.cost)


def _entity_view(entity: Entity) -> EntityView:
    return EntityView(entity.name, entity.kind, entity.properties, entity.labels)


def _ranks(found: Ranking, by: Centrality, limit: int) -> Ranks:
    ranks = [Rank(name, value) for name, value in found.values[:limit]]
    return Ranks(by, ranks, len(found.values), found.is_sampled, found.pivots)


def _union(one: Sequence[str], other: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*one, *other]))
