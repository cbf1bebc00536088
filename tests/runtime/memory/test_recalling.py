"""What is recalled, in what order, and what recalling leaves behind."""

import asyncio
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import pytest

from ostler.adapters.store.memory import MemoryStore
from ostler.domain.memory.events import MemoryRecalled
from ostler.domain.memory.memory import Relation
from ostler.domain.memory.ranking import Weights
from ostler.domain.memory.scope import Scope
from ostler.kernel.errors import EmbedderError, StoreFull
from ostler.ports import Append
from ostler.ports.memory import Filter
from ostler.runtime.memory.embedding import Embedding
from ostler.runtime.memory.memories import Memories
from ostler.runtime.memory.recalling import LEADERS_MAX, Recall, recollections, tokens_of
from tests.runtime.crash import Clock
from tests.runtime.memory.remembering import DAY, SCOPE, TENANT, History, events_of, lives, memories_in, wish

NOW = Clock().us


def texts(recall: Recall) -> list[str]:
    return [one.entry.memory.text for one in recall.found]


async def remembering(memories: Memories, *wishes: Any, scope: Scope = SCOPE) -> list[str]:
    return [(await memories.remember(scope, one, key=f"{scope}/{number}")).id for number, one in enumerate(wishes)]


class Meanings:
    """An embedder that knows what a few words mean, and can fail."""

    fingerprint = "meanings"
    kind: Literal["semantic", "lexical"] = "semantic"
    axes = (("automobile", "car"), ("doctor", "physician"), ("garden", "yard"))

    def __init__(self, kind: Literal["semantic", "lexical"] = "semantic") -> None:
        self.kind = kind
        self.is_down = False
        self.asked = 0

    async def embed(self, texts: Sequence[str], *, purpose: str = "document") -> list[Sequence[float]]:
        self.asked += 1
        if self.is_down:
            raise EmbedderError("The embedder is on holiday.")
        vectors: list[Sequence[float]] = []
        for text in texts:
            vector = [float(any(word in text.lower() for word in axis)) for axis in self.axes] + [0.1]
            length = sum(number * number for number in vector) ** 0.5
            vectors.append([number / length for number in vector])
        return vectors

    async def close(self) -> None:
        pass


async def test_what_bears_on_the_question_comes_first_however_important_the_rest_is() -> None:
    async with memories_in() as memories:
        await remembering(
            memories,
            wish("The printer in the hall is out of toner", importance=0.0, happened_us=NOW - 300 * DAY),
            *(wish(f"A most important thing, number {number}", importance=1.0) for number in range(20)),
        )
        recall = await memories.recall(SCOPE, "What is wrong with the printer?")
        assert texts(recall) == ["The printer in the hall is out of toner"]


async def test_of_what_fits_as_well_the_newer_and_more_important_comes_first() -> None:
    async with memories_in() as memories:
        await remembering(
            memories,
            wish("The printer is broken", importance=0.1, happened_us=NOW - 90 * DAY),
            wish("The printer is broken!", importance=0.9, happened_us=NOW),
        )
        recall = await memories.recall(SCOPE, "printer")
        assert texts(recall) == ["The printer is broken!", "The printer is broken"]


async def test_every_lane_is_between_nothing_and_all_and_the_score_is_made_of_them() -> None:
    weights = Weights(relevance=1, recency=0.5, importance=0.25, frequency=0.25)
    async with memories_in(weights=weights) as memories:
        await History(memories, seed=3).go_on(60)
        for number in range(5):
            recall = await memories.recall(
                SCOPE, "Where does Ann live? garden invoice", call=f"ses_q/{number}", limit=30
            )
            assert recall.found
            for one in recall.found:
                assert all(0 <= value <= 1 for value in one.lanes.values()), one
                lanes = one.lanes
                total = lanes["relevance"] + 0.5 * lanes["recency"] + 0.25 * (lanes["importance"] + lanes["frequency"])
                assert one.score == pytest.approx(total / 2)
            assert [one.score for one in recall.found] == sorted((one.score for one in recall.found), reverse=True)


