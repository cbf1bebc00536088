"""The same histories leave the same memories behind, whatever these are kept in."""

import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from ostler.adapters.index.postgres import PostgresIndex
from ostler.adapters.store.postgres.store import PostgresStore
from ostler.ports.memory import Entry
from ostler.runtime.memory.memories import Memories
from tests.runtime.crash import Clock
from tests.runtime.memory.remembering import EVER, SCOPE, TENANT, History, entries_of, memories_in
from tests.servers import fresh_schema

STEPS = 80


@pytest.fixture
def url() -> Iterator[str]:
    with fresh_schema() as schema:
        yield schema


@asynccontextmanager
async def memories_on(url: str) -> AsyncIterator[Memories]:
    store = await PostgresStore.open(url)
    memories = Memories(store, PostgresIndex(store.server), Clock())
    yield memories
    await memories.close()
    await store.close()


@pytest.mark.parametrize("_", range(3))
async def test_every_back_end_remembers_the_same(tmp_path: Path, url: str, _: int) -> None:
    seed = secrets.randbits(32)
    left = {}
    for name, opened in {
        "memory": memories_in(),
        "sqlite": memories_in(tmp_path),
        "postgres": memories_on(url),
    }.items():
        async with opened as memories:
            await History(memories, seed).go_on(STEPS)
            await memories.catch_up([SCOPE])
            left[name] = await what_is_left(memories)
            await memories.rebuild(TENANT)
            assert await what_is_left(memories) == left[name], (name, seed)
    assert len(left["memory"][0]) > 10, seed
    assert left["sqlite"] == left["memory"], seed
    assert left["postgres"] == left["memory"], seed


async def what_is_left(memories: Memories) -> tuple[Sequence[object], ...]:
    """What is remembered and was, relations and entities; without places in the log, and which of several that are as
    good was recalled.
    """
    index = memories.index
    return (
        [shown(entry) for entry in await entries_of(memories, [SCOPE], EVER)],
        [edge for _, edge in await index.edges([SCOPE])],
        [(entity.name.casefold(), entity.kind) for entity in await index.entities([SCOPE])],
        sorted((distance, edge.id) for distance, edge in await index.neighbourhood([SCOPE], ["Ann"], depth=2)),
        [msgspec.structs.replace(await index.held(SCOPE), recalls=0, applied=0)],
    )


def shown(entry: Entry) -> object:
    return entry.memory, entry.until is None, entry.ended_by, entry.contradicts
