"""Classic bugs, put back into the real code for the time of a run, to show that the simulation finds them.

Each replaces one function of the product and nothing else. What the runtime does not have yet is stood in for by what
is nearest to it, and the bug says so.
"""

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import msgspec

from ostler.adapters.store.memory import MemoryStore
from ostler.adapters.tools.functions import FunctionTools
from ostler.domain.session import decide as deciding
from ostler.domain.session import evolve as evolving
from ostler.domain.session.answering import answer as answer_people
from ostler.domain.session.attempts import NoRoom, Worst, worst_case
from ostler.domain.session.commands import Approve, AskBack, Deny, SessionCommand
from ostler.domain.session.decide import decide
from ostler.domain.session.decision import Decision
from ostler.domain.session.events import ApprovalGranted, ModelCompleted, SessionEvent, ToolRequested
from ostler.domain.session.state import OpenCall, State
from ostler.domain.tool import ToolOutcome, ToolRequest
from ostler.kernel.errors import LeaseLost, StaleWrite, StoreError
from ostler.kernel.event import Record
from ostler.ports import Append
from ostler.runtime import journal as journals
from ostler.runtime import worker as workers
from ostler.runtime.journal import Folded, Journal
from ostler.runtime.runner import Runner

Bug = Callable[[], AbstractContextManager[None]]


@contextmanager
def _replaced(owner: Any, name: str, other: Any) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, other)
    try:
        yield
    finally:
        setattr(owner, name, original)


def missing_fence() -> AbstractContextManager[None]:
    """The store takes appends of a worker whose claim another has followed."""
    original = MemoryStore.append

    async def append(self: MemoryStore, append: Append) -> int:
        return await original(self, msgspec.structs.replace(append, epoch=None))

    return _replaced(MemoryStore, "append", append)


def stale_cache_after_conflict() -> AbstractContextManager[None]:
    """Whoever loses to another writer takes over the number of the last event, and not what it says."""
    original = Journal.refresh

    async def refresh(self: Journal, session: Folded) -> bool:
        before = session.state
        is_newer = await original(self, session)
        if before is not None:
            session.state = before
        return is_newer

    return _replaced(Journal, "refresh", refresh)


def approval_not_bound_to_its_arguments() -> AbstractContextManager[None]:
    """An approval counts for whatever is asked at the moment, whatever the person has seen."""

    original = answer_people

    def answer(decision: Decision, asked: Approve | Deny | AskBack) -> None:
        question = decision.state.question
        if not isinstance(asked, Approve):
            original(decision, asked)
        elif question is not None and decision.state.cancelling_by is None:
            decision.emit(ApprovalGranted(question.call, asked.by.id, question.digest, asked.reason))

    return _replaced(deciding, "answer", answer)


def spending_settled_twice_on_recovery() -> AbstractContextManager[None]:
    """The reply to a model call that was repeated is paid for twice. (There are no budgets of trees to do it with.)"""
    original = evolving._model_completed

    def model_completed(state: State, event: ModelCompleted) -> State:
        after = original(state, event)
        if all(call.attempt == 1 for call in state.open):
            return after
        return msgspec.structs.replace(after, cost_microusd=after.cost_microusd + event.cost_microusd + 1)

    return _replaced(evolving, "_model_completed", model_completed)


def intent_not_flushed_before_the_effect() -> AbstractContextManager[None]:
    """A worker goes on as soon as it has handed over its events, and does not wait until they are kept."""
    original = Journal.execute
    behind: dict[int, asyncio.Task[int]] = {}

    async def execute(
        self: Journal, session: Folded, command: SessionCommand, *, epoch: int | None = None, may_begin: bool = True
    ) -> list[SessionEvent]:
        try:
            if id(session) in behind:
                await behind.pop(id(session))
        except StaleWrite as stale:
            raise LeaseLost from stale
        decision = None if session.state is None else decide(command, session.state, may_begin=may_begin)
        if epoch is None or decision is None or not any(isinstance(one, ToolRequested) for one in decision.events):
            return await original(self, session, command, epoch=epoch, may_begin=may_begin)
        standing = journals.standing_of(decision.state, at_us=command.at_us, before=session.standing)
        records = journals.chain(session.stream, session.seq, session.hash, command.at_us, decision.events)
        append = Append(session.stream, session.seq, records, standing, epoch)
        behind[id(session)] = asyncio.create_task(flush(self, append))
        session.state, session.standing = decision.state, standing
        session.seq, session.hash = records[-1].seq, records[-1].hash
        return decision.events

    async def flush(self: Journal, append: Append) -> int:
        await asyncio.sleep(0.02)
        return await self.store.append(append)

    return _replaced(Journal, "execute", execute)


