"""What several workers, tenants and unlucky sessions have of one another: their share, and no more."""

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from ostler.adapters.store.memory import MemoryBlobStore, MemoryStore
from ostler.adapters.tools.functions import FunctionTools, Tool, tool
from ostler.domain.agent import AgentSpec
from ostler.domain.identity import DEFAULT_TENANT, LOCAL_USER
from ostler.domain.scheduling import ATTEMPTS_MAX, Caps, WorkerSettings
from ostler.domain.session import commands as command
from ostler.domain.session.events import SESSION_CODEC, AgentPaused
from ostler.domain.tool import ToolRequest
from ostler.kernel.event import StreamId
from ostler.ports import Claim
from ostler.runtime.journal import Journal
from ostler.runtime.performer import Performer
from ostler.runtime.worker import Worker
from ostler.testing import Scripted, calls
from tests.runtime.crash import Chance, Clock

LEASE_S = 30.0
THIEF = "wrk_thief/elsewhere/1/1"


class Stable:
    """Sessions that each call one tool, and wait in it until they are let go; the tool sees how many are in it."""

    def __init__(self) -> None:
        self.store, self.clock = MemoryStore(), Clock()
        self.journal = Journal(self.store)
        self.inside: list[str] = []
        self.most: dict[str, int] = {}
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()
        self.troubles: list[Exception] = []
        self.script = Scripted(calls(("wait", {})), "done")

        @tool(effect="read")
        async def wait(request: ToolRequest) -> str:
            """Wait."""
            tenant = request.tenant
            self.inside.append(tenant)
            self.most[tenant] = max(self.most.get(tenant, 0), self.inside.count(tenant))
            self.entered.set()
            await self.gate.wait()
            self.inside.remove(tenant)
            return "waited"

        self.tools: Sequence[Tool] = (wait,)

    def worker(self, seed: int = 0, **settings) -> Worker:
        performer = Performer(
            lambda ref: self.script, FunctionTools(self.tools), MemoryBlobStore(), self.clock, Chance(seed)
        )
        return Worker(
            journal=self.journal,
            performer=performer,
            clock=self.clock,
            entropy=Chance(seed),
            settings=WorkerSettings(lease_s=LEASE_S, grace_s=1, **settings),
            trouble=lambda stream, error: self.troubles.append(error),
        )

    async def start(
        self, name: str, tenant: str = DEFAULT_TENANT, agent: str = "waiter", priority: int = 0
    ) -> StreamId:
        spec = AgentSpec(name=agent, tools=tuple(one.spec for one in self.tools))
        by = msgspec.structs.replace(LOCAL_USER, tenant=tenant)
        start = command.Start(self.clock.now_us(), name, spec, self.script.ref, "Go.", by, priority=priority)
        await self.journal.start(tenant, start)
        return StreamId(tenant, name)

    async def status(self, stream: StreamId) -> str:
        (info,) = await self.store.streams(stream.tenant, prefix=stream.name)
        return info.standing.status

    async def until(self, condition) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - the world of these tests has nothing to wait for
                await asyncio.sleep(0.001)

    async def until_ended(self, streams: Sequence[StreamId]) -> None:
        async with asyncio.timeout(20):
            for stream in streams:
                while await self.status(stream) != "completed":  # noqa: ASYNC110
                    await asyncio.sleep(0.001)


@pytest.fixture
async def stable():
    return Stable()


async def test_a_tenant_with_many_sessions_does_not_keep_another_waiting(stable):
    for number in range(50):
        await stable.start(f"ses_hot{number}", tenant="hot")
    for number in range(2):
        await stable.start(f"ses_calm{number}", tenant="calm")
    worker = stable.worker(concurrency=4)
    await worker.start()
    await stable.until(lambda: len(stable.inside) == 4)
    assert sorted(stable.inside) == ["calm", "calm", "hot", "hot"]
    stable.gate.set()
    await worker.stop()


async def test_caps_hold_for_all_workers_together(stable):
    streams = [await stable.start(f"ses_{tenant}{n}", tenant=tenant) for tenant in ("a", "b") for n in range(6)]
    caps = Caps(tenants={"a": 2, "*": 5}, queues={"waiter": 6})
    workers = [stable.worker(seed, caps=caps, sweep_s=0.01) for seed in range(3)]
    for worker in workers:
        await worker.start()
    await stable.until(lambda: len(stable.inside) == 6)
    for _ in range(50):
        await asyncio.sleep(0)
    assert (stable.inside.count("a"), stable.inside.count("b")) == (2, 4)
    stable.gate.set()
    await stable.until_ended(streams)
    assert stable.most["a"] == 2
    assert stable.most["b"] <= 5
    for worker in workers:
        await worker.stop()


