"""Limits while people and workers come and go at random: never exceeded, nothing left behind, nobody forgotten."""

import asyncio
import random

import pytest

from ostler.adapters.store.memory_limits import MemoryLimiter
from ostler.domain.capacity import Quota, Quotas
from ostler.domain.identity import LOCAL_USER
from ostler.domain.session import commands as command
from ostler.domain.session.events import AgentFailed, CallRetried
from ostler.kernel.errors import Conflict
from ostler.kernel.event import StreamId
from ostler.runtime.replay import replay
from ostler.runtime.worker import Worker
from ostler.testing import calls
from ostler.testing.sim.loop import Process, VirtualLoop, pass_time
from ostler.testing.sim.wire import WorkerClock
from tests.runtime.test_capacity import Crew, Model

ENDED = ("completed", "failed", "cancelled")
WISHES = {"cancel": command.Cancel, "pause": command.Pause, "resume": command.Resume}
QUOTAS = (
    (2, Quotas(providers={"scripted": Quota(model_calls=2)})),
    (2, Quotas(tenants={"*": Quota(model_calls=1)}, providers={"scripted": Quota(2, 60)})),
    (3, Quotas(agents={"*": Quota(3)}, tenants={"b": Quota(1, 30)})),
)


class Town:
    """Sessions of two tenants, two workers, and somebody who interferes."""

    def __init__(self, loop: VirtualLoop, chance: random.Random) -> None:
        self.chance = chance
        self.most, self.quotas = chance.choice(QUOTAS)
        self.model = Model(calls(("look", {})), "done", takes_s=chance.choice([0.3, 3, 10]))
        self.crew = Crew(self.model, WorkerClock(loop))
        self.limiter = self.crew.limiter = MemoryLimiter()
        self.workers: list[Worker] = []
        self.streams: list[StreamId] = []

    async def hire(self) -> None:
        concurrency, grace_s = self.chance.choice([2, 8]), self.chance.choice([0.5, 20])
        worker = self.crew.worker(self.quotas, concurrency=concurrency, grace_s=grace_s, lease_s=9.0)
        await worker.start()
        self.workers.append(worker)

    async def tell(self, stream: StreamId, wish: str) -> None:
        session = await self.crew.journal.load(stream)
        try:
            await self.crew.journal.execute(session, WISHES[wish](self.crew.clock.now_us(), LOCAL_USER))
        except Conflict:
            return
        for worker in self.workers:
            worker.wake(stream)

    async def interfere(self) -> None:
        await pass_time(self.chance.random() * 4)
        wish = self.chance.choice(["cancel", "pause", "pause", "resume", "replace a worker"])
        if wish in WISHES:
            await self.tell(self.chance.choice(self.streams), wish)
            return
        stopping = asyncio.create_task(self.workers.pop(0).stop())
        await self.hire()
        await stopping

    async def live(self) -> int:
        """Returns how often somebody waited so long that the log says so."""
        chance, crew = self.chance, self.crew
        for number in range(8):
            tenant, priority = chance.choice("ab"), chance.randrange(2)
            self.streams.append(await crew.start(f"ses_{number}", tenant=tenant, priority=priority))
        await self.hire()
        await self.hire()
        for _ in range(chance.randrange(12)):
            await self.interfere()
        for stream in self.streams:
            await self.tell(stream, "resume")
        waits = 0
        for stream in self.streams:
            await crew.until(stream, *ENDED)
            happened = await crew.events(stream)
            assert not isinstance(happened[-1], AgentFailed)
            waits += len([event for event in happened if isinstance(event, CallRetried) and event.limit])
            replay(await crew.journal.records(stream))
        await pass_time(1)
        for worker in self.workers:
            await worker.stop()
        return waits


@pytest.mark.parametrize("ten", range(4))
def test_whoever_comes_and_goes_limits_are_kept_and_nothing_is_left_behind(ten: int) -> None:
    waits = 0
    for seed in range(ten * 10, ten * 10 + 10):
        loop = VirtualLoop(random.Random(seed), stickiness=0.5 * (seed % 2))
        town = Town(loop, random.Random(seed))
        waits += loop.run(Process("town"), town.live())
        now_us = town.crew.clock.now_us()
        loop.close()
        assert town.model.most <= town.most, seed
        assert town.limiter.occupied(now_us=now_us) == 0, seed
        assert (loop.complaints, town.crew.troubles) == ([], []), seed
    assert waits > 10, "they were hardly in each other's way"
