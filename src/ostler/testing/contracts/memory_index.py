"""The contract of `MemoryIndex`: every sentence of the port as a test."""

import asyncio

import msgspec
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostler.domain.memory.events import (
    EntityDescribed,
    MemoryConsolidated,
    MemoryContradicted,
    MemoryErased,
    MemoryOpened,
    MemoryPinned,
    MemoryRecalled,
    MemoryRestored,
    MemorySuperseded,
)
from ostler.domain.memory.scope import Scope
from ostler.kernel.errors import DimensionMismatch, StaleWrite
from ostler.ports.memory import EVERYTHING, Entry, Filter, MemoryIndex, Noted
from ostler.testing.contracts.memory_graph import MemoryGraphContract
from ostler.testing.contracts.memory_graph import Opener as Opener
from ostler.testing.contracts.memory_histories import (
    ANN,
    BOB,
    IDS,
    NAMES,
    SCOPES,
    SOURCE,
    WORDS,
    Step,
    apply_all,
    check_counts,
    check_weakest,
    everything,
    expected,
    gone,
    histories,
    ids,
    known,
    mark,
    relates,
    remembered,
    shape,
    streams,
    tell,
)

HOUR_US = 3_600_000_000
SYNTAX = (
    *('"', "*", "bo*", "boat*harbour", "text:boat", "scope:acme", "^boat", "-boat", "boat)", "(", "NEAR(a b)", "%"),
    *("boat AND missing", "'; DROP TABLE memories; --", "&", "|", "!", "<->", ":*", "\\", "\0", "", " ", "a\0b"),
)
"""Terms that somebody might take for something else."""


CLOSED_TOO = Filter(is_closed_too=True)
IS_MEANT = [HealthCheck.differing_executors, HealthCheck.function_scoped_fixture]
"""Several classes inherit these tests, and each example begins by clearing the index."""