async def test_without_anything_to_look_for_the_strongest_are_told() -> None:
    async with memories_in() as memories:
        await remembering(
            memories,
            wish("weak", importance=0.2),
            wish("strong", importance=0.9),
            wish("old", importance=0.9, happened_us=NOW - 90 * DAY),
        )
        assert texts(await memories.recall(SCOPE, "who is it?")) == ["strong", "weak", "old"]


async def test_where_nothing_fits_nothing_is_told() -> None:
    async with memories_in() as memories:
        assert (await memories.recall(SCOPE, "printer")).found == ()
        await remembering(memories, wish("Ann likes tea"))
        assert (await memories.recall(SCOPE, "printer")).found == ()


async def test_an_episode_is_found_by_what_happened_beside_it() -> None:
    async with memories_in() as memories:
        await remembering(
            memories,
            wish("Ann asked for the quarterly invoice", kind="episode", happened_us=NOW - 3),
            wish("It could not be found in the archive", kind="episode", happened_us=NOW - 2),
            wish("Bea had lunch", kind="episode", happened_us=NOW - 1),
            wish("Cem came back from holiday", kind="episode", happened_us=NOW),
        )
        recall = await memories.recall(SCOPE, "quarterly invoice")
        assert texts(recall) == ["Ann asked for the quarterly invoice", "It could not be found in the archive"]
        assert [one.is_neighbour for one in recall.found] == [False, True]
        assert recall.found[1].lanes["neighbours"] == pytest.approx(0.35)
        alone = Memories(memories.store, memories.index, Clock(), weights=Weights(neighbours=0))
        assert texts(await alone.recall(SCOPE, "quarterly invoice")) == ["Ann asked for the quarterly invoice"]


async def test_facts_are_found_along_relations() -> None:
    def knows(subject: str, name: str, other: str) -> Any:
        return wish(f"{subject} {name} {other}", relation=Relation(subject, name, other))

    async with memories_in() as memories:
        await remembering(
            memories,
            knows("Ann Bell", "works_for", "Initech"),
            knows("Initech", "sits_in", "Hamburg"),
            knows("Hamburg", "lies_at", "Elbe"),
            knows("Bea", "works_for", "Hooli"),
        )
        recall = await memories.recall(SCOPE, "Where does Ann Bell go every morning?")
        assert texts(recall) == ["Ann Bell works_for Initech", "Initech sits_in Hamburg"]
        assert [one.lanes["graph"] for one in recall.found] == [1.0, 0.8]


async def test_what_a_fact_leads_to_comes_before_others_that_share_but_a_name_with_the_question() -> None:
    async with memories_in() as memories:
        await remembering(
            memories,
            wish("Ann works for Initech.", relation=Relation("Ann", "works for", "Initech")),
            wish("Initech is at home in Hamburg.", relation=Relation("Initech", "based in", "Hamburg")),
            wish("Bea works for Initech.", relation=Relation("Bea", "works for", "Initech")),
            *(wish(f"Ann had lunch at the harbour with guest number {number}.") for number in range(20)),
        )
        recall = await memories.recall(SCOPE, "In which city is the employer of Ann?", limit=30)
        assert texts(recall)[:2] == ["Ann works for Initech.", "Initech is at home in Hamburg."]
        assert texts(recall)[-1] == "Bea works for Initech."


async def test_what_answers_a_question_comes_before_facts_that_share_but_a_name_with_it() -> None:
    async with memories_in() as memories:
        await remembering(
            memories,
            wish("Ann works for Initech.", relation=Relation("Ann", "works for", "Initech"), importance=0.9),
            wish("Initech sits in Hamburg.", relation=Relation("Initech", "sits in", "Hamburg"), importance=0.9),
            wish("Last spring Ann adopted a greyhound from the shelter in Bremen.", importance=0.3),
            *(wish(f"Somebody saw Ann, number {number}.") for number in range(20)),
        )
        recall = await memories.recall(SCOPE, "Which greyhound has Ann adopted?", limit=3)
        assert texts(recall)[0] == "Last spring Ann adopted a greyhound from the shelter in Bremen."


