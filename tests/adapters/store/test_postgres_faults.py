"""The PostgreSQL store when its server crashes, falls silent, loses answers, or was replaced by one behind it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from ostler.adapters.store.postgres import server as driver
from ostler.adapters.store.postgres.clock import ServerClock, monotonic_us
from ostler.adapters.store.postgres.store import PostgresStore
from ostler.kernel.errors import StaleWrite, StoreCorrupt, StoreUnreachable
from ostler.kernel.event import Record, StreamId
from ostler.ports import Append
from ostler.testing.contracts.streams import ORDER, OTHER, addition, standing
from tests.faults.answers import Losing
from tests.faults.cluster import Cluster, private_cluster, reachable
from tests.faults.conftest import cluster  # noqa: F401 - a fixture
from tests.faults.crew import some_time
from tests.faults.proxy import Proxy
from tests.servers import POSTGRES, fresh_schema

NO_TLS = "&sslmode=disable"
MINUTE_US = 60_000_000


@pytest.fixture
def url():
    with fresh_schema() as made:
        yield made


def through(url: str, proxy: Proxy | Losing) -> str:
    """The same store by way of a proxy."""
    return url.replace("127.0.0.1:5432", f"127.0.0.1:{proxy.port}") + NO_TLS


@pytest.fixture
async def losing(url) -> AsyncIterator[tuple[Losing, str]]:
    parts = url.partition("@")[2].partition("/")[0].partition(":")
    async with Losing(int(parts[2] or 5432)) as proxy:
        yield proxy, through(url, proxy)


@asynccontextmanager
async def opened(url: str, **more: Any) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(url, **more)
    try:
        yield store
    finally:
        await store.close()


# Answers that are lost


@pytest.mark.fault(9)
async def test_an_append_whose_answer_is_lost_is_there_once_and_acknowledged(losing) -> None:
    proxy, url = losing
    async with opened(url) as store:
        await store.append(addition(ORDER, 0))
        for number in range(1, 25):
            proxy.lose(1 + number % 3)
            assert await store.append(addition(ORDER, number)) == 2 * number
            assert await store.append(addition(OTHER, number - 1, stands=standing(f"{number}"))) == 2 * number + 1
        records = await store.tail()
        assert [record.position for record in records] == list(range(1, 50))
        assert (len(await store.read(ORDER)), len(await store.read(OTHER))) == (25, 24)
        assert proxy.lost > 12


@pytest.mark.fault(9)
async def test_groups_whose_answers_are_lost_are_there_once_and_a_stale_one_is_refused_alone(losing) -> None:
    proxy, url = losing
    streams = [StreamId("acme", f"ses-{number}") for number in range(20)]
    async with opened(url) as store:
        for version in range(12):
            proxy.lose(1)
            results = await asyncio.gather(
                *(store.append(addition(stream, version, stands=standing())) for stream in streams),
                store.append(addition(ORDER, 7)),
                return_exceptions=True,
            )
            stale = results.pop()
            assert isinstance(stale, StaleWrite)
            assert sorted(str(result) for result in results) == sorted(
                str(end) for end in range(version * 20 + 1, version * 20 + 21)
            )
        assert proxy.lost == 12
        assert [record.position for record in await store.tail(limit=1000)] == list(range(1, 241))


@pytest.mark.fault(9)
async def test_an_append_of_another_is_never_taken_for_ones_own(losing) -> None:
    proxy, url = losing
    async with opened(url) as store, opened(url) as other:
        await store.append(addition(ORDER, 0))
        await other.append(addition(ORDER, 1))
        proxy.lose(1)
        with pytest.raises(StaleWrite):
            await store.append(Append(ORDER, 1, [Record(ORDER, 2, 2, b"mine", b"m" * 32)]))
        assert len(await store.read(ORDER)) == 2


@pytest.mark.fault(9)
async def test_a_claim_whose_answer_is_lost_is_told_and_not_stranded(losing) -> None:
    proxy, url = losing
    streams = [StreamId("acme", f"ses-{number}") for number in range(10)]
    async with opened(url) as store:
        for stream in streams:
            await store.append(addition(stream, 0, stands=standing(due_us=1)))
        await store.beat("anna", until_us=2**60)
        for number in range(1, 11):
            proxy.lose(number)  # the answers to BEGIN, to the questions, and to COMMIT, in turn
            claims = await store.claim("anna", now_us=MINUTE_US * number, limit=1)
            assert [claim.epoch for claim in claims] == [1], f"with answer {number} lost"
        (free,) = await store.server.fetch(
            store.server.sql("SELECT count(*) FROM @schema.streams WHERE worker IS NULL")
        )
        assert free[0] == 0


@pytest.mark.fault(9)
async def test_a_claim_that_was_given_up_in_doubt_is_told_with_the_next(losing) -> None:
    proxy, url = losing
    async with opened(url, patience_s=0.0) as store:
        await store.append(addition(ORDER, 0, stands=standing(due_us=1)))
        await store.beat("anna", until_us=2**60)
        told = []
        for number in range(1, 12):
            proxy.lose(number)
            try:
                told += await store.claim("anna", now_us=MINUTE_US * number, limit=1)
            except StoreUnreachable:
                continue
            break
        proxy.lose(0)
        told += await store.claim("anna", now_us=MINUTE_US * 20, limit=1)
        assert [claim.stream for claim in told] == [ORDER]


# Silence


@pytest.fixture
def impatient(monkeypatch):
    """A silent server is given up after half a second, so that nobody waits for ten here."""
    monkeypatch.setattr(driver, "COMMAND_TIMEOUT_S", 0.5)
    monkeypatch.setattr(driver, "CONNECT_TIMEOUT_S", 0.5)


def more_than(connections: int) -> Callable[[Proxy], bool]:
    return lambda proxy: proxy.connections > connections


@pytest.mark.fault(10)
async def test_a_connection_that_falls_silent_is_given_up_and_what_was_sent_is_there_once(url, impatient) -> None:
    async with Proxy("127.0.0.1", 5432) as proxy, opened(through(url, proxy)) as store:
        await store.append(addition(ORDER, 0))
        for number in range(1, 4):
            proxy.stall()
            appending = asyncio.create_task(store.append(addition(ORDER, number)))
            await proxy.until(more_than(proxy.connections))
            assert not appending.done()
            proxy.resume()
            assert await appending == number + 1
        assert len(await store.read(ORDER)) == 4


@pytest.mark.fault(10)
def test_nobody_is_waited_for_so_long_that_a_lease_runs_out() -> None:
    lease_s = 30.0
    assert lease_s - lease_s / 3 > driver.CONNECT_TIMEOUT_S + driver.COMMAND_TIMEOUT_S
    assert driver.IDLE_TIMEOUT_S < driver.COMMAND_TIMEOUT_S


@pytest.mark.fault(10, 12)
@pytest.mark.parametrize("more", ["", "&pgbouncer=true"])
async def test_whoever_falls_silent_in_the_middle_of_a_claim_does_not_hold_up_everybody(
    url, monkeypatch, more: str
) -> None:
    monkeypatch.setattr(driver, "IDLE_TIMEOUT_S", 0.5)
    async with opened(url + more) as silent, opened(url) as other:
        await other.append(addition(ORDER, 0, stands=standing(due_us=1)))
        in_the_middle, never = asyncio.Event(), asyncio.Event()

        async def claim(connection: Any) -> None:
            await connection.fetch(silent.server.sql("SELECT @schema.lock_claims(), @schema.lock_log()"))
            in_the_middle.set()
            await never.wait()  # as when the process is stopped here, or cut off

        stopped = asyncio.create_task(silent.server.transact(claim))
        await in_the_middle.wait()
        async with asyncio.timeout(20):
            assert await other.append(addition(OTHER, 0)) == 2
            assert [claim.stream for claim in await other.claim("bert", now_us=9, limit=9)] == [ORDER]
        never.set()
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
            await stopped


@pytest.mark.fault(10)
async def test_connections_that_the_server_ends_in_the_middle_of_a_transaction_cost_nothing(url) -> None:
    schema = url.rpartition("=")[2]
    async with opened(url) as store:
        await store.append(addition(ORDER, 0, stands=standing(due_us=1)))
        for number in range(1, 30):
            killing = asyncio.create_task(_end_all(schema, number / 3000))
            assert await store.append(addition(ORDER, number)) == number + 1
            await store.claim("anna", now_us=number, limit=9)
            await killing
        assert len(await store.read(ORDER)) == 30


async def _end_all(schema: str, pause_s: float) -> None:
    """End every connection that has said anything about this schema."""
    connection = await asyncpg.connect(POSTGRES)
    await some_time(pause_s)
    query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE $1 AND pid <> pg_backend_pid()"
    await connection.execute("SELECT 1")
    await connection.fetch(query, f"%{schema}%")
    await connection.close()


@pytest.mark.fault(11)
async def test_a_deadlock_is_nobodys_loss(url) -> None:
    """Another transaction takes the two locks of a claim in the opposite order; the server ends one of them."""
    async with opened(url) as store:
        await store.append(addition(ORDER, 0, stands=standing(due_us=1)))
        hostile = await asyncpg.connect(POSTGRES)
        await hostile.execute("SET deadlock_timeout = '60s'")  # so that it is the claim that finds the deadlock
        transaction = hostile.transaction()
        await transaction.start()
        await hostile.fetch(store.server.sql("SELECT @schema.lock_log()"))
        claiming = asyncio.create_task(store.claim("anna", now_us=9, limit=9))
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND query LIKE $1"
        schema = f"%{store.server.address.schema}%"
        while await hostile.fetchval(waiting, schema) == 0:
            await hostile.execute("SELECT pg_stat_clear_snapshot()")
        await hostile.fetch(store.server.sql("SELECT @schema.lock_claims()"))  # granted when the claim has been ended
        await transaction.rollback()
        await hostile.close()
        assert [claim.stream for claim in await claiming] == [ORDER]


# Time


@pytest.mark.fault(15, 16)
def test_an_answer_that_waited_for_a_busy_process_does_not_set_its_clock_back() -> None:
    """Else a worker that was held up would take its lease to last longer than others do."""
    clock, truth = ServerClock(), 1_700_000_000_000_000 - monotonic_us()
    clock.set(monotonic_us() + truth, asked_us=monotonic_us())
    asked_us = monotonic_us() - 3_000_000
    clock.set(asked_us + truth, asked_us=asked_us)
    assert abs(clock.now_us() - monotonic_us() - truth) < 100_000


@pytest.mark.fault(16)
def test_a_server_whose_clock_was_set_is_followed() -> None:
    clock, truth = ServerClock(), 1_700_000_000_000_000 - monotonic_us()
    clock.set(monotonic_us() + truth, asked_us=monotonic_us())
    clock.set(monotonic_us() + truth - 3_600_000_000, asked_us=monotonic_us() - 1000)
    assert abs(clock.now_us() - monotonic_us() - truth + 3_600_000_000) < 100_000


# Servers that crash


@pytest.mark.fault(8)
async def test_the_death_of_one_server_process_takes_all_connections_along_and_loses_nothing(cluster) -> None:  # noqa: F811
    async with opened(cluster.url(schema="backend")) as store:
        await store.append(addition(ORDER, 0))
        for number in range(1, 3):
            (row,) = await store.server.fetch("SELECT pg_backend_pid()")
            os.kill(row[0], signal.SIGKILL)  # the server ends every connection and recovers by itself
            assert await store.append(addition(ORDER, number)) == number + 1
        assert [record.seq for record in await store.read(ORDER)] == [1, 2, 3]


@pytest.mark.fault(8)
async def test_a_server_that_is_away_for_longer_than_anybody_waits_is_told_of_and_used_again(cluster) -> None:  # noqa: F811
    async with opened(cluster.url(schema="away"), patience_s=0.2) as store:
        await store.append(addition(ORDER, 0))
        cluster.stop("immediate")
        for number in range(2):
            with pytest.raises(StoreUnreachable) as refused:
                await store.append(addition(ORDER, 1 + number))
            assert refused.value.retryable
            assert refused.value.hint
        cluster.start()
        await reachable(cluster)
        assert await store.append(addition(ORDER, 1)) == 2


@pytest.mark.fault(8)
async def test_an_append_that_was_given_up_in_doubt_is_recognised_when_it_is_tried_again(losing) -> None:
    proxy, url = losing
    async with opened(url, patience_s=0.0) as store:
        await store.append(addition(ORDER, 0))
        append = addition(ORDER, 1)
        proxy.lose(1)
        with pytest.raises(StoreUnreachable):
            await store.append(append)
        assert len(await store.read(ORDER)) == 2
        assert await store.append(append) == 2
        assert len(await store.read(ORDER)) == 2


@pytest.fixture
def primary():
    with private_cluster() as made:
        yield made


@pytest.mark.fault(8)
async def test_a_promoted_standby_that_had_lagged_behind_is_found_out_and_not_built_upon(primary: Cluster) -> None:
    """What was acknowledged and did not reach it is lost; nobody may go on as if it were not."""
    async with opened(primary.url()) as first:
        for number in range(5):
            await first.append(addition(ORDER, number))
    standby = await asyncio.to_thread(primary.standby, primary.folder.parent / "standby", follows=False)
    either = primary.url(more="&target_session_attrs=read-write").replace(
        f":{primary.port}/", f":{primary.port},127.0.0.1:{standby.port}/"
    )
    async with opened(either) as quick, opened(either) as slow:
        for number in range(5, 9):
            await quick.append(addition(ORDER, number))
        assert await slow.append(addition(ORDER, 9)) == 10
        await asyncio.to_thread(primary.kill)
        await asyncio.to_thread(standby.promote)
        async with opened(standby.url()) as newcomer:
            assert await newcomer.head() == 5
            await _is_found_out(quick)
            for number in range(7):  # the log grows beyond where it was, and looks as if nothing had happened
                await newcomer.append(addition(OTHER, number))
            await _is_found_out(slow)


async def _is_found_out(store: PostgresStore) -> None:
    with pytest.raises(StoreCorrupt, match="has lost events"):
        await store.head()
    with pytest.raises(StoreCorrupt, match="has lost events"):
        await store.append(addition(OTHER, 9))
    with pytest.raises(StoreCorrupt, match="has lost events"):
        await store.claim("anna", now_us=9, limit=9)
    assert await store.read(ORDER), "it can be read, to decide what is true"
