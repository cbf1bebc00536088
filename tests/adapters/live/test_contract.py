"""Every way on which live text reaches those who watch."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ostler.adapters.live.memory import MemoryLive
from ostler.adapters.live.postgres import PostgresLive
from ostler.adapters.live.unix import UnixLive
from ostler.adapters.store.postgres.store import PostgresStore
from ostler.ports import LiveText
from ostler.testing.contracts.live_text import LiveTextContract
from tests.servers import fresh_schema


class TestMemoryLiveKeepsTheContract(LiveTextContract):
    @pytest.fixture(autouse=True)
    def one(self) -> None:
        self.live = MemoryLive()

    async def make(self) -> LiveText:
        return self.live


class TestUnixLiveKeepsTheContract(LiveTextContract):
    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> None:
        self.store = tmp_path / "store.db"
        self.store.touch()

    async def make(self) -> LiveText:
        return UnixLive(self.store)


class TestUnixLiveKeepsTheContractFarDownInTheTree(LiveTextContract):
    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> None:
        folder = tmp_path / ("deep" * 40)
        folder.mkdir()
        self.store = folder / "store.db"
        self.store.touch()

    async def make(self) -> LiveText:
        return UnixLive(self.store)


class TestPostgresLiveKeepsTheContract(LiveTextContract):
    @pytest.fixture
    def url(self) -> Iterator[str]:
        with fresh_schema() as url:
            yield url

    @pytest.fixture(autouse=True)
    async def place(self, url: str) -> AsyncIterator[None]:
        self.address, self.stores = url, list[PostgresStore]()
        yield
        for store in self.stores:
            await store.close()

    async def make(self) -> LiveText:
        self.stores.append(await PostgresStore.open(self.address))
        return PostgresLive(self.stores[-1].server)
