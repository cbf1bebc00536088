"""Undoing what a run or a tool has written."""

import pytest

from ostler.domain.memory.events import EntityDescribed, MemoryConsolidated, MemoryEvent, MemoryRemembered
from ostler.domain.memory.memory import Memory, Source
from ostler.domain.memory.scope import Scope
from ostler.domain.memory.settings import Keeping
from ostler.domain.memory.writing import Wish, wished
from ostler.kernel.errors import UsageError
from ostler.runtime.memory.journal import Decided
from ostler.runtime.memory.memories import Memories
from tests.runtime.crash import Clock
from tests.runtime.memory.remembering import SCOPE, TENANT, events_of, lives, memories_in, wish

GOOD = Source("agent:coder", "ses_good/1.1")
BAD = Source("agent:coder", "ses_bad/1.1", ("user", "tool.web.fetch"))


async def texts_in_force(memories: Memories, scope: Scope = SCOPE) -> set[str]:
    await memories.catch_up([scope])
    return {entry.memory.text for entry in await memories.index.page([scope])}


async def undo(memories: Memories, after: int = 0) -> dict[Scope, list[str]]:
    return await memories.roll_back(TENANT, session="ses_bad", after=after, by="operator:op", because="it was poisoned")


async def test_all_that_a_run_wrote_goes_wherever_it_is() -> None:
    async with memories_in() as memories:
        for scope in SCOPE.visible:
            for number, source in enumerate((GOOD, BAD)):
                text = f"{scope} by {source.session}"
                await memories.remember(scope, wish(text, source=source), key=f"{scope}{number}")
        gone = await undo(memories)
        assert set(gone) == set(SCOPE.visible)
        for scope in SCOPE.visible:
            assert await texts_in_force(memories, scope) == {f"{scope} by ses_good"}
            (entry,) = await memories.index.get([scope], gone[scope])
            assert entry.ended_by == "rolled_back"
        assert await undo(memories) == {}


@pytest.mark.parametrize("source", ["tool.web.fetch", "tool.web.*"])
async def test_all_that_was_made_of_what_a_tool_said_goes(source: str) -> None:
    async with memories_in() as memories:
        await memories.remember(SCOPE, wish("from the web", source=BAD), key="1")
        await memories.remember(SCOPE, wish("from a person", source=GOOD), key="2")
        await memories.roll_back(TENANT, source=source, by="operator:op", because="the site was taken over")
        assert await texts_in_force(memories) == {"from a person"}


async def test_what_was_written_before_the_position_stays() -> None:
    async with memories_in() as memories:
        await memories.remember(SCOPE, wish("before", source=BAD), key="1")
        position = (await memories.catch_up([SCOPE]))[SCOPE]
        await memories.remember(SCOPE, wish("after", source=BAD), key="2")
        await undo(memories, after=position)
        assert await texts_in_force(memories) == {"before"}


async def test_what_it_had_taken_the_place_of_is_in_force_again() -> None:
    async with memories_in() as memories:
        await memories.remember(SCOPE, lives("Berlin", source=GOOD), key="1")
        await memories.remember(SCOPE, lives("Munich", source=BAD), key="2")
        await memories.remember(SCOPE, lives("Paris", source=BAD), key="3")
        await undo(memories)
        assert await texts_in_force(memories) == {"Ann lives in Berlin"}


async def test_what_somebody_else_has_replaced_since_stays_as_it_is() -> None:
    async with memories_in() as memories:
        await memories.remember(SCOPE, lives("Berlin", source=GOOD), key="1")
        await memories.remember(SCOPE, lives("Munich", source=BAD), key="2")
        await memories.remember(SCOPE, lives("Paris", source=GOOD), key="3")
        assert await undo(memories) == {}
        assert await texts_in_force(memories) == {"Ann lives in Paris"}