def lost_wake_up() -> AbstractContextManager[None]:
    """What people say is kept, and does not put the session back into the queue."""
    original = MemoryStore.append

    async def append(self: MemoryStore, append: Append) -> int:
        if append.epoch is None and append.expected and append.records:
            append = msgspec.structs.replace(append, standing=None)
        return await original(self, append)

    return _replaced(MemoryStore, "append", append)


def worker_that_waits_to_be_told() -> AbstractContextManager[None]:
    """A worker looks for work when something is written, and not when time alone has made a session due."""

    async def wait_for(event: asyncio.Event, seconds: float) -> None:
        await event.wait()

    return _replaced(workers, "_wait_for", wait_for)


def cancelled_session_goes_on() -> AbstractContextManager[None]:
    """A cancel stops what is under way, and the session goes on without it. (There are no child sessions to do it.)"""
    original = deciding._step

    def step(decision: Decision) -> bool:
        if not decision.state.open:
            decision.state = msgspec.structs.replace(decision.state, cancelling_by=None)
        return original(decision)

    return _replaced(deciding, "_step", step)


def snapshot_newer_than_the_log() -> AbstractContextManager[None]:
    """A session in memory moves on although its events could not be kept. (There are no snapshots to do it with.)"""
    original = Journal.execute

    async def execute(
        self: Journal, session: Folded, command: SessionCommand, *, epoch: int | None = None, may_begin: bool = True
    ) -> list[SessionEvent]:
        decided = decide(command, session.state, may_begin=may_begin).state
        try:
            return await original(self, session, command, epoch=epoch, may_begin=may_begin)
        except StoreError:
            session.state = decided
            raise

    return _replaced(Journal, "execute", execute)


def once_performed_again() -> AbstractContextManager[None]:
    """Recovery repeats a call that must never be repeated."""
    original = deciding._effect

    def effect(state: State, call: OpenCall) -> str:
        found = original(state, call)
        return "idempotent" if found == "once" else found

    return _replaced(deciding, "_effect", effect)


def reconciliation_never_asks() -> AbstractContextManager[None]:
    """A call that may have happened is repeated without asking the tool whether it has."""

    async def reconcile(self: FunctionTools, request: ToolRequest) -> ToolOutcome | None:
        return None

    return _replaced(FunctionTools, "reconcile", reconcile)


def others_intents_are_begun() -> AbstractContextManager[None]:
    """A runner performs every open call that it finds, without writing down that it tries again."""
    original = Runner._begin

    def begin(self: Runner, session: Folded) -> bool:
        if session.state is not None:
            self._own.update(call.id for call in session.state.open)
        return original(self, session)

    return _replaced(Runner, "_begin", begin)


def acknowledged_and_lost() -> AbstractContextManager[None]:
    """The store says that it keeps an event, and one time in twenty it does not."""
    original = MemoryStore.append
    count = 0

    async def append(self: MemoryStore, append: Append) -> int:
        nonlocal count
        count += 1
        return await original(self, append) if count % 20 else await self.head()

    return _replaced(MemoryStore, "append", append)


def lease_that_never_runs_out() -> AbstractContextManager[None]:
    """What a dead worker held is never given to another."""
    original = MemoryStore.beat

    async def beat(self: MemoryStore, worker: str, *, until_us: int) -> None:
        await original(self, worker, until_us=until_us * 2)

    return _replaced(MemoryStore, "beat", beat)


def damage_passed_over() -> AbstractContextManager[None]:
    """Nobody looks whether the chain of a log holds."""

    def first_broken(records: list[Record], *, after: int = 0, previous: bytes = b"") -> int | None:
        return None

    return _replaced(journals, "first_broken", first_broken)


def limits_forgotten() -> AbstractContextManager[None]:
    """The model is asked whatever the limits say."""
    original = worst_case

    def without_limits(state: State, *covers: Any) -> Worst | NoRoom:
        limits = msgspec.structs.replace(state.agent.limits, tokens=None, cost_microusd=math.floor(1e12))
        agent = msgspec.structs.replace(state.agent, limits=limits)
        return original(msgspec.structs.replace(state, agent=agent), *covers)

    return _replaced(deciding, "worst_case", without_limits)


BUGS: dict[str, Bug] = {
    bug.__name__: bug
    for bug in (
        missing_fence,
        stale_cache_after_conflict,
        approval_not_bound_to_its_arguments,
        spending_settled_twice_on_recovery,
        intent_not_flushed_before_the_effect,
        lost_wake_up,
        worker_that_waits_to_be_told,
        cancelled_session_goes_on,
        snapshot_newer_than_the_log,
        once_performed_again,
        reconciliation_never_asks,
        others_intents_are_begun,
        acknowledged_and_lost,
        lease_that_never_runs_out,
        damage_passed_over,
        limits_forgotten,
    )
}
