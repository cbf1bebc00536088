"""The contract of `BlobStore`."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ostler.kernel.errors import NotFound
from ostler.kernel.event import StreamId
from ostler.ports import BlobStore

ORDER = StreamId("acme", "order-1")
OTHER = StreamId("acme", "order-2")
RIVAL = StreamId("rival", "order-1")
ABSENT = hashlib.sha256(b"never stored").hexdigest()


class BlobStoreContract(ABC):
    """Inherit, implement `storage`, and pytest asks your back end for every guarantee of the port."""

    pytestmark = pytest.mark.asyncio

    @abstractmethod
    def storage(self, directory: Path) -> Callable[[], Awaitable[BlobStore]]:
        """A new empty storage, as a function that opens it. `directory` is empty and yours."""

    async def test_a_body_is_found_by_the_hash_of_its_content(self, tmp_path: Path) -> None:
        blobs = await self.storage(tmp_path)()
        for body in (b"hay", b"", bytes(range(256)) * 8192):
            digest = await blobs.put(ORDER, body)
            assert digest == hashlib.sha256(body).hexdigest()
            assert await blobs.get("acme", digest) == body

    async def test_keeping_a_body_twice_changes_nothing(self, tmp_path: Path) -> None:
        blobs = await self.storage(tmp_path)()
        assert await blobs.put(ORDER, b"hay") == await blobs.put(ORDER, b"hay")
        assert await blobs.get("acme", await blobs.put(ORDER, b"hay")) == b"hay"

    async def test_an_absent_body_is_not_found(self, tmp_path: Path) -> None:
        blobs = await self.storage(tmp_path)()
        for digest in (ABSENT, "no digest at all", ""):
            with pytest.raises(NotFound):
                await blobs.get("acme", digest)

    async def test_a_body_is_not_found_by_another_tenant(self, tmp_path: Path) -> None:
        blobs = await self.storage(tmp_path)()
        digest = await blobs.put(ORDER, b"hay")
        with pytest.raises(NotFound):
            await blobs.get("rival", digest)

    async def test_a_body_goes_with_the_last_stream_that_it_is_kept_for(self, tmp_path: Path) -> None:
        blobs = await self.storage(tmp_path)()
        hay, oats = await blobs.put(ORDER, b"hay"), await blobs.put(ORDER, b"oats")
        for other in (OTHER, RIVAL):
            await blobs.put(other, b"hay")
        await blobs.share(StreamId("acme", "fork"), [oats, ABSENT])
        await blobs.drop([ORDER, StreamId("acme", "nobody")])
        assert await blobs.get("acme", hay) == b"hay"
        assert await blobs.get("acme", oats) == b"oats"
        await blobs.drop([OTHER, StreamId("acme", "fork")])
        for digest in (hay, oats):
            with pytest.raises(NotFound):
                await blobs.get("acme", digest)
        assert await blobs.get("rival", hay) == b"hay"
