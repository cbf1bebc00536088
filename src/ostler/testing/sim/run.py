"""One simulated run: a storm of faults, fair weather, people who answer everything, and the judgement."""

import asyncio
import random
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import msgspec

from ostler.adapters.store.memory import MemoryBlobStore, MemoryStore
from ostler.domain.identity import DEFAULT_TENANT
from ostler.domain.session.state import ENDED, due_us
from ostler.kernel.event import StreamId
from ostler.ports import StreamInfo
from ostler.runtime.journal import QUARANTINED, Folded, Journal
from ostler.testing.sim import checker
from ostler.testing.sim.crew import Machine, WatchedJournal
from ostler.testing.sim.faults import Faults, choose
from ostler.testing.sim.history import History, tale
from ostler.testing.sim.loop import Process, VirtualLoop
from ostler.testing.sim.outside import OUTSIDE, Outside
from ostler.testing.sim.people import Person
from ostler.testing.sim.wire import FROZEN_S, START_US, Lines, Vault, Wire, WorkerClock

STORM_S = 20.0
"""How long things go wrong."""
REST_S = 60.0
"""In fair weather every session ends, or waits for something that has a name, within this time."""
LOOK_S = 0.5
_HARM = ("freeze", "cut_off", "kill", "stop", "skew", "rot")
ROUNDS = 8
"""How often people answer what there is to answer, until every session has ended."""


class Outcome(msgspec.Struct, frozen=True):
    """How a run went. `problems` are broken invariants, each with its number, session and event."""

    seed: int
    problems: list[str]
    history: History
    turns: int
    seconds: float


def simulate(seed: int) -> Outcome:
    """Run the whole runtime once under this seed, and judge what came of it. The same seed gives the same run."""
    return copy_context().run(_simulate, seed)


def _simulate(seed: int) -> Outcome:
    run = Simulation(seed)
    problems = []
    try:
        try:
            run.loop.run(run.world, run.play())
        except Exception as error:  # whatever broke it off, that it did is what was found
            problems.append(f"I10: the run came to no end: {error!r}")
        turns = run.loop.turns
        run.end_processes()
        run.loop.run(run.scribe, run.write_down_the_end())
    finally:
        run.loop.close()
    problems += checker.judge(run.history)
    return Outcome(seed, problems, run.history, turns, run.loop.time())


