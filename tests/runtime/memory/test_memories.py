"""What is remembered, forgotten, restored and pinned, and by whom it can be found."""

import asyncio
import shutil
from itertools import combinations
from pathlib import Path

import pytest

from ostler.adapters.store.sqlite import SqliteStore
from ostler.domain.memory.events import EntityDescribed, MemoryOpened, MemoryRemembered, MemoryRetracted
from ostler.domain.memory.memory import Memory, memory_id
from ostler.domain.memory.scope import Scope
from ostler.domain.memory.settings import Keeping
from ostler.domain.memory.writing import are_rivals
from ostler.kernel.errors import NotAllowed, NotFound, QuotaExceeded, UsageError
from ostler.ports.memory import EVERYTHING
from ostler.runtime.memory.memories import BATCH, Memories
from tests.runtime.crash import Clock
from tests.runtime.memory.remembering import (
    DAY,
    SCOPE,
    SOURCE,
    TENANT,
    History,
    entries_of,
    events_of,
    lives,
    memories_in,
    wish,
)


async def texts_in_force(memories: Memories, scope: Scope = SCOPE) -> set[str]:
    await memories.catch_up([scope])
    return {entry.memory.text for entry in await memories.index.page([scope], limit=10_000)}


async def test_a_memory_is_an_event_of_the_stream_of_its_scope(tmp_path: Path) -> None:
    async with memories_in(tmp_path) as memories:
        remembered = await memories.remember(SCOPE, wish("Ann likes tea"), key="ses_a/1.1")
        opened, event = await events_of(memories.store, SCOPE)
        assert opened == MemoryOpened(SCOPE)
        assert isinstance(event, MemoryRemembered)
        assert event.memory.id == remembered.id == memory_id(SCOPE, "ses_a/1.1")
        (info,) = await memories.store.streams(TENANT)
        assert info.standing.queue == "memory"
        assert info.standing.due_us is None


async def test_a_call_remembers_once_however_often_it_is_tried() -> None:
    async with memories_in() as memories:
        told = [await memories.remember(SCOPE, wish(), key="ses_a/1.1") for _ in range(3)]
        assert [one.outcome for one in told] == ["new", "repeated", "repeated"]
        assert len({one.id for one in told}) == 1
        assert len(await events_of(memories.store, SCOPE)) == 2


async def test_a_call_that_is_tried_again_brings_nothing_back_that_was_forgotten() -> None:
    async with memories_in() as memories:
        remembered = await memories.remember(SCOPE, wish(), key="ses_a/1.1")
        assert await memories.forget(SCOPE, [remembered.id], by="user:ann") == [remembered.id]
        assert (await memories.remember(SCOPE, wish(), key="ses_a/1.1")).outcome == "repeated"
        assert await texts_in_force(memories) == set()


async def test_a_newer_value_closes_the_older_one_and_both_stay_in_the_history() -> None:
    async with memories_in() as memories:
        older = await memories.remember(SCOPE, lives("Berlin"), key="1")
        newer = await memories.remember(SCOPE, lives("Munich"), key="2")
        assert newer.superseded == (older.id,)
        assert await texts_in_force(memories) == {"Ann lives in Munich"}
        assert {entry.memory.text for entry in await entries_of(memories, [SCOPE])} == {
            "Ann lives in Berlin",
            "Ann lives in Munich",
        }


async def test_scopes_know_nothing_of_each_other_when_they_write() -> None:
    async with memories_in() as memories:
        other = Scope(TENANT, "coder", "bea")
        told = [await memories.remember(scope, lives("Berlin"), key="1") for scope in (SCOPE, other, SCOPE.at("agent"))]
        assert [one.outcome for one in told] == ["new", "new", "new"]
        assert len({one.id for one in told}) == 3


async def test_nothing_is_written_of_what_cannot_be_remembered(tmp_path: Path) -> None:
    secret = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5"
    async with memories_in(tmp_path) as memories:
        with pytest.raises(NotAllowed):
            await memories.remember_all(SCOPE, [("1", wish()), ("2", wish(f"The token is {secret}"))])
        with pytest.raises(UsageError):
            await memories.remember_all(SCOPE, [("1", wish()), ("2", wish(""))])
        assert await memories.store.head() == 0
    assert not any(secret.encode() in path.read_bytes() for path in tmp_path.iterdir())


