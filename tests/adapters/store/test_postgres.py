"""The PostgreSQL store keeps the contract, also when its server does not."""

import secrets
from contextlib import asynccontextmanager

import pytest

from ostler.adapters.store.postgres.blobs import PostgresBlobStore
from ostler.adapters.store.postgres.store import PostgresStore
from ostler.adapters.store.postgres.views import PostgresViewStore
from ostler.testing.contracts.blob_store import BlobStoreContract
from ostler.testing.contracts.event_store import EventStoreContract
from ostler.testing.contracts.view_store import ViewStoreContract
from tests.servers import POSTGRES, drop_schema, need


class _Schemas:
    """Gives each storage a schema of its own, and takes them all away in the end."""

    @pytest.fixture(autouse=True)
    async def _schemas(self):
        need(POSTGRES)
        self.made: list[str] = []
        self.stores: list[PostgresStore] = []
        yield
        for store in self.stores:
            await store.close()
        for schema in self.made:
            await drop_schema(schema)

    def new_url(self):
        self.made.append(f"ostler_test_{secrets.token_hex(6)}")
        return f"{POSTGRES}?schema={self.made[-1]}"


class TestPostgresStore(_Schemas, EventStoreContract):
    def storage(self, directory):
        url = self.new_url()
        return lambda: PostgresStore.open(url)


class TestPostgresBlobStore(_Schemas, BlobStoreContract):
    def storage(self, directory):
        url = self.new_url()

        async def open_blobs():
            self.stores.append(await PostgresStore.open(url))
            return PostgresBlobStore(self.stores[-1])

        return open_blobs


class TestPostgresViewStore(_Schemas, ViewStoreContract):
    def storage(self, directory):
        url = self.new_url()

        @asynccontextmanager
        async def open_views():
            store = await PostgresStore.open(url)
            yield PostgresViewStore(store)
            await store.close()

        return open_views