async def test_what_was_made_of_it_goes_too_and_what_that_had_replaced_comes_back() -> None:
    async with memories_in() as memories:
        good = await memories.remember(SCOPE, wish("The garden gate squeaks", source=GOOD), key="1")
        bad = await memories.remember(SCOPE, wish("The garden gate does squeak", source=BAD), key="2")
        merged = wished(
            SCOPE,
            Wish("fact", "The garden gate squeaks loudly", Source("consolidation", of=(good.id, bad.id))),
            key="merged",
            at_us=Clock().us,
        )

        async def merge() -> Decided[Memory]:
            told = MemoryConsolidated((good.id, bad.id), merged.id, "merged")
            events: list[MemoryEvent] = [MemoryRemembered(merged), told]
            return events, merged

        assert await memories.write(SCOPE, merge) == merged
        assert await texts_in_force(memories) == {merged.text}
        assert await undo(memories) == {SCOPE: [merged.id]}
        assert await texts_in_force(memories) == {"The garden gate squeaks"}


async def test_what_it_had_forgotten_is_in_force_again_and_what_others_forgot_is_not() -> None:
    async with memories_in() as memories:
        kept = await memories.remember(SCOPE, wish("the gate squeaks", source=GOOD), key="1")
        other = await memories.remember(SCOPE, wish("the gate is green", source=GOOD), key="2")
        again = await memories.remember(SCOPE, wish("the gate is wide", source=GOOD), key="3")
        await memories.forget(SCOPE, [kept.id, again.id], by="agent:coder", source=BAD)
        await memories.forget(SCOPE, [other.id], by="user:ann")
        await memories.restore(SCOPE, [again.id], by="user:ann")
        await memories.forget(SCOPE, [again.id], by="user:ann")
        assert await undo(memories) == {}
        assert await texts_in_force(memories) == {"the gate squeaks"}


async def test_what_it_had_left_no_room_for_is_in_force_again() -> None:
    async with memories_in(keeping=Keeping(episodes_max=3)) as memories:
        for number in range(6):
            source, importance = (GOOD, 0.1) if number < 3 else (BAD, 0.9)
            told = wish(f"day {number}", kind="episode", source=source, importance=importance)
            await memories.remember(SCOPE, told, key=str(number))
        assert await texts_in_force(memories) == {"day 3", "day 4", "day 5"}
        await undo(memories)
        assert await texts_in_force(memories) == {"day 0", "day 1", "day 2"}


async def test_entities_are_described_as_they_were_before() -> None:
    async with memories_in() as memories:
        await memories.describe(SCOPE, EntityDescribed("Ann", "engineer", GOOD, {"city": "Berlin"}))
        await memories.describe(SCOPE, EntityDescribed("ann", "impostor", BAD))
        await memories.describe(SCOPE, EntityDescribed("Bob", "impostor", BAD))
        await memories.describe(SCOPE, EntityDescribed("Cem", "impostor", BAD))
        await memories.describe(SCOPE, EntityDescribed("Cem", "gardener", GOOD))
        await undo(memories)
        await memories.catch_up([SCOPE])
        found = {entity.name: (entity.kind, entity.properties) for entity in await memories.index.entities([SCOPE])}
        assert found == {"Ann": ("engineer", {"city": "Berlin"}), "Bob": ("", {}), "Cem": ("gardener", {})}
        events = len(await events_of(memories.store, SCOPE))
        await undo(memories)
        assert len(await events_of(memories.store, SCOPE)) == events


async def test_what_comes_back_beside_what_it_contradicts_says_so() -> None:
    async with memories_in() as memories:
        berlin = await memories.remember(SCOPE, lives("Berlin", source=GOOD), key="1")
        await memories.remember(SCOPE, lives("Munich", source=BAD), key="2")
        paris = await memories.remember(SCOPE, lives("Paris", source=GOOD, labels=("untrusted",)), key="3")
        await undo(memories)
        (entry,) = await memories.index.get([SCOPE], [berlin.id])
        assert entry.contradicts == (paris.id,)


async def test_nothing_is_rolled_back_without_being_named() -> None:
    async with memories_in() as memories:
        with pytest.raises(UsageError):
            await memories.roll_back(TENANT, by="operator:op", because="")
