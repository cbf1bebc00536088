"""Two walls of the PostgreSQL store: between tenants, and between old and new code."""

import secrets

import asyncpg
import pytest

from ostler.adapters.store.postgres.blobs import PostgresBlobStore
from ostler.adapters.store.postgres.schema import SQL, Migration, Schema, migrations
from ostler.adapters.store.postgres.server import Server, address
from ostler.adapters.store.postgres.store import PostgresStore
from ostler.adapters.store.postgres.tenants import grant_tenant
from ostler.adapters.store.postgres.views import PostgresViewStore
from ostler.kernel.errors import Conflict, NotAStore, NotFound, StoreError
from ostler.kernel.event import StreamId
from ostler.ports import Row
from ostler.testing.contracts.streams import addition
from tests.servers import POSTGRES, fresh_schema

TABLES = ("streams", "blobs", "blob_users", "view_rows", "events")


@pytest.fixture
def url():
    with fresh_schema() as schema:
        yield schema


@pytest.fixture
async def role():
    """A role of the server that may log in and nothing else."""
    name = f"ostler_test_{secrets.token_hex(4)}"
    connection = await asyncpg.connect(POSTGRES)
    await connection.execute(f"CREATE ROLE {name} LOGIN")
    yield name
    await connection.execute(f"DROP OWNED BY {name}")
    await connection.execute(f"DROP ROLE {name}")
    await connection.close()


async def rows_seen(url, role):
    """For each table, the tenants of the rows that the role sees."""
    schema = address(url).schema
    connection = await asyncpg.connect(POSTGRES, user=role)
    try:
        seen = {
            table: {row[0] for row in await connection.fetch(f"SELECT tenant FROM {schema}.{table}")}
            for table in TABLES[:-1]
        }
        query = f"SELECT tenant, hash FROM {schema}.events LEFT JOIN {schema}.streams ON key = stream"
        return seen | {"events": {row[0] for row in await connection.fetch(query)}}
    finally:
        await connection.close()


async def test_a_tenants_role_sees_the_rows_of_its_tenant_only(url, role):
    store = await PostgresStore.open(url)
    blobs, views = PostgresBlobStore(store), PostgresViewStore(store)
    for tenant in ("acme", "rival"):
        stream = StreamId(tenant, "order-1")
        await store.append(addition(stream, 0, 3))
        await blobs.put(stream, b"a bale of hay")
    await views.advance("herds@1", after=0, position=6, rows=[Row("acme", "a", b"1"), Row("rival", "b", b"2")])
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await rows_seen(url, role)
    await grant_tenant(store.server, "acme", role)
    assert await rows_seen(url, role) == {table: {"acme"} for table in TABLES}
    await grant_tenant(store.server, "rival", role)
    assert await rows_seen(url, role) == {table: {"rival"} for table in TABLES}
    schema, connection = address(url).schema, await asyncpg.connect(POSTGRES, user=role)
    for attempt in (
        f"INSERT INTO {schema}.tenant_roles VALUES (current_user, 'acme')",
        f"UPDATE {schema}.tenant_roles SET tenant = 'acme'",
        f"DELETE FROM {schema}.events",
        f"SELECT {schema}.retire('anna')",
        f"SELECT name FROM {schema}.workers",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(attempt)
    await connection.close()
    await store.close()


async def test_a_role_that_is_not_there_is_said_so(url):
    store = await PostgresStore.open(url)
    with pytest.raises(NotFound, match="no role"):
        await grant_tenant(store.server, "acme", "nobody_of_this_name")
    await store.close()


PRE = Migration("900_colour.pre", True, "ALTER TABLE @schema.streams ADD COLUMN colour text;")
POST = Migration("901_no_colour.post", False, "ALTER TABLE @schema.streams DROP COLUMN colour;")


async def test_old_and_new_workers_run_side_by_side_until_the_old_are_gone(url):
    old = await PostgresStore.open(url)
    await old.append(addition(StreamId("acme", "before"), 0))
    server = Server(address(url))
    new = Schema(server, [*migrations(), PRE, POST])
    await new.prepare(create=False)
    assert [migration.name for migration in await new.pending() or []] == [POST.name]
    await old.append(addition(StreamId("acme", "between"), 0))
    another = await PostgresStore.open(url)  # old code, started after the addition
    await another.append(addition(StreamId("acme", "besides"), 0))
    with pytest.raises(Conflict, match="1 workers"):
        await new.finish(living=1)
    assert await new.finish(living=0) == [POST.name]
    assert await new.pending() == []
    with pytest.raises(StoreError, match=r"901_no_colour\.post"):
        await PostgresStore.open(url)
    for store in (old, another):
        await store.close()
    await server.close()


async def test_a_schema_that_holds_something_else_is_left_alone(url):
    connection = await asyncpg.connect(POSTGRES)
    schema = address(url).schema
    await connection.execute(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.horses (name text)")
    with pytest.raises(NotAStore):
        await PostgresStore.open(url)
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", schema)
    assert [row[0] for row in tables] == ["horses"]
    await connection.close()


async def test_a_store_that_is_not_there_is_not_made_by_looking(url):
    with pytest.raises(NotFound):
        await PostgresStore.open(url, create=False)
    connection = await asyncpg.connect(POSTGRES)
    assert not await connection.fetch("SELECT FROM pg_namespace WHERE nspname = $1", address(url).schema)
    await connection.close()


def test_migrations_are_named_by_number_and_kind():
    names = [migration.name for migration in migrations()]
    assert names == sorted(names)
    assert len(names) == len(list(SQL.glob("*.sql")))
