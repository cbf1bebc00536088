"""What sessions spend: reserved before, settled by the log, never doubled and never lost."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.adapters.store.memory_ledger import MemoryLedger
from ostler.adapters.store.sqlite import SqliteStore
from ostler.adapters.store.sqlite_ledger import SqliteLedger
from ostler.domain.agent import AgentSpec
from ostler.domain.budget import FLEET, Amounts, Budget, Budgets, Left, Scope, Total, Unit, Who, rate
from ostler.domain.identity import Principal
from ostler.domain.model import ModelRef, ModelSettings, Price, Usage
from ostler.domain.session.events import (
    AgentCancelled,
    AgentFailed,
    AgentStarted,
    ApprovalExpired,
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
from ostler.domain.session.evolve import evolve
from ostler.domain.session.fork import Fact
from ostler.domain.tool import ToolSpec
from ostler.kernel.errors import NotFound, RateLimited, StoreBusy, StoreCorrupt
from ostler.kernel.event import StreamId
from ostler.runtime.spending import AGAIN_US, Booking, Released, Settled, Spending, outcome_of, spender, worst_of

WHO = Who("acme", "ses_1", "ses_1", "coder", "ann")
STREAM = StreamId("acme", "ses_1")
DAY_US = 86_400_000_000


def budget(unit: Unit, most: int, *, scope: Scope = "fleet", **more: Any) -> Budget:
    return Budget(name=unit, scope=scope, unit=unit, most=most, **more)


def own(*budgets: Budget) -> Budgets:
    """Budgets of the tenant of these tests."""
    return Budgets(tenants={"acme": tuple(msgspec.structs.replace(one, scope="tenant") for one in budgets)})


def fleet(*budgets: Budget) -> Budgets:
    return Budgets(fleet=budgets)


class World:
    """A ledger, a clock and a log, and processes that come and go."""

    def __init__(self, budgets: Budgets, ledger=None) -> None:
        self.budgets = budgets
        self.ledger = MemoryLedger() if ledger is None else ledger
        self.at_us = DAY_US
        self.log: list = []
        self.reads = 0
        self.troubles: list = []
        self.spending = self.process()

    def process(self) -> Spending:
        return Spending(
            self.ledger,
            self.budgets,
            self,
            self.read,
            trouble=lambda stream, error: self.troubles.append((stream, error)),
        )

    def now_us(self) -> int:
        return self.at_us

    async def read(self, stream: StreamId):
        self.reads += 1
        if stream != STREAM:
            raise NotFound(f"There is no session {stream.name}.")
        return self.log

    def record(self, *events) -> None:
        """These events are durable, and nobody settles anything."""
        self.log += [(self.at_us, event) for event in events]

    async def happens(self, *events) -> None:
        """These events are durable, and the process settles what follows from them."""
        self.record(*events)
        self.spending.follow(STREAM, self.at_us, events)
        await self.spending.close()

    async def crash(self) -> None:
        await self.spending.close()
        self.spending = self.process()

    async def reserve(self, call: str = "1", worst: Amounts | None = None, **more) -> Booking:
        return await self.spending.reserve(WHO, call, worst or Amounts(tokens=60, steps=1), hold_s=300, **more)

    async def total(self, name: str = "fleet.tokens", tenant: str = FLEET) -> Total:
        return (await self.ledger.totals(tenant, [name], now_us=self.at_us)).get(name, Total(0, 0))


def replied(call: str = "1", tokens: int = 25, cost: int = 0) -> ModelCompleted:
    return ModelCompleted(call, text="Done.", usage=Usage(output_tokens=tokens), cost_microusd=cost)


async def test_a_call_is_reserved_before_and_settled_after():
    world = World(fleet(budget("tokens", 100), budget("microseconds", 10**9), budget("steps", 5)))
    assert await world.reserve(worst=Amounts(tokens=60, steps=1, microseconds=300_000_000)) == Booking()
    await world.happens(ModelRequested("1"))
    world.at_us += 4_000_000
    await world.happens(replied())
    assert (await world.total(), await world.total("fleet.steps")) == (Total(25, 0), Total(1, 0))
    assert await world.total("fleet.microseconds") == Total(4_000_000, 0)
    assert world.reads == 0


async def test_a_used_up_budget_refuses_and_says_what_is_left():
    world = World(own(budget("tokens", 100)))
    await world.reserve("1")
    assert await world.reserve("2") == Booking(
        "the budget tenants.acme.tokens has 40 tokens left of 100 tokens, and this call may use 60 tokens",
        beyond=("tenants.acme.tokens",),
    )
    await world.happens(ConstraintFailed("2", "", "blocked", "the budget"))
    assert await world.total("tenants.acme.tokens", "acme") == Total(60, 60)


async def test_no_tenant_learns_what_the_others_have_used():
    world = World(fleet(budget("tokens", 100, soft=50)))
    assert (await world.reserve("1")).warnings == ("the budget fleet.tokens has come to its soft limit",)
    refused = (await world.reserve("2")).refused
    assert refused == "the budget fleet.tokens has no room for this call, which may use 60 tokens"
    assert await world.spending.left(WHO) == Left()


async def test_a_budget_that_asks_reserves_beyond_its_limit_and_a_refusal_gives_it_back():
    world = World(fleet(budget("tokens", 50, then="ask"), budget("steps", 5)))
    booking = await world.reserve()
    assert (booking.asks, booking.refused is not None) == (True, True)
    assert (await world.total(), await world.total("fleet.steps")) == (Total(60, 60), Total(1, 1))
    await world.happens(CallExamined("1", refused=booking.refused, asks=True))
    await world.happens(ApprovalExpired("1"))
    assert (await world.total(), await world.total("fleet.steps")) == (Total(0, 0), Total(0, 0))


async def test_a_budget_that_stops_wins_over_one_that_asks():
    asking, stopping = budget("tokens", 5, then="ask"), budget("steps", 0)
    for budgets in ((asking, stopping), (stopping, asking)):
        world = World(fleet(*budgets))
        booking = await world.reserve()
        assert (booking.asks, "fleet.steps has no room" in (booking.refused or "")) == (False, True)
        assert await world.total() == Total(0, 0)


async def test_an_unknown_price_stops_asks_or_is_let_through():
    unpriced = Amounts(tokens=1, microusd=None)
    stops = await World(fleet(budget("microusd", 9))).reserve(worst=unpriced)
    asks = await World(fleet(budget("microusd", 9, then="ask"))).reserve(worst=unpriced)
    lets = await World(fleet(budget("microusd", 9, unpriced="allow"))).reserve(worst=unpriced)
    assert [(one.refused is None, one.asks) for one in (stops, asks, lets)] == [
        (False, False),
        (False, True),
        (True, False),
    ]


async def test_a_warning_is_given_once():
    world = World(own(budget("tokens", 150, soft=100)))
    warnings = [(await world.reserve(call)).warnings for call in ("1", "2", "2", "3")]
    told = ("the budget tenants.acme.tokens has come to 100 tokens of 150 tokens",)
    assert warnings == [(), told, told, ()]


async def test_limits_of_rules_are_reserved_with_the_budgets_or_not_at_all():
    world = World(fleet(budget("calls", 5)))
    sends = [rate("mail#1.acme", "acme", amount=1, most=2, window_us=3_600_000_000)]
    for call in ("1.1", "1.2"):
        assert await world.reserve(call, Amounts(calls=1), rates=sends) == Booking()
    booking = await world.reserve("1.3", Amounts(calls=1), rates=sends)
    assert booking.refused == "the limit rules.mail#1.acme is 2, of which 2 are used, and this call takes 1"
    assert await world.total("fleet.calls") == Total(2, 2)
    await world.happens(ToolRequested("1.1", "mail", {}), ToolCompleted("1.1", ok=False, kind="transient"))
    assert await world.total("fleet.calls") == Total(2, 1)
    assert await world.reserve("1.3", Amounts(calls=1), rates=sends) == Booking()
    await world.happens(ToolRequested("1.2", "mail", {}), ToolCompleted("1.2", ok=False, kind="timeout"))
    assert (await world.reserve("1.4", Amounts(calls=1), rates=sends)).refused is not None


async def test_without_a_budget_that_concerns_it_a_call_costs_nothing():
    class Untouchable:
        """A ledger that nobody may ask."""

    world = World(fleet(budget("microusd", 9)), ledger=Untouchable())
    assert await world.reserve("1.1", Amounts(calls=1)) == Booking()
    await world.happens(ToolRequested("1.1", "read", {}), ToolCompleted("1.1"))
    assert (world.reads, world.troubles) == (0, [])


async def test_what_a_settlement_gives_back_is_there_for_the_next_call():
    world = World(fleet(budget("tokens", 100)))
    for step in range(1, 4):
        assert await world.reserve(str(step)) == Booking()
        events: list[SessionEvent] = [ModelRequested(str(step)), replied(str(step), tokens=13)]
        world.record(*events)
        world.spending.follow(STREAM, world.at_us, events)
    await world.spending.close()
    assert await world.total() == Total(39, 0)


async def test_the_tightest_budget_says_what_is_left():
    wide, narrow = budget("tokens", 100, scope="tenant"), budget("tokens", 80, scope="agent")
    world = World(Budgets(tenants={"*": (wide,)}, agents={"coder": (narrow,)}))
    assert await world.spending.left(WHO) == Left(80)
    await world.reserve()
    assert await world.spending.left(WHO) == Left(20)


# Crashes


async def test_a_crash_after_the_reservation_neither_doubles_nor_loses_it():
    world = World(fleet(budget("tokens", 100)))
    await world.reserve()
    await world.crash()
    assert await world.reserve() == Booking()
    await world.happens(ModelRequested("1"), replied())
    assert await world.total() == Total(25, 0)


async def test_a_crash_between_outcome_and_settlement_is_mended_by_the_log_however_often():
    world = World(fleet(budget("tokens", 100)))
    await world.reserve()
    world.record(ModelRequested("1"), replied())
    await world.crash()
    assert (await world.spending.recover(), await world.total()) == (0, Total(60, 60))
    world.at_us += 300_000_000
    assert [await one.recover() for one in (world.spending, world.process())] == [1, 0]
    assert await world.total() == Total(25, 0)


async def test_the_worker_that_took_a_call_over_settles_it_by_the_log():
    world = World(fleet(budget("tokens", 100)))
    await world.reserve()
    await world.happens(ModelRequested("1"))
    await world.crash()
    await world.happens(CallRetried("1", 2, "worker lost"), replied())
    assert (await world.total(), world.reads) == (Total(25, 0), 1)


async def test_a_call_that_nobody_knows_the_outcome_of_stays_counted():
    world = World(fleet(budget("calls", 9), budget("microseconds", 10**9)))
    await world.reserve("1.1", Amounts(calls=1, microseconds=60_000_000))
    await world.happens(ToolRequested("1.1", "pay", {}), ToolCompleted("1.1", ok=False, kind="unknown"))
    assert (await world.total("fleet.calls")).used == 1
    assert await world.total("fleet.microseconds") == Total(60_000_000, 0)


async def test_a_call_that_is_still_open_keeps_its_reservation_and_is_looked_at_again():
    world = World(fleet(budget("tokens", 100)))
    await world.reserve()
    world.record(ModelRequested("1"))
    for after_us in (DAY_US, AGAIN_US):
        world.at_us += after_us
        assert (await world.spending.recover(), await world.total()) == (0, Total(60, 60))
    world.record(replied())
    world.at_us += AGAIN_US
    assert (await world.spending.recover(), await world.total()) == (1, Total(25, 0))


async def test_a_call_that_was_reserved_and_never_asked_is_released_with_the_end_of_its_session():
    world = World(fleet(budget("tokens", 100)))
    await world.reserve()
    await world.crash()
    world.record(AgentCancelled("ann", "killed"))
    world.at_us += DAY_US
    assert (await world.spending.recover(), await world.total()) == (1, Total(0, 0))


async def test_the_end_of_a_session_releases_what_it_never_began():
    world = World(fleet(budget("tokens", 100)))
    await world.reserve()
    await world.happens(CallExamined("1"), AgentFailed("timeout"))
    assert await world.total() == Total(0, 0)


async def test_what_the_log_tells_no_more_stays_counted():
    world = World(fleet(budget("tokens", 100)))
    gone = Who("acme", "ses_gone", "ses_gone", "coder", "ann")
    await world.spending.reserve(gone, "1", Amounts(tokens=60), hold_s=1)
    world.at_us += DAY_US
    assert (await world.spending.recover(), await world.total()) == (1, Total(60, 0))


async def test_a_log_that_cannot_be_read_settles_nothing_and_is_told():
    class Damaged(World):
        async def read(self, stream):
            raise StoreCorrupt("damaged")

    world = Damaged(fleet(budget("tokens", 100)))
    await world.reserve()
    world.at_us += DAY_US
    assert (await world.process().recover(), await world.total()) == (0, Total(60, 60))
    assert [type(error) for _, error in world.troubles] == [StoreCorrupt]


async def test_a_settlement_that_cannot_be_made_is_told_and_made_later():
    class Busy(MemoryLedger):
        is_busy = True

        async def settle(self, holder, used, *, now_us):
            if self.is_busy:
                raise StoreBusy()
            await super().settle(holder, used, now_us=now_us)

    ledger = Busy()
    world = World(fleet(budget("tokens", 100)), ledger=ledger)
    await world.reserve()
    await world.happens(ModelRequested("1"), replied())
    assert [type(error) for _, error in world.troubles] == [StoreBusy]
    ledger.is_busy = False
    world.at_us += DAY_US
    assert (await world.spending.recover(), await world.total()) == (1, Total(25, 0))


async def test_more_overdue_calls_than_are_told_at_once_are_all_settled():
    world = World(fleet(budget("tokens", 10**6)))
    for number in range(1, 251):
        await world.reserve(str(number))
        world.record(ModelRequested(str(number)), replied(str(number), tokens=1))
    await world.crash()
    world.at_us += DAY_US
    assert (await world.spending.recover(), await world.total()) == (250, Total(250, 0))


async def test_a_bug_in_a_settlement_does_not_go_unnoticed():
    class Broken(MemoryLedger):
        async def settle(self, holder, used, *, now_us):
            raise ZeroDivisionError

    world = World(fleet(budget("tokens", 100)), ledger=Broken())
    await world.reserve()
    with pytest.raises(ZeroDivisionError):
        await world.happens(ModelRequested("1"), replied())


# What the log says


def test_the_worst_case_of_a_session_is_its_prompt_and_a_whole_reply_or_the_timeout_of_a_tool():
    price = Price(input_microusd=1_000_000, output_microusd=10_000_000)
    model = ModelRef("scripted", "scripted", "x", price=price)
    agent = AgentSpec("coder", instructions="i" * 400, settings=ModelSettings(max_tokens=50, timeout_s=9))
    started = AgentStarted("ses_1", agent, model, "g" * 400, Principal("ann", tenant="acme"))
    state = evolve(None, started, 0)
    assert spender(state) == WHO
    assert spender(state, root="ses_0").root == "ses_0"
    assert worst_of(state, None) == Amounts(tokens=250, microusd=700, steps=1, microseconds=9_000_000)
    tool = ToolSpec("mail", "Send.", {}, timeout_s=2.5)
    assert worst_of(state, tool) == Amounts(calls=1, microseconds=2_500_000)


@pytest.mark.parametrize(
    ("events", "outcome"),
    [
        ([], None),
        ([ModelRequested("1")], None),
        ([ModelRequested("1"), replied("2")], None),
        ([ModelRequested("1"), ModelFailed("1", RateLimited.code, "429")], Released()),
        ([ModelRequested("1"), ModelFailed("1", "provider_timeout", "…")], Settled(None)),
        (
            [ModelRequested("1"), CallRetried("1", 2, "worker lost"), ModelFailed("1", RateLimited.code, "429")],
            Settled(None),
        ),
        (
            [ModelRequested("1"), CallRetried("1", 1, "waits", 9, "limit"), ModelFailed("1", "cancelled", "…")],
            Released(),
        ),
        (
            [
                ModelRequested("1"),
                CallRetried("1", 1, "waits", 9, "limit"),
                CallRetried("1", 1, "there is capacity"),
                ModelFailed("1", "cancelled", "…"),
            ],
            Settled(None),
        ),
        ([CallExamined("1"), ApprovalExpired("1")], Released()),
        ([CallExamined("1"), ApprovalExpired("1"), CallExamined("1")], None),
        ([CallExamined("1"), AgentFailed("timeout")], Released()),
        ([ModelRequested("1"), AgentFailed("timeout")], None),
    ],
)
def test_the_log_says_what_became_of_a_call(events, outcome):
    assert outcome_of("1", [(5, event) for event in events]) == outcome


def test_a_call_takes_as_long_as_its_last_attempt_from_where_it_could_begin():
    facts: list[Fact] = [
        (0, ModelRequested("1")),
        (10, CallRetried("1", 1, "waits for capacity", 500, "limit")),
        (600, CallRetried("1", 1, "there is capacity")),
        (700, CallRetried("1", 2, "rate_limited: later", 900)),
        (1000, replied("1", tokens=3, cost=7)),
    ]
    assert outcome_of("1", facts) == Settled({"tokens": 3, "microusd": 7, "calls": 0, "steps": 1, "microseconds": 100})


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.integers(0, 60),
            st.sampled_from(["live", "crash before settling", "crash after reserving", "crash in the call", "unknown"]),
            st.integers(0, 2),
        ),
        max_size=8,
    ),
    is_durable=st.booleans(),
)
async def test_wherever_processes_crash_the_ledger_comes_to_what_the_log_says(steps, is_durable):
    with tempfile.TemporaryDirectory() as folder:
        store = await SqliteStore.open(Path(folder) / "ostler.db") if is_durable else None
        world = World(fleet(budget("tokens", 10**6)), ledger=None if store is None else SqliteLedger(store))
        for number, (tokens, course, recoveries) in enumerate(steps, 1):
            call = str(number)
            await world.reserve(call)
            if course == "crash after reserving":
                await world.crash()
                await world.reserve(call)
            await world.happens(ModelRequested(call))
            if course == "crash in the call":
                await world.crash()
                await world.happens(CallRetried(call, 2, "worker lost"))
            reply = ModelFailed(call, "unknown", "…") if course == "unknown" else replied(call, tokens)
            if course == "crash before settling":
                world.record(reply)
                await world.crash()
            else:
                await world.happens(reply)
            for _ in range(recoveries):
                world.at_us += 400_000_000
                await asyncio.gather(world.spending.recover(), world.process().recover())
        world.at_us += DAY_US // 2
        await world.spending.recover()
        expected = sum(60 if course == "unknown" else tokens for tokens, course, _ in steps)
        assert await world.total() == Total(expected, 0)
        if store is not None:
            await store.close()
