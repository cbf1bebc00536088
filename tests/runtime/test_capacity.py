"""Limits on calls of models hold for all workers together, and waiting for them costs nothing that counts."""

import asyncio
import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from ostler.adapters.store.memory import MemoryBlobStore, MemoryStore
from ostler.adapters.store.memory_limits import MemoryLimiter
from ostler.adapters.store.postgres.limits import PostgresLimiter
from ostler.adapters.store.postgres.store import PostgresStore
from ostler.adapters.store.sqlite import SqliteStore
from ostler.adapters.store.sqlite_limits import SqliteLimiter
from ostler.adapters.tools.functions import FunctionTools, tool
from ostler.app.world import SystemClock
from ostler.domain.agent import AgentSpec, Limits
from ostler.domain.capacity import Limit, Place, Quota, Quotas, Wait
from ostler.domain.identity import LOCAL_USER
from ostler.domain.model import ModelRequest, ModelSettings, Reply
from ostler.domain.scheduling import WorkerSettings
from ostler.domain.session import commands as command
from ostler.domain.session.events import (
    SESSION_CODEC,
    AgentCompleted,
    AgentFailed,
    CallRetried,
    ModelRequested,
    SessionEvent,
)
from ostler.domain.session.state import State
from ostler.kernel.errors import OstlerError, StoreBusy
from ostler.kernel.event import StreamId
from ostler.ports import Clock, EventStore, Limiter
from ostler.runtime.journal import Journal
from ostler.runtime.performer import Performer
from ostler.runtime.replay import replay
from ostler.runtime.turns import Turns
from ostler.runtime.worker import Worker
from ostler.testing import Scripted, calls
from ostler.testing.sim.loop import Process, VirtualLoop, pass_time
from ostler.testing.sim.wire import Seeded, WorkerClock
from tests.servers import fresh_schema

ONE = Quotas(providers={"scripted": Quota(model_calls=1)})
SLOWLY = Quotas(providers={"scripted": Quota(model_calls_per_minute=6)})
PROVIDER = "providers.scripted.model_calls"


class Model:
    """A model that takes `takes_s`, and knows how often it was asked at once, when, and for whom."""

    def __init__(self, *turns: Reply | str, takes_s: float = 0.0) -> None:
        self.script = Scripted(*turns or ("done",))
        self.takes_s = takes_s
        self.inside = self.most = 0
        self.moments: list[float] = []
        self.order: list[str] = []

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> Reply:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.moments.append(asyncio.get_running_loop().time())
        self.order.append(request.key)
        try:
            if self.takes_s:
                await pass_time(self.takes_s)
            else:
                for _ in range(20):
                    await asyncio.sleep(0)
            return await self.script.complete(request, on_text)
        finally:
            self.inside -= 1

    async def close(self) -> None:
        """Nothing is held."""


@tool(effect="read")
async def look() -> str:
    """Look."""
    return "seen"