async def test_many_are_remembered_in_few_appends_and_once(tmp_path: Path) -> None:
    async with memories_in(tmp_path) as memories:
        wishes = [(f"import/{number}", wish(f"Fact number {number}")) for number in range(3 * BATCH)]
        store = memories.store
        assert isinstance(store, SqliteStore)
        commits = store.commits
        told = await memories.remember_all(SCOPE, [*wishes, wishes[0]])
        assert store.commits - commits == 3
        assert [one.outcome for one in told] == ["new"] * len(wishes) + ["repeated"]
        again = await memories.remember_all(SCOPE, wishes)
        assert {one.outcome for one in again} == {"repeated"}
        assert len(await texts_in_force(memories)) == len(wishes)


async def test_where_there_is_no_room_what_came_before_stays_and_nothing_else_is_written() -> None:
    async with memories_in(keeping=Keeping(memories_max=BATCH)) as memories:
        wishes = [(str(number), wish(f"Fact number {number}")) for number in range(BATCH + 1)]
        with pytest.raises(QuotaExceeded):
            await memories.remember_all(SCOPE, wishes)
        assert len(await texts_in_force(memories)) == BATCH
        gone = memory_id(SCOPE, "0")
        assert await memories.forget(SCOPE, [gone], by="user:ann") == [gone]
        assert (await memories.remember(SCOPE, wish("Another fact"), key="x")).outcome == "new"


async def test_of_too_many_episodes_the_strongest_stay() -> None:
    async with memories_in(keeping=Keeping(episodes_max=10)) as memories:
        wishes = [
            (str(number), wish(f"Episode {number}", kind="episode", importance=(number * 7 % 30) / 30, source=SOURCE))
            for number in range(30)
        ]
        for start in (0, 15):
            await memories.remember_all(SCOPE, wishes[start : start + 15])
        kept = {entry.memory.importance for entry in await memories.index.page([SCOPE])}
        assert kept == {number / 30 for number in range(20, 30)}


async def test_when_there_comes_to_be_less_room_the_weakest_go_with_the_next_that_comes() -> None:
    async with memories_in() as memories:
        wishes = [
            (str(number), wish(f"Episode {number}", kind="episode", importance=number / 30)) for number in range(30)
        ]
        await memories.remember_all(SCOPE, wishes)
        fewer = Memories(memories.store, memories.index, Clock(), keeping=Keeping(episodes_max=3))
        told = await fewer.remember(SCOPE, wish("The last one", kind="episode", importance=0.5), key="x")
        assert len(told.evicted) == 28
        kept = sorted(entry.memory.importance for entry in await fewer.index.page([SCOPE]))
        assert kept == [27 / 30, 28 / 30, 29 / 30]


async def test_what_is_pinned_is_never_evicted() -> None:
    async with memories_in(keeping=Keeping(episodes_max=2)) as memories:
        weak = await memories.remember(SCOPE, wish("weak", kind="episode", importance=0.1), key="1")
        await memories.pin(SCOPE, weak.id, by="user:ann")
        await memories.pin(SCOPE, weak.id, by="user:ann")
        for number in range(5):
            await memories.remember(SCOPE, wish(f"strong {number}", kind="episode", importance=0.9), key=f"s{number}")
        assert "weak" in await texts_in_force(memories)
        await memories.pin(SCOPE, weak.id, by="user:ann", is_pinned=False)
        await memories.remember(SCOPE, wish("strong x", kind="episode", importance=0.9), key="x")
        assert "weak" not in await texts_in_force(memories)
        assert len(await texts_in_force(memories)) == 2


async def test_only_what_is_there_can_be_pinned() -> None:
    async with memories_in() as memories:
        with pytest.raises(NotFound):
            await memories.pin(SCOPE, "mem_unknown", by="user:ann")


