"""The knowledge graph of a reader: the relations in the scopes that it may see, and what can be asked of them."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

import msgspec

from ostler.domain.knowledge.graph import Direction, Draft, Edge, Entity, Graph, graph_of, unknown_entity
from ostler.domain.memory.memory import normal
from ostler.domain.memory.scope import Scope
from ostler.kernel.errors import GraphCyclic
from ostler.ports.graph import GraphEngine
from ostler.ports.memory import MemoryIndex

Scopes = Sequence[Scope]
"""Those whose relations make up a graph: what a reader may see, `Scope.visible`."""

PAGE = 10_000
"""Relations that are taken in before others have their turn."""
ENTITIES_MAX = 1_000_000
SUGGESTIONS_MAX = 5_000
GRAPHS_MAX = 4
RELATIONS_MAX = 1_000_000
"""Of all graphs that are kept together: some 150 MB. The one that was asked for last is kept in any case."""
PAIRS_MAX = 100_000
EXACT_MAX = 2_000
PIVOTS = 64
SEED = 1


class Indexed(Protocol):
    """Memories, as far as a graph is made of them: see `ostler.runtime.memory.memories.Memories`."""

    @property
    def index(self) -> MemoryIndex: ...

    async def catch_up(self, scopes: Sequence[Scope]) -> dict[Scope, int]:
        """Bring what was written to the index; returns the position of the last event of each scope."""
        ...


class Extent(msgspec.Struct, frozen=True):
    """Which of the relations that a reader may see make up a graph. By default those in force now, of all names.

    With `as_of` those in force after the event at this position of the log, with `valid_at_us` those true in the world
    then, with `relations` those with one of these names.
    """

    as_of: int | None = None
    valid_at_us: int | None = None
    relations: tuple[str, ...] = ()


WHOLE = Extent()


class Around(msgspec.Struct, frozen=True):
    """A neighbourhood: how far its relations are (1 …), nearest first. `is_cut`: there are more than were asked for."""

    graph: Graph
    edges: list[tuple[int, Edge]]
    is_cut: bool


class Route(msgspec.Struct, frozen=True):
    """The relations along a way, and what they cost together."""

    edges: list[Edge]
    cost: float


class Ranking(msgspec.Struct, frozen=True):
    """Entities and their centrality, the greatest first. If it `is_sampled`, an estimate from ways from `pivots`."""

    values: list[tuple[str, float]]
    is_sampled: bool = False
    pivots: int = 0


class Graphs:
    """Asks about the relations of the scopes that are named, and never about others.

    Neighbourhoods come straight from the index. Everything else needs the whole graph, which is gathered from the index
    and kept until something happens in one of its scopes; the engine computes on it. Names of entities that nobody has
    related or described raise `NotFound`.
    """

    def __init__(self, memories: Indexed, engine: GraphEngine) -> None:
        self._memories = memories
        self._engine = engine
        self._kept: OrderedDict[tuple[tuple[Scope, ...], Extent], Graph] = OrderedDict()

    async def graph(self, scopes: Scopes, extent: Extent = WHOLE) -> Graph:
        """All of it."""
        positions = await self._memories.catch_up(scopes)
        key = f"{extent!r} {sorted(positions.items())!r}"
        place = (tuple(scopes), extent)
        kept = self._kept.get(place)
        if kept is None or kept.net.key != key:
            self._kept.pop(place, None)
            self._kept[place] = kept = await self._gathered(scopes, extent, key)
            self._make_room()
        self._kept.move_to_end(place)
        return kept

    async def around(
        self,
        scopes: Scopes,
        names: Sequence[str],
        *,
        depth: int = 1,
        direction: Direction = "both",
        extent: Extent = WHOLE,
        limit: int = 1000,
    ) -> Around:
        """What is at most `depth` steps from these entities, the nearest first."""
        await self._memories.catch_up(scopes)
        found = await self._memories.index.neighbourhood(
            scopes,
            names,
            depth=depth,
            relations=extent.relations,
            direction=direction,
            as_of=extent.as_of,
            valid_at_us=extent.valid_at_us,
            limit=limit + 1,
        )
        edges = found[:limit]
        met = {name for _, edge in edges for name in (edge.subject, edge.object)}
        if alone := [name for name in names if name not in met]:
            await self._check_known(scopes, alone, extent)
        wanted = sorted({*met, *names})
        entities = await self._memories.index.entities(
            scopes, wanted, as_of=extent.as_of, is_described=True, limit=len(wanted) + 1
        )
        named = [Entity(name) for name in names]
        return Around(graph_of((edge for _, edge in edges), [*named, *entities]), edges, len(found) > limit)

    async def breadth_first(
        self, scopes: Scopes, start: str, *, extent: Extent = WHOLE, direction: Direction = "out"
    ) -> list[str]:
        """Every entity that can be reached, nearest first; neighbours of the same one by name."""
        graph = await self.graph(scopes, extent)
        place = await self._place(graph, scopes, start, extent)
        if place is None:
            return [start]
        return _named(graph, await self._engine.breadth_first(graph.followed(direction), place))

    async def depth_first(
        self, scopes: Scopes, start: str, *, extent: Extent = WHOLE, direction: Direction = "out"
    ) -> list[str]:
        """Every entity that can be reached, each before those that are reached through it, the first by name first."""
        graph = await self.graph(scopes, extent)
        place = await self._place(graph, scopes, start, extent)
        if place is None:
            return [start]
        return _named(graph, await self._engine.depth_first(graph.followed(direction), place))

    async def shortest(
        self, scopes: Scopes, start: str, goal: str, *, extent: Extent = WHOLE, direction: Direction = "out"
    ) -> Route | None:
        """A way with the fewest steps; None if there is none."""
        graph = await self.graph(scopes, extent)
        first = await self._place(graph, scopes, start, extent)
        last = await self._place(graph, scopes, goal, extent)
        if first is None or last is None:
            return None
        numbers = await self._engine.shortest(graph.followed(direction), first, last)
        if numbers is None:
            return None
        edges = graph.way(numbers, direction)
        return Route(edges, sum(edge.weight for edge in edges))

    async def cheapest(
        self, scopes: Scopes, start: str, goal: str, *, extent: Extent = WHOLE, direction: Direction = "out"
    ) -> Route | None:
        """A way whose weights have the smallest sum; None if there is none. Raises `GraphInvalid` for negative ones."""
        graph = await self.graph(scopes, extent)
        graph.check_costs()
        first = await self._place(graph, scopes, start, extent)
        last = await self._place(graph, scopes, goal, extent)
        if first is None or last is None:
            return None
        way = await self._engine.cheapest(graph.followed(direction), first, last)
        return None if way is None else Route(graph.way(way.numbers, direction), way.cost)

    async def closure(
        self, scopes: Scopes, extent: Extent = WHOLE, *, pairs_max: int = PAIRS_MAX
    ) -> list[tuple[str, str]]:
        """Every pair of which the second can be reached from the first. Raises `GraphTooLarge` above the bound."""
        graph = await self.graph(scopes, extent)
        pairs = await self._engine.closure(graph.net, pairs_max=pairs_max)
        return [(graph.names[one], graph.names[other]) for one, other in pairs]

    async def degrees(self, scopes: Scopes, extent: Extent = WHOLE) -> Ranking:
        """Degree centrality: the relations to and from each, by the number of other entities."""
        graph = await self.graph(scopes, extent)
        return Ranking(_ranked(graph, graph.degrees()))

    async def betweenness(
        self, scopes: Scopes, extent: Extent = WHOLE, *, exact_max: int = EXACT_MAX, pivots: int = PIVOTS
    ) -> Ranking:
        """On what share of the shortest ways between others each lies; estimated if there are more than `exact_max`."""
        graph = await self.graph(scopes, extent)
        found = await self._engine.betweenness(graph.net, exact_max=exact_max, pivots=pivots, seed=SEED)
        return Ranking(_ranked(graph, found.values), found.is_sampled, found.pivots)

    async def communities(self, scopes: Scopes, extent: Extent = WHOLE) -> list[list[str]]:
        """Entities that are related to one another more than to others, the largest community first."""
        graph = await self.graph(scopes, extent)
        found: dict[int, list[str]] = {}
        for number, community in enumerate(await self._engine.communities(graph.net)):
            found.setdefault(community, []).append(graph.names[number])
        return [found[community] for community in sorted(found)]

    async def components(self, scopes: Scopes, extent: Extent = WHOLE) -> list[list[str]]:
        """What hangs together, whichever way relations point; the largest first."""
        graph = await self.graph(scopes, extent)
        return [_named(graph, numbers) for numbers in await self._engine.components(graph.net)]

    async def cycle(self, scopes: Scopes, extent: Extent = WHOLE) -> list[Edge] | None:
        """The relations of a cycle: of the shortest through the first entity that is on one; None if there is none."""
        graph = await self.graph(scopes, extent)
        numbers = await self._engine.cycle(graph.net)
        return None if numbers is None else graph.way([*numbers, numbers[0]])

    async def topological(self, scopes: Scopes, extent: Extent = WHOLE) -> list[str]:
        """All entities, each before those that it is related to. Raises `GraphCyclic`, which names a cycle."""
        graph = await self.graph(scopes, extent)
        numbers = await self._engine.topological(graph.net)
        if numbers is not None:
            return _named(graph, numbers)
        cycle = _named(graph, await self._engine.cycle(graph.net) or [])
        raise GraphCyclic(
            f"There is no order: {' → '.join([*cycle, *cycle[:1]])} is a cycle.",
            hint="Leave out one of these relations, or ask for some kinds of relations only.",
            cycle=cycle,
        )

    async def subgraph(self, scopes: Scopes, names: Sequence[str], *, extent: Extent = WHOLE) -> Graph:
        """These entities alone, and the relations between them."""
        graph = await self.graph(scopes, extent)
        numbers = sorted({graph.number(name) for name in names})
        return graph.only(numbers, f"{graph.net.key} {numbers}")

    async def clear(self) -> None:
        """Keep nothing of what was gathered, here or in the engine: something was erased."""
        self._kept.clear()
        await self._engine.close()

    async def close(self) -> None:
        await self.clear()

    async def _gathered(self, scopes: Scopes, extent: Extent, key: str) -> Graph:
        draft, after = Draft(), 0
        index = self._memories.index
        while True:
            page = await index.edges(
                scopes, as_of=extent.as_of, valid_at_us=extent.valid_at_us, after=after, limit=PAGE
            )
            draft.add(edge for _, edge in page if not extent.relations or edge.name in extent.relations)
            if len(page) < PAGE:
                break
            after = page[-1][0]
            await asyncio.sleep(0)
        described = await index.entities(scopes, as_of=extent.as_of, is_described=True, limit=ENTITIES_MAX)
        draft.describe(entity for entity in described if not extent.relations or entity.name in draft)
        return draft.graph(key)

    async def _place(self, graph: Graph, scopes: Scopes, name: str, extent: Extent) -> int | None:
        """The number of an entity; None for one that none of these relations is about. Raises `NotFound`."""
        if name not in graph:
            await self._check_known(scopes, [name], extent)
            return None
        return graph.number(name)

    async def _check_known(self, scopes: Scopes, names: Sequence[str], extent: Extent) -> None:
        index = self._memories.index
        found = await index.entities(scopes, names, as_of=extent.as_of, limit=len(names) + 1)
        known = {normal(entity.name) for entity in found}
        for name in names:
            if normal(name) not in known:
                others = await index.entities(scopes, as_of=extent.as_of, limit=SUGGESTIONS_MAX)
                raise unknown_entity(name, [entity.name for entity in others])

    def _make_room(self) -> None:
        while len(self._kept) > GRAPHS_MAX or (
            len(self._kept) > 1 and sum(graph.size for graph in self._kept.values()) > RELATIONS_MAX
        ):
            self._kept.popitem(last=False)


def _named(graph: Graph, numbers: Sequence[int]) -> list[str]:
    return [graph.names[number] for number in numbers]


def _ranked(graph: Graph, values: Sequence[float]) -> list[tuple[str, float]]:
    """By value; of equals the first by name, which is the lower number."""
    order = sorted(range(len(values)), key=lambda number: (-values[number], number))
    return [(graph.names[number], values[number]) for number in order]
