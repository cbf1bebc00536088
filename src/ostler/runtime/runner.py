"""Runs one session while its worker holds it: performs what is pending, records what came of it, until it waits."""

import asyncio
from collections import deque
from collections.abc import Callable

from ostler.domain.session.commands import Proceed, ReplyFailed, SessionCommand, TakeOver, ToolReturned
from ostler.domain.session.events import CallRetried, ModelRequested, ToolRequested
from ostler.domain.session.state import State, ToolWork, Work, deadline_us, pending
from ostler.domain.tool import FailureKind, failed
from ostler.kernel.errors import LeaseLost, OstlerError, StoreError
from ostler.kernel.event import StreamId
from ostler.ports import Clock
from ostler.runtime.journal import Journal, Session
from ostler.runtime.performer import Performer

TIMER_HELD_S = 10.0
"""A session that waits longer than this for a timer is let go; the store's due time brings it back."""
STOP_GRACE_S = 2.0
"""A call that does not stop this long after it was told to is left behind, and its session goes on."""
MODEL_GRACE_S = 5.0
"""How much longer than its own timeout a provider may take before it is stopped from outside."""
STORE_RETRY_S = (0.05, 5.0)
"""First and longest wait before an append is tried again while the store is full or busy."""


_INTENTS = (ModelRequested, ToolRequested, CallRetried)


