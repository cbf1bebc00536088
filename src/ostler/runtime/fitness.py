"""Measures the fitness targets of tenants, records what was found, and sees to what follows from a target that fails.

Around calls it measures when it is asked to. Everything else it does in the background: nothing that a session does
waits for it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from ostler.domain.fitness.events import (
    FITNESS,
    FITNESS_CODEC,
    Because,
    Course,
    FitnessEvent,
    FitnessFollowed,
    FitnessKept,
    FitnessLowered,
    FitnessMeasured,
    Standings,
    evolve,
    is_news,
)
from ostler.domain.fitness.target import Measured, Reading, Target, measured, unmeasured
from ostler.domain.glob import matches_any
from ostler.domain.session.events import (
    CompensationRequested,
    FitnessCompared,
    SessionEvent,
)
from ostler.domain.session.state import State
from ostler.kernel.errors import FitnessFailing, OstlerError
from ostler.kernel.event import StreamId
from ostler.ports import Clock, EventStore
from ostler.runtime.register import Register

AT_ONCE = 4
"""Targets that are measured side by side."""
NOTES_MAX = 10_000
"""Results that wait to be written; beyond this the oldest are dropped, and operators are told."""
ENDS_REST_S = 5.0
"""At ends of sessions a target is measured no more often than this, however many sessions end."""
KEEP_US = 600_000_000
"""For so long a worker undertakes to measure what is to be measured by schedule."""
LOOK_S = 5.0
"""How often is looked whether anything is to be measured by schedule."""

Measure = Callable[[Target, str], Awaitable[Reading]]
"""Finds the value of a target for a tenant. What it raises makes the value unknown."""
Halt = Callable[[str, str, str], Awaitable[None]]
"""Halts an agent of a tenant (empty: the tenant), for this reason."""


class Found(NamedTuple):
    """What was measured; `followed` says whether what its `on_fail` wants may follow from it already."""

    event: FitnessMeasured
    followed: bool = True


class Keeper:
    """The targets of a project, for one process. `run` does what is to be done in the background."""

    def __init__(
        self,
        store: EventStore,
        clock: Clock,
        targets: Sequence[Target],
        measure: Measure,
        *,
        halt: Halt,
        trouble: Callable[[OstlerError], None],
    ) -> None:
        self.targets: Mapping[str, Target] = {target.name: target for target in targets}
        self._store = store
        self._clock = clock
        self._measure = measure
        self._halt = halt
        self._trouble = trouble
        self._registers: dict[str, Register[FitnessEvent, Standings]] = {}
        self._few, self._few_around = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(AT_ONCE)
        self._notes: deque[tuple[str, Found | FitnessLowered]] = deque(maxlen=NOTES_MAX)
        self._ended: dict[tuple[str, str], tuple[str, bool]] = {}
        self._rests: dict[tuple[str, str], int] = {}
        self._noted, self._has_ended = asyncio.Event(), asyncio.Event()

    def register(self, tenant: str) -> Register[FitnessEvent, Standings]:
        """The stream in which it stands how the targets of a tenant do."""
        if tenant not in self._registers:
            stream = StreamId(tenant, FITNESS)
            self._registers[tenant] = Register(self._store, stream, FITNESS_CODEC, evolve, Standings())
        return self._registers[tenant]

    async def before(
        self, tenant: str, names: Iterable[str], tool: str, *, session: str, call: str
    ) -> tuple[Measured, ...]:
        """How these targets stand before a call: measured, or where they are not measured around it, as last known."""
        wanted = [self.targets.get(name) or name for name in names]
        fresh = [one for one in wanted if isinstance(one, Target) and matches_any(one.around, tool)]
        found = await self._measure_all(tenant, fresh, "before", session=session, call=call)
        self._note(tenant, found)
        is_known = len(fresh) < len(wanted)
        courses = (await self.register(tenant).refresh()).courses if is_known else {}
        return (
            *(one.event.found for one in found),
            *(_known(one, courses) for one in wanted if one not in fresh),
        )

    async def after(self, tenant: str, before: Sequence[Measured]) -> tuple[Measured, ...]:
        """How the targets stand now that were measured `before`. It is recorded once the session has recorded it."""
        targets = [self.targets[one.target] for one in before if one.target in self.targets]
        found = await self._measure_all(tenant, targets, "after")
        gone = [one for one in before if one.target not in self.targets]
        return (*(one.event.found for one in found), *unmeasured(gone, "no target has this name any more"))

    async def measure_now(
        self,
        tenant: str,
        names: Iterable[str],
        *,
        because: Because = "asked",
        progress: Callable[[FitnessMeasured], None] = lambda found: None,
    ) -> list[FitnessMeasured]:
        """Measure these targets, record it, and see to what follows."""
        targets = [self.targets[name] for name in names]
        found = await self._measure_all(tenant, targets, because, progress=progress)
        await self._write(tenant, found)
        return [one.event for one in found]

    def follow(self, state: State, at_us: int, events: Sequence[SessionEvent]) -> None:
        """Take note of what a session has recorded."""
        tenant, is_undone = state.by.tenant, any(isinstance(event, CompensationRequested) for event in events)
        for event in events:
            match event:
                case FitnessCompared():
                    found = [
                        FitnessMeasured(one, "after", at_us, state.session, event.call)
                        for one in event.fitness
                        if one.target in self.targets
                    ]
                    self._note(tenant, [Found(one, followed=not is_undone) for one in found])
                case FitnessLowered():
                    self._notes.append((tenant, event))
                    self._noted.set()
                case _:
                    pass

    def ended(self, state: State) -> None:
        """Measure what is to be measured at the end of a session, and what it did not come to measure any more."""
        for target in self.targets.values():
            if "session_end" in target.at and target.agent in ("", state.agent.name):
                self._ended.setdefault((state.by.tenant, target.name), (state.session, False))
        for one in (*state.measuring, *state.undoing):
            for before in one.before:
                if before.target in self.targets:
                    self._ended[state.by.tenant, before.target] = (state.session, True)
        if self._ended:
            self._has_ended.set()

    async def run(self, name: str, tenant: str) -> None:
        """Do what is to be done in the background, for ever, as the worker `name`; schedules are those of `tenant`.

        What is recorded, and what follows from it, waits for no measurement.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._again_and_again(self._write_notes, self._noted))
            group.create_task(self._again_and_again(self._measure_ended, self._has_ended))
            group.create_task(self._again_and_again(lambda: self._measure_due(name, tenant), asyncio.Event()))

    async def _again_and_again(self, work: Callable[[], Awaitable[None]], wanted: asyncio.Event) -> None:
        """Whenever it is wanted, and now and then."""
        while True:
            wanted.clear()
            try:
                await work()
            except OstlerError as error:
                self._trouble(error)
                await asyncio.sleep(LOOK_S)
            except Exception as error:
                self._trouble(OstlerError(f"A defect of Ostler: {type(error).__name__}: {error}"))
                await asyncio.sleep(LOOK_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await wanted.wait()

    async def flush(self) -> None:
        """Do what waits to be done, before the process ends."""
        try:
            await self._write_notes()
        finally:
            await self._measure_ended(at_once=True)

    async def _measure_due(self, name: str, tenant: str) -> None:
        """Measure what is due by schedule, if this worker is the one who does."""
        timed = [target for target in self.targets.values() if target.every_us is not None and "schedule" in target.at]
        if not timed or not await self._keeps(name, tenant):
            return
        courses, now_us = self.register(tenant).state.courses, self._clock.now_us()
        due = []
        for target in timed:
            last_us = courses[target.name].last.at_us if target.name in courses else 0
            last_us = max(last_us, self._rests.get((tenant, f"{target.name} by schedule"), 0))
            if target.every_us is not None and now_us - last_us >= target.every_us:
                self._rests[tenant, f"{target.name} by schedule"] = now_us
                due.append(target)
        if due:
            await self._write(tenant, await self._measure_all(tenant, due, "schedule"))

    async def _keeps(self, name: str, tenant: str) -> bool:
        """Whether this worker measures by schedule: it does already, or whoever did lives no more."""
        now_us = self._clock.now_us()
        alive = {worker for worker, until_us in await self._store.workers() if until_us > now_us}

        def decide(standings: Standings) -> list[FitnessEvent]:
            kept = standings.kept
            is_free = kept is None or kept.until_us <= now_us or kept.by not in alive
            if is_free or (kept is not None and kept.by == name and kept.until_us - now_us < KEEP_US // 2):
                return [FitnessKept(name, now_us + KEEP_US)]
            return []

        register = self.register(tenant)
        await register.write(decide, at_us=now_us)
        return register.state.kept is not None and register.state.kept.by == name

    async def _measure_ended(self, *, at_once: bool = False) -> None:
        """Measure what is to be measured since sessions have ended."""
        now_us = self._clock.now_us()
        for place, (session, is_owed) in list(self._ended.items()):
            tenant, name = place
            if not (at_once or is_owed) and now_us - self._rests.get(place, 0) < ENDS_REST_S * 1e6:
                continue
            del self._ended[place]
            self._rests[place] = now_us
            try:
                found = await self._measure_all(tenant, [self.targets[name]], "session_end", session=session)
                await self._write(tenant, found)
            except BaseException:  # it is measured later, or before the process ends
                self._ended.setdefault(place, (session, is_owed))
                raise

    async def _measure_all(
        self,
        tenant: str,
        targets: Sequence[Target],
        because: Because,
        *,
        session: str = "",
        call: str = "",
        progress: Callable[[FitnessMeasured], None] = lambda found: None,
    ) -> list[Found]:
        """Measure these, a few at a time. What a call waits for does not wait for what is measured by the way."""
        few = self._few_around if because in ("before", "after") else self._few

        async def one(target: Target) -> Found:
            async with few:
                begun_us = self._clock.now_us()
                reading = await self._read(target, tenant)
            now_us = self._clock.now_us()
            event = FitnessMeasured(
                measured(target, reading), because, now_us, session, call, max(0, now_us - begun_us)
            )
            progress(event)
            return Found(event)

        return await asyncio.gather(*[one(target) for target in targets])

    async def _read(self, target: Target, tenant: str) -> Reading:
        try:
            async with asyncio.timeout(target.timeout_s):
                return await self._measure(target, tenant)
        except TimeoutError:
            return Reading(reason=f"it took longer than {target.timeout_s:g} s", is_fault=True)
        except OstlerError as error:
            return Reading(reason=error.message, is_fault=True)
        except Exception as error:
            return Reading(reason=f"{type(error).__name__}: {error}", is_fault=True)

    def _note(self, tenant: str, found: Iterable[Found]) -> None:
        """See to it that this is recorded, soon."""
        for one in found:
            if len(self._notes) == NOTES_MAX:
                self._trouble(OstlerError("Results of fitness targets are lost: more come than can be written."))
            self._notes.append((tenant, one))
        self._noted.set()

    async def _write_notes(self) -> None:
        """Record what was noted, tenant by tenant. What cannot be written is tried again with the next."""
        waiting: dict[str, list[Found | FitnessLowered]] = {}
        while self._notes:
            tenant, note = self._notes.popleft()
            waiting.setdefault(tenant, []).append(note)
        fault: OstlerError | None = None
        try:
            for tenant, together in list(waiting.items()):
                try:
                    await self._write(tenant, together)
                except OstlerError as error:
                    fault = error
                else:
                    del waiting[tenant]
        finally:
            left = [(tenant, note) for tenant, together in waiting.items() for note in together]
            self._notes.extendleft(reversed(left))
        if fault is not None:
            raise fault

    async def _write(self, tenant: str, found: Sequence[Found | FitnessLowered]) -> None:
        """Record what says something new, and see to what follows."""

        def decide(standings: Standings) -> list[FitnessEvent]:
            events: list[FitnessEvent] = []
            for one in found:
                event = one.event if isinstance(one, Found) else one
                known = standings.courses.get(event.found.target) if isinstance(event, FitnessMeasured) else None
                if not isinstance(event, FitnessMeasured) or is_news(known, event):
                    events.append(event)
                    standings = evolve(standings, [event])
            return events

        register = self.register(tenant)
        await register.write(decide, at_us=self._clock.now_us())
        for one in found:
            if isinstance(one, Found) and one.followed and one.event.found.passed is False:
                await self._follow_up(tenant, one.event)

    async def _follow_up(self, tenant: str, event: FitnessMeasured) -> None:
        """What a target that fails wants to follow, once for as long as it fails."""
        target, found = self.targets[event.found.target], event.found
        if target.on_fail == "record":
            return
        halts, now_us = target.on_fail == "halt", self._clock.now_us()
        followed = FitnessFollowed(
            target.name, "halted" if halts else "warned", now_us, target.agent if halts else "", event.session
        )

        def decide(standings: Standings) -> list[FitnessEvent]:
            course = standings.courses.get(target.name)
            is_open = course is not None and course.failing_since_us is not None
            return [followed] if is_open and course is not None and followed.what not in course.followed else []

        register = self.register(tenant)
        if not decide(register.state):
            return
        by = f", since call {event.call} of {event.session}" if event.call else ""
        text = f"The fitness target {target.name!r} fails: {found}, and should be {found.goal}{by}"
        if halts:  # first: who dies before this is written halts it once more, which changes nothing
            await self._halt(tenant, target.agent, text)
        if await register.write(decide, at_us=now_us):
            self._trouble(FitnessFailing(f"{text}.", target=target.name))


def _known(one: Target | str, courses: Mapping[str, Course]) -> Measured:
    """What was last known of a target; of one that nobody knows, that the call must not be."""
    if isinstance(one, str):
        reason = "no target has this name any more"
        return Measured(one, "", reason=reason, is_fault=True, on_fail="halt", is_known=True)
    course = courses.get(one.name)
    if course is None:
        return measured(one, Reading(reason="it was never measured"), is_known=True)
    last = course.last.found
    return measured(one, Reading(last.value, last.reason, last.is_fault), is_known=True)