class MemoryIndexContract(MemoryGraphContract):
    """Inherit, implement `storage`, and pytest asks your back end for every guarantee of the port."""

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

    async def test_it_knows_which_event_it_has_taken_in_last(self, index: MemoryIndex) -> None:
        assert await index.last(ANN) == (0, b"")
        for seq, digest in ((1, b"one"), (2, b"two")):
            await index.apply(ANN, [Noted(seq, seq, seq, None, digest)], after=seq - 1)
            assert await index.last(ANN) == (seq, digest)
        assert await index.last(BOB) == (0, b"")
        await index.clear([ANN])
        assert await index.last(ANN) == (0, b"")

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

    async def test_each_scope_finds_its_own_and_nothing_else(self, index: MemoryIndex) -> None:
        for number, scope in enumerate(SCOPES):
            told = relates("mem_1", "Ann", "likes", mark(number))
            await tell(index, scope, told, EntityDescribed(name="Ann", kind=mark(number), source=SOURCE))
        await index.embed("f", [(scope, "mem_1", [1.0]) for scope in SCOPES])
        for number, scope in enumerate(SCOPES):
            hits = [*await index.words([scope], ["likes"]), *await index.vectors([scope], "f", [1.0])]
            entries = [*await index.get([scope], ["mem_1"]), *await index.page([scope])]
            assert [hit.scope for hit in hits] == [entry.scope for entry in entries] == [scope] * 2
            assert [entity.kind for entity in await index.entities([scope], ["ann"])] == [mark(number)]
            edges = [*await index.edges([scope]), *await index.neighbourhood([scope], ["ann"])]
            assert [edge.object for _, edge in edges] == [mark(number)] * 2

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

    async def test_what_was_in_force_before_it_was_restored_is_found_as_of_then(self, index: MemoryIndex) -> None:
        back = MemoryRestored(ids=("mem_1",), by="user:ann")
        await tell(index, ANN, relates("mem_1", "Ann", "likes", "tea"), gone("mem_1"), back, gone("mem_1"), back)
        for position, found in ((9, 0), (10, 1), (19, 1), (20, 0), (29, 0), (30, 1), (40, 0), (50, 1), (99, 1)):
            which = Filter(as_of=position)
            assert len(await index.page([ANN], which)) == found
            assert len(await index.words([ANN], ["tea"], which)) == found
            assert len(await index.edges([ANN], as_of=position)) == found
            assert len(await index.neighbourhood([ANN], ["Ann"], as_of=position)) == found
            assert len(await index.entities([ANN], ["tea"], as_of=position)) == found

    async def test_what_was_merged_is_replaced_and_what_was_promoted_stays(self, index: MemoryIndex) -> None:
        made = [remembered(f"mem_{number}") for number in range(1, 5)]
        merged = MemoryConsolidated(of=("mem_1", "mem_2"), into="mem_4", how="merged")
        places = await tell(index, ANN, *made, merged, MemoryConsolidated(of=("mem_3",), into="mem_4", how="promoted"))
        assert ids(await index.page([ANN])) == ["mem_4", "mem_3"]
        old, kept = await index.get([ANN], ["mem_1", "mem_3"])
        assert (old.until, old.ended_by, kept.until) == (places[4], "merged mem_4", None)

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
        assert sorted(ids(await index.same([ANN, BOB], [digest]))) == ["mem_1", "mem_2"]
        await tell(index, ANN, gone("mem_1"))
        assert ids(await index.same([ANN], ["0" * 32, digest])) == ["mem_2"]
        assert await index.same([BOB], [digest]) == []

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

    async def test_what_is_important_and_old_is_weaker_than_what_is_neither(self, index: MemoryIndex) -> None:
        old = remembered("mem_old", importance=1.0, happened_us=HOUR_US)
        new = [remembered(f"mem_{n}", importance=0.125, happened_us=n * HOUR_US) for n in range(10, 13)]
        await tell(index, ANN, *new, old)
        for limit in range(1, 5):
            found = await index.weakest(ANN, "fact", half_life_us=HOUR_US, limit=limit)
            assert ids(found) == ["mem_old", "mem_10", "mem_11", "mem_12"][:limit]

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

    async def test_words_are_found_however_many_memories_there_are_and_however_they_came(
        self, index: MemoryIndex
    ) -> None:
        for start in range(0, 1_100, 100):
            await tell(index, ANN, *(remembered(f"mem_{n}", f"hay number {n}") for n in range(start, start + 100)))
        for number in (0, 255, 256, 300, 1_099):
            assert ids(await index.words([ANN], [str(number)])) == [f"mem_{number}"]
        assert len(await index.words([ANN], ["hay"], limit=2_000)) == 1_100
        await index.erase(ANN, ["mem_300"])
        assert await index.words([ANN], ["300"]) == []
        assert len(set(ids(await index.words([ANN], ["hay"], limit=2_000)))) == 1_099

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
    @given(history=histories(scopes=2), before=st.integers(0, 25))
    async def test_asked_as_of_a_position_it_finds_what_it_would_have_found_there(
        self, index: MemoryIndex, history: list[Step], before: int
    ) -> None:
        history = [(scope, None if isinstance(event, MemoryErased) else event) for scope, event in history]
        position = before * 3
        await index.clear()
        await apply_all(index, streams(history[:before]), 9)
        then = [await everything(index, scope) for scope in SCOPES[:2]]
        await index.clear()
        await apply_all(index, streams(history), 9)
        assert [await everything(index, scope, position) for scope in SCOPES[:2]] == then

    @settings(max_examples=20, deadline=None, suppress_health_check=IS_MEANT)
    @given(history=histories(), scopes=st.lists(st.sampled_from(SCOPES), unique=True), position=st.integers(0, 75))
    async def test_nothing_of_another_scope_is_ever_found(
        self, index: MemoryIndex, history: list[Step], scopes: list[Scope], position: int
    ) -> None:
        await index.clear()
        await apply_all(index, streams(history), 9)
        await index.embed("f", [(scope, name, [1.0, 0.5]) for scope in SCOPES for name in IDS])
        words = [*WORDS, *(mark(number) for number in range(len(SCOPES)))]
        theirs = sorted((scope, name) for scope in scopes for name in known(streams(history).get(scope, ())))
        for hits in (
            await index.words(scopes, words, CLOSED_TOO),
            await index.vectors(scopes, "f", [1.0, 0.0], CLOSED_TOO),
        ):
            assert sorted((hit.scope, hit.id) for hit in hits) == theirs
        found = [
            [await everything(index, scope, as_of) for scope in scopes for as_of in (None, position)],
            await index.get(scopes, IDS),
            await index.same(scopes, [remembered("x").memory.digest]),
            await index.beside(scopes, IDS, span=2),
            await index.unembedded(scopes, "g"),
            await index.entities(scopes),
            await index.edges(scopes),
            await index.neighbourhood(scopes, NAMES, depth=3),
        ]
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