class Simulation:
    """The parts of one run."""

    def __init__(self, seed: int) -> None:
        chance = self.chance = random.Random(seed)
        self.history = History()
        self.faults: Faults = choose(chance)
        self.loop = VirtualLoop(chance, stickiness=chance.choice((0.0, 0.5, 0.9)))
        store: Any = Vault(MemoryStore(), self.history)
        self._vault = store
        self.lines = Lines(self.loop, chance, self.faults, self.history)
        self._outside = Outside(self.lines, lambda: self._vault.position)
        OUTSIDE.set(self._outside)
        self.world = Process("world")
        self.scribe = Process("scribe")
        self._people = Process("people")
        self._truth = self._vault.store
        self._log = Journal(self._truth)
        self._folded: dict[StreamId, Folded] = {}
        self._machines = [
            Machine(number, WorkerClock(self.loop)) for number in range(1, chance.choice((1, 2, 2, 3)) + 1)
        ]

    async def play(self) -> None:
        blobs = MemoryBlobStore()
        for machine in self._machines:
            self.loop.spawn(self.world, machine.keep(self._vault, self._truth, blobs, self.lines))
        storm = self.loop.spawn(self.world, self._storm())
        crowd = self.loop.spawn(self._people, self._crowd())
        await asyncio.wait([storm, crowd])
        storm.result()
        crowd.result()
        self._heal()
        await self._until(self._is_at_rest, "is neither over nor waiting for anything that has a name")
        await self._answer_everything()

    async def _storm(self) -> None:
        """Harm one machine after another."""
        while self.loop.time() < STORM_S and not await self._is_all_over():
            await asyncio.sleep(self.chance.expovariate(1.2))
            machine = self.chance.choice(self._machines)
            process = machine.process
            if process is None or not process.is_alive or process.is_frozen:
                continue
            rates = [getattr(self.faults, kind) for kind in _HARM]
            if self.chance.random() < 0.3 or not any(rates):
                continue
            kind = self.chance.choices(_HARM, rates)[0]
            how_long = self.chance.choice(FROZEN_S) * self.chance.random()
            if kind == "freeze":
                self.lines.freeze(process, how_long)
            elif kind == "cut_off":
                self._cut_off(process, how_long)
            elif kind == "kill":
                self.lines.note(process, "is killed")
                self.loop.kill(process)
            elif kind == "stop":
                self.lines.note(process, "is told to stop")
                machine.stop(self.lines)
            elif kind == "skew":
                machine.clock.skew_us = int(self.chance.choice((1e6, 20e6, 90e6)) * (2 * self.chance.random() - 1))
                self.history.ahead_s = max(self.history.ahead_s, machine.clock.skew_us / 1e6)
                self.lines.note(process, f"has a clock that is {machine.clock.skew_us / 1e6:g} s off")
            else:
                await self._let_rot()

    def _cut_off(self, process: Process, how_long: float) -> None:
        until = self.lines.cut_until[process] = self.loop.time() + how_long
        self.history.troubled.append((process.name, self.loop.time(), until))
        self.lines.note(process, f"is cut off for {how_long:.1f} s")

    async def _let_rot(self) -> None:
        """From now on one record of one session reads other than it was written."""
        infos = await self._sessions()
        if infos and not self.history.rotten:
            info = self.chance.choice(infos)
            self.history.rotten[info.stream] = self.chance.randrange(info.version) + 1
            seq = self.history.rotten[info.stream]
            self.history.note(self.loop.time(), "store", f"event {seq} of {info.stream.name} rots")

    async def _crowd(self) -> None:
        """People come, start sessions and meddle with them, from outside and from within a worker's process."""
        person = self._person(self._people)
        started = [await person.start()]
        wanted = self.chance.choice((1, 1, 2, 3))
        while self.loop.time() < STORM_S:
            await asyncio.sleep(self.chance.expovariate(1.5))
            if len(started) < wanted:
                started.append(await person.start())
            elif await self._is_all_over():
                return
            stream = self.chance.choice(started)
            machine = self.chance.choice(self._machines)
            if self.chance.random() < 0.3 and machine.process is not None and machine.process.is_alive:
                self.loop.spawn(machine.process, self._meddle_within(machine, stream))
            else:
                await person.meddle(stream)

    async def _meddle_within(self, machine: Machine, stream: StreamId) -> None:
        """As a program does that runs a worker and steers its sessions, in one process."""
        worker, journal = machine.worker, machine.journal
        if worker is not None and journal is not None:
            person = Person(journal, machine.clock, self.chance, self.faults, history=self.history)
            await person.meddle(stream)
            worker.wake(stream)

    def _person(self, process: Process) -> Person:
        wired: Any = Wire(self._vault, "store", process, self.lines)
        journal = WatchedJournal(wired, self._truth, self.chance, self.history)
        return Person(journal, WorkerClock(self.loop), self.chance, self.faults, history=self.history)

    def _heal(self) -> None:
        """The faults stop."""
        self.faults.is_on = False
        self.history.healed_s = self.loop.time()
        self.history.note(self.loop.time(), "world", "the faults stop")
        self.lines.cut_until.clear()
        for machine in self._machines:
            machine.clock.skew_us = 0
            if machine.process is not None:
                self.loop.thaw(machine.process)

    async def _answer_everything(self) -> None:
        """People answer, resume or cancel until every session has ended."""
        self._outside.is_wrapping_up = True
        self.history.note(self.loop.time(), "world", "people answer everything")
        person = self._person(self._people)
        for _ in range(ROUNDS):
            waiting = [info for info in await self._sessions() if not self._is_over(info)]
            if not waiting:
                return
            for info in waiting:
                await self.loop.spawn(self._people, person.settle(info.stream))
            if not await self._until(self._is_at_rest, "does not go on after it was answered"):
                return
        await self._until(self._has_ended, "has not ended although everything was answered")

    async def _until(self, is_fine: Callable[[StreamInfo], Any], complaint: str) -> bool:
        """Wait until every session is fine; write down those that are not in time."""
        infos = await self._sessions()
        last_us = max((info.standing.due_us or 0 for info in infos), default=0)
        end = max(self.loop.time(), (last_us - START_US) / 1e6) + REST_S + self.history.ahead_s
        while True:
            left = [info for info in await self._sessions() if not self._is_over(info) and not await is_fine(info)]
            if not left:
                return True
            if self.loop.time() > end:
                break
            await asyncio.sleep(LOOK_S)
        for info in left:
            self.history.overdue.append(f"{info.stream.name} after event {info.version} {complaint}: {info.standing}")
        return False

    async def _is_at_rest(self, info: StreamInfo) -> bool:
        """It waits: for a person, or for a moment that is still to come."""
        folded = self._folded.setdefault(info.stream, Folded(info.stream))
        await self._log.refresh(folded)
        assert folded.state is not None
        if (folded.state.pause or "").startswith("parked: ") and info.standing.due_us is None:
            return True  # whatever is under way in it: its workers died of it, and a person has to look
        due = due_us(folded.state)
        return due is None or due > START_US + self.loop.time() * 1e6

    async def _has_ended(self, info: StreamInfo) -> bool:
        return info.standing.status in ENDED

    def _is_over(self, info: StreamInfo) -> bool:
        """It has ended, or is damaged and out of everybody's hands."""
        is_aside = info.standing.status == QUARANTINED or info.standing.due_us is None
        return info.standing.status in ENDED or (info.stream in self.history.rotten and is_aside)

    async def _is_all_over(self) -> bool:
        infos = await self._sessions()
        return bool(infos) and all(self._is_over(info) for info in infos)

    async def _sessions(self) -> list[StreamInfo]:
        found: list[StreamInfo] = await self._truth.streams(DEFAULT_TENANT, prefix="ses_")
        return found

    def end_processes(self) -> None:
        """Write down what was left undone in them, and end them all."""
        workers = [machine.process for machine in self._machines if machine.process is not None]
        for process in workers:
            self.history.complaints += [f"{process.name}: {died}" for died in self.loop.died(process)]
        self.loop.end((*workers, self._people, self.lines.carrier, self.world))
        self.history.complaints += self.loop.complaints

    async def write_down_the_end(self) -> None:
        for info in await self._sessions():
            told = tale(info.stream, await self._truth.read(info.stream))
            told.status, told.due_us, told.worker = info.standing.status, info.standing.due_us, info.worker
            self.history.tales.append(told)
