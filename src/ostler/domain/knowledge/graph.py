"""The knowledge graph: entities, the relations between them, and a graph of these that can be asked about."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Literal

import msgspec

from ostler.domain.memory.memory import Value, normal
from ostler.domain.provenance import UNTRUSTED
from ostler.domain.suggest import did_you_mean
from ostler.kernel.errors import GraphInvalid, NotFound

Direction = Literal["out", "in", "both"]
"""Which way relations are followed: as they point, against it, or either way."""

SUGGESTIONS_AMONG = 20_000
"""In a graph with more entities, a misspelt name is compared only with those that begin with the same letter."""


class Entity(msgspec.Struct, frozen=True, gc=False):
    """An entity of the knowledge graph. One that was never described has no kind."""

    name: str
    kind: str = ""
    properties: dict[str, Value] = {}
    labels: tuple[str, ...] = ()


class Edge(msgspec.Struct, frozen=True, gc=False):
    """A relation that is in force, and the fact that states it."""

    id: str
    subject: str
    name: str
    object: str
    weight: float = 1.0
    labels: tuple[str, ...] = ()
    valid_from_us: int | None = None
    valid_to_us: int | None = None
    properties: dict[str, Value] = {}

    @property
    def is_untrusted(self) -> bool:
        return UNTRUSTED in self.labels


class Net(msgspec.Struct, frozen=True):
    """The bare graph, for those who compute on it: `size` entities by number, in the order of their names.

    The relation at place `i` of the columns goes from `sources[i]` to `targets[i]` at the cost `weights[i]`. The same
    `key` stands for the same graph, and graphs that differ have different ones.
    """

    key: str
    size: int
    sources: "array[int]"
    targets: "array[int]"
    weights: "array[float]"


class Draft:
    """A graph that is being gathered, page by page."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._known: dict[str, int] = {}
        self._names: list[str] = []
        self._described: dict[int, Entity] = {}
        self._words: dict[str, str] = {}
        self._labels: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._sources, self._targets, self._weights = array("q"), array("q"), array("d")
        self._ids: list[str] = []
        self._relations: list[str] = []
        self._marks: list[tuple[str, ...]] = []
        self._more: dict[int, Edge] = {}

    def add(self, edges: Iterable[Edge]) -> None:
        """Take in relations, and with them the entities that they relate."""
        known, words, labels = self._known.get, self._words.setdefault, self._labels.setdefault
        for edge in edges:
            if edge.valid_from_us is not None or edge.valid_to_us is not None or edge.properties:
                self._more[len(self._ids)] = edge
            source, target = known(edge.subject), known(edge.object)
            self._sources.append(self._number(edge.subject) if source is None else source)
            self._targets.append(self._number(edge.object) if target is None else target)
            self._weights.append(edge.weight)
            self._ids.append(edge.id)
            self._relations.append(words(edge.name, edge.name))
            self._marks.append(labels(edge.labels, edge.labels))

    def describe(self, entities: Iterable[Entity]) -> None:
        """Take in what is known of entities, also of those that are related to nothing."""
        for entity in entities:
            number = self._number(entity.name)
            if entity.kind or entity.properties or entity.labels:
                self._described[number] = entity
                self._names[number] = entity.name

    def __contains__(self, name: str) -> bool:
        return normal(name) in self._numbers

    def _number(self, name: str) -> int:
        """Of each spelling; of those that name the same entity, the first in the alphabet is shown."""
        number = self._known.get(name)
        if number is None:
            number = self._numbers.setdefault(normal(name), len(self._numbers))
            self._known[name] = number
            if number == len(self._names):
                self._names.append(name)
            elif number not in self._described:
                self._names[number] = min(name, self._names[number])
        return number

    def graph(self, key: str) -> "Graph":
        """What was gathered, whatever the order that it came in. Nothing may be added afterwards."""
        ordered = sorted(self._numbers)
        numbers = {name: rank for rank, name in enumerate(ordered)}
        ranks = array("q", map(numbers.__getitem__, self._numbers))
        names = [self._names[self._numbers[name]] for name in ordered]
        place = ranks.__getitem__
        net = Net(
            key, len(names), array("q", map(place, self._sources)), array("q", map(place, self._targets)), self._weights
        )
        described = {ranks[number]: entity for number, entity in self._described.items()}
        columns = Columns(self._ids, self._relations, self._marks, self._more)
        return Graph(net, names, numbers, described, columns)


class Columns(msgspec.Struct, frozen=True):
    """What the relations of a graph say, by their place: the fact, the relation, its labels; `more` if there is any."""

    ids: list[str]
    relations: list[str]
    labels: list[tuple[str, ...]]
    more: dict[int, Edge]


