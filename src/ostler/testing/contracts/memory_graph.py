"""The part of the contract of `MemoryIndex` that is about relations, and about what is gone for good."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytest_asyncio

from ostler.domain.memory.events import EntityDescribed, MemoryContradicted, MemoryErased
from ostler.domain.memory.scope import Scope
from ostler.ports.memory import Edge, Filter, MemoryIndex
from ostler.testing.contracts.memory_histories import ANN, BOB, SOURCE, facts, gone, ids, relates, remembered, tell

Opener = Callable[[], AbstractAsyncContextManager[MemoryIndex]]


class MemoryGraphContract(ABC):
    """What `MemoryIndexContract` inherits; it opens the index for both."""

    pytestmark = pytest.mark.asyncio
    is_durable: ClassVar[bool] = True
    """Whether what was applied is there after closing and opening again."""

    @abstractmethod
    def storage(self, directory: Path) -> Opener:
        """A new empty index, as a function that opens one more handle onto it. `directory` is empty and yours."""

    @pytest.fixture
    def open_index(self, tmp_path: Path) -> Opener:
        return self.storage(tmp_path)

    @pytest_asyncio.fixture
    async def index(self, open_index: Opener) -> AsyncIterator[MemoryIndex]:
        async with open_index() as index:
            yield index

    # The graph

    @pytest_asyncio.fixture
    async def village(self, index: MemoryIndex) -> MemoryIndex:
        """A few people, who know one another."""
        await tell(
            index,
            ANN,
            relates("mem_1", "Ann", "knows", "Bob", labels=("private",), properties={"since": 1999}, weight=0.5),
            relates("mem_2", "BOB", "knows", "Cid"),
            relates("mem_3", "Cid ", "knows", "ann"),
            relates("mem_4", "Cid", "likes", "Dora", valid_from_us=100, valid_to_us=200),
            relates("mem_5", "Dora", "likes", "Dora"),
            remembered("mem_6", "Ann knows Eve"),
        )
        return index

    async def test_relations_come_in_pages_as_they_were_stated(self, village: MemoryIndex) -> None:
        (number, first), *_ = await village.edges([ANN])
        assert first == Edge("mem_1", "Ann", "knows", "Bob", 0.5, ("private",), properties={"since": 1999})
        pages, after = list[str](), 0
        while page := await village.edges([ANN], after=after, limit=2):
            after, pages = page[-1][0], pages + [edge.id for _, edge in page]
        assert pages == [f"mem_{number}" for number in range(1, 6)]
        assert (await village.edges([BOB]), number > 0) == ([], True)

    async def test_relations_are_asked_for_as_of_a_position_and_a_moment(self, village: MemoryIndex) -> None:
        await tell(village, ANN, gone("mem_2"))
        assert [edge.id for _, edge in await village.edges([ANN])] == ["mem_1", "mem_3", "mem_4", "mem_5"]
        assert [edge.id for _, edge in await village.edges([ANN], as_of=20)] == ["mem_1", "mem_2"]
        for moment, found in ((99, False), (100, True), (199, True), (200, False)):
            edges = [edge.id for _, edge in await village.edges([ANN], valid_at_us=moment)]
            assert ("mem_4" in edges) is found
            near = await village.neighbourhood([ANN], ["dora"], valid_at_us=moment)
            assert ("mem_4" in [edge.id for _, edge in near]) is found

    async def test_neighbours_are_found_step_by_step(self, village: MemoryIndex) -> None:
        async def near(*names: str, **how: Any) -> list[tuple[int, str]]:
            return sorted(facts(await village.neighbourhood([ANN], names, **how)))

        assert await near("ANN") == [(1, "mem_1"), (1, "mem_3")]
        assert await near("ANN", direction="out") == [(1, "mem_1")]
        assert await near("ANN", direction="in") == [(1, "mem_3")]
        assert await near("Ann", depth=2, direction="out") == [(1, "mem_1"), (2, "mem_2")]
        assert await near("Ann", depth=2) == [(1, "mem_1"), (1, "mem_3"), (2, "mem_2"), (2, "mem_4")]
        assert await near("Ann", depth=9) == [(1, "mem_1"), (1, "mem_3"), (2, "mem_2"), (2, "mem_4"), (3, "mem_5")]
        assert await near("Ann", depth=9, relations=["knows"]) == [(1, "mem_1"), (1, "mem_3"), (2, "mem_2")]
        assert await near("Dora", "Bob") == [(1, "mem_1"), (1, "mem_2"), (1, "mem_4"), (1, "mem_5")]
        assert await near("Nobody") == await near() == []

    async def test_of_many_neighbours_the_nearest_are_told(self, village: MemoryIndex) -> None:
        found = await village.neighbourhood([ANN], ["Ann"], depth=3, limit=3)
        assert [distance for distance, _ in found] == [1, 1, 2]

    async def test_neighbours_are_those_of_the_time_that_is_asked_for(self, village: MemoryIndex) -> None:
        await tell(village, ANN, gone("mem_1"))
        assert facts(await village.neighbourhood([ANN], ["Ann"])) == [(1, "mem_3")]
        assert facts(await village.neighbourhood([ANN], ["Ann"], as_of=10)) == [(1, "mem_1")]

    async def test_entities_are_those_that_are_described_or_related(self, village: MemoryIndex) -> None:
        described = EntityDescribed(
            name="Eve", kind="person", source=SOURCE, properties={"age": 3}, labels=("untrusted",)
        )
        places = await tell(village, ANN, described, EntityDescribed(name="EVE", kind="robot", source=SOURCE))
        found = await village.entities([ANN])
        assert [entity.name.casefold().strip() for entity in found] == ["ann", "bob", "cid", "dora", "eve"]
        assert [(entity.name, entity.kind, entity.properties) for entity in found[4:]] == [("EVE", "robot", {})]
        (before,) = await village.entities([ANN], ["eve"], as_of=places[0])
        assert (before.name, before.properties, before.labels) == ("Eve", {"age": 3}, ("untrusted",))
        assert [entity.name.casefold() for entity in await village.entities([ANN], ["bob ", "Zoe", "ANN"])] == [
            "ann",
            "bob",
        ]
        assert len(await village.entities([ANN], limit=2)) == 2
        assert [entity.name.casefold() for entity in await village.entities([ANN], as_of=10)] == ["ann", "bob"]
        await tell(village, ANN, gone("mem_4", "mem_5"))
        assert await village.entities([ANN], ["Dora"]) == []
        with_kinds = [entity for entity in found if entity.kind]
        assert await village.entities([ANN], is_described=True) == with_kinds
        assert await village.entities([ANN], is_described=True, limit=1) == with_kinds
        assert await village.entities([ANN], ["Ann", "EVE"], is_described=True, as_of=places[1]) == with_kinds
        assert len(with_kinds) < len(found)

    async def test_who_is_not_described_is_trusted_as_the_relation_is(self, index: MemoryIndex) -> None:
        await tell(index, ANN, relates("mem_1", "Ann", "knows", "Bob", labels=("untrusted",)))
        found = await index.entities([ANN], ["ann", "bob"])
        assert [(entity.name, entity.kind, entity.labels) for entity in found] == [
            ("Ann", "", ("untrusted",)),
            ("Bob", "", ("untrusted",)),
        ]

    async def test_the_first_scope_that_describes_an_entity_has_its_way(self, index: MemoryIndex) -> None:
        shared = Scope("acme")
        await tell(index, shared, EntityDescribed(name="Mail", kind="protocol", source=SOURCE))
        await tell(index, ANN, EntityDescribed(name="Mail", kind="person", source=SOURCE))
        for scopes, kind in (([ANN, shared], "person"), ([shared, ANN], "protocol"), ([shared], "protocol")):
            assert [entity.kind for entity in await index.entities(scopes)] == [kind]

    # Being forgotten for good

    async def test_what_is_erased_is_nowhere(self, village: MemoryIndex) -> None:
        clash = MemoryContradicted(id="mem_1", other="mem_2", because="so")
        await tell(village, ANN, clash, remembered("mem_7", "Eve lives in Rome", tags=("city",)), gone("mem_4"))
        await village.embed("f", [(ANN, "mem_1", [1.0]), (ANN, "mem_2", [1.0])])
        await village.erase(ANN, ["mem_1", "mem_4", "mem_7", "mem_9"])
        assert ids(await village.page([ANN], Filter(is_closed_too=True))) == ["mem_6", "mem_5", "mem_3", "mem_2"]
        assert await village.get([ANN], ["mem_1", "mem_4", "mem_7"]) == []
        assert await village.words([ANN], ["Rome", "city"], Filter(is_closed_too=True)) == []
        assert ids(await village.vectors([ANN], "f", [1.0])) == ["mem_2"]
        assert [entry.contradicts for entry in await village.get([ANN], ["mem_2"])] == [()]
        assert facts(await village.neighbourhood([ANN], ["Ann"], as_of=60)) == [(1, "mem_3")]
        held = await village.held(ANN)
        assert (held.in_force, held.closed, held.relations, held.vectors) == ({"fact": 4}, 0, 3, {"f": 1})
        assert (held.applied, held.text_bytes) == (9, 13 + 14 + 15 + 13)

    async def test_erasing_by_an_event_is_the_same(self, village: MemoryIndex) -> None:
        await tell(village, ANN, MemoryErased(ids=("mem_1", "mem_6"), by="user:ann", because="asked"))
        assert ids(await village.page([ANN], Filter(is_closed_too=True))) == ["mem_5", "mem_4", "mem_3", "mem_2"]
        assert await village.words([ANN], ["Eve"]) == []

    async def test_a_scope_that_is_cleared_is_applied_anew_and_others_stay(self, village: MemoryIndex) -> None:
        await tell(village, BOB, remembered("mem_1"))
        await village.embed("f", [(ANN, "mem_1", [1.0]), (BOB, "mem_1", [1.0])])
        await village.clear([ANN])
        assert await village.applied([ANN, BOB]) == {ANN: 0, BOB: 1}
        assert (await village.page([ANN]), await village.entities([ANN]), await village.edges([ANN])) == ([], [], [])
        assert [hit.scope for hit in await village.vectors([ANN, BOB], "f", [1.0])] == [BOB]
        assert await village.scopes("acme") == [BOB]
        await tell(village, ANN, remembered("mem_1", "new hay"))
        assert ids(await village.words([ANN, BOB], ["new"])) == ["mem_1"]

    async def test_everything_can_be_cleared(self, village: MemoryIndex) -> None:
        await tell(village, BOB, remembered("mem_1"))
        await village.embed("f", [(ANN, "mem_1", [1.0])])
        await village.clear()
        assert (await village.applied([ANN, BOB]), await village.scopes("acme")) == ({ANN: 0, BOB: 0}, [])
        await tell(village, ANN, remembered("mem_1"))
        await village.embed("f", [(ANN, "mem_1", [1.0, 0.0])])
        assert ids(await village.vectors([ANN], "f", [1.0, 0.0])) == ["mem_1"]
