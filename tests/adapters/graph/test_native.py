"""Every algorithm answers what NetworkX answers, on graphs of all shapes, whatever the order of their relations."""

import math
import random
from array import array
from collections.abc import Sequence
from itertools import pairwise

import networkx
import pytest

from ostler.adapters.graph.native import NativeGraph
from ostler.domain.knowledge.graph import Net
from ostler.kernel.errors import GraphTooLarge

GRAPHS = 500
Edges = Sequence[tuple[int, int, float]]


def native(size: int, edges: Edges) -> NativeGraph:
    columns = list(zip(*edges, strict=True)) or [(), (), ()]
    return NativeGraph(Net("", size, array("q", columns[0]), array("q", columns[1]), array("d", columns[2])))


def oracle(size: int, edges: Edges) -> "networkx.MultiDiGraph":
    graph = networkx.MultiDiGraph()
    graph.add_nodes_from(range(size))
    graph.add_weighted_edges_from(edges)
    return graph


def drawn(seed: int) -> tuple[int, Edges]:
    """Sparse and dense ones, with loops, parallels and ties; every fourth has no cycle."""
    chance = random.Random(seed)
    size = chance.randrange(1, 16)
    count = chance.choice((0, size // 2, size, 2 * size, 4 * size))
    pairs = [(chance.randrange(size), chance.randrange(size)) for _ in range(count)]
    if seed % 4 == 0:
        pairs = [(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]]
    weights = chance.choice(((1.0,), (0.0, 1.0, 2.0), (0.25, 0.5, 3.0, 10.0)))
    return size, [(one, other, chance.choice(weights)) for one, other in pairs]


@pytest.mark.parametrize("part", range(5))
def test_ways_through_random_graphs_are_those_of_networkx(part: int) -> None:
    for seed in range(part, GRAPHS, 5):
        size, edges = drawn(seed)
        graph, expected = native(size, edges), oracle(size, edges)
        simple = networkx.DiGraph(expected)
        start, goal = random.Random(seed).randrange(size), random.Random(-seed - 1).randrange(size)
        layers = networkx.bfs_edges(simple, start, sort_neighbors=sorted)
        assert graph.breadth_first(start) == [start, *(target for _, target in layers)], seed
        deep = list(networkx.dfs_preorder_nodes(simple, start, sort_neighbors=sorted))
        assert graph.depth_first(start) == deep, seed

        shortest, cheapest = graph.shortest(start, goal), graph.cheapest(start, goal)
        if not networkx.has_path(simple, start, goal):
            assert shortest is None, seed
            assert cheapest is None, seed
            continue
        assert shortest is not None, seed
        assert cheapest is not None, seed
        assert len(shortest) == len(networkx.shortest_path(simple, start, goal)), seed
        assert math.isclose(cheapest.cost, networkx.dijkstra_path_length(expected, start, goal)), seed
        for numbers in (shortest, cheapest.numbers):
            assert (numbers[0], numbers[-1]) == (start, goal), seed
            assert all(simple.has_edge(one, other) for one, other in pairwise(numbers)), seed
        steps = (
            min(cost["weight"] for cost in expected[one][other].values()) for one, other in pairwise(cheapest.numbers)
        )
        assert math.isclose(cheapest.cost, sum(steps)), seed


@pytest.mark.parametrize("part", range(5))
def test_what_is_said_of_random_graphs_as_a_whole_is_what_networkx_says(part: int) -> None:
    for seed in range(part, GRAPHS, 5):
        size, edges = drawn(seed)
        graph, expected = native(size, edges), oracle(size, edges)
        simple = networkx.DiGraph(expected)
        closure = networkx.transitive_closure(simple, reflexive=False)
        assert graph.closure(10_000) == sorted(closure.edges), seed
        values = networkx.betweenness_centrality(simple, normalized=True)
        for exact_max in (size, 0):
            found = graph.betweenness(exact_max, size, seed)
            assert found.is_sampled == (size > 2 and not exact_max), seed
            assert found.values == pytest.approx([values[number] for number in range(size)]), seed
        parts = sorted(map(sorted, networkx.weakly_connected_components(simple)), key=lambda one: (-len(one), one[0]))
        assert graph.components() == parts, seed

        cycle, order = graph.cycle(), graph.topological()
        if networkx.is_directed_acyclic_graph(simple):
            assert cycle is None, seed
            assert order == list(networkx.lexicographical_topological_sort(simple)), seed
            continue
        assert order is None, seed
        assert cycle is not None, seed
        assert len(set(cycle)) == len(cycle), seed
        assert all(simple.has_edge(one, other) for one, other in pairwise([*cycle, cycle[0]])), seed
        assert cycle[0] == min(number for number in simple if closure.has_edge(number, number)), seed


def test_no_answer_depends_on_the_order_of_relations() -> None:
    for seed in range(60):
        size, edges = drawn(seed)
        shuffled = random.Random(seed).sample(edges, len(edges))
        one, other = native(size, edges), native(size, shuffled)
        for ask in (NativeGraph.communities, NativeGraph.cycle, NativeGraph.topological, NativeGraph.components):
            assert ask(one) == ask(other), seed
        goals = range(size)
        assert [one.shortest(0, goal) for goal in goals] == [other.shortest(0, goal) for goal in goals], seed
        assert [one.cheapest(0, goal) for goal in goals] == [other.cheapest(0, goal) for goal in goals], seed
        assert one.betweenness(0, 4, seed) == other.betweenness(0, 4, seed), seed


def test_a_sample_estimates_betweenness_without_a_bias() -> None:
    size, chance = 120, random.Random(8)
    edges = [(chance.randrange(size), chance.randrange(size), 1.0) for _ in range(500)]
    graph = native(size, edges)
    exact = graph.betweenness(size, 0, 0).values
    samples = [graph.betweenness(0, 12, seed).values for seed in range(80)]
    means = [sum(values) / len(samples) for values in zip(*samples, strict=True)]
    assert samples[0] != samples[1]
    assert graph.betweenness(0, 12, 7) == graph.betweenness(0, 12, 7)
    assert max(abs(mean - value) for mean, value in zip(means, exact, strict=True)) < 0.12 * max(exact)


def test_an_empty_graph_and_one_entity_alone_have_an_answer_to_everything() -> None:
    empty, alone = native(0, []), native(1, [])
    assert (empty.closure(0), empty.components(), empty.cycle(), empty.topological()) == ([], [], None, [])
    assert (empty.communities(), empty.betweenness(0, 8, 1).values) == ([], [])
    assert (alone.breadth_first(0), alone.depth_first(0), alone.shortest(0, 0)) == ([0], [0], [0])
    assert (alone.components(), alone.topological(), alone.cycle(), alone.communities()) == ([[0]], [0], None, [0])
    assert native(1, [(0, 0, 1.0)]).cycle() == [0]
    assert native(1, [(0, 0, 1.0)]).closure(1) == [(0, 0)]


def test_a_closure_of_more_pairs_than_may_be_is_refused_with_its_bound() -> None:
    chain = native(100, [(number, number + 1, 1.0) for number in range(99)])
    assert len(chain.closure(4950)) == 4950
    with pytest.raises(GraphTooLarge, match=r"More than 4,949 pairs") as caught:
        chain.closure(4949)
    assert caught.value.facts == {"entities": 100, "relations": 99}
