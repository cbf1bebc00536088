"""The index in PostgreSQL keeps the contract."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ostler.adapters.index.postgres import PostgresIndex
from ostler.adapters.store.postgres.store import PostgresStore
from ostler.ports.memory import MemoryIndex
from ostler.testing.contracts.memory_index import MemoryIndexContract, Opener
from tests.servers import fresh_schema


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with fresh_schema() as schema:
        yield schema


@pytest.fixture
async def store(url: str) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(url)
    yield store
    await store.close()


class TestPostgresIndex(MemoryIndexContract):
    @pytest.fixture(autouse=True)
    def _connected(self, store: PostgresStore) -> None:
        self.store = store

    def storage(self, directory: Path) -> Opener:
        """Always the same place, emptied when it is opened first: making a schema takes longer than most tests."""
        is_new = True

        @asynccontextmanager
        async def open_index() -> AsyncIterator[MemoryIndex]:
            nonlocal is_new
            index = PostgresIndex(self.store.server)
            if is_new:
                is_new = False
                await index.clear()
            yield index
            await index.close()

        return open_index
