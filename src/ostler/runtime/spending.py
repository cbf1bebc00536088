"""What sessions spend: reserved before a call begins, and settled by what the log says came of it."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from ostler.domain import context
from ostler.domain.budget import (
    Account,
    Amounts,
    Budgets,
    Draw,
    Gap,
    Holder,
    Left,
    Refused,
    Reserved,
    Unit,
    Who,
    draws,
    left,
    shown,
    worst_of_model,
    worst_of_tool,
)
from ostler.domain.model import Usage
from ostler.domain.session.attempts import UNSPENT
from ostler.domain.session.events import (
    AgentCancelled,
    AgentCompleted,
    AgentFailed,
    ApprovalDenied,
    ApprovalExpired,
    ApprovalRequested,
    ApprovalReturned,
    CallExamined,
    CallRetried,
    ConstraintFailed,
    ModelCompleted,
    ModelFailed,
    ModelRequested,
    SessionEvent,
    ToolCompleted,
    ToolRequested,
)
from ostler.domain.session.fork import Fact
from ostler.domain.session.state import State
from ostler.domain.tool import ToolSpec
from ostler.kernel.errors import NotFound, OstlerError
from ostler.kernel.event import StreamId
from ostler.ports import Clock, Ledger

AGAIN_US = 3_600_000_000
"""When an overdue call that is still open is looked at again."""
RECOVERED_AT_ONCE = 100
CLOSE_S = 2.0
"""How long closing waits for settlements; those that are not done are overdue some day, and done then."""

FAILED = ("not_found", "invalid", "blocked", "transient", "permanent")
"""Outcomes of a tool after which the call is known to have failed, so that it does not count for a rate."""

_ENDS = (AgentCompleted, AgentFailed, AgentCancelled)
_OUTCOMES = (ModelCompleted, ModelFailed, ToolCompleted)
_REFUSALS = (ConstraintFailed, ApprovalRequested, ApprovalDenied, ApprovalExpired, ApprovalReturned)
"""After these the call does not begin, or not before it is examined again: while people think, it holds nothing."""


class Booking(msgspec.Struct, frozen=True):
    """What budgets say of a call: `refused` says which has no room for it, None that all have.

    With `asks` a person may let it pass all the same, and it has its reservation, beyond the limit of the accounts
    `beyond`. `warnings` are budgets that this call was the first to take to their soft limit.
    """

    refused: str | None = None
    asks: bool = False
    warnings: tuple[str, ...] = ()
    beyond: tuple[str, ...] = ()


class Settled(NamedTuple):
    """The call has used this much; None is as much as was reserved, because nobody knows."""

    used: dict[Unit, int] | None


class Released(NamedTuple):
    """The call never began, or nothing was spent on it."""


class Course:
    """What became of one call, by the events of its session. The same events make the same outcome, whoever looks."""

    __slots__ = (
        "_attempts",
        "_begun_us",
        "_is_unknown",
        "_microusd",
        "_tokens",
        "_waits",
        "call",
        "has_reserved",
        "outcome",
    )

    def __init__(self, call: str) -> None:
        self.call = call
        self.has_reserved = False
        self.outcome: Settled | Released | None = None
        self._begun_us: int | None = None
        self._attempts = 1
        self._tokens = self._microusd = 0
        self._is_unknown = False  # whether nobody can tell what failed attempts have used
        self._waits = False

    def follow(self, at_us: int, event: SessionEvent) -> None:
        """Take note of an event of the session."""
        if isinstance(self.outcome, Settled):
            return
        if isinstance(event, _ENDS):
            if self._begun_us is None:
                self.outcome = Released()
        elif getattr(event, "call", None) == self.call:
            self._follow_call(at_us, event)

    def _follow_call(self, at_us: int, event: SessionEvent) -> None:
        if isinstance(event, CallExamined):
            self.outcome = None  # it is asked for once more, after nobody had answered
        elif isinstance(event, ToolRequested | ModelRequested):
            self._begun_us, self.outcome = at_us, None
        elif isinstance(event, CallRetried):
            self._begun_us = max(at_us, event.not_before_us or 0)
            self._waits = event.limit is not None or (event.not_before_us or 0) > at_us
            if event.code or event.attempt > self._attempts:
                self._count(event.code or event.because, event.usage, event.cost_microusd)
            self._attempts = event.attempt
        elif isinstance(event, _REFUSALS):
            self.outcome = Released()
        elif isinstance(event, ModelCompleted):
            self._count("", event.usage, event.cost_microusd)
            self.outcome = Settled(self._used_by_model(at_us))
        elif isinstance(event, ModelFailed):
            if not self._waits:
                self._count(event.code, event.usage, event.cost_microusd)
            if self._is_unknown:
                self.outcome = Settled(None)
            else:
                self.outcome = Settled(self._used_by_model(at_us)) if self._tokens else Released()
        elif isinstance(event, ToolCompleted):
            self.outcome = Settled(self._used_by_tool(at_us, event))

    def _count(self, code: str, used: Usage, microusd: int) -> None:
        """Add what an attempt has used, which has failed with this code, if it has."""
        self._tokens += used.total_tokens
        self._microusd += microusd
        self._is_unknown |= bool(code) and not used.total_tokens and code not in UNSPENT

    def _used_by_model(self, at_us: int) -> dict[Unit, int]:
        took_us = self._took_us(at_us)
        return Amounts(tokens=self._tokens, microusd=self._microusd, steps=1, microseconds=took_us).known()

    def _used_by_tool(self, at_us: int, event: ToolCompleted) -> dict[Unit, int] | None:
        if event.kind == "unknown":
            return None
        used: dict[Unit, int] = {"calls": 1, "microseconds": self._took_us(at_us)}
        if event.kind in FAILED:
            used["rate"] = 0
        return used

    def _took_us(self, at_us: int) -> int:
        return max(0, at_us - (at_us if self._begun_us is None else self._begun_us))


def outcome_of(call: str, facts: Iterable[Fact]) -> Settled | Released | None:
    """What the log of a session says became of a call; None if that is still open."""
    course = Course(call)
    for at_us, event in facts:
        course.follow(at_us, event)
    return course.outcome


def spender(state: State, *, root: str | None = None) -> Who:
    """Whose budgets the calls of a session draw on; `root` is the session that its tree began with, if another."""
    return Who(state.by.tenant, state.session, root or state.session, state.agent.name, state.by.id)


def worst_of(state: State, spec: ToolSpec | None) -> Amounts:
    """The most that a call of this tool (None: the next one of the model) can use; the input is an estimate."""
    if spec is not None:
        return worst_of_tool(spec.timeout_s)
    settings = state.agent.settings
    expected = context.estimated_input_tokens(state)
    return worst_of_model(expected, settings.max_tokens, state.model.price, settings.timeout_s)


class Spending:
    """Reserves on budgets for the sessions of this process, and settles after every outcome.

    `read` returns all events of a session: what this process did not reserve itself is settled by the log. `trouble` is
    told what keeps a settlement from being made; it is made when the call is found to be overdue (`recover`).
    """

    def __init__(
        self,
        ledger: Ledger,
        budgets: Budgets,
        clock: Clock,
        read: Callable[[StreamId], Awaitable[Sequence[Fact]]],
        *,
        trouble: Callable[[StreamId | None, OstlerError], None],
    ) -> None:
        self._ledger = ledger
        self._budgets = budgets
        self._clock = clock
        self._read = read
        self._trouble = trouble
        self._courses: dict[StreamId, dict[str, Course]] = {}
        self._settling: set[asyncio.Task[None]] = set()
        self._defect: BaseException | None = None

    async def reserve(
        self, who: Who, call: str, worst: Amounts, *, hold_s: float, rates: Sequence[Draw] = ()
    ) -> Booking:
        """Reserve the most that a call can use, and what it takes of the limits of rules (`rates`); all or nothing.

        The reservation is overdue after `hold_s`. Reserving for the same call again neither doubles nor loses anything.
        Costs nothing where no budget concerns the call. Raises a `StoreError` if the ledger cannot be reached: nothing
        may begin then.
        """
        now_us = self._clock.now_us()
        holder = Holder(who.tenant, who.session, call)
        course = self._courses.setdefault(StreamId(who.tenant, who.session), {})[call] = Course(call)
        accounts = self._budgets.accounts(who, now_us)
        asking = list(self._budgets.gaps(who, worst, now_us))
        for gap in asking:
            if gap.budget.then == "stop":
                return Booking(str(gap), beyond=(gap.account,))
        while wanted := (*draws(accounts, worst, lifted={gap.account for gap in asking}), *rates):
            course.has_reserved = True
            verdict = await self._reserve(holder, wanted, now_us, now_us + int(hold_s * 1_000_000))
            if isinstance(verdict, Reserved):
                return _booked(asking, tuple(_warning(one) for one in accounts if one.name in verdict.warnings))
            budget = next((one.budget for one in accounts if one.name == verdict.account), None)
            if budget is None:
                return Booking(_beyond_rate(verdict), beyond=(verdict.account,))
            lacking = Gap(verdict.account, budget, verdict.amount, verdict.used)
            if budget.then == "stop":
                return Booking(str(lacking), beyond=(lacking.account,))
            asking.append(lacking)
        return _booked(asking, ())

    async def left(self, who: Who) -> Left:
        """What the tightest budget leaves for calls of this session. Reads the ledger, where there are budgets."""
        now_us = self._clock.now_us()
        accounts = self._budgets.accounts(who, now_us)
        names = [one.name for one in accounts if one.tenant == who.tenant]
        return left(accounts, await self._ledger.totals(who.tenant, names, now_us=now_us) if names else {})

    def follow(self, stream: StreamId, at_us: int, events: Sequence[SessionEvent]) -> None:
        """Settle and release what follows from these events, which are durable; in the background."""
        courses = self._courses.get(stream, {})
        for event in events:
            if isinstance(event, _OUTCOMES) and event.call not in courses:
                self._spawn(self._close_by_log(Holder(*stream, event.call)))
            for course in courses.values():
                course.follow(at_us, event)
        for course in [course for course in courses.values() if course.outcome is not None]:
            del courses[course.call]
            if course.has_reserved and course.outcome is not None:
                self._spawn(self._close(Holder(*stream, course.call), course.outcome))
        if not courses:
            self._courses.pop(stream, None)

    def leave(self, stream: StreamId) -> None:
        """This process has nothing more to do with the session: what comes of its calls, others find in the log."""
        self._courses.pop(stream, None)

    async def recover(self) -> int:
        """Settle by the log what should have been settled by now; returns how many calls that were. Safe at any time.

        What is still open is looked at again later; what the log does not tell any more stays counted.
        """
        closed = 0
        while True:
            now_us = self._clock.now_us()
            late = await self._ledger.overdue(now_us=now_us, again_us=now_us + AGAIN_US, limit=RECOVERED_AT_ONCE)
            for holder in late:
                closed += await self._close_by_log(holder)
            if len(late) < RECOVERED_AT_ONCE:
                await self._ledger.forget(now_us=now_us)
                return closed

    async def close(self) -> None:
        """Wait a moment for settlements that are under way. Raises what only a defect can have raised in one."""
        if self._settling:
            _, late = await asyncio.wait(self._settling, timeout=CLOSE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        if self._defect is not None:
            raise self._defect

    async def _reserve(self, holder: Holder, wanted: Sequence[Draw], now_us: int, until_us: int) -> Reserved | Refused:
        while True:
            settling = list(self._settling)
            verdict = await self._ledger.reserve(holder, wanted, now_us=now_us, until_us=until_us)
            if isinstance(verdict, Reserved) or not settling:
                return verdict
            await asyncio.wait(settling)  # what they give back may be what is missing

    async def _close_by_log(self, holder: Holder) -> bool:
        """Whether the log says what became of the call. A session that is gone says nothing: all stays counted."""
        try:
            outcome = outcome_of(holder.call, await self._read(StreamId(holder.tenant, holder.session)))
        except NotFound:
            outcome = Settled(None)
        except OstlerError as error:
            self._trouble(StreamId(holder.tenant, holder.session), error)
            return False
        if outcome is None:
            return False
        return await self._close(holder, outcome)

    async def _close(self, holder: Holder, outcome: Settled | Released) -> bool:
        try:
            if isinstance(outcome, Settled):
                await self._ledger.settle(holder, outcome.used, now_us=self._clock.now_us())
            else:
                await self._ledger.release(holder)
        except OstlerError as error:
            self._trouble(StreamId(holder.tenant, holder.session), error)
            return False
        return True

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._settling.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._settling.discard(task)
        if not task.cancelled():
            self._defect = task.exception() or self._defect


def _booked(asking: Sequence[Gap], warnings: tuple[str, ...]) -> Booking:
    beyond = tuple(sorted({gap.account for gap in asking}))
    return Booking("; ".join(str(gap) for gap in asking) or None, bool(asking), warnings, beyond)


def _beyond_rate(verdict: Refused) -> str:
    used, most, amount = (shown(number, "rate") for number in (verdict.used, verdict.most, verdict.amount))
    return f"the limit {verdict.account} is {most}, of which {used} are used, and this call takes {amount}"


def _warning(one: Account) -> str:
    assert one.budget.soft is not None, "a warning was given"
    if one.budget.scope == "fleet":
        return f"the budget {one.name} has come to its soft limit"
    soft, most = shown(one.budget.soft, one.budget.unit), shown(one.budget.most, one.budget.unit)
    return f"the budget {one.name} has come to {soft} of {most}"
