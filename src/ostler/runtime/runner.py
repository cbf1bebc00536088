"""Runs one session while its worker holds it: performs what is pending, records what came of it, until it waits."""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from ostler.domain.capacity import Limit
from ostler.domain.fitness.target import unmeasured
from ostler.domain.session.commands import (
    CapacityFound,
    CapacityMissed,
    Compared,
    Examined,
    Proceed,
    ReplyFailed,
    ReplyReceived,
    SessionCommand,
    TakeOver,
    ToolReturned,
    WaitOver,
)
from ostler.domain.session.events import CallExamined, CallRetried, ModelRequested, ToolRequested, ToolResumed
from ostler.domain.session.pending import ExamineWork, MeasureWork, ModelWork, ToolWork, Work, pending
from ostler.domain.session.state import State, deadline_us
from ostler.domain.tool import FailureKind, failed
from ostler.kernel.errors import LeaseLost, OstlerError, StoreError
from ostler.kernel.event import StreamId
from ostler.ports import Claim, Clock
from ostler.runtime.journal import Folded, Journal
from ostler.runtime.lease import Lease
from ostler.runtime.performer import Performer
from ostler.runtime.turns import Turn, Turns

T = TypeVar("T")

TIMER_HELD_S = 10.0
"""A session that waits longer than this for a timer is let go; the store's due time brings it back."""
STOP_GRACE_S = 2.0
"""A call that does not stop this long after it was told to is left behind, and its session goes on."""
EXAMINATION_S = 30.0
"""A call about which nothing can be found out for so long is refused."""
MEASURED_S = 330.0
"""How long targets around a call may take to measure; each has a time limit of its own."""
MODEL_GRACE_S = 5.0
"""How much longer than its own timeout a provider may take before it is stopped from outside."""
CAPACITY_QUIET_S = 1.0
"""A call that waits for capacity for longer than this says so in the log."""
STORE_RETRY_S = (0.05, 5.0)
"""First and longest wait before an append is tried again while the store is full or busy."""

_INTENTS = (ModelRequested, ToolRequested, ToolResumed, CallRetried)


class _Call:
    """A call under way, or about to begin.

    `moment` is the loop's time at which the next thing happens to it: it begins, it is too late, it is left behind.
    `stopping` is what to record of it once it was told to stop.
    """

    __slots__ = ("moment", "state", "stopping", "task", "work")

    def __init__(self, work: Work, state: State, moment: float) -> None:
        self.work = work
        self.state = state
        self.moment = moment
        self.task: asyncio.Task[None] | None = None
        self.stopping: SessionCommand | None = None


