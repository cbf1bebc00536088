"""Circuit breakers as calls meet them: opened by failures or by people, seen and closed from elsewhere."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from redis.asyncio import Redis

from ostler import Agent, Limits, Principal, Runtime
from ostler.app.circuits import Circuit, OpenCircuits, governed
from ostler.app.governance import Governing
from ostler.app.settings import ProjectFile, Settings, resolve
from ostler.domain.boot import WORKER_CODEC, BreakerClosed, BreakerOpened, WorkerEvent, WorkerLost, WorkerStarted
from ostler.domain.identity import DEFAULT_TENANT
from ostler.domain.model import ModelRequest
from ostler.domain.resilience.breaker import Admitted, Key
from ostler.domain.resilience.retry import Retries
from ostler.domain.scheduling import EVERYONE, WorkerSettings
from ostler.domain.session.events import CallRetried
from ostler.kernel.errors import BreakersUnshared, CircuitOpen, DefinitionInvalid, ProviderOverloaded
from ostler.kernel.event import StreamId
from ostler.runtime.life import Life
from ostler.runtime.resilience import circuits as runtime_circuits
from ostler.testing import Scripted
from tests.adapters.bus.servers import NOWHERE, REDIS, own_name, require
from tests.runtime.watching import events, reached

ANNA = Principal("anna", scopes=("govern",))
HAY = Key("default", "provider", "hay")
TABLES = {"providers": {"*": {"failures": 2, "recovery_s": 600}}, "tools": {"crm.find": {"failures": 1}}}


class Time:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.us = 1_800_000_000_000_000

    def now_us(self) -> int:
        return self.us


def settings_in(folder: Path, breakers: object = None) -> Settings:
    """A project with these tables."""
    project = msgspec.convert({"breakers": TABLES if breakers is None else breakers}, ProjectFile)
    return resolve(os.environ, folder, store=f"sqlite:///{folder}/ostler.db", project=project)


@asynccontextmanager
async def open_runtime(folder: Path, time: Time, *, worker: bool = True) -> AsyncIterator[Runtime]:
    """A runtime with the time of the test; its worker lives by it, too."""
    async with Runtime.open(settings_in(folder), worker=False) as runtime:
        runtime.parts.clock = time
        if worker:
            await runtime.work(WorkerSettings(lease_s=3600.0))
        yield runtime


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[Runtime]:
    async with open_runtime(tmp_path, Time()) as runtime:
        yield runtime


async def call(runtime: Runtime, outcome: str = "ok", key: Key = HAY) -> Admitted | None:
    admitted = await runtime.parts.circuits.admit(key)
    await runtime.parts.circuits.report(admitted, "failed" if outcome == "failed" else "ok", because="provider_timeout")
    return admitted


async def open_it(runtime: Runtime, key: Key = HAY) -> None:
    for _ in range(2):
        await call(runtime, "failed", key)


async def lives(runtime: Runtime) -> list[list[WorkerEvent]]:
    """What each worker wrote about itself, but for its start."""
    store = runtime.parts.store
    boots = await store.streams(DEFAULT_TENANT, prefix="wrk_")
    logs = [await store.read(boot.stream) for boot in reversed(boots)]
    decoded = [[WORKER_CODEC.decode(record.data) for record in log] for log in logs]
    assert all(isinstance(log[0], WorkerStarted) for log in decoded)
    return [log[1:] for log in decoded]


async def seen(runtime: Runtime, *tenants: str) -> list[Circuit]:
    """What another process sees."""
    tenants = tenants or (DEFAULT_TENANT,)
    await runtime.parts.governor.refresh([EVERYONE, *tenants])
    return await OpenCircuits(runtime.settings, runtime.parts).look(tenants)


async def test_a_breaker_that_opens_refuses_is_told_and_is_seen_by_others(runtime, tmp_path):
    await open_it(runtime)
    with pytest.raises(CircuitOpen) as refused:
        await call(runtime)
    until = "2027-01-15T08:10:00.000000Z"
    because = "2 failures in a row, the last: provider_timeout"
    assert refused.value.message == f"The breaker of the provider hay is open until {until}: {because}."
    assert (refused.value.until, refused.value.retry_after_s, refused.value.retryable) == (until, 600.0, True)
    assert await runtime.parts.circuits.open_until(HAY) == 1_800_000_600_000_000
    assert await lives(runtime) == [[BreakerOpened(*HAY, 1_800_000_600_000_000, because)]]
    ((where, trouble),) = runtime.troubles
    assert (where, type(trouble), "opened for the tenant default" in trouble.message) == ("", CircuitOpen, True)
    async with open_runtime(tmp_path, runtime.parts.clock, worker=False) as other:
        (one,) = await seen(other)
        assert (one.tenant, one.kind, one.name, one.state) == ("default", "provider", "hay", "open")
        assert (one.until, one.because, one.by.startswith("wrk_")) == (until, because, True)
        runtime.parts.clock.us += 600_000_000
        assert [one.state for one in await seen(other)] == ["half-open"]
        await call(runtime)
        assert await seen(other) == []
    assert isinstance((await lives(runtime))[0][-1], BreakerClosed)


async def test_only_one_probe_is_let_begin_and_the_others_hear_when_to_ask_again(runtime):
    await open_it(runtime)
    runtime.parts.clock.us += 600_000_000
    assert await runtime.parts.circuits.open_until(HAY) is None
    asked = await asyncio.gather(*(runtime.parts.circuits.admit(HAY) for _ in range(50)), return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in asked) == ["Admitted"] + ["CircuitOpen"] * 49
    assert await runtime.parts.circuits.open_until(HAY) == runtime.parts.clock.us + 5_000_000


async def test_what_a_tenant_meets_is_no_other_tenants_affair(runtime, tmp_path):
    await open_it(runtime)
    assert await call(runtime, key=HAY._replace(tenant="acme"))
    assert await runtime.parts.circuits.open_until(HAY._replace(tenant="acme")) is None
    assert await seen(runtime, "acme") == []
    assert len(await seen(runtime, EVERYONE)) == 1


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[dict[str, object]]:
    """Tables with a server for all workers, and keys there that are nobody else's."""
    require(REDIS, "redis")
    prefix = f"{own_name('breakers')}:"
    yield {**TABLES, "redis": REDIS, "prefix": prefix}
    client = Redis.from_url(REDIS)
    await client.delete(*[f"{prefix}{tenant}" for tenant in ("default", "acme")])
    await client.aclose()


