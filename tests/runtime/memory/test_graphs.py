"""The knowledge graph of a reader: made of what it may see, as it was at any position, and never of anything else."""

from collections.abc import AsyncIterator
from itertools import count

import pytest

from ostler.adapters.graph.process import ProcessEngine
from ostler.domain.knowledge.graph import Edge
from ostler.domain.memory.events import EntityDescribed
from ostler.domain.memory.memory import Relation, Source
from ostler.domain.memory.scope import Scope
from ostler.domain.memory.writing import Remembered, Wish
from ostler.kernel.errors import GraphCyclic, GraphInvalid, GraphTooLarge, NotFound
from ostler.runtime.memory import graphs as module
from ostler.runtime.memory.graphs import Extent, Graphs
from tests.runtime.memory.asking import House, house

SHARED = Scope("acme")
CLERK = Scope("acme", "clerk")
ADA = Scope("acme", "clerk", "ada")
DAY_US = 86_400_000_000


class Kept:
    """Graphs of a store in memory, and facts that are stated there."""

    def __init__(self, home: House) -> None:
        self.memories = home.memories
        self.graphs = Graphs(home.memories, ProcessEngine())
        self._calls = count(1)

    async def state(
        self,
        subject: str,
        name: str,
        object_: str,
        *,
        scope: Scope = SHARED,
        weight: float = 1.0,
        labels: tuple[str, ...] = (),
        valid_to_us: int | None = None,
    ) -> Remembered:
        wish = Wish(
            "fact",
            f"{subject} {name} {object_}.",
            Source("agent:clerk"),
            labels=labels,
            relation=Relation(subject, name, object_, weight),
            valid_to_us=valid_to_us,
        )
        return await self.memories.remember(scope, wish, key=str(next(self._calls)))

    async def position(self) -> int:
        return max((await self.memories.catch_up(ADA.visible)).values())


@pytest.fixture
async def kept() -> AsyncIterator[Kept]:
    async with house() as home:
        made = Kept(home)
        yield made
        await made.graphs.close()


def told(edges: list[Edge]) -> list[str]:
    return [f"{edge.subject} {edge.name} {edge.object}" for edge in edges]


async def test_every_question_is_answered_with_names(kept: Kept) -> None:
    for subject, object_, weight in (("a", "b", 1), ("b", "c", 1), ("c", "d", 1), ("a", "d", 9), ("x", "y", 1)):
        await kept.state(subject, "leads to", object_, weight=weight)
    graphs, seen = kept.graphs, SHARED.visible
    assert await graphs.breadth_first(seen, "A") == ["a", "b", "d", "c"]
    assert await graphs.depth_first(seen, "a") == ["a", "b", "c", "d"]
    assert await graphs.breadth_first(seen, "d", direction="in") == ["d", "a", "c", "b"]
    shortest, cheapest = await graphs.shortest(seen, "a", "d"), await graphs.cheapest(seen, "a", "d")
    assert shortest is not None
    assert cheapest is not None
    assert (told(shortest.edges), shortest.cost) == (["a leads to d"], 9)
    assert (told(cheapest.edges), cheapest.cost) == (["a leads to b", "b leads to c", "c leads to d"], 3)
    assert await graphs.shortest(seen, "a", "x") is None
    against = await graphs.shortest(seen, "d", "b", direction="both")
    assert against is not None
    assert told(against.edges) == ["a leads to d", "a leads to b"]
    assert (await graphs.closure(seen))[:4] == [("a", "b"), ("a", "c"), ("a", "d"), ("b", "c")]
    assert (await graphs.degrees(seen)).values[0] == ("a", 2 / 5)
    assert (await graphs.betweenness(seen)).values[:2] == [("b", 1 / 20), ("c", 1 / 20)]
    assert await graphs.components(seen) == [["a", "b", "c", "d"], ["x", "y"]]
    assert await graphs.communities(seen) == [["a", "b", "c", "d"], ["x", "y"]]
    assert await graphs.cycle(seen) is None
    assert await graphs.topological(seen) == ["a", "b", "c", "d", "x", "y"]
    assert told(list((await graphs.subgraph(seen, ["d", "A"])).edges())) == ["a leads to d"]
    with pytest.raises(GraphTooLarge):
        await graphs.closure(seen, pairs_max=2)


async def test_a_cycle_is_named_by_whoever_asks_for_an_order(kept: Kept) -> None:
    await kept.state("tea", "needs", "water")
    await kept.state("water", "needs", "fire")
    await kept.state("fire", "needs", "tea", labels=("untrusted",))
    with pytest.raises(GraphCyclic, match="fire → tea → water → fire is a cycle"):
        await kept.graphs.topological(SHARED.visible)
    cycle = await kept.graphs.cycle(SHARED.visible)
    assert cycle is not None
    assert [edge.is_untrusted for edge in cycle] == [True, False, False]


async def test_negative_weights_are_refused_before_anything_is_computed(kept: Kept) -> None:
    await kept.state("a", "leads to", "b", weight=-1)
    with pytest.raises(GraphInvalid, match="a leads to b has the weight -1"):
        await kept.graphs.cheapest(SHARED.visible, "a", "b")
    assert await kept.graphs.shortest(SHARED.visible, "a", "b") is not None