class _Call:
    """A call under way. `stopping` says why it was told to stop, and so what to record."""

    __slots__ = ("stopping", "task", "timer", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.stopping: SessionCommand | None = None


class Runner:
    """One session under one claim. `trouble` is told what keeps it from going on, for people to see."""

    def __init__(
        self,
        stream: StreamId,
        epoch: int,
        *,
        journal: Journal,
        performer: Performer,
        clock: Clock,
        trouble: Callable[[StreamId, OstlerError], None],
    ) -> None:
        self.stream = stream
        self.session: Session | None = None
        self._epoch = epoch
        self._journal = journal
        self._performer = performer
        self._clock = clock
        self._trouble = trouble
        self._own: set[str] = set()
        self._calls: dict[str, _Call] = {}
        self._timers: list[asyncio.TimerHandle] = []
        self._inbox: deque[SessionCommand | None] = deque()
        self._arrival: asyncio.Future[None] | None = None
        self._draining = False

    def poke(self) -> None:
        """Somebody else has appended to this session."""
        self._put(None)

    def drain(self) -> None:
        """Begin no further call; those under way may finish."""
        self._draining = True
        self._put(None)

    async def run(self) -> None:
        """Run until the session waits for something that is not a call, has ended, or is taken away."""
        try:
            self.session = session = await self._journal.load(self.stream)
            now = self._clock.now_us()
            await self._execute(session, TakeOver(now) if _state(session).open else Proceed(now))
            while self._begin(session):
                await self._receive(session)
        except LeaseLost:
            pass
        finally:
            await self._let_go()

    def _begin(self, session: Session) -> bool:
        """Begin what is pending; False when there is nothing under way and nothing to wait for here.

        Only intents that this runner has written are begun: any other is in the hands of whoever wrote it.
        """
        state = _state(session)
        if state.end is not None:
            return False
        if state.cancelling_by is not None:
            self._stop_all("cancelled", "the session was cancelled during this call")
        elif not self._draining:
            for work in pending(state):
                if work.call.id in self._own and work.call.id not in self._calls:
                    self._begin_call(state, work)
        if not self._calls:
            return False
        self._watch_deadline(state)
        return True

    def _begin_call(self, state: State, work: Work) -> None:
        """Perform `work` in a task of its own, or set a timer if it is to be tried again later."""
        loop = asyncio.get_running_loop()
        call = work.call
        delay_s = (call.not_before_us - self._clock.now_us()) / 1e6 if call.not_before_us else 0.0
        if delay_s > TIMER_HELD_S:
            return
        running = self._calls[call.id] = _Call(work)
        if delay_s > 0:
            running.timer = loop.call_later(delay_s, self._begin_task, state, running)
        else:
            self._begin_task(state, running)

    def _begin_task(self, state: State, call: _Call) -> None:
        loop = asyncio.get_running_loop()
        call.task = loop.create_task(self._perform(state, call))
        if isinstance(call.work, ToolWork):
            seconds = call.work.spec.timeout_s
            call.timer = loop.call_later(seconds, self._stop, call, "timeout", f"stopped after {seconds:g} s")
        else:
            seconds = state.agent.settings.timeout_s + MODEL_GRACE_S
            call.timer = loop.call_later(seconds, self._stop, call, "timeout", f"no reply after {seconds:g} s")

    async def _perform(self, state: State, call: _Call) -> None:
        try:
            command: SessionCommand = await self._performer.perform(state, call.work)
        except asyncio.CancelledError:
            if call.stopping is None:
                raise
            command = call.stopping
        self._settle(call, command)

    def _settle(self, call: _Call, command: SessionCommand) -> None:
        """The call has its outcome; whatever comes of it later is too late."""
        if self._calls.get(call.work.call.id) is not call:
            return
        if call.timer is not None:
            call.timer.cancel()
        del self._calls[call.work.call.id]
        self._own.discard(call.work.call.id)
        self._put(command)

    def _stop(self, call: _Call, kind: FailureKind, reason: str) -> None:
        """Stop a call that is under way, and leave it behind if it does not obey."""
        if call.stopping is not None:
            return
        call.stopping = _stopped(call.work, self._clock.now_us(), kind, reason)
        if call.timer is not None:
            call.timer.cancel()
        if call.task is None:
            self._settle(call, call.stopping)
            return
        call.task.cancel()
        call.timer = asyncio.get_running_loop().call_later(STOP_GRACE_S, self._settle, call, call.stopping)

    def _stop_all(self, kind: FailureKind, reason: str) -> None:
        for call in list(self._calls.values()):
            self._stop(call, kind, reason)

    def _watch_deadline(self, state: State) -> None:
        """Wake up when the session's time is over."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        deadline = deadline_us(state)
        if deadline is not None:
            delay_s = max(0.0, (deadline - self._clock.now_us()) / 1e6)
            loop = asyncio.get_running_loop()
            self._timers.append(loop.call_later(delay_s, self._put, Proceed(deadline)))

    def _put(self, command: SessionCommand | None) -> None:
        self._inbox.append(command)
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    async def _receive(self, session: Session) -> None:
        """Wait for the next outcome, hint or moment, and record it."""
        if not self._inbox:
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        command = self._inbox.popleft()
        if command is not None:
            await self._execute(session, command)
        elif not self._draining and await self._journal.refresh(session):
            await self._execute(session, Proceed(self._clock.now_us()))

    async def _execute(self, session: Session, command: SessionCommand) -> None:
        """Record the command; an outcome is held until the store can take it, for it cannot be had twice."""
        delay_s, longest_s = STORE_RETRY_S
        while True:
            try:
                events = await self._journal.execute(session, command, epoch=self._epoch, may_begin=not self._draining)
                self._own.update([event.call for event in events if isinstance(event, _INTENTS)])
                return
            except StoreError as error:
                self._trouble(self.stream, error)
                if not error.retryable or self._draining:
                    raise
            await asyncio.sleep(delay_s)
            delay_s = min(longest_s, delay_s * 2)

    async def _let_go(self) -> None:
        """Stop everything under way, whose outcomes nobody here may record any more."""
        for timer in self._timers:
            timer.cancel()
        tasks = []
        for call in self._calls.values():
            if call.timer is not None:
                call.timer.cancel()
            if call.task is not None:
                call.task.cancel()
                tasks.append(call.task)
        self._calls.clear()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_GRACE_S)


def _state(session: Session) -> State:
    assert session.state is not None
    return session.state


def _stopped(work: Work, now_us: int, kind: FailureKind, reason: str) -> SessionCommand:
    """What to record of a call that was told to stop. A model may be asked again; a tool call is over."""
    if isinstance(work, ToolWork):
        return ToolReturned(now_us, work.call.id, failed(kind, reason))
    return ReplyFailed(now_us, work.call.id, kind, reason, retry_at_us=now_us if kind == "timeout" else None)