class Crew:
    """Workers of a test, and what they do with sessions. Each may have a handle of its own on the same storage."""

    def __init__(self, model: Model, clock: Clock, store: EventStore | None = None) -> None:
        self.model = model
        self.clock = clock
        self.store = store or MemoryStore()
        self.journal = Journal(self.store)
        self.limiter: Limiter = MemoryLimiter()
        self.troubles: list[OstlerError] = []
        self.hired = 0
        self.agent = AgentSpec("clerk", tools=(look.spec,))

    def worker(
        self, quotas: Quotas = ONE, store: EventStore | None = None, limiter: Limiter | None = None, **settings: Any
    ) -> Worker:
        def trouble(stream: StreamId | None, error: OstlerError) -> None:
            self.troubles.append(error)

        self.hired += 1
        chance = Seeded(random.Random(self.hired))
        model: Any = self.model
        return Worker(
            journal=Journal(store or self.store),
            performer=Performer(lambda ref: model, FunctionTools([look]), MemoryBlobStore(), self.clock, chance),
            clock=self.clock,
            entropy=chance,
            settings=WorkerSettings(**settings),
            trouble=trouble,
            turns=Turns(limiter or self.limiter, quotas, self.clock, trouble=trouble),
        )

    async def start(self, name: str, *, priority: int = 0, tenant: str = LOCAL_USER.tenant) -> StreamId:
        by = msgspec.structs.replace(LOCAL_USER, tenant=tenant)
        ref = self.model.script.ref
        start = command.Start(self.clock.now_us(), name, self.agent, ref, "Go.", by, priority=priority)
        await self.journal.start(tenant, start)
        return StreamId(tenant, name)

    async def tell(self, stream: StreamId, kind: Any, worker: Worker) -> None:
        session = await self.journal.load(stream)
        await self.journal.execute(session, kind(self.clock.now_us(), LOCAL_USER))
        worker.wake(stream)

    async def state(self, stream: StreamId) -> State:
        state = (await self.journal.load(stream)).state
        assert state is not None
        return state

    async def events(self, stream: StreamId) -> list[SessionEvent]:
        return [SESSION_CODEC.decode(record.data) for record in await self.journal.records(stream)]

    async def until(self, stream: StreamId, *statuses: str) -> None:
        async with asyncio.timeout(600):
            while True:
                position = await self.store.head()
                infos = await self.store.streams(stream.tenant, prefix=stream.name, statuses=statuses)
                if stream in [info.stream for info in infos]:
                    return
                await self.store.wait(after=position, timeout_s=1)

    async def check_ended(self, streams: Sequence[StreamId]) -> None:
        """All of them completed, with a history that today's code decides again; waits are in pairs, and no attempt."""
        for stream in streams:
            await self.until(stream, "completed", "failed", "cancelled")
            happened = await self.events(stream)
            assert isinstance(happened[-1], AgentCompleted)
            retried = [event for event in happened if isinstance(event, CallRetried)]
            assert [event.limit is None for event in retried] == [False, True] * (len(retried) // 2)
            assert {event.attempt for event in retried} <= {1}
            replay(await self.journal.records(stream))


@pytest.fixture
def virtual():
    """Runs a test's play on a loop whose time is a number."""
    loop = VirtualLoop(random.Random(0))

    def run(play: Callable[[VirtualLoop], Any]) -> Any:
        outcome = loop.run(Process("test"), play(loop))
        assert loop.complaints == []
        return outcome

    yield run
    loop.close()


# All workers together


async def check_never_two_at_once(handles: Sequence[tuple[EventStore, Limiter]]) -> None:
    crew = Crew(Model(calls(("look", {})), "done"), SystemClock(), handles[0][0])
    streams = [await crew.start(f"ses_{number}") for number in range(6)]
    workers = [crew.worker(store=store, limiter=limiter, concurrency=3, sweep_s=0.05) for store, limiter in handles]
    for worker in workers:
        await worker.start()
    await crew.check_ended(streams)
    for worker in workers:
        await worker.stop()
    assert (crew.model.most, len(crew.model.moments), crew.troubles) == (1, 12, [])


async def test_two_workers_in_memory_never_call_the_model_at_once_when_one_may() -> None:
    store, limiter = MemoryStore(), MemoryLimiter()
    await check_never_two_at_once([(store, limiter), (store, limiter)])


async def test_two_workers_on_a_file_never_call_the_model_at_once_when_one_may(tmp_path) -> None:
    stores = [await SqliteStore.open(tmp_path / "ostler.db") for _ in range(2)]
    await check_never_two_at_once([(store, SqliteLimiter(store)) for store in stores])
    for store in stores:
        await store.close()


@pytest.fixture
def url():
    with fresh_schema() as found:
        yield found


async def test_two_workers_on_a_server_never_call_the_model_at_once_when_one_may(url) -> None:
    stores = [await PostgresStore.open(url) for _ in range(2)]
    await check_never_two_at_once([(store, PostgresLimiter(store)) for store in stores])
    for store in stores:
        await store.close()


def test_calls_begin_no_faster_than_the_rate_whoever_makes_them(virtual) -> None:
    async def play(loop: VirtualLoop) -> Crew:
        crew = Crew(Model(), WorkerClock(loop))
        streams = [await crew.start(f"ses_{number}") for number in range(8)]
        workers = [crew.worker(SLOWLY, concurrency=4) for _ in range(2)]
        for worker in workers:
            await worker.start()
        await crew.check_ended(streams)
        for worker in workers:
            await worker.stop()
        return crew

    moments = virtual(play).model.moments
    gaps = [after - before for before, after in itertools.pairwise(moments)]
    assert len(gaps) == 7
    assert min(gaps) > 9.999
    assert max(gaps) < 12


# What a wait looks like


def test_a_session_that_waits_says_so_after_a_second_and_once(virtual) -> None:
    async def play(loop: VirtualLoop) -> tuple[list[SessionEvent], list[tuple[str | None, str | None]]]:
        crew = Crew(Model(takes_s=100), WorkerClock(loop))
        worker = crew.worker()
        await worker.start()
        busy = await crew.start("ses_busy")
        worker.wake()
        await pass_time(1)
        waiting = await crew.start("ses_waiting")
        worker.wake()
        seen: list[tuple[str | None, str | None]] = []
        for wait_s in (0.5, 1.5, 50, 50):
            await pass_time(wait_s)
            state = await crew.state(waiting)
            seen.append((state.status, state.waiting_for))
        await crew.check_ended([busy, waiting])
        await worker.stop()
        return await crew.events(waiting), seen

    happened, seen = virtual(play)
    assert seen == [("running", None), ("waiting", "capacity"), ("waiting", "capacity"), ("running", None)]
    retried = [(event.limit, event.because) for event in happened if isinstance(event, CallRetried)]
    assert retried == [(PROVIDER, f"waits for capacity: {PROVIDER}"), (None, "there is capacity")]


def test_a_short_wait_leaves_no_trace(virtual) -> None:
    async def play(loop: VirtualLoop) -> list[SessionEvent]:
        crew = Crew(Model(takes_s=0.4), WorkerClock(loop))
        streams = [await crew.start(f"ses_{number}") for number in range(2)]
        worker = crew.worker()
        await worker.start()
        await crew.check_ended(streams)
        await worker.stop()
        return [*await crew.events(streams[0]), *await crew.events(streams[1])]

    assert not any(isinstance(event, CallRetried) for event in virtual(play))


def test_the_time_of_a_call_does_not_run_while_it_waits(virtual) -> None:
    async def play(loop: VirtualLoop) -> None:
        crew = Crew(Model(takes_s=4), WorkerClock(loop))
        crew.agent = AgentSpec("clerk", settings=ModelSettings(timeout_s=1.0), limits=Limits(attempts=1))
        streams = [await crew.start(f"ses_{number}") for number in range(20)]
        worker = crew.worker()
        await worker.start()
        await crew.check_ended(streams)
        assert loop.time() > 19 * 4
        await worker.stop()

    virtual(play)


def test_the_time_limit_of_a_session_ends_it_while_it_waits(virtual) -> None:
    async def play(loop: VirtualLoop) -> SessionEvent:
        crew = Crew(Model(takes_s=100), WorkerClock(loop))
        worker = crew.worker()
        await crew.start("ses_busy")
        await worker.start()
        await pass_time(1)
        crew.agent = AgentSpec("clerk", limits=Limits(seconds=5))
        waiting = await crew.start("ses_waiting")
        worker.wake()
        await crew.until(waiting, "failed")
        await worker.stop(grace_s=0)
        return (await crew.events(waiting))[-1]

    ended = virtual(play)
    assert isinstance(ended, AgentFailed)
    assert ended.reason == "timeout"


def test_waiting_costs_the_same_for_many_as_for_one(virtual) -> None:
    class Counting(MemoryLimiter):
        taken = 0

        async def take(self, limits: Sequence[Limit], place: Place, *, now_us: int) -> Wait:
            self.taken += 1
            return await super().take(limits, place, now_us=now_us)

    async def play(loop: VirtualLoop) -> int:
        crew = Crew(Model(takes_s=1000), WorkerClock(loop))
        crew.limiter = counting = Counting()
        for number in range(100):
            await crew.start(f"ses_{number}")
        worker = crew.worker()
        await worker.start()
        await pass_time(5)
        before = counting.taken
        for number in range(100, 150):
            await crew.start(f"ses_{number}")
        worker.wake()
        await pass_time(60)
        assert worker.running == 150
        await worker.stop(grace_s=0)
        return counting.taken - before

    assert virtual(play) <= 60 * 4 + 1


# Whose turn it is


def test_higher_priority_first_and_then_whoever_came_first(virtual) -> None:
    async def play(loop: VirtualLoop) -> list[str]:
        crew = Crew(Model(takes_s=5), WorkerClock(loop))
        worker = crew.worker()
        await worker.start()
        streams = []
        for name, priority in (("busy", 0), ("a", 0), ("b", 0), ("low", -1), ("urgent", 9)):
            streams.append(await crew.start(f"ses_{name}", priority=priority))
            worker.wake()
            await pass_time(0.5)
        await crew.check_ended(streams)
        await worker.stop()
        return crew.model.order

    assert virtual(play) == [f"ses_{name}/1" for name in ("busy", "urgent", "a", "b", "low")]


def test_one_tenant_at_its_limit_does_not_keep_another_waiting(virtual) -> None:
    async def play(loop: VirtualLoop) -> None:
        crew = Crew(Model(takes_s=50), WorkerClock(loop))
        worker = crew.worker(Quotas(tenants={"*": Quota(model_calls=1)}))
        for number in range(3):
            await crew.start(f"ses_hot{number}", tenant="hot")
        await worker.start()
        await pass_time(2)
        calm = await crew.start("ses_calm", tenant="calm")
        worker.wake()
        await crew.until(calm, "completed")
        assert (crew.model.most, loop.time() < 60) == (2, True)
        await worker.stop(grace_s=0)

    virtual(play)


def test_where_no_limit_is_for_a_call_nobody_is_asked(virtual) -> None:
    class Forbidden(MemoryLimiter):
        async def take(self, limits: Sequence[Limit], place: Place, *, now_us: int) -> Wait:
            raise AssertionError("nothing is limited")

    async def play(loop: VirtualLoop) -> None:
        crew = Crew(Model(), WorkerClock(loop))
        crew.limiter = Forbidden()
        stream = await crew.start("ses_free")
        worker = crew.worker(
            Quotas(tenants={"else": Quota(1)}, agents={"else": Quota(1)}, providers={"else": Quota(1)})
        )
        await worker.start()
        await crew.check_ended([stream])
        await worker.stop()

    virtual(play)


# People, and workers that stop or die


async def with_one_waiting(loop: VirtualLoop, *, for_s: float) -> tuple[Crew, Worker, StreamId, StreamId]:
    """A session whose call goes on for 60 s, and one that has waited for capacity for so long."""
    crew = Crew(Model(takes_s=60), WorkerClock(loop))
    worker = crew.worker(grace_s=100.0)
    await worker.start()
    busy = await crew.start("ses_busy")
    worker.wake()
    await pass_time(1)
    waiting = await crew.start("ses_waiting")
    worker.wake()
    await pass_time(for_s)
    return crew, worker, busy, waiting


WAITS = pytest.mark.parametrize("for_s", [0.5, 5.0], ids=["just begun to wait", "waiting"])


@WAITS
def test_a_session_is_cancelled_while_it_waits(virtual, for_s) -> None:
    async def play(loop: VirtualLoop) -> None:
        crew, worker, busy, waiting = await with_one_waiting(loop, for_s=for_s)
        await crew.tell(waiting, command.Cancel, worker)
        await crew.until(waiting, "cancelled")
        assert loop.time() < 10
        replay(await crew.journal.records(waiting))
        await crew.check_ended([busy])
        assert crew.model.order == ["ses_busy/1"]
        await worker.stop()

    virtual(play)


@WAITS
def test_a_session_that_is_paused_while_it_waits_begins_nothing_until_it_is_resumed(virtual, for_s) -> None:
    async def play(loop: VirtualLoop) -> None:
        crew, worker, busy, waiting = await with_one_waiting(loop, for_s=for_s)
        await crew.tell(waiting, command.Pause, worker)
        await pass_time(0.1)
        assert worker.running == 1
        await crew.check_ended([busy])
        await pass_time(10)
        assert ((await crew.state(waiting)).status, worker.running, crew.model.order) == ("paused", 0, ["ses_busy/1"])
        await crew.tell(waiting, command.Resume, worker)
        await crew.until(waiting, "completed")
        happened = await crew.events(waiting)
        assert {event.attempt for event in happened if isinstance(event, CallRetried)} == {1}
        assert len([event for event in happened if isinstance(event, ModelRequested)]) == 1
        replay(await crew.journal.records(waiting))
        await worker.stop()

    virtual(play)


@WAITS
def test_a_worker_that_stops_lets_go_at_once_of_what_waits_and_another_goes_on(virtual, for_s) -> None:
    async def play(loop: VirtualLoop) -> None:
        crew, worker, busy, waiting = await with_one_waiting(loop, for_s=for_s)
        stopping = asyncio.create_task(worker.stop())
        await pass_time(1)
        assert worker.running == 1
        state = await crew.state(waiting)
        assert (state.status, state.waiting_for) == ("waiting", "capacity")
        heir = crew.worker()
        await heir.start()
        await crew.check_ended([busy])
        await stopping
        await crew.until(waiting, "completed")
        happened = await crew.events(waiting)
        assert {event.attempt for event in happened if isinstance(event, CallRetried)} == {1}
        assert (await crew.state(waiting)).losses == 0
        replay(await crew.journal.records(waiting))
        await heir.stop()

    virtual(play)


@WAITS
def test_a_worker_that_has_lost_a_session_while_it_waits_calls_nobody_for_it(virtual, for_s) -> None:
    async def play(loop: VirtualLoop) -> None:
        crew, worker, _, waiting = await with_one_waiting(loop, for_s=for_s)
        thief = "wrk_thief/elsewhere/1/1"
        later_us = crew.clock.now_us() + 3_600_000_000
        await crew.store.retire(worker.name)
        await crew.store.beat(thief, until_us=later_us)
        await crew.store.claim(thief, now_us=crew.clock.now_us(), limit=5)
        await pass_time(120)
        assert (crew.model.order, worker.running) == (["ses_busy/1"], 0)
        (info,) = await crew.store.streams(waiting.tenant, prefix=waiting.name)
        assert info.worker == thief
        await worker.stop()

    virtual(play)


def test_the_places_of_a_worker_that_dies_are_its_heirs_at_once_and_everybodys_in_the_end(virtual) -> None:
    async def play(loop: VirtualLoop) -> None:
        crew = Crew(Model(takes_s=60), WorkerClock(loop))
        dead, there = Process("dead"), asyncio.get_running_loop()
        mortal = crew.worker(lease_s=30.0)
        busy = await crew.start("ses_busy")
        assert isinstance(there, VirtualLoop)
        there.spawn(dead, mortal.start())
        await pass_time(5)
        there.kill(dead)
        other = await crew.start("ses_other")
        heir = crew.worker()
        await heir.start()
        await crew.until(busy, "completed")
        assert loop.time() < 30 + 60 + 5
        await crew.until(other, "completed")
        assert crew.model.order == ["ses_busy/1", "ses_busy/1", "ses_other/1"]
        await heir.stop()

    virtual(play)


def test_a_limiter_that_cannot_be_reached_is_asked_again(virtual) -> None:
    class Away(MemoryLimiter):
        failures = 3

        async def take(self, limits: Sequence[Limit], place: Place, *, now_us: int) -> Wait:
            if self.failures:
                self.failures -= 1
                raise StoreBusy()
            return await super().take(limits, place, now_us=now_us)

    async def play(loop: VirtualLoop) -> list[OstlerError]:
        crew = Crew(Model(), WorkerClock(loop))
        crew.limiter = Away()
        stream = await crew.start("ses_patient")
        worker = crew.worker()
        await worker.start()
        await crew.check_ended([stream])
        await worker.stop()
        return crew.troubles

    assert [type(error) for error in virtual(play)] == [StoreBusy] * 3


def test_a_defect_of_the_limiter_ends_the_session_and_hangs_nobody(virtual) -> None:
    class Broken(MemoryLimiter):
        async def take(self, limits: Sequence[Limit], place: Place, *, now_us: int) -> Wait:
            raise ZeroDivisionError("a defect")

    async def play(loop: VirtualLoop) -> SessionEvent:
        crew = Crew(Model(), WorkerClock(loop))
        crew.limiter = Broken()
        stream = await crew.start("ses_unlucky")
        worker = crew.worker()
        await worker.start()
        await crew.until(stream, "failed")
        await worker.stop()
        return (await crew.events(stream))[-1]

    ended = virtual(play)
    assert isinstance(ended, AgentFailed)
    assert ended.message == "internal_error: ZeroDivisionError: a defect"