async def test_facts_that_a_filter_leaves_out_take_no_room_from_what_it_means() -> None:
    async with memories_in() as memories:
        await remembering(
            memories,
            *(wish(f"Ann met P{number}.", relation=Relation("Ann", "met", f"P{number}")) for number in range(9)),
            wish("Last spring Ann adopted a greyhound from a shelter.", kind="episode"),
            *(wish(f"Somebody saw Ann, number {number}.", kind="episode") for number in range(7)),
        )
        recall = await memories.recall(
            SCOPE, "Which greyhound has Ann adopted last spring?", which=Filter(kinds=("episode",)), limit=8
        )
        assert len(recall.found) == 8


async def test_of_something_with_many_relations_only_the_most_relevant_are_followed_onward() -> None:
    async with memories_in() as memories:
        people = [f"Person{number}" for number in range(LEADERS_MAX + 3)]
        await remembering(
            memories,
            *(wish(f"{one} works for Initech.", relation=Relation(one, "works for", "Initech")) for one in people),
            *(wish(f"{one} lives in Bonn.", relation=Relation(one, "lives in", "Bonn")) for one in people),
        )
        recall = await memories.recall(SCOPE, "Initech", limit=50)
        assert [one.lanes.get("graph") for one in recall.found] == [1.0] * len(people) + [0.8] * LEADERS_MAX


async def test_a_vector_finds_what_has_no_word_in_common() -> None:
    clock = Clock()
    async with memories_in(clock=clock) as memories:
        await remembering(memories, wish("The car needs new tyres"), wish("The yard is full of leaves"))
        embedding = Embedding(Meanings(), memories.index, clock)
        await embedding.fill([SCOPE])
        knowing = Memories(memories.store, memories.index, clock, embedding=embedding)
        recall = await knowing.recall(SCOPE, "automobile")
        assert texts(recall)[0] == "The car needs new tyres"
        assert recall.found[0].lanes["vector"] == pytest.approx(1)
        assert recall.missing == ()


async def test_an_embedder_that_fails_is_told_of_and_words_find_what_they_find() -> None:
    clock, embedder = Clock(), Meanings()
    async with memories_in(clock=clock) as memories:
        await remembering(memories, wish("The car needs new tyres"))
        embedder.is_down = True
        knowing = Memories(memories.store, memories.index, clock, embedding=Embedding(embedder, memories.index, clock))
        recall = await knowing.recall(SCOPE, "car")
        assert texts(recall) == ["The car needs new tyres"]
        assert recall.missing == ("vectors: The embedder is on holiday.",)
        assert recollections(recall).missing == recall.missing


async def test_vectors_that_only_know_words_are_not_asked() -> None:
    clock, embedder = Clock(), Meanings("lexical")
    async with memories_in(clock=clock) as memories:
        await remembering(memories, wish("The car needs new tyres"))
        knowing = Memories(memories.store, memories.index, clock, embedding=Embedding(embedder, memories.index, clock))
        assert texts(await knowing.recall(SCOPE, "car")) == ["The car needs new tyres"]
        assert embedder.asked == 0


async def test_nobody_sees_what_is_not_theirs() -> None:
    bea, session = Scope(TENANT, "coder", "bea"), Scope(TENANT, "coder", "ann", "ses_1")
    readers = [SCOPE, bea, session, SCOPE.at("agent"), SCOPE.at("tenant"), Scope("other", "coder", "ann")]
    async with memories_in() as memories:
        for reader in readers:
            await remembering(memories, wish(f"The printer of {reader}"), scope=reader)
        for reader in readers:
            for question in ("printer", "who?"):
                recall = await memories.recall(reader, question, limit=50)
                assert set(texts(recall)) == {f"The printer of {scope}" for scope in readers if scope in reader.visible}


async def test_no_more_is_told_than_there_is_room_for() -> None:
    async with memories_in() as memories:
        await remembering(
            memories,
            wish("printer printer printer", importance=0.9),
            wish("printer " + "x" * 5000, importance=0.9),
            wish("The printer is broken", importance=0.1),
        )
        whole = await memories.recall(SCOPE, "printer")
        short = sum(tokens_of(one.entry) for one in whole.found if len(one.entry.memory.text) < 100)
        recall = await memories.recall(SCOPE, "printer", tokens=short)
        assert len(whole.found) == 3
        assert {len(text) < 100 for text in texts(recall)} == {True}
        assert (len(recall.found), recall.left_out) == (2, 1)
        assert len(msgspec.json.encode(recollections(recall).memories)) < 8 * short
        assert (await memories.recall(SCOPE, "printer", tokens=0)).left_out == 3


