"""Many who write memories at the same time lose nothing and write nothing twice."""

import asyncio
import signal
from collections import Counter
from pathlib import Path

import pytest

from ostler.domain.memory.events import MemoryRemembered
from ostler.domain.memory.memory import memory_id
from ostler.runtime.memory.memories import Memories
from tests.runtime.memory.remembering import SCOPE, TENANT, entries_of, events_of, lives, memories_in, wish
from tests.runtime.processes import child

COUNT = 60


async def check(memories: Memories, keys: set[str]) -> None:
    """Everything is there once, of what has one value one is in force, and the index says what the log says."""
    await memories.catch_up([SCOPE])
    written = Counter(
        event.memory.id for event in await events_of(memories.store, SCOPE) if isinstance(event, MemoryRemembered)
    )
    assert written == Counter(memory_id(SCOPE, key) for key in keys)
    entries = await entries_of(memories, [SCOPE])
    homes = [entry for entry in entries if entry.memory.relation is not None and entry.until is None]
    assert len(homes) == 1
    assert len(entries) == len(keys)
    await memories.rebuild(TENANT)
    assert await entries_of(memories, [SCOPE]) == entries


async def test_two_who_share_a_file_both_remember_everything_once(tmp_path: Path) -> None:
    async with memories_in(tmp_path) as one, memories_in(tmp_path) as other:
        wishes = [
            (f"key {number}", lives(f"Place {number}") if number % 3 else wish(f"Fact {number}"))
            for number in range(40)
        ]
        told = await asyncio.gather(
            *(memories.remember(SCOPE, wanted, key=key) for key, wanted in wishes for memories in (one, other))
        )
        assert Counter(one.outcome for one in told) == {"new": 40, "repeated": 40}
        await check(one, {key for key, _ in wishes})
        assert await entries_of(one, [SCOPE]) == await entries_of(other, [SCOPE])


async def test_what_one_has_written_the_other_finds_at_once(tmp_path: Path) -> None:
    async with memories_in(tmp_path) as one, memories_in(tmp_path) as other:
        for number in range(5):
            writer, reader = (one, other) if number % 2 else (other, one)
            remembered = await writer.remember(SCOPE, lives(f"Place {number}"), key=f"key {number}")
            recall = await reader.recall(SCOPE, "Where does Ann live?", call=f"ses_b/{number}")
            assert [ranked.entry.memory.id for ranked in recall.found] == [remembered.id]


@pytest.mark.timeout(120)
async def test_two_processes_remember_everything_once(tmp_path: Path) -> None:
    async with memories_in(tmp_path):
        pass
    arguments = ("tests.runtime.memory.rememberer", str(tmp_path))
    async with child(*arguments, "a", COUNT) as first, child(*arguments, "b", COUNT) as second:
        await asyncio.gather(first.until("done"), second.until("done"))
    shared = {f"shared/{number}" for number in range(1, COUNT, 2)}
    own = {f"{name}/{number}" for name in "ab" for number in range(0, COUNT, 2)}
    async with memories_in(tmp_path) as memories:
        await check(memories, shared | own)


@pytest.mark.timeout(120)
async def test_what_was_acknowledged_before_a_process_was_killed_is_there_and_goes_on_once(tmp_path: Path) -> None:
    arguments = ("tests.runtime.memory.rememberer", str(tmp_path), "a", COUNT)
    async with child(*arguments) as killed:
        for _ in range(COUNT // 2):
            await killed.until("remembered")
        killed.signal(signal.SIGKILL)
        await killed.ended()
    acknowledged = {line.split()[1] for line in killed.lines if line.startswith("remembered")}
    async with memories_in(tmp_path) as memories:
        await memories.catch_up([SCOPE])
        there = {entry.memory.id for entry in await entries_of(memories, [SCOPE])}
        assert acknowledged <= there
        assert len(there) <= len(acknowledged) + 1
    async with child(*arguments) as again:
        await again.until("done")
    keys = {f"shared/{number}" if number % 2 else f"a/{number}" for number in range(COUNT)}
    async with memories_in(tmp_path) as memories:
        await check(memories, keys)
