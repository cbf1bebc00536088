"""A worker dies before and after every outside call around an intervention: nothing is undone twice, or left undone."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from ostler.adapters.store.memory import MemoryBlobStore, MemoryStore
from ostler.adapters.tools.functions import FunctionTools, Tool, tool
from ostler.domain.agent import AgentSpec, Limits
from ostler.domain.fitness.events import FitnessLowered
from ostler.domain.fitness.target import Goal, Reading, Target
from ostler.domain.identity import LOCAL_USER
from ostler.domain.scheduling import WorkerSettings
from ostler.domain.session import commands as command
from ostler.domain.session.events import (
    SESSION_CODEC,
    CompensationRequested,
    FitnessCompared,
    SessionEvent,
)
from ostler.domain.session.state import ENDED
from ostler.domain.tool import Effect, ToolRequest
from ostler.kernel.event import StreamId, first_broken
from ostler.runtime.examiner import Examiner
from ostler.runtime.fitness import Keeper
from ostler.runtime.journal import Journal
from ostler.runtime.performer import Performer
from ostler.runtime.replay import replay
from ostler.runtime.worker import Worker
from ostler.testing import Scripted, calls
from tests.runtime.crash import LEASE_S, Chance, Clock, Crash, Fuse, Fused

STREAM = StreamId(LOCAL_USER.tenant, "ses_crash")
UP = Target(name="up", goal=Goal("==", 0.0), command=("check",), at=("intervention",), around=("deploy",))


class World:
    """A site that a deployment breaks, and a rollback mends; it outlives every process."""

    def __init__(self, effect: Effect) -> None:
        self.done: list[str] = []
        self.effect = effect

    @property
    def value(self) -> float:
        return float(bool(self.done) and self.done[-1].startswith("deploy"))

    def tools(self) -> Sequence[Tool[..., Any]]:
        async def happened(request: ToolRequest) -> str | None:
            return "done" if f"{request.tool} {request.key}" in self.done else None

        reconcile = happened if self.effect == "reconcilable" else None

        @tool(effect=self.effect, reconcile=reconcile, compensate="rollback")
        async def deploy(request: ToolRequest) -> str:
            """Deploy."""
            self.done.append(f"deploy {request.key}")
            return "done"

        @tool(effect=self.effect, reconcile=reconcile)
        async def rollback(request: ToolRequest) -> str:
            """Roll back."""
            self.done.append(f"rollback {request.key}")
            return "done"

        return deploy, rollback


class Process:
    """One incarnation of a worker that measures."""

    def __init__(self, store: MemoryStore, world: World, clock: Clock, fuse: Fuse) -> None:
        self.errors: list[BaseException] = []
        fused = Fused(store, fuse, "store")
        model = Scripted(calls(("deploy", {})), "done")
        chance = Chance()

        async def measure(target: Target, tenant: str) -> Reading:
            fuse.pass_by("before measuring")
            value = world.value
            fuse.pass_by("after measuring")
            return Reading(value)

        async def halt(tenant: str, agent: str, reason: str) -> None:
            raise AssertionError("nothing halts here")

        keeper = Keeper(fused, clock, (UP,), measure, halt=halt, trouble=self.errors.append)
        performer = Performer(
            lambda ref: Fused(model, fuse, "provider"),
            Fused(FunctionTools(world.tools()), fuse, "tools"),
            MemoryBlobStore(),
            clock,
            chance,
            examiner=Examiner(clock, fitness=keeper),
        )
        self.worker = Worker(
            journal=Journal(fused),
            performer=performer,
            clock=clock,
            entropy=chance,
            settings=WorkerSettings(lease_s=LEASE_S, grace_s=1),
            trouble=lambda stream, error: self.errors.append(error),
        )


async def until_ended(store: MemoryStore) -> None:
    while True:
        position = await store.head()
        (info,) = await store.streams(STREAM.tenant, prefix=STREAM.name)
        if info.standing.status in ENDED:
            return
        await store.wait(after=position, timeout_s=5)


async def lead(store: MemoryStore, world: World, clock: Clock, fuse: Fuse) -> None:
    """A worker's life, to the end of the session or its own."""
    before = asyncio.all_tasks()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)  # tasks that died of the crash
    process = Process(store, world, clock, fuse)
    try:
        await process.worker.start()
        ended, blown = asyncio.create_task(until_ended(store)), asyncio.create_task(fuse.blown.wait())
        await asyncio.wait([ended, blown], return_when=asyncio.FIRST_COMPLETED)
        for waiting in (ended, blown):
            waiting.cancel()
        if not fuse.blown.is_set():
            await process.worker.stop()
    except Crash:
        pass
    leftover = asyncio.all_tasks() - before
    for task in leftover:
        task.cancel()
    await asyncio.gather(*leftover, return_exceptions=True)
    assert not process.errors, process.errors


async def life_and_death(effect: Effect, fuse: Fuse) -> tuple[list[SessionEvent], World]:
    world, clock, store = World(effect), Clock(), MemoryStore()
    deploy, rollback = (one.spec for one in world.tools())
    deploy = msgspec.structs.replace(deploy, fitness=("up",))
    spec = AgentSpec("deployer", tools=(deploy, rollback), limits=Limits(attempts=50))
    start = command.Start(clock.now_us(), STREAM.name, spec, Scripted().ref, "Go.", LOCAL_USER)
    await Journal(store).start(STREAM.tenant, start)
    await lead(store, world, clock, fuse)
    if fuse.blown.is_set():
        clock.us += int(LEASE_S * 2_000_000)
        await lead(store, world, clock, Fuse())
    records = await store.read(STREAM)
    assert first_broken(records) is None
    assert replay(records).state.end is not None
    return [SESSION_CODEC.decode(record.data) for record in records], world


@pytest.mark.parametrize("effect", ["reconcilable", "once"])
async def test_a_crash_at_any_outside_call_around_an_intervention_undoes_it_once(effect: Effect) -> None:
    undisturbed = Fuse()
    events, world = await life_and_death(effect, undisturbed)
    assert [event.is_restored for event in events if isinstance(event, FitnessCompared)] == [None, True]
    assert world.value == 0.0
    assert len(undisturbed.moments) > 30
    for moment in range(1, len(undisturbed.moments) + 1):
        fuse = Fuse(moment)
        events, world = await life_and_death(effect, fuse)
        where = f"crash {fuse.moments[-1]} (moment {moment})"
        kinds = Counter(type(event) for event in events)
        deployed = sum(done.startswith("deploy") for done in world.done)
        assert max(Counter(world.done).values(), default=0) <= 1, where
        assert kinds[FitnessLowered] == kinds[CompensationRequested] == deployed, where
        if effect == "reconcilable":
            assert (deployed, world.value, kinds[FitnessCompared]) == (1, 0.0, 2), where
        elif deployed:  # whether the rollback has happened is known to nobody but the world, and that was measured
            restored = [event.is_restored for event in events if isinstance(event, FitnessCompared)]
            assert restored == [None, world.value == 0.0], where
