"""What the simulation has found, each as the shortest story in which it happens, so that it stays found."""

import asyncio
import random
from typing import Any

import pytest

from ostler.adapters.store.memory import MemoryBlobStore, MemoryStore
from ostler.adapters.tools.functions import FunctionTools, tool
from ostler.domain.agent import AgentSpec, Limits
from ostler.domain.identity import LOCAL_USER
from ostler.domain.scheduling import WorkerSettings
from ostler.domain.session import commands as command
from ostler.domain.session.events import SESSION_CODEC, ToolRequested
from ostler.kernel.errors import StoreCorrupt
from ostler.kernel.event import Record, StreamId
from ostler.ports import Append
from ostler.runtime.journal import Journal
from ostler.runtime.performer import Performer
from ostler.runtime.worker import Worker
from ostler.testing import Scripted, calls
from ostler.testing.sim.history import History
from ostler.testing.sim.loop import Process, VirtualLoop, pass_time
from ostler.testing.sim.wire import Seeded, Vault, WorkerClock

STREAM = StreamId(LOCAL_USER.tenant, "ses_found")
SCRIPT = Scripted(calls(("pay", {})), "done")


@pytest.fixture
def loop():
    loop = VirtualLoop(random.Random(0))
    yield loop
    loop.close()


class Stage:
    """A worker on a virtual loop, with a tool that counts how often it begins, and does not like to stop."""

    def __init__(
        self, loop: VirtualLoop, store: MemoryStore, *, takes_s: float, limits: Limits, timeout_s: float
    ) -> None:
        self.paid = 0

        @tool(effect="once", timeout_s=timeout_s)
        async def pay() -> str:
            """Pay."""
            self.paid += 1
            try:
                await pass_time(takes_s)
            except asyncio.CancelledError:
                await pass_time(takes_s)
            return "paid"

        chance = Seeded(random.Random(0))
        self.clock = WorkerClock(loop)
        self.agent = AgentSpec("payer", tools=(pay.spec,), limits=limits)
        self.journal = Journal(store)
        self.worker = Worker(
            journal=self.journal,
            performer=Performer(lambda ref: SCRIPT, FunctionTools([pay]), MemoryBlobStore(), self.clock, chance),
            clock=self.clock,
            entropy=chance,
            settings=WorkerSettings(grace_s=10.0),
            trouble=lambda stream, error: None,
        )

    async def begin(self) -> None:
        start = command.Start(self.clock.now_us(), STREAM.name, self.agent, SCRIPT.ref, "Go.", LOCAL_USER)
        await self.journal.start(STREAM.tenant, start)
        await self.worker.start()


def test_a_call_whose_driver_is_held_up_beyond_its_time_is_begun_once(loop: VirtualLoop) -> None:
    class HeldUp(MemoryStore):
        """Right after the intent, somebody says something, and the store takes its time to tell what."""

        says_something: Any = None
        is_slow = False

        async def append(self, append: Append) -> int:
            position = await super().append(append)
            if append.stream == STREAM and isinstance(SESSION_CODEC.decode(append.records[-1].data), ToolRequested):
                self.is_slow = True
                self.says_something()
            return position

        async def read(self, stream: StreamId, *, after: int = 0, limit: int | None = None) -> list[Record]:
            if self.is_slow and after:
                self.is_slow = False
                await pass_time(5)
            return await super().read(stream, after=after, limit=limit)

    store = HeldUp()

    async def play() -> Stage:
        stage = Stage(loop, store, takes_s=0.1, limits=Limits(), timeout_s=2.0)
        store.says_something = lambda: stage.worker.wake(STREAM)
        await stage.begin()
        await pass_time(20)
        await stage.worker.stop()
        return stage

    assert loop.run(Process("worker"), play()).paid == 1


@pytest.mark.parametrize("wish", ["stop", "cancel"])
def test_a_session_whose_time_is_over_while_it_only_waits_for_its_calls_does_not_run_in_circles(
    loop: VirtualLoop, wish: str
) -> None:
    async def play() -> None:
        stage = Stage(loop, MemoryStore(), takes_s=8.0, limits=Limits(seconds=2.0), timeout_s=60.0)
        await stage.begin()
        await pass_time(1)
        if wish == "cancel":
            session = await stage.journal.load(STREAM)
            await stage.journal.execute(session, command.Cancel(stage.clock.now_us(), LOCAL_USER))
            await pass_time(5)
        await stage.worker.stop()

    loop.run(Process("worker"), play())
    assert loop.turns < 1_000


def test_a_damaged_past_is_not_passed_on_to_a_fork(loop: VirtualLoop) -> None:
    history = History()
    vault: Any = Vault(MemoryStore(), history)
    name = "ses_forked"

    async def play() -> None:
        stage = Stage(loop, vault, takes_s=0.1, limits=Limits(), timeout_s=2.0)
        await stage.begin()
        await pass_time(5)
        await stage.worker.stop()
        history.rotten[STREAM] = 2
        with pytest.raises(StoreCorrupt):
            await stage.journal.fork(STREAM, name, by=LOCAL_USER, at_us=stage.clock.now_us(), seq=None)
        assert await vault.read(StreamId(STREAM.tenant, name)) == []

    loop.run(Process("worker"), play())
