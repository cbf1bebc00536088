"""The contract of `MemoryIndex`: every sentence of the port as a test."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from math import log2
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostler.domain.memory.events import (
    EntityDescribed,
    MemoryContradicted,
    MemoryErased,
    MemoryEvent,
    MemoryOpened,
    MemoryPinned,
    MemoryRecalled,
    MemoryRemembered,
    MemoryRestored,
    MemoryRetracted,
    MemorySuperseded,
)
from ostler.domain.memory.memory import Memory, Relation, Source
from ostler.domain.memory.scope import Scope
from ostler.kernel.errors import DimensionMismatch, StaleWrite
from ostler.ports.memory import EVERYTHING, Edge, Entry, Filter, Hit, MemoryIndex, Noted
from ostler.testing.contracts.memory_histories import (
    IDS,
    NAMES,
    SCOPES,
    WORDS,
    Step,
    expected,
    histories,
    known,
    mark,
    shape,
    streams,
)

Opener = Callable[[], AbstractAsyncContextManager[MemoryIndex]]

ANN = Scope("acme", "coder", "ann")
BOB = Scope("acme", "coder", "bob")
SOURCE = Source("agent:coder")
HOUR_US = 3_600_000_000
SYNTAX = (
    *('"', "*", "bo*", "boat*harbour", "text:boat", "scope:acme", "^boat", "-boat", "boat)", "(", "NEAR(a b)", "%"),
    *("boat AND missing", "'; DROP TABLE memories; --", "&", "|", "!", "<->", ":*", "\\", "\0", "", " ", "a\0b"),
)
"""Terms that somebody might take for something else."""


def remembered(name: str, text: str = "hay", **more: Any) -> MemoryRemembered:
    """A fact with this id; what is not given is what is most common."""
    given: dict[str, Any] = {"kind": "fact", "source": SOURCE, "happened_us": 0} | more
    return MemoryRemembered(memory=Memory(name, text=text, **given))


def relates(name: str, subject: str, relation: str, object: str, **more: Any) -> MemoryRemembered:  # noqa: A002
    """A fact that states a relation."""
    properties = more.pop("properties", {})
    stated = Relation(subject, relation, object, more.pop("weight", 1.0), properties=properties)
    return remembered(name, f"{subject} {relation} {object}", relation=stated, **more)


def gone(*ids: str) -> MemoryRetracted:
    return MemoryRetracted(ids=ids, why="forgotten", by="user:ann")


async def tell(index: MemoryIndex, scope: Scope, *events: MemoryEvent | None) -> list[int]:
    """Let these happen next in a scope, and return their positions: ten for each."""
    after = (await index.applied([scope]))[scope]
    notes = [Noted(seq, seq * 10, seq * 1000, event) for seq, event in enumerate(events, after + 1)]
    await index.apply(scope, notes, after=after)
    return [note.position for note in notes]


def ids(found: Iterable[Entry | Hit]) -> list[str]:
    return [one.memory.id if isinstance(one, Entry) else one.id for one in found]


def facts(found: Iterable[tuple[int, Edge]]) -> list[tuple[int, str]]:
    return [(number, edge.id) for number, edge in found]


CLOSED_TOO = Filter(is_closed_too=True)
IS_MEANT = [HealthCheck.differing_executors, HealthCheck.function_scoped_fixture]
"""Several classes inherit these tests, and each example begins by clearing the index."""


class MemoryIndexContract(ABC):
    """Inherit, implement `storage`, and pytest asks your back end for every guarantee of the port."""

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

    # Applying

    async def test_of_what_nothing_was_applied_nothing_is_found(self, index: MemoryIndex) -> None:
        assert await index.applied([ANN, BOB]) == {ANN: 0, BOB: 0}
        assert (await index.scopes("acme"), await index.page([ANN]), await index.get([ANN], ["mem_1"])) == ([], [], [])
        assert await index.words([ANN], ["hay"]) == []
        assert await index.vectors([ANN], "none", [1.0]) == []
        held = await index.held(ANN)
        assert (held.applied, held.in_force, held.closed, held.vectors) == (0, {}, 0, {})

    async def test_no_scopes_find_nothing(self, index: MemoryIndex) -> None:
        await tell(index, ANN, relates("mem_1", "Ann", "likes", "tea"))
        await index.embed("f", [(ANN, "mem_1", [1.0, 0.0])])
        found = [
            await index.get([], ["mem_1"]),
            await index.page([]),
            await index.words([], ["tea"]),
            await index.vectors([], "f", [1.0, 0.0]),
            await index.unembedded([], "f"),
            await index.entities([]),
            await index.edges([]),
            await index.neighbourhood([], ["Ann"]),
        ]
        assert found == [[]] * 8

    async def test_events_are_taken_in_one_after_the_other(self, index: MemoryIndex) -> None:
        await tell(index, ANN, MemoryOpened(scope=ANN), remembered("mem_1"))
        await tell(index, ANN, remembered("mem_2", "straw"))
        assert await index.applied([ANN]) == {ANN: 3}
        (entry,) = await index.get([ANN], ["mem_2"])
        assert entry == Entry(ANN, remembered("mem_2", "straw").memory, position=30, at_us=3000)

    @pytest.mark.parametrize("after", [0, 1, 3, 100])
    async def test_whoever_is_not_where_the_index_is_is_refused_and_leaves_nothing(
        self, index: MemoryIndex, after: int
    ) -> None:
        await tell(index, ANN, MemoryOpened(scope=ANN), remembered("mem_1"))
        with pytest.raises(StaleWrite):
            await index.apply(ANN, [Noted(after + 1, 90, 90, remembered("mem_2"))], after=after)
        assert (await index.applied([ANN]), ids(await index.page([ANN]))) == ({ANN: 2}, ["mem_1"])

    async def test_a_scope_that_was_never_begun_cannot_be_gone_on_with(self, index: MemoryIndex) -> None:
        with pytest.raises(StaleWrite):
            await index.apply(ANN, [Noted(2, 90, 90, remembered("mem_2"))], after=1)
        assert (await index.applied([ANN]), await index.scopes("acme")) == ({ANN: 0}, [])

    async def test_of_two_who_apply_the_same_one_does(self, open_index: Opener) -> None:
        async with open_index() as one, open_index() as two:
            for seq in range(1, 9):
                notes = [Noted(seq, seq * 10, seq, remembered(f"mem_{seq}"))]
                results = await asyncio.gather(
                    one.apply(ANN, notes, after=seq - 1), two.apply(ANN, notes, after=seq - 1), return_exceptions=True
                )
                assert [type(result) for result in results if result is not None] == [StaleWrite]
            assert ids(await two.page([ANN])) == [f"mem_{number}" for number in range(8, 0, -1)]

    async def test_what_was_erased_or_speaks_of_it_changes_nothing(self, index: MemoryIndex) -> None:
        lost = ("mem_0",)
        await tell(index, ANN, remembered("mem_1"), None, gone(*lost), MemoryPinned(id="mem_0", by="user:ann"))
        await tell(index, ANN, MemoryRestored(ids=lost, by="user:ann"), MemoryRecalled(ids=lost, call="ses_1/1.1"))
        await tell(
            index,
            ANN,
            MemoryContradicted(id="mem_1", other="mem_0", because="so"),
            MemorySuperseded(id="mem_0", by="x"),
        )
        (entry,) = await index.page([ANN])
        assert (entry.memory.id, entry.contradicts, entry.until) == ("mem_1", (), None)
        assert await index.applied([ANN]) == {ANN: 8}

    async def test_scopes_are_told_in_order_and_of_one_tenant(self, index: MemoryIndex) -> None:
        for scope in SCOPES:
            await tell(index, scope, MemoryOpened(scope=scope))
        assert await index.scopes("acme") == sorted(scope for scope in SCOPES if scope.tenant == "acme")
        assert await index.scopes("rival") == [Scope("rival", "coder", "ann")]

    async def test_what_was_applied_is_there_after_opening_again(self, open_index: Opener) -> None:
        async with open_index() as index:
            await tell(index, ANN, remembered("mem_1", "hay"))
            await index.embed("f", [(ANN, "mem_1", [1.0, 0.0])])
        if self.is_durable:
            async with open_index() as index:
                assert ids(await index.words([ANN], ["hay"])) == ["mem_1"]
                assert ids(await index.vectors([ANN], "f", [1.0, 0.0])) == ["mem_1"]

    # Entries

    async def test_entries_come_in_the_order_of_their_ids_in_force_or_not(self, index: MemoryIndex) -> None:
        *_, end = await tell(index, ANN, remembered("mem_1"), remembered("mem_2"), remembered("mem_3"), gone("mem_2"))
        found = await index.get([ANN], ["mem_3", "mem_2", "mem_9", "mem_1"])
        assert ids(found) == ["mem_3", "mem_2", "mem_1"]
        assert [(entry.until, entry.ended_by) for entry in found] == [(None, ""), (end, "forgotten"), (None, "")]

    async def test_an_entry_says_what_became_of_it(self, index: MemoryIndex) -> None:
        *_, end = await tell(
            index, ANN, remembered("mem_1"), remembered("mem_2"), MemorySuperseded(id="mem_1", by="mem_2")
        )
        (entry,) = await index.get([ANN], ["mem_1"])
        assert (entry.until, entry.ended_by) == (end, "superseded mem_2")
        await tell(index, ANN, MemoryRestored(ids=("mem_1",), by="user:ann"))
        (entry,) = await index.get([ANN], ["mem_1"])
        assert (entry.until, entry.ended_by, entry.position) == (None, "", 10)

    async def test_what_has_ended_does_not_end_again(self, index: MemoryIndex) -> None:
        _, end, _ = await tell(index, ANN, remembered("mem_1"), gone("mem_1"), MemorySuperseded(id="mem_1", by="mem_2"))
        (entry,) = await index.get([ANN], ["mem_1"])
        assert (entry.until, entry.ended_by) == (end, "forgotten")

    async def test_calls_that_were_given_a_memory_are_counted_each_once(self, index: MemoryIndex) -> None:
        calls = [MemoryRecalled(ids=("mem_1",), call=call) for call in ("ses_1/1.1", "ses_1/2.1", "ses_1/1.1")]
        await tell(index, ANN, remembered("mem_1"), remembered("mem_2"), *calls)
        assert [entry.recalls for entry in await index.get([ANN], ["mem_1", "mem_2"])] == [2, 0]
        assert (await index.held(ANN)).recalls == 2

    async def test_contradictions_are_told_of_both_while_the_other_is_in_force(self, index: MemoryIndex) -> None:
        clash = MemoryContradicted(id="mem_1", other="mem_2", because="both are her home")
        await tell(index, ANN, remembered("mem_1"), remembered("mem_2"), clash)
        found = await index.get([ANN], ["mem_1", "mem_2"])
        assert [entry.contradicts for entry in found] == [("mem_2",), ("mem_1",)]
        await tell(index, ANN, gone("mem_2"))
        found = await index.get([ANN], ["mem_1", "mem_2"])
        assert [entry.contradicts for entry in found] == [(), ("mem_1",)]

    async def test_pages_go_from_the_newest_to_the_oldest(self, index: MemoryIndex) -> None:
        await tell(index, ANN, *(remembered(f"mem_{number}") for number in range(7)))
        pages, before = list[str](), None
        while page := await index.page([ANN], before=before, limit=3):
            pages, before = pages + ids(page), page[-1].position
        assert pages == [f"mem_{number}" for number in range(6, -1, -1)]
        assert await index.page([ANN], limit=0) == []

    async def test_what_holds_a_key_or_states_a_relation_is_found_while_it_is_in_force(
        self, index: MemoryIndex
    ) -> None:
        await tell(
            index,
            ANN,
            relates("mem_1", "Ann", "lives_in", "Rome"),
            relates("mem_2", " ANN", "lives_in", "Oslo"),
            relates("mem_3", "Ann", "likes", "Oslo", key="taste"),
            remembered("mem_4", key="taste"),
            remembered("mem_5", key="tasteful"),
            remembered("mem_6"),
        )
        await tell(index, BOB, remembered("mem_7", key="taste"))
        assert ids(await index.holding(ANN, key="taste")) == ["mem_3", "mem_4"]
        assert ids(await index.holding(ANN, subject="ann ", name="lives_in")) == ["mem_1", "mem_2"]
        assert ids(await index.holding(ANN, key="taste", subject="ann", name="lives_in")) == [
            "mem_1",
            "mem_2",
            "mem_3",
            "mem_4",
        ]
        assert await index.holding(ANN) == []
        await tell(index, ANN, gone("mem_1", "mem_4"))
        assert ids(await index.holding(ANN, key="taste")) == ["mem_3"]
        assert ids(await index.holding(ANN, subject="Ann", name="lives_in")) == ["mem_2"]

    async def test_the_same_words_are_found_while_they_are_in_force(self, index: MemoryIndex) -> None:
        await tell(index, ANN, remembered("mem_1", "Hay  there"), remembered("mem_2", "hay THERE"), remembered("mem_3"))
        digest = remembered("x", "hay there").memory.digest
        assert sorted(ids(await index.same([ANN, BOB], digest))) == ["mem_1", "mem_2"]
        await tell(index, ANN, gone("mem_1"))
        assert ids(await index.same([ANN], digest)) == ["mem_2"]
        assert await index.same([BOB], digest) == []

    async def test_the_weakest_come_first_and_of_equals_the_oldest(self, index: MemoryIndex) -> None:
        episodes = [(0.5, 9), (1.0, 8), (0.5, 10), (0.25, 10), (0.0, 99), (0.5, 9)]
        events = [
            remembered(f"mem_{number}", kind="episode", importance=importance, happened_us=hours * HOUR_US)
            for number, (importance, hours) in enumerate(episodes)
        ]
        await tell(index, ANN, *events, remembered("mem_fact", importance=0.0))
        found = await index.weakest(ANN, "episode", half_life_us=HOUR_US, limit=9)
        assert ids(found) == ["mem_4", "mem_0", "mem_1", "mem_3", "mem_5", "mem_2"]
        assert ids(await index.weakest(ANN, "episode", half_life_us=HOUR_US)) == ["mem_4"]

    async def test_what_is_pinned_or_not_in_force_is_not_weak(self, index: MemoryIndex) -> None:
        await tell(index, ANN, *(remembered(f"mem_{number}", happened_us=number) for number in range(4)))
        await tell(
            index, ANN, MemoryPinned(id="mem_0", by="user:ann"), gone("mem_1"), remembered("mem_4", is_pinned=True)
        )
        assert ids(await index.weakest(ANN, "fact", half_life_us=1, limit=9)) == ["mem_2", "mem_3"]
        unpinned = MemoryPinned(id="mem_0", by="user:ann", is_pinned=False)
        await tell(index, ANN, unpinned, MemoryRestored(ids=("mem_1",), by="user:ann"))
        assert ids(await index.weakest(ANN, "fact", half_life_us=1, limit=9)) == ["mem_0", "mem_1", "mem_2", "mem_3"]

    async def test_what_happened_beside_a_memory_comes_in_the_order_of_time(self, index: MemoryIndex) -> None:
        times = [50, 10, 30, 20, 40, 30]
        events = [remembered(f"mem_{at}_{number}", happened_us=at) for number, at in enumerate(times)]
        await tell(index, ANN, *events, remembered("mem_other", kind="episode", happened_us=31))
        await tell(index, BOB, remembered("mem_theirs", happened_us=29))
        found = await index.beside([ANN, BOB], ["mem_30_2", "mem_50_0", "mem_theirs"], span=2)
        assert {name: ids(entries) for name, entries in found.items()} == {
            "mem_30_2": ["mem_10_1", "mem_20_3", "mem_30_5", "mem_40_4"],
            "mem_50_0": ["mem_30_5", "mem_40_4"],
            "mem_theirs": [],
        }
        await tell(index, ANN, gone("mem_20_3", "mem_30_2"))
        found = await index.beside([ANN], ["mem_30_2"], span=1)
        assert ids(found["mem_30_2"]) == ["mem_10_1", "mem_30_5"]

    async def test_it_is_told_how_much_a_scope_holds(self, index: MemoryIndex) -> None:
        await tell(index, ANN, relates("mem_1", "Ann", "likes", "tea"), remembered("mem_2", "ü", kind="episode"))
        await tell(index, ANN, remembered("mem_3", "x" * 10, kind="file"), relates("mem_4", "tea", "likes", "Ann"))
        await tell(index, ANN, EntityDescribed(name="ANN", kind="person", source=SOURCE), gone("mem_4"))
        await index.embed("f", [(ANN, "mem_1", [1.0]), (ANN, "mem_2", [1.0])])
        await index.embed("g", [(ANN, "mem_1", [1.0, 0.0])])
        held = await index.held(ANN)
        assert (held.scope, held.applied, held.closed, held.relations, held.entities) == (ANN, 6, 1, 1, 2)
        assert held.in_force == {"fact": 1, "episode": 1, "file": 1}
        assert held.text_bytes == len("Ann likes tea") + 2 + 10
        assert held.vectors == {"f": 2, "g": 1}

    # Words

    @pytest_asyncio.fixture
    async def library(self, index: MemoryIndex) -> MemoryIndex:
        """An index with a few texts to look for, and many others."""
        texts = {
            "mem_boats": "Two boats were running into the harbour.",
            "mem_boat": "A boat.",
            "mem_cafe": "Das Café öffnet um 8 Uhr; Übung macht den Meister.",
            "mem_syntax": 'scope text NEAR AND OR NOT "quoted" semi-colon',
            "mem_number": "Invoice 4711-A of 2024.",
        }
        events = [remembered(name, text) for name, text in texts.items()]
        others = [remembered(f"mem_{number}", f"filler number {number}") for number in range(20)]
        tagged = (
            remembered("mem_tagged", "nothing", tags=("lighthouse",)),
            remembered("mem_keyed", "no", key="/port/crane"),
        )
        await tell(index, ANN, *events, *others, *tagged)
        return index

    @pytest.mark.parametrize(
        ("term", "found"),
        [
            ("boat", {"mem_boat", "mem_boats"}),
            ("BOATS", {"mem_boat", "mem_boats"}),
            ("run", {"mem_boats"}),
            ("harbour", {"mem_boats"}),
            ("café", {"mem_cafe"}),
            ("4711", {"mem_number"}),
            ("lighthouse", {"mem_tagged"}),
            ("crane", {"mem_keyed"}),
            ("missing", set()),
        ],
    )
    async def test_words_are_found_in_texts_tags_and_keys_however_they_are_inflected(
        self, library: MemoryIndex, term: str, found: set[str]
    ) -> None:
        assert set(ids(await library.words([ANN], [term]))) == found

    @pytest.mark.parametrize("term", SYNTAX)
    async def test_no_term_is_syntax(self, library: MemoryIndex, term: str) -> None:
        assert "mem_cafe" in ids(await library.words([ANN], [term, "café"]))
        assert not {"mem_cafe", "mem_number"} & set(ids(await library.words([ANN], [term])))

    async def test_what_holds_more_of_the_terms_comes_first(self, library: MemoryIndex) -> None:
        found = await library.words([ANN], ["harbour", "boats", "missing"])
        assert ids(found) == ["mem_boats", "mem_boat"]
        assert found[0].score > found[1].score
        assert ids(await library.words([ANN], ["harbour", "boats"], limit=1)) == ["mem_boats"]
        assert await library.words([ANN], []) == []

    async def test_a_rare_word_counts_for_more_than_a_common_one(self, library: MemoryIndex) -> None:
        assert ids(await library.words([ANN], ["filler", "harbour"]))[0] == "mem_boats"

    async def test_very_many_terms_are_no_matter(self, library: MemoryIndex) -> None:
        terms = [f"word{number}" for number in range(300)]
        assert ids(await library.words([ANN], [*terms, "harbour"])) == ["mem_boats"]

    async def test_words_of_what_has_ended_are_found_as_of_then(self, library: MemoryIndex) -> None:
        await tell(library, ANN, gone("mem_boat"))
        assert ids(await library.words([ANN], ["boat"])) == ["mem_boats"]
        assert set(ids(await library.words([ANN], ["boat"], Filter(as_of=20)))) == {"mem_boats", "mem_boat"}
        assert ids(await library.words([ANN], ["boat"], Filter(as_of=10))) == ["mem_boats"]
        assert len(await library.words([ANN], ["boat"], Filter(is_closed_too=True))) == 2

    async def test_a_filter_leaves_as_many_as_are_wanted(self, index: MemoryIndex) -> None:
        old = [f"mem_{number}" for number in range(0, 500, 50)]
        texts = ["boat" if number % 50 else "a boat of wood and of tar" for number in range(500)]
        tags = [() if number % 50 else ("old",) for number in range(500)]
        await tell(index, ANN, *(remembered(f"mem_{n}", texts[n], tags=tags[n]) for n in range(500)))
        await index.embed("f", [(ANN, f"mem_{number}", [1.0, number / 1000]) for number in range(500)])
        which = Filter(all_of=("old",))
        assert set(ids(await index.words([ANN], ["boat"], which, limit=10))) == set(old)
        assert ids(await index.vectors([ANN], "f", [1.0, 0.0], which, limit=10)) == old

    # Vectors

    async def test_the_nearest_vectors_come_first_by_their_cosine(self, index: MemoryIndex) -> None:
        await tell(index, ANN, *(remembered(f"mem_{n}") for n in range(5)), remembered("mem_without"))
        vectors = [[3.0, 0.0], [0.0, 2.0], [1.0, 1.0], [-1.0, 0.0], [0.0, 0.0]]
        await index.embed("f", [(ANN, f"mem_{n}", vector) for n, vector in enumerate(vectors)])
        found = await index.vectors([ANN], "f", [0.5, 0.1])
        assert ids(found) == ["mem_0", "mem_2", "mem_1", "mem_4", "mem_3"]
        cosines = [0.980581, 0.83205, 0.196116, 0.0, -0.980581]
        assert [hit.score for hit in found] == pytest.approx(cosines, abs=1e-5)
        assert ids(await index.vectors([ANN], "f", [0.5, 0.1], limit=2)) == ["mem_0", "mem_2"]

    async def test_vectors_of_different_embedders_are_never_compared(self, index: MemoryIndex) -> None:
        await tell(index, ANN, remembered("mem_1"), remembered("mem_2"))
        await index.embed("f", [(ANN, "mem_1", [1.0, 0.0])])
        await index.embed("g", [(ANN, "mem_2", [1.0, 0.0, 0.0])])
        assert ids(await index.vectors([ANN], "f", [1.0, 0.0])) == ["mem_1"]
        assert ids(await index.vectors([ANN], "g", [1.0, 0.0, 0.0])) == ["mem_2"]
        assert await index.vectors([ANN], "h", [1.0]) == []

    async def test_a_vector_of_another_length_is_refused_and_nothing_is_kept(self, index: MemoryIndex) -> None:
        await tell(index, ANN, remembered("mem_1"), remembered("mem_2"))
        await index.embed("f", [(ANN, "mem_1", [1.0, 0.0])])
        with pytest.raises(DimensionMismatch):
            await index.vectors([ANN], "f", [1.0, 0.0, 0.0])
        with pytest.raises(DimensionMismatch):
            await index.embed("f", [(ANN, "mem_1", [0.0, 1.0]), (ANN, "mem_2", [1.0])])
        with pytest.raises(DimensionMismatch):
            await index.embed("new", [(ANN, "mem_1", [0.0, 1.0]), (ANN, "mem_2", [1.0])])
        (found,) = await index.vectors([ANN], "f", [1.0, 0.0])
        assert found.id == "mem_1"
        assert found.score == pytest.approx(1.0)
        assert await index.vectors([ANN], "new", [1.0, 0.0]) == []

    async def test_a_vector_takes_the_place_of_the_one_before_and_none_is_kept_of_what_is_gone(
        self, index: MemoryIndex
    ) -> None:
        await tell(index, ANN, remembered("mem_1"), remembered("mem_2"))
        await index.embed("f", [(ANN, "mem_1", [1.0, 0.0]), (ANN, "mem_9", [1.0, 0.0]), (BOB, "mem_1", [1.0, 0.0])])
        assert ids(await index.vectors([ANN, BOB], "f", [1.0, 0.0])) == ["mem_1"]
        await index.embed("f", [(ANN, "mem_2", [1.0, 0.0]), (ANN, "mem_1", [0.0, 1.0])])
        assert ids(await index.vectors([ANN], "f", [1.0, 0.0])) == ["mem_2", "mem_1"]
        assert (await index.held(ANN)).vectors == {"f": 2}

    async def test_what_has_no_vector_yet_is_told_the_newest_first(self, index: MemoryIndex) -> None:
        await tell(index, ANN, *(remembered(f"mem_{n}") for n in range(4)), gone("mem_1"))
        assert ids(await index.unembedded([ANN, BOB], "f")) == ["mem_3", "mem_2", "mem_0"]
        assert ids(await index.unembedded([ANN], "f", limit=2)) == ["mem_3", "mem_2"]
        await index.embed("f", [(ANN, f"mem_{n}", [1.0]) for n in (0, 2, 3)])
        assert await index.unembedded([ANN], "f") == []
        assert len(await index.unembedded([ANN], "g")) == 3
        await tell(index, ANN, MemoryRestored(ids=("mem_1",), by="user:ann"), remembered("mem_5"))
        assert ids(await index.unembedded([ANN], "f")) == ["mem_5", "mem_1"]

    async def test_what_one_handle_writes_the_other_finds(self, open_index: Opener) -> None:
        async with open_index() as one, open_index() as two:
            await tell(one, ANN, remembered("mem_1"), remembered("mem_2"))
            await one.embed("f", [(ANN, "mem_1", [1.0, 0.0])])
            assert ids(await two.vectors([ANN], "f", [1.0, 0.0])) == ["mem_1"]
            await one.embed("f", [(ANN, "mem_2", [1.0, 0.1])])
            assert ids(await two.vectors([ANN], "f", [1.0, 0.0])) == ["mem_1", "mem_2"]
            await one.erase(ANN, ["mem_1"])
            assert ids(await two.vectors([ANN], "f", [1.0, 0.0])) == ["mem_2"]
            assert ids(await two.words([ANN], ["hay"])) == ["mem_2"]

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

    # Any history

    @settings(max_examples=20, deadline=None, suppress_health_check=IS_MEANT)
    @given(
        history=histories(),
        scopes=st.lists(st.sampled_from(SCOPES), unique=True),
        which=st.deferred(lambda: FILTERS),
        size=st.integers(1, 9),
    )
    async def test_after_any_history_it_finds_what_is_to_be_found(
        self, index: MemoryIndex, history: list[Step], scopes: list[Scope], which: Filter, size: int
    ) -> None:
        notes = streams(history)
        await index.clear()
        await apply_all(index, notes, size)
        assert shape(await index.page(scopes, which)) == expected(notes, scopes, which)
        for scope in scopes:
            here = known(notes.get(scope, ()))
            found = await index.get([scope], IDS)
            assert ids(found) == [name for name in IDS if name in here]
            await check_counts(index, scope, found)
            await check_weakest(index, scope, found)

    @settings(max_examples=20, deadline=None, suppress_health_check=IS_MEANT)
    @given(history=histories(), before=st.integers(0, 25))
    async def test_asked_as_of_a_position_it_finds_what_it_would_have_found_there(
        self, index: MemoryIndex, history: list[Step], before: int
    ) -> None:
        history = [(scope, None if isinstance(event, MemoryErased) else event) for scope, event in history]
        position = before * 3
        await index.clear()
        await apply_all(index, streams(history[:before]), 9)
        then = [await everything(index, scope) for scope in SCOPES]
        await index.clear()
        await apply_all(index, streams(history), 9)
        assert [await everything(index, scope, position) for scope in SCOPES] == then

    @settings(max_examples=20, deadline=None, suppress_health_check=IS_MEANT)
    @given(history=histories(), scopes=st.lists(st.sampled_from(SCOPES), unique=True), position=st.integers(0, 75))
    async def test_nothing_of_another_scope_is_ever_found(
        self, index: MemoryIndex, history: list[Step], scopes: list[Scope], position: int
    ) -> None:
        await index.clear()
        await apply_all(index, streams(history), 9)
        await index.embed("f", [(scope, name, [1.0, 0.5]) for scope in SCOPES for name in IDS])
        words = [*WORDS, *(mark(number) for number in range(len(SCOPES)))]
        hits = await index.words(scopes, words, CLOSED_TOO) + await index.vectors(scopes, "f", [1.0, 0.0], CLOSED_TOO)
        found = [
            [await everything(index, scope, as_of) for scope in scopes for as_of in (None, position)],
            await index.get(scopes, IDS),
            await index.same(scopes, remembered("x").memory.digest),
            await index.beside(scopes, IDS, span=2),
            await index.unembedded(scopes, "g"),
            await index.entities(scopes),
            await index.edges(scopes),
            await index.neighbourhood(scopes, NAMES, depth=3),
        ]
        assert {hit.scope for hit in hits} <= set(scopes)
        said = msgspec.json.encode(found).decode()
        assert [number for number, scope in enumerate(SCOPES) if mark(number) in said and scope not in scopes] == []


SOME_TAGS = st.sampled_from([(), (), ("red",), ("red", "blue")])
MOMENT = st.none() | st.integers(0, 6)
FILTERS: st.SearchStrategy[Filter] = st.just(EVERYTHING) | st.builds(
    Filter,
    kinds=st.sampled_from([(), (), ("fact",), ("episode", "file")]),
    all_of=SOME_TAGS,
    any_of=SOME_TAGS,
    none_of=SOME_TAGS,
    key_prefix=st.sampled_from(["", "", "a", "a/"]),
    session=st.sampled_from(["", "", "ses_1"]),
    as_of=st.none() | st.integers(0, 75),
    valid_at_us=MOMENT,
    from_us=MOMENT,
    to_us=MOMENT,
    is_closed_too=st.booleans(),
)


async def apply_all(index: MemoryIndex, notes: dict[Scope, list[Noted]], size: int) -> None:
    """Apply these streams, so many events at a time."""
    for scope, stream in notes.items():
        for start in range(0, len(stream), size):
            await index.apply(scope, stream[start : start + size], after=start)


async def everything(index: MemoryIndex, scope: Scope, as_of: int | None = None) -> object:
    """All that is in force in a scope, or was, without what an entry says of later times."""
    entries = await index.page([scope], Filter(as_of=as_of))
    entities = await index.entities([scope], as_of=as_of)
    near = await index.neighbourhood([scope], ["ann"], depth=2, as_of=as_of)
    return (
        [(entry.memory.id, entry.memory.text, entry.position) for entry in entries],
        sorted(ids(await index.words([scope], WORDS, Filter(as_of=as_of)))),
        [(entity.kind, entity.properties) for entity in entities],
        [edge for _, edge in await index.edges([scope], as_of=as_of)],
        sorted(facts(near)),
    )


async def check_counts(index: MemoryIndex, scope: Scope, entries: list[Entry]) -> None:
    """What a scope is said to hold is what it holds."""
    held, in_force = await index.held(scope), [entry for entry in entries if entry.until is None]
    related = [entry.memory.relation for entry in in_force if entry.memory.relation]
    assert sum(held.in_force.values()) == len(in_force)
    assert held.closed == len(entries) - len(in_force)
    assert held.text_bytes == sum(len(entry.memory.text.encode()) for entry in in_force)
    assert held.recalls == sum(entry.recalls for entry in entries)
    assert held.relations == len(related)
    assert held.entities == len(await index.entities([scope]))


async def check_weakest(index: MemoryIndex, scope: Scope, entries: list[Entry]) -> None:
    """The weakest are those that sorting finds."""
    free = [entry for entry in entries if entry.until is None and not entry.memory.is_pinned]
    for kind in ("episode", "fact", "file"):
        ranked = sorted(
            (log2(entry.memory.importance or 1e-300) + entry.memory.happened_us / 2, entry.position, entry.memory.id)
            for entry in free
            if entry.memory.kind == kind
        )
        assert ids(await index.weakest(scope, kind, half_life_us=2, limit=9)) == [name for *_, name in ranked]
