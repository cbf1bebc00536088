"""Pictures and trees of a graph can be read, and are the same for the same graph."""

import random
from itertools import combinations
from xml.etree import ElementTree

import pytest

from ostler.domain.knowledge.graph import Edge, Entity, Graph, graph_of
from ostler.domain.knowledge.layout import layout
from ostler.domain.knowledge.picture import picture
from ostler.domain.knowledge.tree import tree
from ostler.kernel.errors import GraphTooLarge

SVG = "{http://www.w3.org/2000/svg}"


def drawn(entities: int, relations: int, seed: int) -> Graph:
    chance = random.Random(seed)
    numbers = [(chance.randrange(entities), chance.randrange(entities)) for _ in range(relations)]
    edges = [
        Edge(f"mem_{at}", f"entity {one}", "is near", f"entity {other}") for at, (one, other) in enumerate(numbers)
    ]
    return graph_of(edges, [Entity(f"entity {number}") for number in range(entities)])


@pytest.mark.parametrize(("entities", "relations"), [(0, 0), (1, 0), (2, 0), (30, 45), (60, 70), (90, 0)])
def test_no_label_hides_another(entities: int, relations: int) -> None:
    root = ElementTree.fromstring(picture(drawn(entities, relations, 4)))
    boxes = [
        tuple(float(box.get(name, "")) for name in ("x", "y", "width", "height"))
        for box in root.iter(f"{SVG}rect")
        if box.get("class", "").startswith("box")
    ]
    assert len(boxes) == entities
    for (x, y, wide, high), (to_x, to_y, to_wide, to_high) in combinations(boxes, 2):
        assert x + wide <= to_x or to_x + to_wide <= x or y + high <= to_y or to_y + to_high <= y
    assert len(list(root.iter(f"{SVG}path"))) == relations + 2


def test_the_names_of_relations_between_the_same_two_do_not_hide_one_another() -> None:
    ways = [way for number in range(8) for way in (("hub", str(number)), ("hub", str(number)), (str(number), "hub"))]
    edges = [Edge(f"mem_{at}", one, "lives_in", other) for at, (one, other) in enumerate(ways)]
    root = ElementTree.fromstring(picture(graph_of(edges)))
    places: dict[frozenset[str], list[tuple[float, float]]] = {}
    for relation in root.iter(f"{SVG}g"):
        text = relation.find(f"{SVG}text[@class='said']")
        if text is not None:
            ends = frozenset((relation.findtext(f"{SVG}title") or "").split(" lives_in "))
            places.setdefault(ends, []).append((float(text.get("x", "")), float(text.get("y", ""))))
    assert [len(found) for found in places.values()] == [3] * 8
    for found in places.values():
        for (x, y), (to_x, to_y) in combinations(found, 2):
            assert abs(x - to_x) > 46 or abs(y - to_y) > 11


def test_the_same_graph_gives_the_same_picture_whatever_order_it_comes_in() -> None:
    edges = list(drawn(20, 30, 2).edges())
    pictures = {picture(graph_of(random.Random(seed).sample(edges, len(edges)))) for seed in range(5)}
    assert len(pictures) == 1


def test_a_picture_says_what_is_untrusted_and_of_which_kind_things_are_and_holds_any_text() -> None:
    nasty = '</title><script>alert("x")</script>\x00'
    edges = [Edge("mem_1", "Ada", nasty, "London", labels=("untrusted",)), Edge("mem_2", "Ada", "is", "Ada")]
    svg = picture(graph_of(edges, [Entity("Ada", "person", {"about": nasty})]), asked=["ada"], title=nasty)
    root = ElementTree.fromstring(svg)
    assert root.find(f".//{SVG}script") is None
    assert [path.get("class") for path in root.iter(f"{SVG}path")].count("line untrusted") == 2
    assert [text.text for text in root.iter(f"{SVG}text") if text.get("class") == "legend"] == ["person", "untrusted"]
    assert len([box for box in root.iter(f"{SVG}rect") if box.get("class") == "box asked"]) == 1


def test_more_entities_than_can_be_told_apart_are_not_drawn() -> None:
    with pytest.raises(GraphTooLarge, match="201 entities"):
        picture(drawn(201, 0, 1))


def test_wide_labels_are_pushed_apart() -> None:
    sizes = [(300.0, 30.0)] * 12
    points = layout(sizes, [(0, other) for other in range(1, 12)])
    for (x, y), (to_x, to_y) in combinations(points, 2):
        assert abs(x - to_x) >= 300 or abs(y - to_y) >= 30


def test_what_is_related_is_nearer_than_what_is_not() -> None:
    ties = [(one, other) for group in (0, 8) for one, other in combinations(range(group, group + 8), 2)] + [(0, 8)]
    points = layout([(60.0, 30.0)] * 16, ties)

    def mean(pairs: list[tuple[int, int]]) -> float:
        spans = [
            ((points[one][0] - points[other][0]) ** 2 + (points[one][1] - points[other][1]) ** 2) ** 0.5
            for one, other in pairs
        ]
        return sum(spans) / len(spans)

    strangers = [pair for pair in combinations(range(16), 2) if pair not in ties]
    assert mean(ties) < 0.7 * mean(strangers)


def test_a_tree_tells_each_relation_once_where_its_entity_is_nearest() -> None:
    edges = [
        Edge("mem_1", "Ada", "works on", "Engine", weight=2.0),
        Edge("mem_2", "Babbage", "designed", "Engine"),
        Edge("mem_3", "Ada", "knows", "Babbage"),
        Edge("mem_4", "Babbage", "lives in", "London", labels=("untrusted",), valid_from_us=0),
        Edge("mem_5", "Ada", "admires", "Ada"),
        Edge("mem_6", "London", "lies in", "England", valid_to_us=3_600_000_000),
    ]
    graph = graph_of(edges, [Entity("Ada", "person", {"born": 1815})])
    assert list(tree(graph, ["ada"], 2)) == [
        "Ada (person, born: 1815)",
        "├── admires → Ada",
        "├── knows → Babbage",
        "│  ├── designed → Engine",
        "│  └── lives in → London [from 1970-01-01] ⚠ untrusted",
        "└── works on → Engine [weight 2]",
    ]
    assert list(tree(graph, ["London"], 1)) == [
        "London",
        "├─← lives in ─ Babbage [from 1970-01-01] ⚠ untrusted",
        "└── lies in → England [to 1970-01-01 01:00:00]",
    ]
    assert sum(line.count("─") > 0 for line in tree(graph, ["Ada", "England"], 9)) == len(edges)
