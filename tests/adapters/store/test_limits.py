"""The limiters keep the contract; the one in PostgreSQL waits for nothing but its own limits."""

import asyncio
import secrets
from contextlib import asynccontextmanager

import pytest

from ostler.adapters.store.memory_limits import MemoryLimiter
from ostler.adapters.store.postgres.limits import PostgresLimiter
from ostler.adapters.store.postgres.store import PostgresStore
from ostler.adapters.store.sqlite import SqliteStore
from ostler.adapters.store.sqlite_limits import SqliteLimiter
from ostler.domain.capacity import TAKEN
from ostler.testing.contracts.limiter import OTHER, PLACES, RATE, LimiterContract, place, shared
from ostler.testing.contracts.streams import ORDER, addition
from tests.servers import POSTGRES, drop_schema, fresh_schema, need


class TestMemoryLimiter(LimiterContract):
    def storage(self, directory):
        return shared(MemoryLimiter())


class TestSqliteLimiter(LimiterContract):
    def storage(self, directory):
        @asynccontextmanager
        async def open_limiter():
            store = await SqliteStore.open(directory / "ostler.db")
            yield SqliteLimiter(store)
            await store.close()

        return open_limiter


class TestPostgresLimiter(LimiterContract):
    @pytest.fixture(autouse=True)
    async def _schemas(self):
        need(POSTGRES)
        self.made: list[str] = []
        yield
        for schema in self.made:
            await drop_schema(schema)

    def storage(self, directory):
        self.made.append(f"ostler_test_{secrets.token_hex(6)}")
        url = f"{POSTGRES}?schema={self.made[-1]}"

        @asynccontextmanager
        async def open_limiter():
            store = await PostgresStore.open(url)
            yield PostgresLimiter(store)
            await store.close()

        return open_limiter


async def test_places_are_taken_in_the_commits_of_appends(tmp_path):
    store = await SqliteStore.open(tmp_path / "ostler.db")
    limiter = SqliteLimiter(store)
    outcomes = await asyncio.gather(
        store.append(addition(ORDER, 0)),
        limiter.take([PLACES, RATE], place("a"), now_us=1),
        limiter.give_back([place("b")]),
    )
    assert (store.commits, outcomes[1]) == (1, TAKEN)
    await store.close()


@pytest.fixture
def url():
    with fresh_schema() as found:
        yield found


async def test_places_are_taken_while_somebody_holds_the_lock_of_the_log(url):
    store = await PostgresStore.open(url)
    limiter = PostgresLimiter(store)
    connection = await store.server.connect()
    try:
        async with connection.transaction():
            await connection.execute(store.server.sql("SELECT @schema.lock_log(), @schema.lock_claims()"))
            async with asyncio.timeout(5):
                assert await limiter.take([PLACES, RATE], place("a"), now_us=1) == TAKEN
                await limiter.give_back([place("a")])
    finally:
        await connection.close()
        await store.close()


WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE $1"


async def test_whoever_asks_while_another_is_taking_a_place_waits_for_its_outcome(url):
    store, other = await PostgresStore.open(url), await PostgresStore.open(url)
    limiter = PostgresLimiter(store)
    assert await limiter.take([OTHER], place("before"), now_us=1) == TAKEN
    await limiter.give_back([place("before")])
    connection, schema = await other.server.connect(), other.server.address.schema
    try:
        async with connection.transaction():
            take = "SELECT * FROM @schema.take_place($1, $2, $3, $4, 'a', 1, 99, 0, 0, 1, 1, 1, 1)"
            (row,) = await connection.fetch(other.server.sql(take), [OTHER.name], [1], [0], [0])
            assert row["after"] == 0
            asking = asyncio.create_task(limiter.take([OTHER], place("b"), now_us=1))
            async with asyncio.timeout(20):
                while not asking.done():
                    if await connection.fetchval(WAITING, f"%{schema}.take_place%"):
                        break
        assert (await asking).limit == OTHER.name
    finally:
        await connection.close()
        await store.close()
        await other.close()
