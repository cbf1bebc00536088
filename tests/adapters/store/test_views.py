"""The stores of views keep the contract; the one in SQLite shares file and commits with the events."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ostler.adapters.store.memory_views import MemoryViewStore
from ostler.adapters.store.sqlite import SqliteStore
from ostler.adapters.store.sqlite_views import PAGE, ROWS, SqliteViewStore
from ostler.kernel.errors import StaleWrite, StoreError
from ostler.ports import ViewStore
from ostler.testing.contracts.streams import ORDER, OTHER, addition
from ostler.testing.contracts.view_store import VIEW, Opener, ViewStoreContract, put, shared


class TestMemoryViewStore(ViewStoreContract):
    is_durable = False

    def storage(self, directory: Path) -> Opener:
        return shared(MemoryViewStore())


class TestSqliteViewStore(ViewStoreContract):
    def storage(self, directory: Path) -> Opener:
        @asynccontextmanager
        async def open_views() -> AsyncIterator[ViewStore]:
            store = await SqliteStore.open(directory / "ostler.db")
            yield SqliteViewStore(store)
            await store.close()

        return open_views


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(tmp_path / "ostler.db")
    yield store
    await store.close()


async def test_views_share_the_commits_of_appends_and_are_refused_alone(store: SqliteStore) -> None:
    views = SqliteViewStore(store)
    results = await asyncio.gather(
        store.append(addition(ORDER, 0)),
        views.advance(VIEW, after=0, position=1, rows=put("a")),
        views.advance(VIEW, after=0, position=1, rows=put("b")),
        store.append(addition(OTHER, 0)),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [int, type(None), StaleWrite, int]
    assert (store.commits, await views.page(VIEW, "acme")) == (1, [("a", b"hay")])


async def test_a_view_is_closed_with_its_store(store: SqliteStore) -> None:
    views = SqliteViewStore(store)
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await views.advance(VIEW, after=0, position=1)


@pytest.mark.parametrize(("query", "place"), [(ROWS, "["), (PAGE, "a")], ids=["rows", "page"])
async def test_rows_are_found_by_the_index_without_sorting(store: SqliteStore, query: str, place: str) -> None:
    parameters = (VIEW, "acme", "[]") if query == ROWS else (VIEW, "acme", place, 9)
    details = " / ".join(row[-1] for row in await store.fetch(f"EXPLAIN QUERY PLAN {query}", parameters))
    assert "SEARCH view_rows USING INDEX sqlite_autoindex_view_rows_1 (view=? AND tenant=? AND key" in details
    assert "TEMP B-TREE" not in details
