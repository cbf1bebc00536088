"""The contract of `BlobStore`."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ostler.kernel.errors import NotFound
from ostler.ports import BlobStore

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
            digest = await blobs.put("acme", body)
            assert digest == hashlib.sha256(body).hexdigest()
            assert await blobs.get("acme", digest) == body

    async def test_keeping_a_body_twice_changes_nothing(self, tmp_path: Path) -> None:
        blobs = await self.storage(tmp_path)()
        assert await blobs.put("acme", b"hay") == await blobs.put("acme", b"hay")
        assert await blobs.get("acme", await blobs.put("acme", b"hay")) == b"hay"

    async def test_an_absent_body_is_not_found(self, tmp_path: Path) -> None:
        blobs = await self.storage(tmp_path)()
        for digest in (ABSENT, "no digest at all", ""):
            with pytest.raises(NotFound):
                await blobs.get("acme", digest)

    async def test_a_body_is_not_found_by_another_tenant(self, tmp_path: Path) -> None:
        blobs = await self.storage(tmp_path)()
        digest = await blobs.put("acme", b"hay")
        with pytest.raises(NotFound):
            await blobs.get("rival", digest)
