"""A graph is the same whatever the order in which its relations and entities come, and says what it cannot answer."""

import random
from array import array

import pytest

from ostler.domain.knowledge.communities import communities, modularity
from ostler.domain.knowledge.graph import Draft, Edge, Entity, Graph, graph_of
from ostler.kernel.errors import GraphInvalid, NotFound

FAMILY = [
    Edge("mem_1", "Ada", "knows", "Mary"),
    Edge("mem_2", "ADA ", "works on", "Engine", weight=2.0),
    Edge("mem_3", "Babbage", "designed", "engine", weight=0.5, labels=("untrusted",)),
    Edge("mem_4", "Ada", "designed", "Engine", weight=2.0, valid_from_us=7, properties={"part": "notes"}),
    Edge("mem_5", "Mary", "knows", "Mary"),
]
KNOWN = [Entity("Ada", "person", {"born": 1815}), Entity("London", "place")]


def written(graph: Graph) -> tuple[object, ...]:
    return list(graph.names), graph.entities, list(graph.edges()), graph.degrees()


def test_names_are_compared_in_their_normal_form_and_entities_come_in_their_order() -> None:
    graph = graph_of(FAMILY, KNOWN)
    assert graph.names == ["Ada", "Babbage", "Engine", "London", "Mary"]
    assert graph.number("  ada") == 0
    assert (graph.entity(0).kind, graph.entity(1).kind) == ("person", "")
    assert [edge.id for edge in graph.edges()] == ["mem_4", "mem_2", "mem_1", "mem_3", "mem_5"]
    assert next(iter(graph.edges())) == Edge("mem_4", "Ada", "designed", "Engine", 2.0, (), 7, None, {"part": "notes"})


def test_a_graph_does_not_depend_on_the_order_in_which_it_was_gathered() -> None:
    expected = written(graph_of(FAMILY, KNOWN))
    for seed in range(30):
        chance = random.Random(seed)
        draft = Draft()
        draft.describe(KNOWN[: seed % 3])
        draft.add(chance.sample(FAMILY, len(FAMILY)))
        draft.describe(chance.sample(KNOWN, len(KNOWN)))
        assert written(draft.graph("")) == expected, seed


def test_a_name_that_nobody_has_is_answered_with_the_one_that_was_meant() -> None:
    with pytest.raises(NotFound, match=r"There is no entity 'Babage' here\. Did you mean 'Babbage'\?"):
        graph_of(FAMILY).number("Babage")


def test_of_several_relations_between_two_the_cheapest_is_followed_and_of_equals_the_first_by_name() -> None:
    graph = graph_of(FAMILY)
    ada, engine, babbage = map(graph.number, ("ada", "engine", "babbage"))
    assert [edge.id for edge in graph.way([ada, engine])] == ["mem_4"]
    assert [edge.id for edge in graph.way([ada, engine, babbage], "both")] == ["mem_4", "mem_3"]
    assert [edge.id for edge in graph.way([engine, babbage], "in")] == ["mem_3"]


def test_relations_are_followed_as_they_point_or_against_it_or_either_way() -> None:
    graph = graph_of(FAMILY[:1])
    pairs = {
        way: sorted(zip(graph.followed(way).sources, graph.followed(way).targets, strict=True))
        for way in ("out", "in", "both")
    }
    assert pairs == {"out": [(0, 1)], "in": [(1, 0)], "both": [(0, 1), (1, 0)]}
    assert len({graph.followed(way).key for way in ("out", "in", "both")}) == 3


@pytest.mark.parametrize("weight", [-0.001, float("nan")])
def test_a_weight_that_is_no_cost_is_refused_by_the_name_of_its_relation(weight: float) -> None:
    graph_of(FAMILY).check_costs()
    with pytest.raises(GraphInvalid, match=r"Ada owes Mary has the weight") as caught:
        graph_of([*FAMILY, Edge("mem_6", "Ada", "owes", "Mary", weight=weight)], KNOWN).check_costs()
    assert caught.value.facts == {"relation": "mem_6"}


def test_degrees_count_every_relation_and_one_to_itself_twice() -> None:
    assert graph_of(FAMILY).degrees() == [3 / 3, 1 / 3, 3 / 3, 3 / 3]
    assert graph_of([Edge("mem_1", "a", "is", "a")]).degrees() == [0.0]
    assert graph_of([]).degrees() == []


def test_a_part_of_a_graph_has_the_relations_between_its_entities_alone() -> None:
    part = graph_of(FAMILY, KNOWN).only([0, 4], "part")
    assert (part.names, [edge.id for edge in part.edges()]) == (["Ada", "Mary"], ["mem_1", "mem_5"])
    assert part.entity(0) == KNOWN[0]


def clusters(count: int, size: int, seed: int) -> list[tuple[int, int, int]]:
    """Groups in which each is related to many, and few relations between them."""
    chance = random.Random(seed)
    edges = []
    for group in range(count):
        members = range(group * size, (group + 1) * size)
        edges += [(one, other, 1) for one in members for other in members if one < other and chance.random() < 0.7]
        edges.append((group * size, (group * size + size) % (count * size), 1))
    return edges


def test_planted_communities_are_found_and_named_by_their_size() -> None:
    edges = clusters(6, 10, 1)
    edges += [(60, 0, 2), (61, 0, 2)]
    members = communities(62, *zip(*edges, strict=True))
    assert len(set(members)) == 6
    assert members[0] == members[60] == 0
    assert all(len(set(members[group * 10 : group * 10 + 10])) == 1 for group in range(6))


def test_communities_are_as_good_as_those_of_networkx_on_average() -> None:
    import networkx

    ours, theirs = 0.0, 0.0
    for seed in range(25):
        graph = networkx.gnm_random_graph(60, 60 + 6 * seed, seed=seed)
        edges = [(one, other, 1) for one, other in graph.edges]
        members = communities(60, *zip(*edges, strict=True))
        groups = [{number for number in graph if members[number] == one} for one in set(members)]
        quality = modularity(60, edges, members)
        assert quality == pytest.approx(networkx.community.modularity(graph, groups)), seed
        ours += quality
        theirs += networkx.community.modularity(graph, networkx.community.louvain_communities(graph, seed=seed))
    assert ours > 0.97 * theirs


def test_communities_do_not_depend_on_the_order_of_relations() -> None:
    for seed in range(40):
        chance = random.Random(seed)
        edges = [(chance.randrange(14), chance.randrange(14), chance.randrange(1, 3)) for _ in range(20)]
        expected = communities(14, *zip(*edges, strict=True))
        for _ in range(5):
            chance.shuffle(edges)
            assert communities(14, *zip(*edges, strict=True)) == expected, seed


def test_who_is_related_to_nobody_is_a_community_alone() -> None:
    assert communities(0, [], [], []) == []
    assert communities(3, array("q"), array("q"), array("q")) == [0, 1, 2]
    assert communities(2, [0, 1], [0, 1], [5, 5]) == [0, 1]
