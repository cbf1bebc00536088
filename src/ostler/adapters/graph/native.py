"""Algorithms on a graph in memory: rustworkx where it has them, numpy and plain code where it has not."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import rustworkx as rx

from ostler.domain.knowledge.communities import communities
from ostler.domain.knowledge.graph import Net
from ostler.kernel.errors import GraphTooLarge
from ostler.ports.graph import Centrality, Way

Numbers = npt.NDArray[np.int64]


class NativeGraph:
    """One graph. See `ostler.ports.graph.GraphEngine`.

    Parallel relations are one here, of the smallest weight: how many there were counts for communities alone.
    """

    def __init__(self, net: Net) -> None:
        sources, targets = np.asarray(net.sources, dtype=np.int64), np.asarray(net.targets, dtype=np.int64)
        weights = np.asarray(net.weights, dtype=np.float64)
        order = np.lexsort((weights, targets, sources))
        pairs = (sources * net.size + targets)[order]
        is_first = np.ones(len(pairs), dtype=bool)
        is_first[1:] = pairs[1:] != pairs[:-1]
        places = np.flatnonzero(is_first)
        counts = np.diff(np.append(places, len(pairs)))
        kept = order[places]
        self.size = net.size
        self.relations = len(pairs)
        """With all that are parallel."""
        self._sources, self._targets, self._counts = sources[kept], targets[kept], counts
        self._graph: rx.PyDiGraph[int, float] = rx.PyDiGraph(multigraph=True, edge_count_hint=len(kept))
        self._graph.add_nodes_from(range(net.size))
        # The library meets neighbours in the opposite order to that in which they were added.
        columns = (self._sources[::-1].tolist(), self._targets[::-1].tolist(), weights[kept][::-1].tolist())
        self._graph.add_edges_from(list(zip(*columns, strict=True)))

    def breadth_first(self, start: int) -> list[int]:
        return [number for layer in rx.bfs_layers(self._graph, [start]) for number in layer]

    def depth_first(self, start: int) -> list[int]:
        after = self._graph.successor_indices
        seen, order, stack = bytearray(self.size), [start], [iter(after(start))]
        seen[start] = 1
        while stack:
            for number in stack[-1]:
                if not seen[number]:
                    seen[number] = 1
                    order.append(number)
                    stack.append(iter(after(number)))
                    break
            else:
                stack.pop()
        return order

    def shortest(self, start: int, goal: int) -> list[int] | None:
        """From both ends at once, the side with fewer entities next; they meet in the middle."""
        if start == goal:
            return [start]
        ways: tuple[dict[int, int], dict[int, int]] = ({start: start}, {goal: goal})
        fronts = [[start], [goal]]
        steps = (self._graph.successor_indices, self._graph.predecessor_indices)
        while fronts[0] and fronts[1]:
            side = 0 if len(fronts[0]) <= len(fronts[1]) else 1
            fronts[side] = list(_next_front(fronts[side], steps[side], ways[side]))
            if meeting := [number for number in fronts[side] if number in ways[1 - side]]:
                middle = min(meeting)
                return [*reversed(_back(middle, ways[0])), *_back(middle, ways[1])[1:]]
        return None

    def cheapest(self, start: int, goal: int) -> Way | None:
        if start == goal:
            return Way([start], 0.0)
        found = rx.dijkstra_shortest_paths(self._graph, start, target=goal, weight_fn=float)
        if goal not in found:
            return None
        numbers = list(found[goal])
        return Way(numbers, sum(map(self._graph.get_edge_data, numbers, numbers[1:])))

    def closure(self, pairs_max: int) -> list[tuple[int, int]]:
        """Through what is strongly connected, whose members reach the same: the last of these are looked at first."""
        found: list[tuple[int, int]] = []
        group_of, reached_by = [0] * self.size, list[frozenset[int]]()
        members = rx.strongly_connected_components(self._graph)
        for group, numbers in enumerate(members):
            for number in numbers:
                group_of[number] = group
        pairs = 0
        for group, numbers in enumerate(members):
            below = {group_of[after] for number in numbers for after in self._graph.successor_indices(number)}
            reached = frozenset(below.union(*(reached_by[one] for one in below if one != group)))
            reached_by.append(reached)
            pairs += len(numbers) * sum(len(members[one]) for one in reached)
            if pairs > pairs_max:
                raise GraphTooLarge(
                    f"More than {pairs_max:,} pairs of entities are connected, and no more than that are listed.",
                    hint="Ask for a part of the graph, or what can be reached from one entity.",
                    entities=self.size,
                    relations=self.relations,
                )
            goals = [goal for one in reached for goal in members[one]]
            found += [(number, goal) for number in numbers for goal in goals]
        return sorted(found)

    def betweenness(self, exact_max: int, pivots: int, seed: int) -> Centrality:
        if self.size < 3:
            return Centrality([0.0] * self.size)
        if self.size <= exact_max:
            found = rx.digraph_betweenness_centrality(self._graph, normalized=True)
            return Centrality([found[number] for number in range(self.size)])
        drawn = random.Random(seed).sample(range(self.size), min(pivots, self.size))
        share = self.size / len(drawn) / ((self.size - 1) * (self.size - 2))
        values = sum((self._dependencies(pivot) for pivot in drawn), np.zeros(self.size))
        return Centrality([float(value) * share for value in values], is_sampled=True, pivots=len(drawn))

    def _dependencies(self, start: int) -> npt.NDArray[np.float64]:
        """How much of the shortest ways from one entity to all others leads through each (Brandes 2001, theorem 6)."""
        starts, targets = self._rows
        distance, ways = np.full(self.size, -1, dtype=np.int64), np.zeros(self.size)
        distance[start], ways[start] = 0, 1.0
        front, level = np.array([start], dtype=np.int64), 0
        steps: list[tuple[Numbers, Numbers]] = []
        while len(front):
            level += 1
            sources, after = _edges_of(front, starts, targets)
            unseen = after[distance[after] < 0]
            distance[unseen] = level
            is_near = distance[after] == level
            sources, after = sources[is_near], after[is_near]
            np.add.at(ways, after, ways[sources])
            steps.append((sources, after))
            front = np.unique(unseen)
        shares = np.zeros(self.size)
        for sources, after in reversed(steps):
            np.add.at(shares, sources, ways[sources] / ways[after] * (1 + shares[after]))
        shares[start] = 0.0
        return shares

    @cached_property
    def _rows(self) -> tuple[Numbers, Numbers]:
        """Where the targets of each entity begin, and these."""
        return np.searchsorted(self._sources, np.arange(self.size + 1)), self._targets

    def communities(self) -> list[int]:
        return communities(self.size, self._sources.tolist(), self._targets.tolist(), self._counts.tolist())

    def components(self) -> list[list[int]]:
        found = [sorted(numbers) for numbers in rx.weakly_connected_components(self._graph)]
        return sorted(found, key=lambda numbers: (-len(numbers), numbers[0]))

    def cycle(self) -> list[int] | None:
        alone = {number for number in range(self.size) if self._graph.has_edge(number, number)}
        groups = (set(numbers) for numbers in rx.strongly_connected_components(self._graph))
        round_ = [numbers for numbers in groups if len(numbers) > 1 or numbers & alone]
        if not round_:
            return None
        first = min(min(numbers) for numbers in round_)
        if first in alone:
            return [first]
        ways = {first: first}
        front = [first]
        while True:
            front = list(_next_front(front, self._graph.successor_indices, ways))
            if closing := [number for number in front if self._graph.has_edge(number, first)]:
                return _back(closing[0], ways)[::-1]

    def topological(self) -> list[int] | None:
        digits = len(str(self.size))
        try:
            found = rx.lexicographical_topological_sort(self._graph, key=lambda number: f"{number:0{digits}}")
        except rx.DAGHasCycle:
            return None
        return list(found) if len(found) == self.size else None  # it may just leave out what is on a cycle


def _next_front(front: Iterable[int], step: Callable[[int], Sequence[int]], ways: dict[int, int]) -> Iterator[int]:
    """What is one step on and new, in the order in which it is met; `ways` learns from where."""
    for number in front:
        for after in step(number):
            if after not in ways:
                ways[after] = number
                yield after


def _back(number: int, ways: dict[int, int]) -> list[int]:
    """The way from here to where it began."""
    found = [number]
    while ways[found[-1]] != found[-1]:
        found.append(ways[found[-1]])
    return found


def _edges_of(front: Numbers, starts: Numbers, targets: Numbers) -> tuple[Numbers, Numbers]:
    """The two ends of every relation of these entities."""
    counts = starts[front + 1] - starts[front]
    sources = np.repeat(front, counts)
    offsets = np.arange(len(sources)) - np.repeat(np.cumsum(counts) - counts, counts)
    return sources, targets[starts[sources] + offsets]
