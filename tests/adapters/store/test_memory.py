"""The store in memory keeps the contract; beyond it there is little to say."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ostler.adapters.store.memory import MemoryBlobStore, MemoryStore
from ostler.kernel.errors import StoreError
from ostler.ports import BlobStore, EventStore
from ostler.testing.contracts.blob_store import BlobStoreContract
from ostler.testing.contracts.event_store import EventStoreContract
from ostler.testing.contracts.streams import ORDER, addition


class TestMemoryStore(EventStoreContract):
    is_durable = False

    def storage(self, directory: Path) -> Callable[[], Awaitable[EventStore]]:
        store = MemoryStore()

        async def open_store() -> EventStore:
            return store

        return open_store

    async def test_it_can_be_read_after_closing_and_no_longer_written(self):
        store = MemoryStore()
        await store.append(addition(ORDER, 0))
        await store.close()
        with pytest.raises(StoreError):
            await store.append(addition(ORDER, 1))
        with pytest.raises(StoreError):
            await store.wait(after=1, timeout_s=60)
        assert len(await store.read(ORDER)) == 1


class TestMemoryBlobStore(BlobStoreContract):
    def storage(self, directory: Path) -> Callable[[], Awaitable[BlobStore]]:
        blobs = MemoryBlobStore()

        async def open_blobs() -> BlobStore:
            return blobs

        return open_blobs
