"""The breakers keep the contract; those on Redis are shared by processes, and none of these stops for want of it."""

import asyncio
import secrets
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from ostler.adapters.breakers import memory
from ostler.adapters.breakers.memory import MemoryBreakers
from ostler.adapters.breakers.redis import CONNECTIONS_MAX, RedisBreakers
from ostler.domain.resilience.breaker import Admitted, Breaker, Key, Open
from ostler.kernel.errors import BreakersUnshared, OstlerError
from ostler.testing.contracts.breakers import BREAKER, KEY, BreakersContract, begin, call, opened
from tests.adapters.bus.servers import NOWHERE, REDIS, require
from tests.faults.proxy import Proxy


class TestMemoryBreakers(BreakersContract):
    def storage(self):
        shared = MemoryBreakers()

        @asynccontextmanager
        async def open_breakers():
            yield shared

        return open_breakers


@pytest.fixture
async def prefix():
    """A beginning of keys that nobody else's have."""
    require(REDIS, "redis")
    prefix = f"ostler-test-{secrets.token_hex(6)}:[*]:"
    yield prefix
    client = Redis.from_url(REDIS)
    async for name in client.scan_iter(match=f"{prefix[:24]}*", count=1000):
        await client.delete(name)
    await client.aclose()


class TestRedisBreakers(BreakersContract):
    @pytest.fixture(autouse=True)
    def _own(self, prefix):
        self.prefix = prefix

    def storage(self):
        @asynccontextmanager
        async def open_breakers():
            breakers = RedisBreakers(REDIS, prefix=self.prefix, timeout_s=20.0)
            yield breakers
            await breakers.close()

        return open_breakers


@pytest.fixture
async def shared(prefix):
    breakers = RedisBreakers(REDIS, prefix=prefix, timeout_s=20.0)
    yield breakers
    await breakers.close()


async def test_of_four_processes_that_ask_200_times_each_exactly_one_probes(prefix, shared):
    until_us = await opened(shared)
    command = [sys.executable, "-m", "tests.adapters.breakers.prober", prefix, REDIS, str(until_us)]
    probers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220
        for _ in range(4)
    ]
    for prober in probers:
        assert prober.stdout is not None
        assert prober.stdout.readline() == "ready\n"
    for prober in probers:
        assert prober.stdin is not None
        prober.stdin.write("go\n")
        prober.stdin.flush()
    assert sorted(prober.communicate()[0] for prober in probers) == ["0\n", "0\n", "0\n", "1\n"]


async def test_a_call_of_a_healthy_provider_takes_two_round_trips(prefix, shared):
    await call(shared, "ok")
    client = Redis.from_url(REDIS)
    name = f"{prefix}{KEY.tenant}"
    async with client.monitor() as monitor:
        for _ in range(10):
            await call(shared, "ok")
        await client.echo(prefix)
        seen = []
        async for command in monitor.listen():
            if prefix in command["command"] and command["client_type"] != "lua":
                if command["command"].startswith("ECHO"):
                    break
                seen.append(command["command"])
    await client.aclose()
    assert len(seen) == 20
    assert all(name in command for command in seen)


async def test_what_is_kept_expires_by_itself_after_the_longest_wait(prefix, shared):
    long = Breaker(failures=1, recovery_s=7 * 86_400.0)
    admitted = await shared.admit(KEY, long, now_us=0)
    assert isinstance(admitted, Admitted)
    await shared.report(admitted, long, "failed", now_us=0)
    client = Redis.from_url(REDIS)
    week_ms = 7 * 86_400_000
    assert week_ms < await client.pttl(f"{prefix}acme") <= week_ms + 86_400_000
    await call(shared, "ok", Key("acme", "tool", "straw"))  # does not shorten it
    assert week_ms < await client.pttl(f"{prefix}acme")
    await client.aclose()


@pytest.mark.parametrize("there", [b"\xff", b"[]", b'{"epoch": "many"}', b"null"])
async def test_what_nobody_can_read_is_taken_for_a_closed_breaker_and_replaced(prefix, shared, there):
    client = Redis.from_url(REDIS)
    await client.hset(f"{prefix}{KEY.tenant}", f"{KEY.kind}:{KEY.name}", there)
    await client.aclose()
    await opened(shared)
    assert (await shared.states(KEY.tenant))[KEY].until_us is not None


async def test_many_breakers_at_once_share_a_bounded_number_of_connections(prefix):
    many = RedisBreakers(f"{REDIS}?client_name={prefix[:24]}", prefix=prefix, timeout_s=20.0)
    keys = [Key("acme", "tool", f"t{number}") for number in range(300)]
    await asyncio.gather(*(begin(many, key) for key in keys))
    client = Redis.from_url(REDIS)
    own = [one for one in await client.client_list() if one["name"] == prefix[:24]]
    assert 1 < len(own) <= CONNECTIONS_MAX
    await client.aclose()
    await many.close()


