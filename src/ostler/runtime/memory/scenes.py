"""What a scope holds that bears on what is to be remembered, as the index has it."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from ostler.domain.memory.memory import Memory, normal
from ostler.domain.memory.scope import Scope
from ostler.domain.memory.settings import Keeping
from ostler.domain.memory.writing import EVICTED_MAX, Room, Scene
from ostler.ports.memory import Entry, Held, MemoryIndex

T = TypeVar("T")

AT_ONCE = 8
"""Questions that are asked side by side."""


async def scene_of(index: MemoryIndex, scope: Scope, memories: Sequence[Memory], keeping: Keeping) -> Scene:
    """All that has to be known to decide what remembering these means."""
    ids = {entry.memory.id for entry in await index.get([scope], [memory.id for memory in memories])}
    new = [memory for memory in memories if memory.id not in ids]
    if not new:
        return Scene(keeping, ids=ids)
    bearing = await _bearing(index, scope, new)
    room = room_of(await index.held(scope))
    coming = sum(memory.kind == "episode" for memory in new)
    evictions = max(0, room.episodes + coming - keeping.episodes_max) if coming else 0
    weak: list[Entry] = []
    if evictions:
        evictions = min(evictions, EVICTED_MAX + coming)
        weak = await index.weakest(scope, "episode", half_life_us=keeping.half_life_us, limit=evictions)
    return Scene(
        keeping,
        ids=ids,
        memories=[entry.memory for entry in bearing],
        weak=[entry.memory for entry in weak],
        evictions=evictions,
        room=room,
    )


async def rivals_of(index: MemoryIndex, scope: Scope, memories: Sequence[Memory]) -> list[Entry]:
    """What is in force with the key of one of these, or states the same relation of its subject; the oldest first."""
    keys = dict.fromkeys(memory.key for memory in memories if memory.key)
    stated = dict.fromkeys(
        (normal(memory.relation.subject), memory.relation.name) for memory in memories if memory.relation is not None
    )
    questions = [index.holding(scope, key=key) for key in keys]
    questions += [index.holding(scope, subject=subject, name=name) for subject, name in stated]
    return _in_order(await _all(questions))


async def _bearing(index: MemoryIndex, scope: Scope, memories: Sequence[Memory]) -> list[Entry]:
    digests = dict.fromkeys(memory.digest for memory in memories)
    same = await index.same([scope], list(digests))
    return _in_order([same, await rivals_of(index, scope, memories)])


async def _all(questions: Sequence[Awaitable[T]]) -> list[T]:
    """The answers to all of these, a few at a time."""
    if len(questions) == 1:
        return [await questions[0]]
    found: list[T] = []
    for start in range(0, len(questions), AT_ONCE):
        found += await asyncio.gather(*questions[start : start + AT_ONCE])
    return found


def _in_order(answers: Sequence[Sequence[Entry]]) -> list[Entry]:
    """All that was answered, each once, in the order in which it was remembered."""
    found = {entry.memory.id: entry for answer in answers for entry in answer}
    return sorted(found.values(), key=lambda entry: entry.position)


def room_of(held: Held) -> Room:
    """How much is in force in a scope, as the index has it."""
    counts = held.in_force
    return Room(counts.get("episode", 0), counts.get("fact", 0) + counts.get("file", 0), held.text_bytes)