async def test_what_contradicts_is_told_side_by_side() -> None:
    async with memories_in() as memories:
        ids = await remembering(
            memories,
            lives("Berlin"),
            lives("Munich", labels=("untrusted",)),
            *(wish(f"Berlin is large, says number {number}") for number in range(20)),
        )
        for limit in (2, 8, 50):
            recall = await memories.recall(SCOPE, "Ann Berlin", limit=limit)
            told = [one.entry.memory.id for one in recall.found]
            assert len(told) == len(set(told)) <= limit
            assert abs(told.index(ids[0]) - told.index(ids[1])) == 1
        recall = await memories.recall(SCOPE, "Ann Berlin", limit=2)
        shown = {one.id: one.contradicts for one in recollections(recall).memories}
        assert (shown[ids[0]], shown[ids[1]]) == ((ids[1],), (ids[0],))


async def test_what_was_not_in_force_then_is_not_told_beside_what_it_contradicts_now() -> None:
    async with memories_in() as memories:
        relation = Relation("Ann", "lives_in", "Paris", is_single=True)
        other = wish("Somebody told of Paris", relation=relation, labels=("untrusted",))
        berlin, _ = await remembering(memories, lives("Berlin"), other)
        before = (await memories.catch_up([SCOPE]))[SCOPE]
        await memories.forget(SCOPE, [berlin], by="user:ann")
        between = (await memories.catch_up([SCOPE]))[SCOPE]
        await memories.restore(SCOPE, [berlin], by="user:ann")
        for position, count in ((before, 2), (between, 1), (None, 2)):
            assert len(texts(await memories.recall(SCOPE, "Paris", which=Filter(as_of=position)))) == count


async def test_what_is_told_beside_another_is_not_told_again_further_down() -> None:
    async with memories_in(weights=Weights(graph=0)) as memories:
        ids = await remembering(
            memories,
            lives("Berlin", importance=1.0),
            lives("Munich", labels=("untrusted",), importance=0.0),
            *(wish(f"Ann, Berlin, {number}, {'x' * 5000}", importance=1.0) for number in range(3)),
        )
        entries = await memories.index.get([SCOPE], ids[:2])
        room = 2 * sum(tokens_of(entry) for entry in entries)
        recall = await memories.recall(SCOPE, "Ann lives Berlin", limit=3, tokens=room)
        assert [one.entry.memory.id for one in recall.found] == ids[:2]
        assert recall.left_out == 3


async def test_a_filter_holds_for_all_that_is_recalled() -> None:
    filters = [
        Filter(kinds=("episode",)),
        Filter(all_of=("garden",)),
        Filter(any_of=("garden", "river"), none_of=("report",)),
        Filter(session="ses_a"),
        Filter(from_us=NOW, to_us=NOW + 40),
        Filter(key_prefix="b"),
        Filter(valid_at_us=DAY),
        Filter(is_closed_too=True),
    ]
    async with memories_in() as memories:
        await History(memories, seed=5).go_on(80)
        for which in filters:
            every = {entry.memory.id for entry in await memories.index.page([SCOPE], which, limit=10_000)}
            for question in ("garden river report Ann lives", "who?"):
                recall = await memories.recall(SCOPE, question, which=which, limit=100)
                found = {one.entry.memory.id for one in recall.found}
                assert found <= every, which
                assert found == every or question != "who?", which  # where nothing is looked for, all are told


async def test_only_what_was_told_is_counted_and_once_for_each_call() -> None:
    async with memories_in() as memories:
        ids = await remembering(memories, wish("The printer is broken"), wish("The printer is on fire"), wish("Tea"))
        first = await memories.recall(SCOPE, "printer", limit=1, call="ses_b/1.1")
        again = await memories.recall(SCOPE, "printer", limit=1, call="ses_b/1.1")
        assert texts(first) == texts(again)
        await memories.recall(SCOPE, "printer", limit=1)
        counts = {entry.memory.id: entry.recalls for entry in await memories.index.get([SCOPE], ids)}
        told = first.found[0].entry.memory.id
        assert counts == dict.fromkeys(ids, 0) | {told: 1}
        recalled = [event for event in await events_of(memories.store, SCOPE) if isinstance(event, MemoryRecalled)]
        assert recalled == [MemoryRecalled((told,), "ses_b/1.1")]