async def test_a_key_of_another_kind_is_told_and_stops_nobody(prefix):
    told: list[OstlerError] = []
    client = Redis.from_url(REDIS)
    await client.set(f"{prefix}{KEY.tenant}", "something else")
    await client.aclose()
    alone = RedisBreakers(REDIS, prefix=prefix, trouble=told.append, timeout_s=20.0)
    await opened(alone)
    assert ["WRONGTYPE" in error.message for error in told] == [True]
    await alone.close()


async def test_without_a_server_each_process_goes_on_with_breakers_of_its_own_and_says_so_once():
    told: list[OstlerError] = []
    alone = RedisBreakers(f"redis://user:geheim@{NOWHERE}", trouble=told.append)
    until_us = await opened(alone)
    assert isinstance(await alone.admit(KEY, BREAKER, now_us=until_us - 1), Open)
    assert await alone.reset(KEY) is not None
    (trouble,) = told
    assert isinstance(trouble, BreakersUnshared)
    assert f"Redis at {NOWHERE}" in trouble.message
    assert "geheim" not in f"{trouble.message} {trouble.hint}"
    with pytest.raises(BreakersUnshared):
        await alone.states("acme")
    await alone.close()


async def test_a_server_that_hangs_keeps_nobody_waiting_twice():
    async def hang(reader, writer):
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    told: list[OstlerError] = []
    url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    alone = RedisBreakers(url, trouble=told.append, timeout_s=0.2, again_s=60)
    answers = await asyncio.gather(*(alone.admit(KEY, BREAKER, now_us=0) for _ in range(200)))
    assert len([answer for answer in answers if isinstance(answer, Admitted)]) == 200
    assert len(told) == 1
    await alone.close()
    server.close()


async def test_nobody_stands_in_line_for_a_slow_server_longer_than_for_one_that_hangs(prefix):
    class Slow(Proxy):
        async def _pump(self, reader, writer, *, is_clients):
            while data := await reader.read(65_536):
                await asyncio.sleep(0.01)
                writer.write(data)

    where = urlsplit(REDIS)
    told: list[OstlerError] = []
    async with Slow(where.hostname or "", where.port or 6379) as proxy:
        url = f"redis://{proxy.host}:{proxy.port}"
        slow = RedisBreakers(url, prefix=prefix, trouble=told.append, timeout_s=1, again_s=60)
        answers = await asyncio.gather(*(slow.admit(KEY, BREAKER, now_us=0) for _ in range(200)))
        admitted = [answer for answer in answers if isinstance(answer, Admitted)]
        assert (len(admitted), told) == (200, [])
        await asyncio.gather(*(slow.report(one, BREAKER, "ok", now_us=0) for one in admitted))
        assert [error.code for error in told] == [BreakersUnshared.code]
        await slow.close()


async def test_a_server_that_is_back_is_used_again(prefix):
    told: list[OstlerError] = []
    where = urlsplit(REDIS)
    async with Proxy(where.hostname or "", where.port or 6379) as proxy:
        away = RedisBreakers(
            f"redis://{proxy.host}:{proxy.port}", prefix=prefix, trouble=told.append, timeout_s=0.2, again_s=0.0
        )
        proxy.stall()
        await opened(away)
        assert told
        proxy.resume()
        other = RedisBreakers(REDIS, prefix=prefix)
        until_us = await opened(other, now_us=7)
        while (refused := await away.look(KEY, now_us=8)) is None or refused.until_us != until_us:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await other.close()
        await away.close()


async def test_a_caller_that_is_cancelled_leaves_no_answer_for_the_next(shared):
    await opened(shared, Key("acme", "tool", "straw"))
    for round_ in range(50):
        asking = asyncio.create_task(shared.admit(KEY, BREAKER, now_us=0))
        for _ in range(round_ % 10):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        refused = await shared.look(Key("acme", "tool", "straw"), now_us=0)
        assert refused is not None
        assert await shared.look(KEY, now_us=0) is None


async def test_a_process_keeps_no_more_breakers_than_it_may_and_forgets_no_open_one(monkeypatch):
    monkeypatch.setattr(memory, "KEYS_MAX", 50)
    breakers = MemoryBreakers()
    until_us = await opened(breakers)
    for number in range(500):
        await call(breakers, "failed", Key("acme", "tool", f"t{number}"))
    assert len(await breakers.states("acme")) <= 50
    assert isinstance(await breakers.admit(KEY, BREAKER, now_us=until_us - 1), Open)


async def test_a_healthy_call_costs_a_process_less_than_eight_microseconds():
    breakers, settings, rounds = MemoryBreakers(), Breaker(), 5_000
    best_us = 1e9
    for _ in range(5):
        begun_s = time.process_time()
        for now_us in range(rounds):
            admitted = await breakers.admit(KEY, settings, now_us=now_us)
            assert isinstance(admitted, Admitted)
            await breakers.report(admitted, settings, "ok", now_us=now_us)
        best_us = min(best_us, (time.process_time() - begun_s) * 1e6 / rounds)
    assert best_us < 8.0
