"""Consolidation at work: whole steps that lose to nobody, can be undone, and say what became of what."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import pytest

from ostler.adapters.index.sqlite import SqliteIndex
from ostler.adapters.store.memory import MemoryStore
from ostler.adapters.store.sqlite import SqliteStore
from ostler.domain.memory.events import MEMORY_CODEC, MemoryConsolidated, MemoryRemembered, MemoryRetracted
from ostler.domain.memory.memory import Relation, Source
from ostler.domain.memory.scope import Scope
from ostler.domain.memory.settings import Consolidating, Keeping
from ostler.domain.memory.writing import Wish
from ostler.kernel.errors import NotFound, OstlerError, StaleWrite
from ostler.ports import Append, EventStore
from ostler.ports.memory import Entry, Filter
from ostler.runtime.memory.consolidation import Consolidation
from ostler.runtime.memory.embedding import Embedding
from ostler.runtime.memory.memories import Memories

T = TypeVar("T")

HERE, THERE = Scope("acme", "clerk", "ann"), Scope("acme", "clerk", "bob")
DAY_US = 86_400_000_000
NOW_US = 2_000 * DAY_US
TEA = "Ann prefers green tea in the morning"


class SetClock:
    def __init__(self) -> None:
        self.now = NOW_US

    def now_us(self) -> int:
        return self.now


class House:
    """Memories in a store, and how tests put them there."""

    def __init__(self, store: EventStore, index: SqliteIndex) -> None:
        self.store = store
        self.clock = SetClock()
        self.memories = Memories(store, index, self.clock)
        self.consolidation = Consolidation(self.memories, self.clock)
        self.count = 0

    async def add(self, text: str, *, scope: Scope = HERE, session: str = "", **fields: Any) -> str:
        self.count += 1
        call = f"{session or f'ses_{self.count}'}/1.1"
        source = Source("agent:clerk", call, sources=fields.pop("sources", ("user",)))
        wish = Wish(fields.pop("kind", "fact"), text, source, **fields)
        return (await self.memories.remember(scope, wish, key=f"{call}#{self.count}")).id

    async def in_force(self, scope: Scope = HERE) -> list[Entry]:
        return await self.memories.index.page([scope])

    async def texts(self, scope: Scope = HERE) -> list[str]:
        return sorted(entry.memory.text for entry in await self.in_force(scope))

    async def events(self, scope: Scope = HERE) -> list[Any]:
        return [MEMORY_CODEC.decode(record.data) for record in await self.store.read(scope.stream)]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    store = await SqliteStore.open(tmp_path / "ostler.db")
    house = House(store, await SqliteIndex.open(":memory:"))
    yield house
    await house.memories.close()
    await store.close()


async def test_near_duplicates_become_one_and_the_log_says_which_became_which(house: House) -> None:
    first = await house.add(TEA, labels=("private",), importance=0.9)
    second = await house.add(f"{TEA}.", tags=("taste",))
    await house.add("Bob prefers green tea in the morning")
    report = await house.consolidation.consolidate(HERE)
    (became,) = report.became
    assert (became.how, set(became.of)) == ("merged", {first, second})
    assert report.looked_at == 3
    (entry,) = [entry for entry in await house.in_force() if entry.memory.id == became.into]
    assert (entry.memory.labels, entry.memory.tags, entry.memory.importance) == (("private",), ("taste",), 0.9)
    assert len(await house.in_force()) == 2
    remembered, consolidated = (await house.events())[-2:]
    assert isinstance(remembered, MemoryRemembered)
    assert consolidated == MemoryConsolidated(became.of, became.into, "merged")


async def test_a_second_run_finds_nothing_to_do_and_writes_nothing(house: House) -> None:
    for text in (TEA, f"{TEA}.", f"{TEA}!"):
        await house.add(text)
    for number in range(3):
        await house.add("The build failed", kind="episode", session=f"ses_x{number}")
    assert len((await house.consolidation.consolidate(HERE)).became) == 2
    version = len(await house.events())
    assert (await house.consolidation.consolidate(HERE)).became == ()
    assert len(await house.events()) == version


async def test_what_sessions_repeat_becomes_a_fact_beside_the_episodes(house: House) -> None:
    for number in range(3):
        await house.add("The build failed", kind="episode", session=f"ses_{number}", labels=("untrusted",))
    (became,) = (await house.consolidation.consolidate(HERE)).became
    kinds = sorted((entry.memory.kind, entry.memory.labels) for entry in await house.in_force())
    assert kinds == [("episode", ("untrusted",))] * 3 + [("fact", ("untrusted",))]
    assert became.how == "promoted"


async def test_nothing_is_promoted_into_a_scope_that_is_full(house: House) -> None:
    for session in ("ses_1", "ses_2", "ses_3"):
        await house.add(TEA, session=session, kind="episode")
    await house.add("Bob likes coffee")
    full = Memories(house.store, house.memories.index, house.clock, keeping=Keeping(memories_max=1))
    report = await Consolidation(full, house.clock).consolidate(HERE)
    assert (report.became, report.dropped) == ((), 1)
    assert await house.texts() == [TEA, TEA, TEA, "Bob likes coffee"]


async def test_what_is_put_back_in_force_beside_what_contradicts_it_says_so(house: House) -> None:
    def lives(place: str) -> dict[str, Any]:
        return {"relation": Relation("Ann", "lives_in", place, is_single=True)}

    await house.add("Ann lives in Berlin", **lives("Berlin"))
    one = await house.add("So Ann lives in Berlin", **lives("Berlin"))
    rules = Consolidating(alike=0.5)
    await Consolidation(house.memories, house.clock, rules=rules).consolidate(HERE)
    munich = await house.add("Ann lives in Munich", **lives("Munich"))
    assert len(await house.consolidation.restore(HERE, [one], by="operator:ann")) == 2
    contradicted = {entry.memory.id: entry.contradicts for entry in await house.in_force()}
    assert sorted(contradicted.pop(munich)) == sorted(contradicted)
    assert set(contradicted.values()) == {(munich,)}


async def test_what_faded_unused_goes_and_what_was_recalled_stays(house: House) -> None:
    used = await house.add("The cellar was flooded", kind="episode")
    unused = await house.add("Lunch was late", kind="episode")
    recall = await house.memories.recall(HERE, "cellar flooded", limit=1, call="ses_9/0.1")
    assert [one.entry.memory.id for one in recall.found] == [used]
    house.clock.now += 400 * DAY_US
    (became,) = (await house.consolidation.consolidate(HERE)).became
    assert (became.how, became.of) == ("decayed", (unused,))
    event = (await house.events())[-1]
    assert isinstance(event, MemoryRetracted)
    assert event.why == "decayed"
    assert await house.memories.restore(HERE, [unused], by="operator:ann") == [unused]
    assert await house.texts() == ["Lunch was late", "The cellar was flooded"]


async def test_merging_is_undone_as_if_it_had_not_been_and_not_done_again(house: House) -> None:
    ids = {await house.add(TEA), await house.add(f"{TEA}.")}
    (became,) = (await house.consolidation.consolidate(HERE)).became
    assert set(await house.consolidation.undo(HERE, became.into, by="operator:ann")) == ids
    assert {entry.memory.id for entry in await house.in_force()} == ids
    assert (await house.consolidation.consolidate(HERE)).became == ()
    assert await house.consolidation.undo(HERE, became.into, by="operator:ann") == []


async def test_a_promoted_fact_that_is_undone_leaves_the_episodes_and_does_not_come_back(house: House) -> None:
    for number in range(3):
        await house.add("The build failed", kind="episode", session=f"ses_{number}")
    (became,) = (await house.consolidation.consolidate(HERE)).became
    assert await house.consolidation.undo(HERE, became.into, by="operator:ann") == []
    await house.add("The build failed", kind="episode", session="ses_7")
    assert (await house.consolidation.consolidate(HERE)).became == ()
    assert {entry.memory.kind for entry in await house.in_force()} == {"episode"}


async def test_restoring_one_that_was_merged_brings_the_others_back_too_in_place_of_what_was_made(house: House) -> None:
    ids = {await house.add(TEA), await house.add(f"{TEA}.")}
    forgotten = await house.add("Something else")
    await house.memories.forget(HERE, [forgotten], by="operator:ann")
    await house.consolidation.consolidate(HERE)
    back = await house.consolidation.restore(HERE, [min(ids), forgotten], by="operator:ann")
    assert set(back) == {entry.memory.id for entry in await house.in_force()} == {*ids, forgotten}


async def test_only_what_consolidation_has_made_can_be_undone(house: House) -> None:
    name = await house.add(TEA)
    for made in (name, "mem_nobody"):
        with pytest.raises(NotFound, match="made by consolidation"):
            await house.consolidation.undo(HERE, made, by="operator:ann")


async def test_one_that_was_restored_on_purpose_is_not_merged_away_again(house: House) -> None:
    first = await house.add(TEA)
    await house.add(f"{TEA}.")
    await house.consolidation.consolidate(HERE)
    await house.memories.restore(HERE, [first], by="operator:ann")
    assert (await house.consolidation.consolidate(HERE)).became == ()


async def test_untrusted_words_never_take_the_place_of_trusted_ones(house: House) -> None:
    trusted = await house.add(TEA)
    await house.add(f"{TEA}!", labels=("untrusted",))
    assert (await house.consolidation.consolidate(HERE)).became == ()
    assert trusted in {entry.memory.id for entry in await house.in_force()}


async def test_scopes_are_consolidated_each_by_itself(house: House) -> None:
    await house.add(TEA)
    await house.add(f"{TEA}.", scope=THERE)
    assert (await house.consolidation.consolidate(HERE)).became == ()
    assert (await house.consolidation.consolidate(THERE)).became == ()


async def test_one_run_takes_no_more_steps_than_it_may_and_the_next_goes_on(house: House) -> None:
    for name in ("tea", "coffee", "milk"):
        await house.add(f"likes {name} very much")
        await house.add(f"likes {name} very much.")
    consolidation = Consolidation(house.memories, house.clock, rules=Consolidating(steps_max=2))
    first, second = await consolidation.consolidate(HERE), await consolidation.consolidate(HERE)
    assert (len(first.became), first.more) == (2, True)
    assert (len(second.became), second.more) == (1, False)


async def test_the_plan_is_told_without_doing_it(house: House) -> None:
    await house.add(TEA)
    await house.add(f"{TEA}.")
    version = len(await house.events())
    report = await house.consolidation.plan(HERE)
    assert [became.how for became in report.became] == ["merged"]
    assert len(await house.events()) == version


class Busy(MemoryStore):
    """A store in which somebody else writes just before each of the next appends."""

    def __init__(self) -> None:
        super().__init__()
        self.before: list[Callable[[], Awaitable[object]]] = []
        self.is_inside = False

    async def append(self, append: Append) -> Any:
        if self.before and not self.is_inside:
            self.is_inside = True
            try:
                await self.before.pop()()
            finally:
                self.is_inside = False
        return await super().append(append)


async def test_what_others_write_meanwhile_is_never_lost_and_the_step_is_decided_again() -> None:
    store = Busy()
    house = House(store, await SqliteIndex.open(":memory:"))
    other = Memories(store, await SqliteIndex.open(":memory:"), house.clock)
    first = await house.add(TEA)
    await house.add(f"{TEA}.")
    await house.add("likes long walks by the sea")
    await house.add("likes long walks by the sea!")

    async def forget() -> None:
        await other.forget(HERE, [first], by="operator:ann")

    async def remember() -> None:
        source = Source("user:ann", "ses_77/1.1")
        await other.remember(HERE, Wish("fact", "Something new", source), key="new")

    store.before = [forget, remember]
    report = await house.consolidation.consolidate(HERE)
    assert report.dropped == 1, "of the two about tea one was gone"
    assert [became.how for became in report.became] == ["merged"]
    assert await house.texts() == [f"{TEA}.", "Something new", "likes long walks by the sea!"]
    await house.memories.close()
    await other.close()


async def test_what_somebody_undid_while_it_was_planned_is_not_made_after_all() -> None:
    store = Busy()
    house = House(store, await SqliteIndex.open(":memory:"))
    for number in range(3):
        await house.add("The build failed", kind="episode", session=f"ses_{number}")
    other = Memories(store, await SqliteIndex.open(":memory:"), house.clock)
    rival = Consolidation(other, house.clock)

    async def make_and_undo() -> None:
        (became,) = (await rival.consolidate(HERE)).became
        await rival.undo(HERE, became.into, by="operator:ann")

    store.before = [make_and_undo]
    report = await house.consolidation.consolidate(HERE)
    assert (report.became, report.dropped) == ((), 1)
    assert {entry.memory.kind for entry in await house.in_force()} == {"episode"}
    await house.memories.close()
    await other.close()


async def test_two_at_once_merge_each_group_once() -> None:
    store = MemoryStore()
    house = House(store, await SqliteIndex.open(":memory:"))
    rival = Memories(store, await SqliteIndex.open(":memory:"), house.clock)
    for number in range(12):
        await house.add(f"likes number {number} very much")
        await house.add(f"likes number {number} very much.")
    reports = await asyncio.gather(
        house.consolidation.consolidate(HERE), Consolidation(rival, house.clock).consolidate(HERE)
    )
    assert sum(len(report.became) for report in reports) == 12
    assert sum(isinstance(event, MemoryConsolidated) for event in await house.events()) == 12
    assert len(await house.in_force()) == 12
    await house.memories.close()
    await rival.close()


class Crash(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("lives", range(4))
async def test_whoever_dies_in_between_has_done_whole_steps_and_the_next_does_the_rest(lives: int) -> None:
    store = Busy()
    house = House(store, await SqliteIndex.open(":memory:"))
    for name in ("tea", "coffee", "milk"):
        await house.add(f"likes {name} very much")
        await house.add(f"likes {name} very much.")

    async def live() -> None: ...

    async def die() -> None:
        raise Crash

    store.before = [die, *[live] * lives]
    try:
        await house.consolidation.consolidate(HERE)
    except Crash:
        assert lives < 3
    store.before = []
    assert len(await house.in_force()) == 6 - min(lives, 3)
    again = Memories(store, await SqliteIndex.open(":memory:"), house.clock)
    await Consolidation(again, house.clock).consolidate(HERE)
    assert len(await again.index.page([HERE])) == 3
    await house.memories.close()
    await again.close()


class Meaning:
    """An embedder for which texts that begin with the same letter mean the same."""

    fingerprint = "meaning"
    kind: Literal["semantic", "lexical"] = "semantic"

    async def embed(
        self, texts: Sequence[str], *, purpose: Literal["document", "query"] = "document"
    ) -> list[Sequence[float]]:
        return [[1.0 if ord(text[0].lower()) % 64 == slot else 0.0 for slot in range(64)] for text in texts]

    async def close(self) -> None: ...


async def test_what_means_the_same_is_merged_if_the_embedder_can_tell(house: House) -> None:
    index = house.memories.index
    embedding = Embedding(Meaning(), index, house.clock)
    memories = Memories(house.store, index, house.clock, embedding=embedding)
    await house.add("tea is what she likes")
    await house.add("the taste of tea pleases her")
    await house.add("to drink 3 cups is usual")
    await embedding.fill([HERE], 100)
    assert (await house.consolidation.consolidate(HERE)).became == ()
    (became,) = (await Consolidation(memories, house.clock).consolidate(HERE)).became
    assert became.text == "the taste of tea pleases her"
    assert len(became.of) == 2


async def test_a_scope_is_looked_through_once_it_has_grown_by_so_many(house: House) -> None:
    for number in range(3):
        await house.add(f"fact number {number}")
    await house.memories.catch_up([HERE])
    assert await house.consolidation.look([HERE], after=4) == []
    await house.add("fact number 4")
    (report,) = await house.consolidation.look([HERE], after=4)
    assert report.looked_at == 4
    assert await house.consolidation.look([HERE], after=4) == []
    await house.add("fact number 5")
    assert await house.consolidation.look([HERE], after=4) == []


async def test_being_recalled_is_no_growth(house: House) -> None:
    await house.add("fact number 1")
    for number in range(10):
        await house.memories.recall(HERE, "fact", call=f"ses_9/{number}")
    assert await house.consolidation.look([HERE], after=4) == []


async def test_in_the_background_trouble_is_told_and_ends_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ostler.runtime.memory.consolidation.LOOK_S", 0.0)
    await house.add(TEA)
    await house.add(f"{TEA}.")
    troubles: list[OstlerError] = []
    fails: list[Exception] = [ValueError("a slip"), StaleWrite("busy")]

    async def everywhere() -> Sequence[Scope]:
        if fails:
            raise fails.pop()
        return [HERE]

    running = asyncio.create_task(house.consolidation.run(everywhere, after=2, trouble=troubles.append))
    async with asyncio.timeout(30):
        while len(await house.in_force()) > 1:  # noqa: ASYNC110  nobody says when
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert [error.message for error in troubles] == ["busy", "A defect of Ostler: ValueError: a slip"]


async def test_as_of_before_everything_is_as_it_was(house: House) -> None:
    await house.add(TEA)
    await house.add(f"{TEA}.")
    before = (await house.memories.catch_up([HERE]))[HERE]
    await house.consolidation.consolidate(HERE)
    was = await house.memories.index.page([HERE], Filter(as_of=before))
    assert sorted(entry.memory.text for entry in was) == [TEA, f"{TEA}."]
    await house.memories.rebuild("acme")
    assert len(await house.in_force()) == 1