async def test_workers_with_a_server_share_breakers_and_everybody_sees_them_there(tmp_path, shared):
    settings = settings_in(tmp_path, shared)
    async with Runtime.open(settings, worker=False) as one, Runtime.open(settings, worker=False) as another:
        await call(one, "failed")
        await call(another, "failed")
        for runtime in (one, another):
            with pytest.raises(CircuitOpen, match="2 failures in a row"):
                await call(runtime)
            assert [(found.state, found.by) for found in await seen(runtime)] == [("open", "all workers")]
            assert len(await seen(runtime, EVERYONE, DEFAULT_TENANT)) == 1
            assert await seen(runtime, "acme") == []
        await Governing(one.parts, DEFAULT_TENANT, ANNA).reset("provider", "hay")
        assert await seen(another) == []
        assert await call(another)
        assert await call(one)


async def test_a_worker_whose_server_is_away_says_so_and_goes_on(tmp_path):
    async with Runtime.open(settings_in(tmp_path, {**TABLES, "redis": f"redis://{NOWHERE}"})) as runtime:
        await open_it(runtime)
        with pytest.raises(CircuitOpen):
            await call(runtime)
        assert [type(error) for _, error in runtime.troubles] == [BreakersUnshared, CircuitOpen]
        assert [found.by[:4] for found in await seen(runtime)] == ["wrk_"]


