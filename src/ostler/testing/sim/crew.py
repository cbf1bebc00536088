"""Workers, each in a process of its own on a machine of its own, and a supervisor that starts them anew."""

import asyncio
import random
from typing import Any

from ostler.domain.scheduling import WorkerSettings
from ostler.domain.session.events import SessionEvent
from ostler.kernel.errors import OstlerError, StoreCorrupt
from ostler.kernel.event import StreamId
from ostler.ports import BlobStore, EventStore
from ostler.runtime.journal import Folded, Journal
from ostler.runtime.performer import Performer
from ostler.runtime.replay import snapshot, state_after
from ostler.runtime.worker import Worker
from ostler.testing.sim.faults import LEASE_S
from ostler.testing.sim.history import History
from ostler.testing.sim.loop import Process
from ostler.testing.sim.outside import TOOLS, Dice
from ostler.testing.sim.wire import Lines, Seeded, Wire, WorkerClock

GRACE_S = 1.0
"""How long a worker that is told to stop waits for its calls."""
PROBE = 0.15
"""How often a session in memory is compared with the log, of the times that it has moved on."""


class WatchedJournal(Journal):
    """A journal whose sessions are compared with the log now and then, behind its back."""

    def __init__(self, store: Any, truth: EventStore, chance: random.Random, history: History) -> None:
        super().__init__(store)
        self._truth = truth
        self._chance = chance
        self._history = history

    async def execute(self, session: Folded, *args: Any, **options: Any) -> list[SessionEvent]:
        try:
            return await super().execute(session, *args, **options)
        finally:
            if self._chance.random() < PROBE:
                await self._compare(session)

    async def _compare(self, session: Folded) -> None:
        records = await self._truth.read(session.stream, limit=session.seq) if session.seq else []
        place = f"{session.stream.name} at event {session.seq} in memory"
        if len(records) < session.seq:
            self._history.strayed.append(f"{place}: the log ends at {len(records)}")
        elif records and records[-1].hash != session.hash:
            self._history.strayed.append(f"{place}: the log has another hash there")
        elif records and session.state is not None:
            folded = state_after(records)
            if folded is None or snapshot(folded) != snapshot(session.state):
                self._history.strayed.append(f"{place}: its state is not what the log folds to")


class Machine:
    """A place for workers: one after the other, with a clock that may be wrong."""

    def __init__(self, number: int, clock: WorkerClock) -> None:
        self.number = number
        self.clock = clock
        self.process: Process | None = None
        self.worker: Worker | None = None
        self.journal: Journal | None = None
        self._lives = 0

    async def keep(self, store: EventStore, truth: EventStore, blobs: BlobStore, lines: Lines) -> None:
        """Start a worker, and another one whenever it is gone; for ever."""
        while True:
            self._lives += 1
            process = self.process = Process(f"worker{self.number}.{self._lives}", is_mortal=True)
            lines.loop.spawn(process, self._live(process, store, truth, blobs, lines))
            await process.gone.wait()
            self.process = self.worker = self.journal = None
            await asyncio.sleep(lines.chance.random() * LEASE_S / 2)

    async def _live(
        self, process: Process, store: EventStore, truth: EventStore, blobs: BlobStore, lines: Lines
    ) -> None:
        def trouble(stream: StreamId | None, error: OstlerError) -> None:
            lines.note(process, f"is troubled by {stream.name if stream else 'the store'}: {error!r}")
            if stream is not None and isinstance(error, StoreCorrupt):
                lines.history.reported.add(stream)

        wired: Any = Wire(store, "store", process, lines)
        self.journal = WatchedJournal(wired, truth, lines.chance, lines.history)
        dice: Any = Wire(Dice(), "model", process, lines)
        hosts: Any = Wire(TOOLS, "tools", process, lines)
        entropy = Seeded(lines.chance)
        worker = self.worker = Worker(
            journal=self.journal,
            performer=Performer(lambda ref: dice, hosts, blobs, self.clock, entropy),
            clock=self.clock,
            entropy=entropy,
            settings=WorkerSettings(lease_s=LEASE_S, grace_s=GRACE_S),
            trouble=trouble,
        )
        try:
            await worker.start()
        except OstlerError as error:
            lines.note(process, f"cannot start: {error!r}")
            lines.loop.kill(process)

    def stop(self, lines: Lines) -> None:
        """Tell the worker to stop, as SIGTERM does; its process ends when it has."""
        process, worker = self.process, self.worker
        if process is None or worker is None or not process.is_alive:
            return

        async def leave() -> None:
            try:
                await worker.stop()
            except OstlerError as error:
                lines.note(process, f"says no goodbye: {error!r}")
            lines.loop.kill(process)

        lines.loop.spawn(process, leave())
