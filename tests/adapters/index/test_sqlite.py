"""The index in SQLite, in a file and in memory, keeps the contract."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

from ostler.adapters.index.sqlite import SqliteIndex
from ostler.ports.memory import MemoryIndex
from ostler.testing.contracts.memory_index import MemoryIndexContract, Opener


class TestInAFile(MemoryIndexContract):
    def storage(self, directory: Path) -> Opener:
        @asynccontextmanager
        async def open_index() -> AsyncIterator[MemoryIndex]:
            index = await SqliteIndex.open(directory / "store.memory")
            yield index
            await index.close()

        return open_index


class TestInMemory(MemoryIndexContract):
    is_durable: ClassVar[bool] = False

    def storage(self, directory: Path) -> Opener:
        shared: list[SqliteIndex] = []

        @asynccontextmanager
        async def open_index() -> AsyncIterator[MemoryIndex]:
            if not shared:
                shared.append(await SqliteIndex.open(":memory:"))
            yield shared[0]

        return open_index