async def test_a_tool_has_a_breaker_where_the_project_says_so(runtime):
    find, other = HAY._replace(kind="tool", name="crm.find"), HAY._replace(kind="tool", name="crm.tell")
    for _ in range(9):
        assert await call(runtime, "failed", other) is None
    assert await runtime.parts.circuits.open_until(other) is None
    await call(runtime, "failed", find)
    with pytest.raises(CircuitOpen, match=r"of the tool crm\.find is open until"):
        await call(runtime, key=find)


async def test_what_people_open_holds_for_every_worker_until_people_close_it(runtime, tmp_path):
    async with open_runtime(tmp_path, runtime.parts.clock, worker=False) as other:
        assert await Governing(other.parts, DEFAULT_TENANT, ANNA).trip("provider", "hay", "it lies")
        assert not await Governing(other.parts, DEFAULT_TENANT, ANNA).trip("provider", "hay", "again")
        circuits = runtime.parts.circuits
        await runtime.parts.governor.know(DEFAULT_TENANT)  # as the worker does for the sessions that it holds
        with pytest.raises(CircuitOpen, match=r"is open: anna has opened it: it lies\.") as refused:
            await circuits.admit(HAY)
        assert refused.value.hint == "`ostler breaker reset provider hay` closes it."
        assert refused.value.retry_after_s == runtime_circuits.TRIPPED_AGAIN_S
        runtime.parts.clock.us += 86_400_000_000
        assert await circuits.open_until(HAY) == runtime.parts.clock.us + 30_000_000
        assert [one.state for one in await seen(runtime)] == ["tripped"]
        await Governing(other.parts, DEFAULT_TENANT, ANNA).reset("provider", "hay")
        while await circuits.open_until(HAY) is not None:  # noqa: ASYNC110  the worker hears of it by itself
            await asyncio.sleep(0.01)
        assert await call(runtime)


async def test_what_is_opened_for_everybody_is_opened_for_each_tenant(runtime):
    everything = Governing(runtime.parts, EVERYONE, ANNA)
    await everything.trip("tool", "crm.tell", "")
    await runtime.parts.governor.refresh_all()
    for tenant in ("default", "acme"):
        with pytest.raises(CircuitOpen, match="anna has opened it\\.") as refused:
            await runtime.parts.circuits.admit(Key(tenant, "tool", "crm.tell"))
        assert refused.value.hint == "`ostler breaker reset tool crm.tell --all` closes it."
        await Governing(runtime.parts, tenant, ANNA).reset("tool", "crm.tell")
        assert await runtime.parts.circuits.open_until(Key(tenant, "tool", "crm.tell")) is not None
    assert await governed(runtime.parts) == [EVERYONE, "acme", "default"]
    await everything.reset("tool", "crm.tell")
    assert await runtime.parts.circuits.open_until(Key("acme", "tool", "crm.tell")) is None


@pytest.mark.parametrize("realm", [DEFAULT_TENANT, EVERYONE])
async def test_what_failures_have_opened_people_close(runtime, realm):
    runtime.parts.clock.us += 1
    await open_it(runtime)
    runtime.parts.clock.us += 1
    await Governing(runtime.parts, realm, ANNA).reset("provider", "hay", "it is well again")
    assert await seen(runtime) == []
    assert await runtime.parts.circuits.open_until(HAY) is None
    assert await call(runtime)
    assert [type(event) for event in (await lives(runtime))[0]] == [BreakerOpened, BreakerClosed]
    runtime.parts.clock.us += 1
    await open_it(runtime)  # what fails afterwards opens it again
    with pytest.raises(CircuitOpen):
        await call(runtime)
    assert len(await seen(runtime)) == 1


