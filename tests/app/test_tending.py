"""What a worker does for memories by itself: vectors for those that have none, and consolidation."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from ostler import Runtime
from ostler.app.memory_settings import ConsolidationTable, MemoryTable
from ostler.app.providers import Keys
from ostler.app.settings import Settings
from ostler.domain.memory.memory import Source
from ostler.domain.memory.scope import Scope
from ostler.domain.memory.writing import Wish
from ostler.kernel.errors import OstlerError
from ostler.ports.memory import Held
from ostler.testing.wire import WireServer
from ostler.testing.wire_embeddings import Embeddings

HERE = Scope("default", "clerk", "ann")


@pytest.fixture
async def server() -> AsyncIterator[WireServer]:
    async with WireServer() as server:
        yield server


def opened(folder: Path, memory: MemoryTable, server: WireServer | None = None, *, worker: bool = True) -> Runtime:
    keys = Keys() if server is None else Keys(ollama_host=server.url)
    return Runtime.open(Settings(f"sqlite:///{folder / 'ostler.db'}", folder, memory=memory, keys=keys), worker=worker)


async def remember(runtime: Runtime, *texts: str) -> None:
    memories = await runtime.parts.memories()
    for text in texts:
        await memories.remember(HERE, Wish("fact", text, Source("user:ann", "ses_1/1")), key=text)


async def held(runtime: Runtime, holds: Callable[[Held], bool]) -> Held:
    """What is held, as soon as that holds."""
    memories = await runtime.parts.memories()
    async with asyncio.timeout(30):
        while not holds(found := await memories.index.held(HERE)):  # noqa: ASYNC110  nobody says when
            await asyncio.sleep(0.001)
    return found


VECTORS = MemoryTable(embedder="ollama:bge-m3")
FINGERPRINT = "bge-m3"


async def test_what_was_remembered_before_gets_its_vectors_when_a_worker_starts(
    tmp_path: Path, server: WireServer
) -> None:
    server.otherwise = Embeddings().answer
    async with opened(tmp_path, MemoryTable(), worker=False) as runtime:
        await remember(runtime, "one", "two")
    async with opened(tmp_path, VECTORS, server) as runtime:
        found = await held(runtime, lambda held: sum(held.vectors.values()) == 2)
    ((fingerprint, count),) = found.vectors.items()
    assert FINGERPRINT in fingerprint
    assert count == 2


async def test_what_was_remembered_last_gets_its_vector_before_the_process_ends(
    tmp_path: Path, server: WireServer
) -> None:
    server.otherwise = Embeddings().answer
    async with opened(tmp_path, VECTORS, server) as runtime:
        await remember(runtime, "one")
    async with opened(tmp_path, VECTORS, server, worker=False) as runtime:
        found = await (await runtime.parts.memories()).index.held(HERE)
        assert sum(found.vectors.values()) == 1


async def test_an_embedder_that_fails_is_told_and_keeps_nobody_from_remembering_and_recalling(
    tmp_path: Path, server: WireServer
) -> None:
    troubles: list[OstlerError] = []
    async with opened(tmp_path, VECTORS, server) as runtime:
        runtime.on_trouble = lambda name, error: troubles.append(error)
        await remember(runtime, "the cellar was flooded")
        memories = await runtime.parts.memories()
        recall = await memories.recall(HERE, "cellar")
        assert [one.entry.memory.text for one in recall.found] == ["the cellar was flooded"]
        assert any("vectors" in missing for missing in recall.missing)
    assert any("found by their words only" in error.message for error in troubles)


async def test_a_scope_that_has_grown_is_consolidated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ostler.app.tending.LOOK_S", 0.0)
    async with opened(tmp_path, MemoryTable(consolidation=ConsolidationTable(after=2))) as runtime:
        await remember(runtime, "Ann prefers green tea", "Ann prefers green tea.")
        found = await held(runtime, lambda held: held.in_force["fact"] == 1)
    assert found.closed == 2


async def test_where_nothing_is_remembered_no_index_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ostler.app.tending.LOOK_S", 0.0)
    async with opened(tmp_path, MemoryTable(embedder="hashing")) as runtime:
        for _ in range(50):
            await asyncio.sleep(0)
        assert runtime.parts.opened_memories is None
    assert not list(tmp_path.glob("*.memory*"))