class Runner:
    """One session under one claim. `trouble` is told what keeps it from going on, for people to see."""

    def __init__(
        self,
        claim: Claim,
        *,
        journal: Journal,
        performer: Performer,
        clock: Clock,
        lease: Lease,
        trouble: Callable[[StreamId, OstlerError], None],
        turns: Turns | None = None,
    ) -> None:
        self.claim = claim
        self.stream = claim.stream
        self.session: Folded | None = None
        self._journal = journal
        self._performer = performer
        self._clock = clock
        self._lease = lease
        self._lapses = lease.lapses
        self._trouble = trouble
        self._turns = turns
        self._waiting: dict[str, Turn] = {}
        self._own: set[str] = set()
        self._calls: dict[str, _Call] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._inbox: deque[SessionCommand | None] = deque()
        self._driver: asyncio.Task[None] | None = None
        self._next: _Call | None = None
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._draining = False
        self.is_halted: Callable[[], bool] = lambda: False
        """Whether nothing of it may begin; asked once it is known whose session it is."""

    @property
    def agent(self) -> str:
        """Whose session it is; empty before that is known."""
        return "" if self.session is None or self.session.state is None else self.session.state.agent.name

    def poke(self) -> None:
        """Somebody else has appended to this session."""
        self._put(None)

    def drain(self) -> None:
        """Begin no further call; those under way may finish."""
        self._draining = True
        self._put(None)

    def lose(self) -> None:
        """The session is somebody else's now: stop everything, and record nothing."""
        _settle_future(self._over, LeaseLost(f"Another claim was laid to {self.stream.name}."))

    async def run(self) -> None:
        """Run until the session waits for something that is not a call, has ended, or is taken away."""
        try:
            self.session = session = await self._journal.load(self.stream)
            if self.is_halted():
                self.drain()
            now = self._clock.now_us()
            self._put(TakeOver(now) if _state(session).open else Proceed(now))
            await self._over
        except LeaseLost:
            pass
        finally:
            await self._let_go()

    def _put(self, command: SessionCommand | None) -> None:
        """Something has come in that is to be recorded, or (None) to be read."""
        self._inbox.append(command)
        if self._driver is None and self.session is not None:
            self._driver = asyncio.get_running_loop().create_task(self._go(self.session, None))

    async def _go(self, session: Folded, call: _Call | None) -> None:
        """A task of this session: performs a call, drives on with its outcome, and performs the next one.

        Most sessions have one call at a time, and so one task for all of them, which spares the loop many turns.
        """
        while True:
            if call is not None:
                if self._has_lapsed() and not await self._is_still_ours():
                    return
                command = await self._perform(call)
                if not self._forget(call):
                    return
                self._inbox.append(command)
                if self._driver is not None:
                    return
                self._driver = call.task
            call = await self._drive(session)
            if call is None:
                return

    def _has_lapsed(self) -> bool:
        """Whether the lease has run out since it was last made sure that the session is ours."""
        return self._lease.has_run_out or self._lease.lapses != self._lapses

    async def _is_still_ours(self) -> bool:
        """Make sure, after a silence, that nobody else has taken the session."""
        try:
            await self._lease.renew()
            lapses = self._lease.lapses
            await self._journal.assert_held(self.claim)
            self._lapses = lapses
        except OstlerError as error:
            _settle_future(self._over, error)
        return not self._over.done()

    async def _drive(self, session: Folded) -> _Call | None:
        """Record what has come in and begin what follows from it; there is never more than one driver.

        Returns the last call that is to begin, for this task to perform.
        """
        try:
            while self._inbox and not self._over.done():  # afterwards the worker lets go, and looks again
                command = self._inbox.popleft()
                if command is not None:
                    await self._execute(session, command)
                else:
                    await self._look_around(session)
                if not self._begin(session):
                    _settle_future(self._over, None)
                    return None
            call, self._next = self._next, None
            if call is None or self._calls.get(call.work.call.id) is not call:  # it was stopped before it began
                return None
            call.task = asyncio.current_task()
            return call
        except BaseException as error:
            _settle_future(self._over, error)
            return None
        finally:
            self._driver = None

    async def _look_around(self, session: Folded) -> None:
        """Somebody else has appended to this session, or this worker is about to stop."""
        if not self._draining and await self._patiently(lambda: self._journal.refresh(session)):
            await self._execute(session, Proceed(self._clock.now_us()))
        if self._draining:
            for call in [call for call in self._calls.values() if call.task is None and call is not self._next]:
                self._forget(call)  # its time has not come; whoever takes the session next begins it
        if self._waiting and (self._draining or _state(session).pause is not None):
            self._stop_waiting()

    def _stop_waiting(self) -> None:
        """Calls that wait for capacity do not begin here any more; that they wait is in the log, or goes there now."""
        for name, turn in list(self._waiting.items()):
            call = self._calls.get(name)
            if call is None or call.stopping is not None:
                continue
            if call.work.call.limit is not None:
                self._leave(name)
                self._forget(call)
            elif call.task is not None:
                call.stopping = CapacityMissed(self._clock.now_us(), name, turn.limit)
            if call.task is not None:
                call.task.cancel()

    def _begin(self, session: Folded) -> bool:
        """Begin what is pending; False when there is nothing under way and nothing to wait for here.

        Only intents that this runner has written are begun: any other is in the hands of whoever wrote it. To find out
        something there is no intent.
        """
        state = _state(session)
        if state.end is not None:
            return False
        if state.cancelling_by is not None:
            self._stop_all("cancelled", "the session was cancelled during this call")
        else:
            for work in pending(state):
                if self._may_begin(work) and work.call.id not in self._calls:
                    self._begin_call(session, state, work)
        if not self._calls and not self._inbox:
            return False
        deadline = self._deadline_us(state)
        if deadline is not None:
            self._wake_at(self._moment_of(deadline))
        return True

    def _may_begin(self, work: Work) -> bool:
        """Whether this runner is to begin it: of what waits when it is to begin no more, only what was let pass while
        it was told so. Left alone, nobody would know later whether that happened.
        """
        if isinstance(work, ExamineWork | MeasureWork):
            return not self._draining
        is_new = work.call.attempt == 1 and not work.call.not_before_us
        return work.call.id in self._own and (is_new or not self._draining)

    def _deadline_us(self, state: State) -> int | None:
        """When time ends the session here; None also where nothing can follow from it any more."""
        return None if self._draining or state.cancelling_by is not None else deadline_us(state)

    def _begin_call(self, session: Folded, state: State, work: Work) -> None:
        """See to it that `work` is performed, now or when its time has come."""
        not_before = work.call.not_before_us
        if not_before:
            if state.pause is not None:
                return
            if not_before > self._clock.now_us() or work.call.limit is None:
                moment = self._moment_of(not_before)
                if moment - asyncio.get_running_loop().time() <= TIMER_HELD_S:
                    self._calls[work.call.id] = _Call(work, state, moment)
                    self._wake_at(moment)
                return
        call = self._calls[work.call.id] = _Call(work, state, 0.0)
        if self._next is not None:
            self._begin_task(session, self._next)
        self._next = call
        self._time(call)

    def _begin_task(self, session: Folded, call: _Call) -> None:
        """Perform a call in a task of its own."""
        call.task = asyncio.get_running_loop().create_task(self._go(session, call))

    def _time(self, call: _Call) -> None:
        """From now on the call's time runs."""
        call.moment = asyncio.get_running_loop().time() + _timeout_s(call.state, call.work)
        self._wake_at(call.moment)

    async def _perform(self, call: _Call) -> SessionCommand:
        """What came of the call, or what to record of it if it was told to stop."""
        try:
            if self._turns is not None and (limits := self._limits(self._turns, call)):
                return await self._perform_in_turn(self._turns, limits, call)
            return await self._performer.perform(call.state, call.work)
        except asyncio.CancelledError:
            if call.stopping is None:
                raise
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()  # it was the call that was to stop, not the task, which goes on with the next
            return call.stopping

    def _limits(self, turns: Turns, call: _Call) -> tuple[Limit, ...]:
        return turns.limits(call.state) if isinstance(call.work, ModelWork) else ()

    async def _perform_in_turn(self, turns: Turns, limits: Sequence[Limit], call: _Call) -> SessionCommand:
        """Perform the call once there is capacity; or say that there is none, or that there is some again.

        What it says is recorded, and then the call is begun again, and its turn gone on with. The time of the call
        does not run while it waits. Whoever waited until the lease ran out records something before it begins, which
        only succeeds if the session is still its own.
        """
        name, has_said_so = call.work.call.id, call.work.call.limit is not None
        turn = self._waiting.get(name)
        if turn is None:
            hold_s = _timeout_s(call.state, call.work) + STOP_GRACE_S
            turn = turns.turn(call.state, name, limits, epoch=self.claim.epoch, hold_s=hold_s)
            self._waiting[name] = turn
        try:
            call.moment = math.inf
            within_s = 0.0 if self._draining else CAPACITY_QUIET_S
            if not await turn.comes(within_s=None if has_said_so else within_s):
                return CapacityMissed(self._clock.now_us(), name, turn.limit)
            if has_said_so or self._has_lapsed():
                return CapacityFound(self._clock.now_us(), name)
        except asyncio.CancelledError:
            self._leave(name)
            raise
        except Exception as error:
            self._leave(name)
            message = f"{type(error).__name__}: {error}"
            self._trouble(self.stream, OstlerError(f"A defect of Ostler: {message}"))
            return ReplyFailed(self._clock.now_us(), name, "internal_error", message)
        del self._waiting[name]
        try:
            self._time(call)
            return await self._performer.perform(call.state, call.work)
        finally:
            turn.leave()

    def _leave(self, name: str) -> None:
        turn = self._waiting.pop(name, None)
        if turn is not None:
            turn.leave()

    def _forget(self, call: _Call) -> bool:
        """The call is about to have its outcome; False if it has one, and this one comes too late."""
        if self._calls.get(call.work.call.id) is not call:
            return False
        del self._calls[call.work.call.id]
        self._own.discard(call.work.call.id)
        return True

    def _settle(self, call: _Call, command: SessionCommand) -> None:
        if self._forget(call):
            self._put(command)

    def _moment_of(self, at_us: int) -> float:
        """A moment of the clock as a time of the loop."""
        return asyncio.get_running_loop().time() + (at_us - self._clock.now_us()) / 1e6

    def _wake_at(self, moment: float) -> None:
        """See to it that `_on_alarm` runs then; it looks at everything, so that one timer is enough for all."""
        if self._alarm is None or moment < self._alarm.when():
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm = asyncio.get_running_loop().call_at(moment, self._on_alarm)

    def _on_alarm(self) -> None:
        self._alarm = None
        now = asyncio.get_running_loop().time()
        session = self.session
        assert session is not None, "alarms are set while the session runs"
        state = _state(session)
        for call in list(self._calls.values()):
            if call.moment > now:
                continue
            if call.stopping is not None:
                self._settle(call, call.stopping)
            elif call is self._next:
                self._time(call)  # the driver is about to begin it, as soon as what came in meanwhile is recorded
            elif call.task is None and self._draining:
                call.moment = math.inf  # nothing begins any more; the driver is about to forget it
            elif call.task is None and call.work.call.limit is None:
                self._settle(call, WaitOver(self._clock.now_us(), call.work.call.id))
            elif call.task is None:
                self._time(call)
                self._begin_task(session, call)
            else:
                self._stop(call, "timeout", f"stopped after {_timeout_s(call.state, call.work):g} s")
        deadline = self._deadline_us(state)
        if deadline is not None and self._clock.now_us() >= deadline:
            self._put(Proceed(deadline))
        elif deadline is not None:
            self._wake_at(self._moment_of(deadline))
        for call in self._calls.values():
            if call.moment < math.inf:
                self._wake_at(call.moment)

    def _stop(self, call: _Call, kind: FailureKind, reason: str) -> None:
        """Stop a call that is under way, and leave it behind if it does not obey."""
        if call.stopping is not None:
            return
        if kind == "timeout" and isinstance(call.work, ModelWork):
            call.stopping = self._performer.overdue(call.state, call.work.call, reason)
        else:
            call.stopping = _stopped(call.state, call.work, self._clock.now_us(), kind, reason)
        if call.task is None:
            self._settle(call, call.stopping)
            return
        call.task.cancel()
        call.moment = asyncio.get_running_loop().time() + STOP_GRACE_S
        self._wake_at(call.moment)

    def _stop_all(self, kind: FailureKind, reason: str) -> None:
        for call in list(self._calls.values()):
            self._stop(call, kind, reason)

    async def _execute(self, session: Folded, command: SessionCommand) -> None:
        """Record the command; an outcome is held until the store can take it, for it cannot be had twice."""
        events = await self._patiently(
            lambda: self._journal.execute(session, command, epoch=self.claim.epoch, may_begin=not self._draining)
        )
        self._own.update([event.call for event in events if isinstance(event, _INTENTS)])
        self._performer.examiner.settle(self.stream, _state(session), command.at_us, events)
        if self.claim.attempts > 1 and isinstance(command, ReplyReceived | ToolReturned):
            self.claim = await self._patiently(lambda: self._lease.vouch(self.claim))

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """What `attempt` returns once the store can do it; calls under way go on meanwhile."""
        delay_s, longest_s = STORE_RETRY_S
        while True:
            try:
                return await attempt()
            except StoreError as error:
                self._trouble(self.stream, error)
                if not error.retryable or self._draining:
                    raise
            await asyncio.sleep(delay_s)
            delay_s = min(longest_s, delay_s * 2)

    async def _let_go(self) -> None:
        """Stop everything under way, whose outcomes nobody here may record any more."""
        if self._alarm is not None:
            self._alarm.cancel()
        tasks = [call.task for call in self._calls.values() if call.task is not None]
        if self._driver is not None:
            tasks.append(self._driver)
        self._calls.clear()
        self._performer.examiner.leave(self.stream, None if self.session is None else self.session.state)
        for name in list(self._waiting):
            self._leave(name)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_GRACE_S)


