"""A worker: claims sessions that are due, runs them side by side, and says that it lives."""

import asyncio
from collections.abc import Callable, Mapping

from ostler.domain.boot import BreakerClosed, BreakerOpened
from ostler.domain.resilience.breaker import Change
from ostler.domain.scheduling import ATTEMPTS_MAX, EVERYONE, SUSPECT_ATTEMPTS, WorkerSettings
from ostler.domain.session.commands import Fail
from ostler.kernel.errors import CircuitOpen, OstlerError, StoreCorrupt, StoreError, UnknownEvent
from ostler.kernel.event import StreamId, timestamp
from ostler.kernel.ids import CHANCE_BYTES, make_id
from ostler.ports import Claim, Clock, Entropy, EventStore
from ostler.runtime.governor import Governor
from ostler.runtime.journal import Journal
from ostler.runtime.lease import Lease
from ostler.runtime.life import Life
from ostler.runtime.pace import Pace
from ostler.runtime.performer import Performer
from ostler.runtime.resilience.pipeline import Timing
from ostler.runtime.runner import Runner
from ostler.runtime.turns import Turns


class Worker:
    """Runs sessions until told to stop. `trouble` is told of every error that is not a session's own.

    `turns` are whose turn it is to call a model; without them nobody has to wait. `governor` knows where nothing may
    begin.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        performer: Performer,
        clock: Clock,
        entropy: Entropy,
        settings: WorkerSettings,
        trouble: Callable[[StreamId | None, OstlerError], None],
        turns: Turns | None = None,
        governor: Governor | None = None,
    ) -> None:
        self._governor = governor or Governor(journal.store)
        self._halted: tuple[frozenset[str], frozenset[tuple[str, str]]] = (frozenset(), frozenset())
        self._journal = journal
        self._store: EventStore = journal.store
        self._performer = performer
        self._clock = clock
        self._settings = settings
        self._trouble = trouble
        self._turns = turns
        self._runners: dict[StreamId, Runner] = {}
        self._held: dict[StreamId, asyncio.Task[None]] = {}
        self._unreleased: set[StreamId] = set()
        self._pace = Pace(settings.claims_per_s)
        self._queues = settings.queues
        self._loops: list[asyncio.Task[None]] = []
        self._look = asyncio.Event()
        self._life = Life(self._store, clock, make_id("wrk", clock.now_us() // 1000, entropy.chance(CHANCE_BYTES)))
        self.name = self._life.name
        self._lease = Lease(self._store, clock, self.name, duration_s=settings.lease_s)
        self.on_hold: Callable[[StreamId, bool], None] = lambda stream, holds: None
        """Told of every session that it takes, and of every one that it lets go."""

    def stages(self) -> dict[str, list[Timing]]:
        """What the stages cost that every attempt passes, for calls of models and of tools."""
        return self._performer.chain.timings()

    @property
    def running(self) -> int:
        """How many sessions it holds."""
        return len(self._runners)

    async def start(self) -> None:
        await self._governor.refresh([EVERYONE])
        await self._lease.renew()
        await self._life.begin(self._settings.version)
        self._loops = [
            asyncio.create_task(self._beat(), name="beat"),
            asyncio.create_task(self._claim(), name="claim"),
            asyncio.create_task(self._listen(), name="listen"),
        ]

    async def stop(self, reason: str = "stopped", *, grace_s: float | None = None) -> None:
        """Claim nothing more, let calls under way finish for a while, then stop them; say goodbye. Idempotent.

        `grace_s` None is what the settings say.
        """
        loops, self._loops = self._loops, []
        if not loops:
            return
        beat, *seekers = loops
        for seeker in seekers:
            seeker.cancel()
        for runner in self._runners.values():
            runner.drain()
        held = list(self._held.values())
        try:
            if held:
                await asyncio.wait(held, timeout=self._settings.grace_s if grace_s is None else grace_s)
        finally:
            for task in (beat, *held):
                task.cancel()
            await asyncio.gather(*held, *loops, return_exceptions=True)
            if self._turns is not None:
                await self._turns.close()
            await self._performer.examiner.close()
            await self._life.end(reason)

    def wake(self, stream: StreamId | None = None) -> None:
        """Something was appended in this process: look at `stream` if it is held here, and for new work."""
        runner = self._runners.get(stream) if stream is not None else None
        if runner is not None:
            runner.poke()
        else:
            self._look.set()

    async def govern(self) -> None:
        """Look at once whether anything may begin: in halted tenants nothing does, and what is under way finishes."""
        await self._governor.refresh_all()
        halted = self._governor.halted, self._governor.halted_agents
        if halted != self._halted:
            self._halted = halted
            for stream, runner in self._runners.items():
                if self._governor.is_halted(stream.tenant, runner.agent):
                    runner.drain()
            self._look.set()

    async def on_breaker(self, change: Change) -> None:
        """Write down that a circuit breaker of this worker opened or closed, so that others see it, and tell of it."""
        key = change.key
        event: BreakerOpened | BreakerClosed = BreakerClosed(*key)
        if change.until_us is not None:
            event = BreakerOpened(*key, change.until_us, change.because)
            said = f"The breaker of the {key} opened for the tenant {key.tenant}: {change.because}."
            self._trouble(None, CircuitOpen(said, until=timestamp(change.until_us)))
        try:
            await self._life.note(event)
        except OstlerError as error:  # that others cannot see it must not be the end of the call
            self._trouble(None, error)

    async def let_go(self, stream: StreamId) -> bool:
        """Wait while this worker holds the session; False at once if it does not."""
        task = self._held.get(stream)
        if task is None:
            return False
        await asyncio.wait([task])
        return True

    def serves(self, queue: str) -> bool:
        """Whether it takes the sessions of this agent."""
        return self._queues is None or queue in self._queues

    def serve(self, queue: str) -> None:
        """Take the sessions of one more agent."""
        if self._queues is not None and queue not in self._queues:
            self._queues = (*self._queues, queue)
            self._look.set()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._settings.lease_s / 3)
            try:
                await self._lease.renew()
                await self.govern()
                await self._performer.examiner.recover()
                await self._life.bury_the_dead()
            except StoreError as error:
                self._trouble(None, error)

    async def _claim(self) -> None:
        """Take due sessions whenever something may have become due."""
        while True:
            self._look.clear()
            try:
                await self._claim_some()
            except StoreError as error:
                self._trouble(None, error)
            rest_s = self._pace.rest_s(asyncio.get_running_loop().time())
            if rest_s:
                await asyncio.sleep(rest_s)
            else:
                await _wait_for(self._look, self._settings.sweep_s)

    async def _claim_some(self) -> None:
        """Take as many as there is room for.

        Whoever was silent for too long says first that it lives: others, and it itself, take it for dead otherwise.
        """
        now = asyncio.get_running_loop().time()
        limit = min(self._settings.concurrency - len(self._runners), self._pace.allowed(now))
        if limit <= 0 or self._governor.is_halted(EVERYONE):
            return
        if self._lease.has_run_out:
            await self._lease.renew()
        if unreleased := set(self._unreleased):
            await self._store.release(self.name, list(unreleased))
            self._unreleased -= unreleased
        has_suspect = any(runner.claim.attempts > SUSPECT_ATTEMPTS for runner in self._runners.values())
        claims = await self._store.claim(
            self.name,
            now_us=self._clock.now_us(),
            limit=limit,
            queues=self._queues,
            only=self._settings.only,
            caps=self._settings.caps.without(self._governor.halted, self._governor.halted_agents),
            suspects=0 if has_suspect else 1,
        )
        self._pace.take(len(claims), now)
        for claim in claims:
            self._run(claim)
        if claims:
            self._look.set()

    async def _listen(self) -> None:
        """Notice what comes from outside: to sessions held here, and to sessions that are due now."""
        position: int | None = None
        while True:
            try:
                position = await self._store.head() if position is None else position
                await self._store.wait(after=position, timeout_s=self._settings.sweep_s, foreign=True)
                while True:
                    position, knocks = await self._store.knocks(after=position)
                    if not knocks:
                        break
                    if self._governor.concerns(knocks):
                        await self.govern()
                    self._notice(knocks)
            except StoreError as error:
                self._trouble(None, error)
                await asyncio.sleep(self._settings.sweep_s)

    def _notice(self, knocks: Mapping[StreamId, int]) -> None:
        for stream, version in knocks.items():
            runner = self._runners.get(stream)
            if runner is None:
                self._look.set()
            elif runner.session is None or runner.session.seq < version:
                runner.poke()

    def _run(self, claim: Claim) -> None:
        stream, before = claim.stream, self._held.get(claim.stream)
        if before is not None:  # others took this worker for dead, and it was faster than they to claim it again
            self._runners[stream].lose()
        runner = self._runners[stream] = Runner(
            claim,
            journal=self._journal,
            performer=self._performer,
            clock=self._clock,
            lease=self._lease,
            trouble=self._trouble,
            turns=self._turns,
        )
        self.on_hold(stream, True)
        self._held[stream] = asyncio.create_task(self._tend(runner, before), name=stream.name)

    async def _tend(self, runner: Runner, before: asyncio.Task[None] | None) -> None:
        """Run one session, and let go of it whatever happens."""
        try:
            if before is not None:
                await asyncio.wait([before])
            if runner.claim.attempts > ATTEMPTS_MAX:
                await self._park(runner.claim)
            else:
                await self._governor.know(runner.stream.tenant)
                runner.is_halted = lambda: self._governor.is_halted(runner.stream.tenant, runner.agent)
                await runner.run()
        except Exception as error:
            await self._meet(runner, error)
        finally:
            await self._release(runner)

    async def _park(self, claim: Claim) -> None:
        """Try no more: its workers died, again and again, and this one shall not."""
        died = claim.attempts - 1
        reason = f"parked: {died} workers in a row died or fell silent with it in their hands; `resume` tries again"
        await self._journal.park(claim, reason, at_us=self._clock.now_us())
        self._trouble(claim.stream, OstlerError(reason))

    async def _meet(self, runner: Runner, error: Exception) -> None:
        """Deal with what keeps a session from going on, so that it is not taken up again just to meet the same."""
        stream, message = runner.stream, f"{type(error).__name__}: {error}"
        trouble = error if isinstance(error, StoreError) else OstlerError(f"A defect of Ostler: {message}")
        is_defect = trouble is not error
        self._trouble(stream, trouble)
        try:
            if isinstance(error, StoreCorrupt | UnknownEvent) or (is_defect and runner.session is None):
                await self._journal.quarantine(stream)
            elif is_defect and runner.session is not None:
                command = Fail(self._clock.now_us(), "internal_error", message)
                await self._journal.execute(runner.session, command, epoch=runner.claim.epoch)
        except OstlerError as another:
            self._trouble(stream, another)

    async def _release(self, runner: Runner) -> None:
        """Let go, and look again: what was appended meanwhile may have made the session due."""
        stream = runner.stream
        if self._runners.get(stream) is not runner:
            return
        try:
            await self._store.release(self.name, [stream])
        except StoreError as error:
            self._unreleased.add(stream)
            self._trouble(stream, error)
        finally:
            if self._runners.get(stream) is runner:
                del self._runners[stream], self._held[stream]
            self._look.set()
            self.on_hold(stream, False)


async def _wait_for(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