async def test_a_reader_sees_the_relations_of_the_scopes_that_it_lies_in_and_of_no_other(kept: Kept) -> None:
    others = [Scope("globex"), Scope("acme", "coder"), Scope("acme", "clerk", "bo"), Scope("acme", "coder", "ada")]
    for scope in (SHARED, CLERK, ADA, *others):
        await kept.state("hub", "is seen by", str(scope), scope=scope)
    seen = {
        scope: {edge.object for edge in (await kept.graphs.graph(scope.visible)).edges()}
        for scope in (SHARED, CLERK, ADA)
    }
    assert seen == {SHARED: {"acme"}, CLERK: {"acme", "acme/clerk"}, ADA: {"acme", "acme/clerk", "acme/clerk/ada"}}
    around = await kept.graphs.around(ADA.visible, ["HUB"], depth=3)
    assert {edge.object for _, edge in around.edges} == seen[ADA]
    with pytest.raises(NotFound):
        await kept.graphs.breadth_first(ADA.visible, "acme/clerk/bo")
    with pytest.raises(NotFound):
        await kept.graphs.around(ADA.visible, ["globex"])


async def test_a_graph_can_be_seen_as_of_any_position_and_as_it_was_true_at_any_moment(kept: Kept) -> None:
    first = await kept.state("Ada", "lives in", "London", valid_to_us=5 * DAY_US)
    then = await kept.position()
    await kept.state("Ada", "lives in", "Paris")
    await kept.memories.forget(SHARED, [first.id], by="operator:me")
    seen = SHARED.visible
    assert told(list((await kept.graphs.graph(seen)).edges())) == ["Ada lives in Paris"]
    before = await kept.graphs.graph(seen, Extent(as_of=then))
    assert (told(list(before.edges())), list(before.names)) == (["Ada lives in London"], ["Ada", "London"])
    late = await kept.graphs.graph(seen, Extent(as_of=then, valid_at_us=6 * DAY_US))
    assert list(late.edges()) == []
    around = await kept.graphs.around(seen, ["ada"], extent=Extent(as_of=then))
    assert told([edge for _, edge in around.edges]) == ["Ada lives in London"]


async def test_some_relations_alone_make_a_graph_of_their_own(kept: Kept) -> None:
    await kept.state("a", "knows", "b")
    await kept.state("b", "hates", "c")
    only = Extent(relations=("knows",))
    assert await kept.graphs.shortest(SHARED.visible, "a", "c") is not None
    assert await kept.graphs.shortest(SHARED.visible, "a", "c", extent=only) is None
    assert await kept.graphs.breadth_first(SHARED.visible, "c", extent=only) == ["c"]
    assert (await kept.graphs.graph(SHARED.visible, only)).names == ["a", "b"]
    with pytest.raises(NotFound):
        await kept.graphs.shortest(SHARED.visible, "a", "nobody", extent=only)
    around = await kept.graphs.around(SHARED.visible, ["b"], depth=2, extent=only)
    assert told([edge for _, edge in around.edges]) == ["a knows b"]


async def test_a_graph_is_gathered_again_when_something_has_happened_and_only_then(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    for number in range(7):
        await kept.state("hub", "has", f"leaf {number}")
    first = await kept.graphs.graph(SHARED.visible)
    assert (first.size, len(first)) == (7, 8)
    assert await kept.graphs.graph(SHARED.visible) is first
    await kept.memories.describe(SHARED, EntityDescribed("hub", "thing", Source("operator:me"), {"size": 3}))
    second = await kept.graphs.graph(SHARED.visible)
    assert second is not first
    assert second.entity(second.number("hub")).properties == {"size": 3}
    await kept.graphs.clear()
    assert await kept.graphs.graph(SHARED.visible) is not second


async def test_a_neighbourhood_has_its_entities_and_says_when_there_is_more(kept: Kept) -> None:
    await kept.memories.describe(SHARED, EntityDescribed("Hub", "thing", Source("operator:me")))
    for number in range(5):
        await kept.state("hub", "has", f"leaf {number}")
        await kept.state(f"leaf {number}", "has", f"worm {number}")
    near = await kept.graphs.around(SHARED.visible, ["hub"])
    assert ([distance for distance, _ in near.edges], near.is_cut) == ([1] * 5, False)
    assert near.graph.entity(near.graph.number("hub")).kind == "thing"
    far = await kept.graphs.around(SHARED.visible, ["hub"], depth=2, limit=7)
    assert ([distance for distance, _ in far.edges], far.is_cut) == ([1] * 5 + [2] * 2, True)
    with pytest.raises(NotFound, match=r"There is no entity 'leaf 77' here"):
        await kept.graphs.around(SHARED.visible, ["leaf 77"])


async def test_the_largest_graphs_that_are_kept_make_room_for_others(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RELATIONS_MAX", 3)
    for scope in (SHARED, CLERK, ADA):
        await kept.state("a", "is", str(scope), scope=scope)
    first = await kept.graphs.graph(CLERK.visible)
    assert await kept.graphs.graph(CLERK.visible) is first
    await kept.graphs.graph(ADA.visible)
    assert await kept.graphs.graph(CLERK.visible) is not first
