"""The ledgers keep the contract; the one in PostgreSQL waits for nothing but its own accounts."""

import asyncio
import os
import secrets
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ostler.adapters.store.memory_ledger import MemoryLedger
from ostler.adapters.store.postgres.ledger import PostgresLedger
from ostler.adapters.store.postgres.store import PostgresStore
from ostler.adapters.store.sqlite import SqliteStore
from ostler.adapters.store.sqlite_ledger import SqliteLedger
from ostler.domain.budget import Refused, Reserved, Total
from ostler.ports import Ledger
from ostler.testing.contracts.ledger import LedgerContract, call, draw, shared, take, total, window
from ostler.testing.contracts.streams import ORDER, addition
from tests.servers import POSTGRES, drop_schema, fresh_schema, need

SPENDING = Path(__file__).with_name("spending.py")


class TestMemoryLedger(LedgerContract):
    def storage(self, directory):
        return shared(MemoryLedger())


class TestSqliteLedger(LedgerContract):
    def storage(self, directory):
        @asynccontextmanager
        async def open_ledger():
            store = await SqliteStore.open(directory / "ostler.db")
            yield SqliteLedger(store)
            await store.close()

        return open_ledger


class TestPostgresLedger(LedgerContract):
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
        async def open_ledger():
            store = await PostgresStore.open(url)
            yield PostgresLedger(store)
            await store.close()

        return open_ledger


async def counted(ledger: Ledger) -> Total:
    """What the account of the tests has, on which something counts."""
    found = await total(ledger)
    assert found is not None
    return found


async def test_a_reservation_and_a_settlement_are_in_the_commit_of_an_append(tmp_path):
    store = await SqliteStore.open(tmp_path / "ostler.db")
    ledger = SqliteLedger(store)
    await take(ledger, "before", draw(10))
    commits = store.commits
    outcomes = await asyncio.gather(
        store.append(addition(ORDER, 0)),
        take(ledger, "1", draw(60), window(5, "hour")),
        ledger.settle(call("before"), {"tokens": 7}, now_us=1),
    )
    assert (store.commits - commits, outcomes[1]) == (1, Reserved())
    await store.close()


async def test_a_refused_append_undoes_no_reservation_of_the_same_commit(tmp_path):
    store = await SqliteStore.open(tmp_path / "ostler.db")
    ledger = SqliteLedger(store)
    outcomes = await asyncio.gather(
        store.append(addition(ORDER, 7)), take(ledger, "1", draw(60)), return_exceptions=True
    )
    assert (isinstance(outcomes[0], Exception), outcomes[1]) == (True, Reserved())
    assert (await counted(ledger)).used == 60
    await store.close()


async def test_settled_calls_leave_nothing_but_their_names(tmp_path):
    store = await SqliteStore.open(tmp_path / "ostler.db")
    ledger = SqliteLedger(store)
    for number in range(3000):
        await take(ledger, str(number), draw(1, most=None), window(1, "hour"), now_us=number * 30_000_000)
        await ledger.settle(call(str(number)), {"tokens": 0}, now_us=number * 30_000_000)
    ((entries,),) = await store.fetch("SELECT count(*) FROM ledger_entries")
    ((slots,),) = await store.fetch("SELECT count(*) FROM ledger_slots")
    assert (entries, slots <= 1001) == (0, True)
    await store.close()


@pytest.fixture
def url():
    with fresh_schema() as found:
        yield found


def spending(store, name, count):
    """A process that reserves, when it is ready to."""
    command = [sys.executable, str(SPENDING), str(store), name, str(count)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.fixture(params=["sqlite", "postgres"])
def place(request, tmp_path):
    """Where processes find a store that is not there yet."""
    if request.param == "sqlite":
        yield tmp_path / "ostler.db"
    else:
        with fresh_schema() as url:
            yield url


@asynccontextmanager
async def ledger_at(place):
    if isinstance(place, Path):
        file = await SqliteStore.open(place)
        yield SqliteLedger(file)
        await file.close()
    else:
        server = await PostgresStore.open(place)
        yield PostgresLedger(server)
        await server.close()


async def test_several_processes_are_granted_exactly_what_there_is_and_one_is_warned(place):
    async with ledger_at(place):
        pass
    processes = [spending(place, name, 60) for name in ("one", "two", "three")]
    said = "".join(process.communicate(timeout=60)[0] for process in processes)
    async with ledger_at(place) as ledger:
        assert (said.count("granted"), said.count("warned")) == (100, 1)
        assert (await counted(ledger)).used == 100


async def test_what_was_granted_to_a_process_that_is_killed_stays_counted_and_is_overdue(place):
    process = spending(place, "victim", 90)
    granted = 0
    while granted < 20:
        granted += process.stdout.readline() == "granted\n"
    process.kill()
    granted += process.communicate(timeout=60)[0].count("granted")
    async with ledger_at(place) as ledger:
        found = await counted(ledger)
        assert found.used - granted in (0, 1)  # the last one may not have been told
        late = await ledger.overdue(now_us=10**10, again_us=10**11)
        assert len(late) == found.reserved > 0


async def test_a_reservation_waits_for_no_lock_of_the_log(url):
    store = await PostgresStore.open(url)
    ledger = PostgresLedger(store)
    connection = await store.server.connect()
    try:
        async with connection.transaction():
            await connection.execute(store.server.sql("SELECT @schema.lock_log(), @schema.lock_claims()"))
            async with asyncio.timeout(5):
                assert await take(ledger, "1", draw(60)) == Reserved()
                await ledger.settle(call("1"), {"tokens": 2}, now_us=1)
    finally:
        await connection.close()
        await store.close()


WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE $1"


@pytest.mark.parametrize("is_first", [True, False])
async def test_whoever_reserves_while_another_does_waits_for_its_outcome(url, is_first):
    store, other = await PostgresStore.open(url), await PostgresStore.open(url)
    ledger = PostgresLedger(store)
    if not is_first:
        await take(ledger, "before", draw(1))
    connection, schema = await other.server.connect(), other.server.address.schema
    reserve = """
        SELECT * FROM @schema.ledger_reserve('acme', 'ses_1', 'a', 1, 99, '{acme}', '{tenants.acme.tokens}', '{tokens}',
            '{60}', '{100}', '{NULL}', '{NULL}', '{9}', '{NULL}')
    """
    try:
        async with connection.transaction():
            (row,) = await connection.fetch(other.server.sql(reserve))
            assert row["lacking"] is None
            asking = asyncio.create_task(take(ledger, "b", draw(41)))
            async with asyncio.timeout(20):
                while not asking.done():
                    # Not in that transaction, which sees the same activity for as long as it lasts.
                    ((waiting,),) = await other.server.fetch(WAITING, f"%{schema}.ledger_reserve%")
                    if waiting:
                        break
        used = 60 if is_first else 61
        assert await asking == Refused("tenants.acme.tokens", used, 100, 41)
    finally:
        await connection.close()
        await store.close()
        await other.close()