def _timeout_s(state: State, work: Work) -> float:
    """How long a call may take. A provider keeps its own time, and is only stopped from here if it does not."""
    match work:
        case ToolWork():
            return work.spec.timeout_s
        case ModelWork():
            return state.agent.settings.timeout_s + MODEL_GRACE_S
        case ExamineWork():
            spec = None if work.asked is None else state.agent.tool(work.asked.name)
            return EXAMINATION_S + (MEASURED_S if spec is not None and spec.fitness else 0.0)
        case MeasureWork():
            return MEASURED_S


def _settle_future(future: asyncio.Future[None], error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    elif isinstance(error, asyncio.CancelledError):
        future.cancel()
    else:
        future.set_exception(error)
        future.exception()  # whoever has stopped waiting for it need not be told


def _state(session: Folded) -> State:
    assert session.state is not None
    return session.state


def _stopped(state: State, work: Work, now_us: int, kind: FailureKind, reason: str) -> SessionCommand:
    """What to record of a call that was told to stop. One that could not be examined is refused."""
    match work:
        case ToolWork():
            return ToolReturned(now_us, work.call.id, failed(kind, reason))
        case ModelWork():
            return ReplyFailed(now_us, work.call.id, kind, reason)
        case ExamineWork():
            return Examined(now_us, CallExamined(work.name, refused=f"it could not be examined: {reason}"), state)
        case MeasureWork():
            return Compared(now_us, work.after.call, unmeasured(work.after.before, reason))