async def test_a_call_that_another_process_performs_again_counts_once() -> None:
    async with memories_in() as memories:
        await remembering(memories, wish("The printer is broken"))
        await memories.recall(SCOPE, "printer", call="ses_b/1.1")
        other = Memories(memories.store, memories.index, Clock())
        await other.recall(SCOPE, "printer", call="ses_b/1.1")
        assert [entry.recalls for entry in await memories.index.page([SCOPE])] == [1]


async def test_each_scope_counts_what_was_told_of_it() -> None:
    async with memories_in() as memories:
        for scope in SCOPE.visible:
            await remembering(memories, wish(f"The printer of {scope}"), scope=scope)
        await memories.recall(SCOPE, "printer", call="ses_b/1.1")
        for scope in SCOPE.visible:
            assert [entry.recalls for entry in await memories.index.page([scope])] == [1]


async def test_what_is_recalled_at_the_same_time_is_counted_together() -> None:
    async with memories_in() as memories:
        await remembering(memories, wish("The printer is broken"))
        await asyncio.gather(*(memories.recall(SCOPE, "printer", call=f"ses_b/{number}.1") for number in range(30)))
        assert [entry.recalls for entry in await memories.index.page([SCOPE])] == [30]


class FullStore(MemoryStore):
    """A store that may come to be full."""

    is_full = False

    async def append(self, append: Append) -> int:
        if self.is_full:
            raise StoreFull
        return await super().append(append)


async def test_that_it_cannot_be_counted_keeps_nothing_from_being_recalled() -> None:
    async with memories_in() as empty:
        store = FullStore()
        memories = Memories(store, empty.index, Clock())
        await remembering(memories, wish("The printer is broken"))
        store.is_full = True
        recall = await memories.recall(SCOPE, "printer", call="ses_b/1.1")
        assert texts(recall) == ["The printer is broken"]
        assert recall.missing == (f"counts: {StoreFull().message}",)
        store.is_full = False
        assert (await memories.recall(SCOPE, "printer", call="ses_b/1.1")).missing == ()
        assert [entry.recalls for entry in await memories.index.page([SCOPE])] == [1]


async def test_what_could_not_be_counted_for_others_is_counted_the_next_time() -> None:
    async with memories_in() as empty:
        store = FullStore()
        memories = Memories(store, empty.index, Clock())
        await remembering(memories, wish("The printer is broken"))
        store.is_full = True
        recalls = await asyncio.gather(
            *(memories.recall(SCOPE, "printer", call=f"ses_b/{number}.1") for number in range(5))
        )
        assert all(recall.missing for recall in recalls)
        store.is_full = False
        await memories.recall(SCOPE, "printer", call="ses_b/9.1")
        assert [entry.recalls for entry in await memories.index.page([SCOPE])] == [6]


async def test_what_only_a_later_attempt_was_given_is_counted_too() -> None:
    async with memories_in() as memories:
        await remembering(memories, wish("The printer is broken"))
        await memories.recall(SCOPE, "printer", call="ses_b/1.1")
        await memories.remember(SCOPE, wish("The printer is green"), key="later")
        other = Memories(memories.store, memories.index, Clock())
        for again in (memories, other):
            await again.recall(SCOPE, "printer", call="ses_b/1.1", is_again=again is other)
            assert [entry.recalls for entry in await memories.index.page([SCOPE])] == [1, 1]
        assert sum(isinstance(event, MemoryRecalled) for event in await events_of(memories.store, SCOPE)) == 2