class Graph:
    """Entities, numbered in the order of their names, and the relations between them.

    It is directed. There may be several relations between the same two entities, and an entity may be related to
    itself. Names are compared in their normal form.
    """

    def __init__(
        self,
        net: Net,
        names: Sequence[str],
        numbers: dict[str, int],
        described: dict[int, Entity],
        columns: Columns,
    ) -> None:
        self.net = net
        self.names = names
        self._described = described
        self._columns = columns
        self._numbers = numbers
        self._starts: array[int] | None = None
        self._order: array[int] = array("q")
        self._is_priced: bool | None = None

    def __len__(self) -> int:
        return self.net.size

    def __contains__(self, name: str) -> bool:
        return normal(name) in self._numbers

    @property
    def size(self) -> int:
        """How many relations there are."""
        return len(self.net.sources)

    @property
    def entities(self) -> list[Entity]:
        return [self.entity(number) for number in range(self.net.size)]

    def entity(self, number: int) -> Entity:
        return self._described.get(number) or Entity(self.names[number])

    def edge(self, place: int) -> Edge:
        """The relation at this place of the columns."""
        subject, object_ = self.names[self.net.sources[place]], self.names[self.net.targets[place]]
        columns, more = self._columns, self._columns.more.get(place)
        return Edge(
            columns.ids[place],
            subject,
            columns.relations[place],
            object_,
            self.net.weights[place],
            columns.labels[place],
            more.valid_from_us if more else None,
            more.valid_to_us if more else None,
            more.properties if more else {},
        )

    def edges(self) -> Iterator[Edge]:
        """All relations, in the order of their subjects, objects, names and ids."""
        sources, targets = self.net.sources, self.net.targets
        relations, ids = self._columns.relations, self._columns.ids
        for place in sorted(range(self.size), key=lambda at: (sources[at], targets[at], relations[at], ids[at])):
            yield self.edge(place)

    def number(self, name: str) -> int:
        """Of the entity with this name. Raises `NotFound`."""
        found = self._numbers.get(wanted := normal(name))
        if found is None:
            raise unknown_entity(name, self._alike(wanted))
        return found

    def _alike(self, name: str) -> Iterable[str]:
        if self.net.size <= SUGGESTIONS_AMONG:
            return self.names
        return (known for known in self.names if normal(known)[:1] == name[:1])

    def followed(self, direction: Direction) -> Net:
        """The bare graph whose relations point the way in which they are to be followed."""
        net = self.net
        if direction == "out":
            return net
        if direction == "in":
            return Net(f"{net.key} in", net.size, net.targets, net.sources, net.weights)
        ends = (net.sources + net.targets, net.targets + net.sources, net.weights * 2)
        return Net(f"{net.key} both", net.size, *ends)

    def way(self, numbers: Sequence[int], direction: Direction = "out") -> list[Edge]:
        """The relations along a way through these entities that cost least; of equals the first by name and id."""
        return [self._between(one, other, direction) for one, other in pairwise(numbers)]

    def _between(self, one: int, other: int, direction: Direction) -> Edge:
        found: list[int] = []
        if direction != "in":
            found += self._from(one, other)
        if direction != "out":
            found += self._from(other, one)
        weights, columns = self.net.weights, self._columns
        return self.edge(min(found, key=lambda at: (weights[at], columns.relations[at], columns.ids[at])))

    def _from(self, source: int, target: int) -> Iterator[int]:
        """Where the relations between these two are in the columns."""
        if self._starts is None:
            self._index()
        assert self._starts is not None
        places = self._order[self._starts[source] : self._starts[source + 1]]
        return (at for at in places if self.net.targets[at] == target)

    def _index(self) -> None:
        """Where the relations of each subject are: counted, then dealt out."""
        starts = array("q", bytes(8 * (self.net.size + 1)))
        for source in self.net.sources:
            starts[source + 1] += 1
        for number in range(self.net.size):
            starts[number + 1] += starts[number]
        places, order = starts[:], array("q", bytes(8 * self.size))
        for at, source in enumerate(self.net.sources):
            order[places[source]] = at
            places[source] += 1
        self._starts, self._order = starts, order

    def check_costs(self) -> None:
        """Raises `GraphInvalid` if a relation costs less than nothing, or nothing that is a number."""
        if self._is_priced is None:
            self._is_priced = all(weight >= 0 for weight in self.net.weights)
        if self._is_priced:
            return
        places = (at for at, weight in enumerate(self.net.weights) if not weight >= 0)
        edge = self.edge(min(places, key=self._columns.ids.__getitem__))
        raise GraphInvalid(
            f"{edge.subject} {edge.name} {edge.object} has the weight {edge.weight:g}, and costs cannot be negative.",
            hint="Ask for the way with the fewest steps instead, or leave this relation out.",
            relation=edge.id,
        )

    def degrees(self) -> list[float]:
        """Degree centrality: relations to and from each entity, by the number of others; of one alone, 0.

        One relation to itself counts twice, and each of several to the same entity counts.
        """
        counts = [0] * self.net.size
        for number in (*self.net.sources, *self.net.targets):
            counts[number] += 1
        others = max(self.net.size - 1, 1)
        return [count / others if self.net.size > 1 else 0.0 for count in counts]

    def only(self, wanted: Iterable[int], key: str) -> "Graph":
        """The graph of these entities alone, and the relations between them."""
        chosen, draft = set(wanted), Draft()
        draft.describe(self.entity(number) for number in sorted(chosen))
        sources, targets = self.net.sources, self.net.targets
        draft.add(self.edge(at) for at in range(self.size) if sources[at] in chosen and targets[at] in chosen)
        return draft.graph(key)


def graph_of(edges: Iterable[Edge], entities: Iterable[Entity] = (), *, key: str = "") -> Graph:
    """The graph of these relations, and of these entities besides."""
    draft = Draft()
    draft.add(edges)
    draft.describe(entities)
    return draft.graph(key)


def unknown_entity(name: str, known: Iterable[str]) -> NotFound:
    """What to raise for a name that no entity has."""
    near = did_you_mean(name, known)
    return NotFound(
        f"There is no entity {name!r} here." + (f" Did you mean {near!r}?" if near else ""),
        hint="`ostler graph rank` lists those that there are.",
        entity=name,
    )