async def test_sessions_of_higher_priority_go_first(stable):
    low, high = await stable.start("ses_low"), await stable.start("ses_high", priority=7)
    claims = await stable.store.claim("anna", now_us=stable.clock.now_us(), limit=2)
    assert [claim.stream for claim in claims] == [high, low]


async def test_no_more_sessions_are_taken_in_a_second_than_the_pace_allows(stable):
    for number in range(40):
        await stable.start(f"ses_{number}")
    worker = stable.worker(claims_per_s=10)
    await worker.start()
    await stable.until(lambda: len(stable.inside) >= 10)
    assert len(stable.inside) == 10
    await stable.until(lambda: len(stable.inside) >= 11)
    assert len(stable.inside) < 20
    await worker.stop(grace_s=0)


async def die_with(stable: Stable, stream: StreamId) -> None:
    """What is left of a worker that died as soon as it had claimed the session."""
    name = f"wrk_{stable.clock.now_us()}/elsewhere/1/1"
    await stable.store.beat(name, until_us=stable.clock.us + 1_000_000)
    claims = await stable.store.claim(name, now_us=stable.clock.now_us(), limit=1, only=stream)
    assert [claim.stream for claim in claims] == [stream]
    stable.clock.us += 60_000_000


async def test_a_session_that_its_workers_die_of_is_parked_and_the_others_go_on(stable):
    stable.gate.set()
    poison = await stable.start("ses_poison")
    for _ in range(ATTEMPTS_MAX):
        await die_with(stable, poison)
    others = [await stable.start(f"ses_{number}") for number in range(5)]
    worker = stable.worker()
    await worker.start()
    await stable.until_ended(others)
    await stable.until(lambda: bool(stable.troubles))
    assert await stable.status(poison) == "paused"
    last = SESSION_CODEC.decode((await stable.store.read(poison))[-1].data)
    assert isinstance(last, AgentPaused)
    assert "5 workers in a row" in last.reason
    session = await stable.journal.load(poison)
    await stable.journal.execute(session, command.Resume(stable.clock.now_us(), LOCAL_USER))
    worker.wake()
    await stable.until_ended([poison])
    await worker.stop()


async def test_suspects_are_taken_one_by_one(stable):
    suspects = [await stable.start(f"ses_suspect{number}") for number in range(3)]
    for _ in range(2):
        for suspect in suspects:
            await die_with(stable, suspect)
    fresh = [await stable.start(f"ses_{number}") for number in range(3)]
    claims = await stable.store.claim("wrk", now_us=stable.clock.now_us(), limit=10)
    assert {claim.stream for claim in claims} == {suspects[0], *fresh}


async def test_a_session_that_gets_on_is_no_suspect_any_more(stable):
    stream = await stable.start("ses_unlucky")
    for _ in range(3):
        await die_with(stable, stream)
    worker = stable.worker()
    await worker.start()
    await stable.until(lambda: bool(stable.inside))
    (claim,) = await stable.store.claim("heir", now_us=stable.clock.us + 90_000_000, limit=1)
    assert claim.attempts == 1
    stable.gate.set()
    await worker.stop()


async def test_a_worker_that_was_silent_begins_nothing_of_a_session_that_another_took(stable):
    """The intent is written, then the worker stands still for longer than its lease, and another takes the session."""
    stream = await stable.start("ses_taken")
    worker = stable.worker()
    real_append = stable.store.append
    stolen: list[Claim] = []

    async def append(given):
        position = await real_append(given)
        if any(b"tool.requested" in record.data for record in given.records) and not stolen:
            stable.clock.us += int(2 * LEASE_S * 1e6)
            await stable.store.beat(THIEF, until_us=stable.clock.us + 10**12)
            stolen.extend(await stable.store.claim(THIEF, now_us=stable.clock.now_us(), limit=1, only=stream))
        return position

    stable.store.append = append
    await worker.start()
    await stable.until(lambda: bool(stolen) and not worker.running)
    assert stable.inside == []
    (info,) = await stable.store.streams(DEFAULT_TENANT, prefix="ses_taken")
    assert info.worker == THIEF
    await worker.stop()


async def test_a_worker_that_was_silent_goes_on_with_what_nobody_took(stable):
    stream = await stable.start("ses_kept")
    worker = stable.worker()
    real_append = stable.store.append

    async def append(given):
        position = await real_append(given)
        if any(b"tool.requested" in record.data for record in given.records):
            stable.clock.us += int(2 * LEASE_S * 1e6)
        return position

    stable.store.append = append
    stable.gate.set()
    await worker.start()
    await stable.until_ended([stream])
    assert stable.troubles == []
    await worker.stop()