async def test_a_worker_that_dies_with_an_open_breaker_is_mourned_and_its_breaker_is_seen_no_more(runtime, tmp_path):
    store, clock = runtime.parts.store, runtime.parts.clock
    dead = Life(store, clock, "wrk_dead")
    dead.name = dead.name.rpartition("/")[0] + "/0"
    await store.beat(dead.name, until_us=clock.us + 1_000)
    dead._last = await dead._append(
        StreamId(DEFAULT_TENANT, "wrk_dead"), dead._last, WorkerStarted("h", 1, ""), "running"
    )
    await dead.note(BreakerOpened(*HAY, clock.us + 60_000_000))
    assert [one.by for one in await seen(runtime)] == ["wrk_dead"]
    async with open_runtime(tmp_path, clock):
        pass
    stopped, dead_ones = sorted(await lives(runtime), key=len)[-2:]
    assert [type(event) for event in dead_ones] == [BreakerOpened, WorkerLost], stopped
    assert await seen(runtime) == []


def test_what_a_table_leaves_out_is_as_the_table_of_all_others_says(tmp_path):
    tables = {"providers": {"*": {"failures": 9, "rate": 0.9}, "hay": {"failures": 2}}, "tools": {"*": {"probe_s": 3}}}
    breaker_of = settings_in(tmp_path, tables).breakers.breaker_of()
    hay, other, tool = breaker_of("provider", "hay"), breaker_of("provider", "straw"), breaker_of("tool", "any")
    assert hay is not None
    assert other is not None
    assert tool is not None
    assert (hay.failures, hay.rate, hay.calls_min) == (2, 0.9, 20)
    assert (other.failures, other.rate) == (9, 0.9)
    assert (tool.failures, tool.probe_s) == (5, 3.0)
    assert breaker_of("provider", "hay") is hay


@pytest.mark.parametrize(
    ("tables", "problem"),
    [
        ({"redis": "http://somewhere"}, "breakers.redis: is no address of a Redis server"),
        ({"redis": "redis://somewhere:port"}, "breakers.redis: is no address of a Redis server"),
        ({"redis": "redis://one,redis://two"}, "breakers.redis: is no address of a Redis server"),
        ({"prefix": ""}, "breakers.prefix: is empty"),
        ({"tools": {"": {}}}, "is nobody's name"),
    ],
)
def test_tables_that_make_no_sense_are_refused(tmp_path, tables, problem):
    with pytest.raises(DefinitionInvalid, match=problem):
        settings_in(tmp_path, tables)


def test_an_address_with_a_password_is_not_printed(tmp_path):
    settings = settings_in(tmp_path, {"redis": "redis://user:geheim@127.0.0.1"})
    assert "geheim" not in f"{settings} {settings.breakers!r}"


async def test_sessions_wait_for_an_open_breaker_in_the_log_and_go_on_when_it_closes(tmp_path):
    is_down = True

    def answer(request: ModelRequest) -> str:
        if is_down:
            raise ProviderOverloaded("It is down.", status=529)
        return "It is up."

    model = Scripted(answer)
    quick = Limits(attempts=9, retries=Retries(base_s=0.01))
    agent = Agent("asker", model=model, limits=quick)
    tables = {"providers": {"scripted": {"failures": 2, "recovery_s": 0.3}}}
    async with Runtime.open(settings_in(tmp_path, tables), agents=[agent]) as runtime:
        first = await runtime.start(agent, "Ask.")
        while not any(isinstance(error, CircuitOpen) for _, error in runtime.troubles):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        second = await runtime.start(agent, "Ask, too.")
        refused = await reached(second, CallRetried)
        is_down = False
        assert [str(await session.result(timeout_s=30)) for session in (first, second)] == ["It is up."] * 2
        told = [
            [event for event in await events(session) if isinstance(event, CallRetried)] for session in (first, second)
        ]
    codes = [[event.code for event in events_of if event.code] for events_of in told]
    assert codes[0][:3] == ["provider_overloaded", "provider_overloaded", "circuit_open"]
    assert codes[1][0] == "circuit_open"
    assert "The breaker of the provider scripted is open until" in refused.because
    assert "2 failures in a row, the last: provider_overloaded" in refused.because
    assert refused.not_before_us is not None
    # Whoever is refused has not asked: the model was, as often as it failed, and once for each session that did well.
    assert len(model.requests) == sum(one.count("provider_overloaded") for one in codes) + 2