async def test_forgetting_is_of_this_scope_only_and_once() -> None:
    async with memories_in() as memories:
        remembered = await memories.remember(SCOPE, wish(), key="1")
        assert await memories.forget(Scope(TENANT, "coder", "bea"), [remembered.id], by="x") == []
        assert await memories.forget(SCOPE, [remembered.id, remembered.id, "mem_unknown"], by="user:ann") == [
            remembered.id
        ]
        assert await memories.forget(SCOPE, [remembered.id], by="user:ann") == []
        retracted = [event for event in await events_of(memories.store, SCOPE) if isinstance(event, MemoryRetracted)]
        assert retracted == [MemoryRetracted((remembered.id,), "forgotten", "user:ann")]


async def test_what_is_restored_beside_what_took_its_place_contradicts_it() -> None:
    async with memories_in() as memories:
        older = await memories.remember(SCOPE, lives("Berlin"), key="1")
        newer = await memories.remember(SCOPE, lives("Munich"), key="2")
        assert await memories.restore(SCOPE, [older.id], by="user:ann") == [older.id]
        assert await memories.restore(SCOPE, [older.id], by="user:ann") == []
        entries = await memories.index.get([SCOPE], [older.id, newer.id])
        assert [entry.contradicts for entry in entries] == [(newer.id,), (older.id,)]
        assert [entry.until for entry in entries] == [None, None]


async def test_what_is_restored_together_contradicts_each_other() -> None:
    async with memories_in() as memories:
        places = ("Berlin", "Munich", "Paris")
        berlin, munich, paris = [(await memories.remember(SCOPE, lives(place), key=place)).id for place in places]
        await memories.forget(SCOPE, [paris], by="user:ann")
        await memories.restore(SCOPE, [berlin, munich], by="user:ann")
        assert {
            entry.memory.id: entry.contradicts for entry in await memories.index.get([SCOPE], [berlin, munich])
        } == {berlin: (munich,), munich: (berlin,)}


async def test_what_is_known_of_an_entity_is_not_written_again() -> None:
    async with memories_in() as memories:
        entity = EntityDescribed("Ann", "person", SOURCE, {"age": 30})
        await memories.describe(SCOPE, entity)
        await memories.describe(SCOPE, entity)
        assert len(await events_of(memories.store, SCOPE)) == 2
        with pytest.raises(NotAllowed):
            await memories.describe(SCOPE, EntityDescribed("Ann", "robot", SOURCE, labels=("untrusted",)))
        await memories.describe(SCOPE, EntityDescribed("Ann", "engineer", SOURCE))
        assert [entity.kind for entity in await memories.index.entities([SCOPE])] == ["engineer"]


async def test_whoever_has_memories_in_a_tenant_is_found() -> None:
    scopes = [SCOPE, SCOPE.at("agent"), SCOPE.at("tenant"), Scope(TENANT, "coder", "bea", "ses_1")]
    async with memories_in() as memories:
        for scope in (*scopes, Scope("other", "coder")):
            await memories.remember(scope, wish(), key="1")
        assert await memories.catch_up_all(TENANT) == sorted(scopes)
        await memories.index.clear()
        assert await memories.catch_up_all(TENANT) == sorted(scopes)
        assert await memories.index.scopes("other") == []


async def test_catching_up_tells_the_position_of_the_last_event() -> None:
    async with memories_in() as memories:
        assert await memories.catch_up([SCOPE]) == {SCOPE: 0}
        await memories.remember(SCOPE, wish("one"), key="1")
        before = await memories.catch_up([SCOPE])
        await memories.remember(SCOPE.at("agent"), wish("two"), key="2")
        assert await memories.catch_up([SCOPE]) == before
        head = await memories.store.head()
        assert await memories.catch_up(SCOPE.visible) == {
            SCOPE: before[SCOPE],
            SCOPE.at("agent"): head,
            SCOPE.at("tenant"): 0,
        }