@pytest.mark.parametrize("vector", [[float("nan"), 1.0], [float("inf"), 1.0], [0.0, 0.0], [1.0], []])
async def test_whatever_an_embedder_answers_words_find_what_they_find(vector: Sequence[float]) -> None:
    class Broken(Meanings):
        async def embed(self, texts: Sequence[str], *, purpose: str = "document") -> list[Sequence[float]]:
            return [vector if purpose == "query" else [1.0, 0.0] for _ in texts]

    async with memories_in() as empty:
        embedding = Embedding(Broken(), empty.index, Clock())
        memories = Memories(empty.store, empty.index, Clock(), embedding=embedding)
        await remembering(memories, wish("The printer is broken"))
        await embedding.fill([SCOPE])
        assert texts(await memories.recall(SCOPE, "printer")) == ["The printer is broken"]


@pytest.mark.parametrize("odd", ["\ud800", "\0", "\u202e", "t\u0301", '" OR NEAR(', "*", "'", "\x1b[2J", "\U0001f600"])
async def test_whatever_is_asked_the_words_in_it_are_found(odd: str) -> None:
    async with memories_in() as memories:
        await remembering(memories, wish("The printer is broken"))
        assert texts(await memories.recall(SCOPE, f"{odd} printer {odd}", call="ses_b/1.1")) == [
            "The printer is broken"
        ]


async def test_the_more_often_it_was_recalled_the_further_up_it_is() -> None:
    async with memories_in() as memories:
        await remembering(
            memories, wish("The printer is broken", tags=("x",)), wish("The printer is broken!", tags=("y",))
        )
        before = await memories.recall(SCOPE, "printer")
        for number in range(20):
            await memories.recall(SCOPE, "printer", which=Filter(all_of=("x",)), call=f"ses_b/{number}.1")
        after = await memories.recall(SCOPE, "printer")
        assert texts(before) == ["The printer is broken!", "The printer is broken"]
        assert texts(after) == ["The printer is broken", "The printer is broken!"]


def found_by_itself(recall: Recall) -> set[str]:
    """What was found, without what only stands beside it because they contradict one another as of today."""
    is_sought = any("words" in one.lanes for one in recall.found)
    return {one.entry.memory.id for one in recall.found if "words" in one.lanes or not is_sought}


QUESTIONS = ("garden river", "Where does Ann live?", "invoice report budget", "who?")


@pytest.mark.parametrize("seed", range(8))
async def test_as_of_a_position_the_same_is_found_that_was_found_then(seed: int) -> None:
    # Neighbours in time are those of today, and so is which words are rare, and what is followed from the best hits.
    weights = Weights(neighbours=0, graph=0)
    async with memories_in(weights=weights) as memories:
        history = History(memories, seed)
        then: list[tuple[int, str, set[str]]] = []
        for _ in range(6):
            await history.go_on(10)
            position = (await memories.catch_up([SCOPE]))[SCOPE]
            for question in QUESTIONS:
                recall = await memories.recall(SCOPE, question, limit=500)
                then.append((position, question, found_by_itself(recall)))
        for position, question, found in then:
            recall = await memories.recall(SCOPE, question, which=Filter(as_of=position), limit=500)
            assert found_by_itself(recall) == found, f"seed {seed}, {question} at {position}"


async def test_relations_are_followed_as_of_a_position() -> None:
    async with memories_in() as memories:
        berlin, munich = await remembering(memories, lives("Berlin"), lives("Munich"))
        first, second = (entry.position for entry in await memories.index.get([SCOPE], [berlin, munich]))
        for position, expected in (
            (first - 1, []),
            (first, ["Ann lives in Berlin"]),
            (second + 1, ["Ann lives in Munich"]),
        ):
            recall = await memories.recall(SCOPE, "Ann?", which=Filter(as_of=position))
            assert texts(recall) == expected
            assert all(one.lanes["graph"] == 1 for one in recall.found)


async def test_the_same_question_is_answered_the_same() -> None:
    async with memories_in() as memories:
        await History(memories, seed=9).go_on(60)
        for question in QUESTIONS:
            answers = []
            for _ in range(2):
                asked = Memories(memories.store, memories.index, Clock())
                answers.append(
                    [(one.entry.memory.id, one.score) for one in (await asked.recall(SCOPE, question)).found]
                )
                await memories.rebuild(TENANT)
            assert answers[0] == answers[1]