async def test_an_index_that_knows_of_more_than_was_written_begins_anew(tmp_path: Path) -> None:
    async with memories_in(tmp_path) as memories:
        await memories.remember_all(SCOPE, [(str(number), wish(f"Fact {number}")) for number in range(5)])
    for path in tmp_path.glob("ostler.db*"):
        if ".memory" not in path.name:
            path.unlink()
    async with memories_in(tmp_path) as memories:
        assert await texts_in_force(memories) == set()
        await memories.remember(SCOPE, wish("Another"), key="x")
        assert await texts_in_force(memories) == {"Another"}


@pytest.mark.parametrize("is_set_back", [False, True])
async def test_an_index_of_another_store_or_of_what_was_lost_begins_anew(tmp_path: Path, is_set_back: bool) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for place in (here, there):
        place.mkdir()
    async with memories_in(here) as memories:
        await memories.remember(SCOPE, wish("first"), key="1")
    if is_set_back:
        shutil.copy(here / "ostler.db", there)
    async with memories_in(here) as memories:
        await memories.remember(SCOPE, wish("lost"), key="2")
    async with memories_in(there) as memories:
        await memories.remember_all(SCOPE, [(str(number), wish(f"Fact {number}")) for number in range(3, 7)])
        expected = await entries_of(memories, [SCOPE])
    for path in here.glob("ostler.db*"):
        if ".memory" not in path.name:
            path.unlink()
    shutil.copy(there / "ostler.db", here)
    async with memories_in(here) as memories:
        await memories.catch_up([SCOPE])
        assert await entries_of(memories, [SCOPE]) == expected


@pytest.mark.parametrize("seed", range(12))
async def test_an_index_that_is_filled_again_says_the_same(seed: int) -> None:
    async with memories_in(keeping=Keeping(episodes_max=12)) as memories:
        await History(memories, seed).go_on(60)
        before = await entries_of(memories, [SCOPE])
        held, entities = await memories.index.held(SCOPE), await memories.index.entities([SCOPE])
        edges = sorted(edge.id for _, edge in await memories.index.edges([SCOPE]))
        events = await memories.rebuild(TENANT)
        assert events == len(await events_of(memories.store, SCOPE)), f"seed {seed}"
        assert await entries_of(memories, [SCOPE]) == before, f"seed {seed}"
        assert (await memories.index.held(SCOPE), await memories.index.entities([SCOPE])) == (held, entities)
        assert sorted(edge.id for _, edge in await memories.index.edges([SCOPE])) == edges


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_happens_what_cannot_both_be_true_is_told_to_be_a_contradiction(seed: int) -> None:
    async with memories_in() as memories:
        await History(memories, seed).go_on(60)
        there = [entry for entry in await entries_of(memories, [SCOPE], EVERYTHING) if _is_timeless(entry.memory)]
        for one, other in combinations(there, 2):
            if are_rivals(one.memory, other.memory):
                assert other.memory.id in one.contradicts, f"seed {seed}: {one.memory.text}, {other.memory.text}"


def _is_timeless(memory: Memory) -> bool:
    return memory.valid_from_us is None and memory.valid_to_us is None


async def test_memories_are_found_while_the_index_is_filled_again() -> None:
    async with memories_in() as memories:
        await memories.remember_all(SCOPE, [(str(number), wish(f"Fact {number}")) for number in range(700)])
        rebuilding = asyncio.gather(memories.rebuild(TENANT), memories.rebuild(TENANT))
        told = await asyncio.gather(
            *(memories.remember(SCOPE, wish(f"Fact {number}"), key=f"again {number}") for number in range(20))
        )
        await rebuilding
        assert {one.outcome for one in told} == {"known"}
        assert len(await texts_in_force(memories)) > 0
        held = await memories.index.held(SCOPE)
        assert held.in_force["fact"] == 700


async def test_a_strength_is_the_same_however_often_a_memory_is_recalled() -> None:
    async with memories_in() as memories:
        await memories.remember(SCOPE, wish("The garden gate", kind="episode", happened_us=DAY), key="1")
        for number in range(5):
            await memories.recall(SCOPE, "garden", call=f"ses_b/{number}.1")
        (entry,) = await memories.index.page([SCOPE])
        assert entry.recalls == 5
        assert (entry.memory.importance, entry.memory.happened_us) == (0.5, DAY)
