"""The contract of `Ledger`: every sentence of the port as a test."""

import asyncio
import tempfile
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostler.domain.budget import (
    FLEET,
    KEPT_ENDED_US,
    KEPT_SETTLED_US,
    WINDOW_STEPS,
    Draw,
    Holder,
    Refused,
    Reserved,
    Total,
    Unit,
)
from ostler.ports import Ledger

Opener = Callable[[], AbstractAsyncContextManager[Ledger]]

HOUR_US = 3_600_000_000
ACME = "tenants.acme.tokens"


def draw(amount: int, account: str = ACME, *, tenant: str = "acme", most: int | None = 100, **more: Any) -> Draw:
    """A draw for tests, of tokens."""
    return Draw(tenant=tenant, account=account, amount=amount, most=most, **{"unit": "tokens", **more})


def call(name: str, tenant: str = "acme") -> Holder:
    """A call for tests."""
    return Holder(tenant, "ses_1", name)


class LedgerContract(ABC):
    """Inherit, implement `storage`, and pytest asks your back end for every guarantee of the port."""

    pytestmark = pytest.mark.asyncio

    @abstractmethod
    def storage(self, directory: Path) -> Opener:
        """A new empty storage, as a function that opens one more handle onto it. `directory` is empty and yours."""

    @pytest.fixture
    def open_ledger(self, tmp_path: Path) -> Opener:
        return self.storage(tmp_path)

    @pytest_asyncio.fixture
    async def ledger(self, open_ledger: Opener) -> AsyncIterator[Ledger]:
        async with open_ledger() as ledger:
            yield ledger

    # Reserving

    async def test_as_much_is_reserved_as_there_is(self, ledger: Ledger) -> None:
        assert await take(ledger, "1", draw(60)) == Reserved()
        assert await take(ledger, "2", draw(41)) == Refused(ACME, 60, 100, 41)
        assert await take(ledger, "3", draw(40)) == Reserved()
        assert await total(ledger) == Total(100, 100)

    async def test_what_is_larger_than_the_whole_is_refused(self, ledger: Ledger) -> None:
        assert await take(ledger, "1", draw(101)) == Refused(ACME, 0, 100, 101)
        assert await total(ledger) is None

    async def test_on_all_accounts_or_on_none(self, ledger: Ledger) -> None:
        assert await take(ledger, "1", draw(10, "b", most=10)) == Reserved()
        refused = await take(ledger, "2", draw(5, "a"), draw(1, "b", most=10), draw(7, "c", most=6))
        assert refused == Refused("b", 10, 10, 1)
        assert await ledger.totals("acme", ["a", "b", "c"], now_us=1) == {"b": Total(10, 10)}

    async def test_without_a_limit_it_only_counts(self, ledger: Ledger) -> None:
        assert await take(ledger, "1", draw(500, most=None)) == Reserved()
        assert await take(ledger, "2", draw(1)) == Refused(ACME, 500, 100, 1)

    async def test_reserving_again_neither_doubles_nor_loses(self, ledger: Ledger) -> None:
        for moment in (1, 2, 3):
            assert await take(ledger, "1", draw(60), now_us=moment) == Reserved()
        assert await total(ledger) == Total(60, 60)

    async def test_reserving_again_replaces_what_was_reserved(self, ledger: Ledger) -> None:
        await take(ledger, "1", draw(60), draw(1, "monday"))
        assert await take(ledger, "1", draw(90), draw(2, "tuesday")) == Reserved()
        found = await ledger.totals("acme", [ACME, "monday", "tuesday"], now_us=1)
        assert found == {ACME: Total(90, 90), "tuesday": Total(2, 2)}

    async def test_whoever_is_refused_more_keeps_what_it_had(self, ledger: Ledger) -> None:
        await take(ledger, "1", draw(60))
        await take(ledger, "2", draw(30))
        assert await take(ledger, "1", draw(71)) == Refused(ACME, 30, 100, 71)
        assert await total(ledger) == Total(90, 90)

    async def test_nothing_is_always_there(self, ledger: Ledger) -> None:
        assert await take(ledger, "1") == Reserved()
        await take(ledger, "1", draw(60))
        assert await take(ledger, "1") == Reserved()
        assert await total(ledger) is None

    # Settling

    async def test_what_was_used_takes_the_place_of_what_was_reserved(self, ledger: Ledger) -> None:
        await take(ledger, "1", draw(60), draw(8, "money", unit="microusd"), draw(3, "rules.x", unit="rate"))
        await ledger.settle(call("1"), {"tokens": 25, "microusd": 0, "calls": 4}, now_us=2)
        found = await ledger.totals("acme", [ACME, "money", "rules.x"], now_us=2)
        assert found == {ACME: Total(25, 0), "rules.x": Total(3, 0)}
        assert await take(ledger, "2", draw(75)) == Reserved()

    async def test_more_than_was_reserved_counts_in_full(self, ledger: Ledger) -> None:
        await take(ledger, "1", draw(60))
        await ledger.settle(call("1"), {"tokens": 130}, now_us=2)
        assert await take(ledger, "2", draw(1)) == Refused(ACME, 130, 100, 1)

    async def test_of_what_nobody_knows_all_stays_counted(self, ledger: Ledger) -> None:
        await take(ledger, "1", draw(60))
        await ledger.settle(call("1"), None, now_us=2)
        assert await total(ledger) == Total(60, 0)
        assert await ledger.overdue(now_us=HOUR_US * 99, again_us=HOUR_US * 100) == []

    async def test_only_the_first_settlement_changes_anything(self, ledger: Ledger) -> None:
        await take(ledger, "1", draw(60))
        for amount in (25, 25, 40, 0):
            await ledger.settle(call("1"), {"tokens": amount}, now_us=2)
        await ledger.release(call("1"))
        assert await take(ledger, "1", draw(60)) == Reserved()
        assert await total(ledger) == Total(25, 0)

    async def test_settling_or_releasing_what_was_never_reserved_changes_nothing(self, ledger: Ledger) -> None:
        await take(ledger, "1", draw(60))
        await ledger.settle(call("2"), {"tokens": 5}, now_us=2)
        await ledger.release(call("2"))
        assert await total(ledger) == Total(60, 60)

    async def test_what_is_released_is_there_for_others(self, ledger: Ledger) -> None:
        await take(ledger, "1", draw(60))
        for _ in range(2):
            await ledger.release(call("1"))
        assert await total(ledger) is None
        assert await take(ledger, "2", draw(100)) == Reserved()

    async def test_it_counts_where_it_was_reserved(self, ledger: Ledger) -> None:
        await take(ledger, "1", draw(60, "tokens.monday", ends_us=10), now_us=9)
        await take(ledger, "2", draw(60, "tokens.tuesday"), now_us=11)
        await ledger.settle(call("1"), {"tokens": 50}, now_us=12)
        found = await ledger.totals("acme", ["tokens.monday", "tokens.tuesday"], now_us=12)
        assert found == {"tokens.monday": Total(50, 0), "tokens.tuesday": Total(60, 60)}

    # Warnings

    async def test_who_first_reaches_the_soft_limit_is_warned_and_nobody_else(self, ledger: Ledger) -> None:
        assert await take(ledger, "1", draw(79, soft=80)) == Reserved()
        assert await take(ledger, "2", draw(1, soft=80), draw(9, "b", soft=80)) == Reserved((ACME,))
        assert await take(ledger, "3", draw(1, soft=80)) == Reserved()
        await ledger.settle(call("1"), {"tokens": 0}, now_us=2)
        assert await take(ledger, "4", draw(90, soft=80)) == Reserved()

    async def test_whoever_was_warned_is_told_again_when_it_reserves_again(self, ledger: Ledger) -> None:
        for _ in range(2):
            assert await take(ledger, "1", draw(90, soft=80)) == Reserved((ACME,))
        assert await take(ledger, "2", draw(1, soft=80)) == Reserved()

    async def test_in_a_window_there_may_be_another_warning_after_a_whole_one(self, ledger: Ledger) -> None:
        heavy = draw(90, soft=80, window_us=HOUR_US)
        assert await take(ledger, "1", heavy, now_us=HOUR_US) == Reserved((ACME,))
        assert await take(ledger, "2", draw(1, soft=80, window_us=HOUR_US), now_us=2 * HOUR_US - 1) == Reserved()
        assert await take(ledger, "3", heavy, now_us=2 * HOUR_US) == Reserved((ACME,))

    # Windows

    async def test_a_window_slides(self, ledger: Ledger) -> None:
        for number in range(4):
            assert await take(ledger, str(number), window(25), now_us=number * HOUR_US // 4) == Reserved()
        assert await take(ledger, "x", window(1), now_us=HOUR_US - 1) == Refused(ACME, 100, 100, 1)
        assert await take(ledger, "x", window(25), now_us=HOUR_US) == Reserved()
        assert await take(ledger, "y", window(1), now_us=HOUR_US * 5 // 4 - 1) == Refused(ACME, 100, 100, 1)
        assert await total(ledger, now_us=HOUR_US * 5 // 4) == Total(75, 75)

    async def test_a_window_is_never_exceeded_wherever_it_begins(self, ledger: Ledger) -> None:
        taken: list[int] = []
        for number in range(400):
            now_us = number * 37_000_111
            if await take(ledger, str(number), window(9), now_us=now_us) == Reserved():
                taken.append(now_us)
        for begin_us in taken:
            assert 9 * sum(begin_us <= moment < begin_us + HOUR_US for moment in taken) <= 100
        assert len(taken) >= 0.95 * 400 * 37_000_111 / HOUR_US * (100 // 9)

    async def test_what_has_left_its_window_is_settled_without_a_trace(self, ledger: Ledger) -> None:
        await take(ledger, "1", window(60), now_us=0)
        await take(ledger, "2", window(60), now_us=2 * HOUR_US)
        await ledger.settle(call("1"), {"tokens": 99}, now_us=2 * HOUR_US)
        assert await total(ledger, now_us=2 * HOUR_US) == Total(60, 60)

    # Crashes

    async def test_what_was_reserved_and_never_settled_stays_counted_and_is_overdue(self, open_ledger: Opener) -> None:
        async with open_ledger() as dying:
            await dying.reserve(call("1"), [draw(60)], now_us=1, until_us=50)
            await dying.reserve(call("2"), [draw(7)], now_us=1, until_us=40)
            await dying.reserve(call("3"), [draw(7)], now_us=1, until_us=90)
            await dying.reserve(call("4"), [draw(7)], now_us=1, until_us=45)
            await dying.settle(call("4"), {"tokens": 7}, now_us=2)
            async with open_ledger() as ledger:
                assert await ledger.overdue(now_us=39, again_us=100) == []
                assert await ledger.overdue(now_us=50, again_us=100, limit=1) == [call("2")]
                assert await ledger.overdue(now_us=50, again_us=100) == [call("1")]
                assert await ledger.overdue(now_us=99, again_us=300) == [call("3")]
                assert await ledger.overdue(now_us=100, again_us=200) == [call("1"), call("2")]
                assert await total(ledger, now_us=HOUR_US) == Total(81, 74)

    # Tenants

    async def test_tenants_do_not_cross(self, ledger: Ledger) -> None:
        for tenant in ("acme", "rival"):
            mine = draw(100, "tokens", tenant=tenant)
            assert await ledger.reserve(call("1", tenant), [mine], now_us=1, until_us=9) == Reserved()
        await ledger.settle(call("1", "rival"), {"tokens": 3}, now_us=1)
        assert await ledger.totals("acme", ["tokens"], now_us=1) == {"tokens": Total(100, 100)}
        assert await ledger.totals("rival", ["tokens"], now_us=1) == {"tokens": Total(3, 0)}
        assert await ledger.accounts("other") == []

    async def test_what_is_for_all_tenants_is_one_account(self, ledger: Ledger) -> None:
        for tenant, expected in (("acme", Reserved()), ("rival", Refused("fleet", 60, 100, 60))):
            fleet = draw(60, "fleet", tenant=FLEET)
            assert await ledger.reserve(call("1", tenant), [fleet], now_us=1, until_us=9) == expected

    # Looking

    async def test_accounts_are_listed_in_order_and_by_the_page(self, ledger: Ledger) -> None:
        await take(ledger, "1", *(draw(1, name) for name in ("b.2", "b.10", "a", "b.é", "b.Z", "c")))
        await take(ledger, "2", draw(101, "b.0"))
        assert await ledger.accounts("acme") == ["a", "b.10", "b.2", "b.Z", "b.é", "c"]
        assert await ledger.accounts("acme", prefix="b.", after="b.10", limit=2) == ["b.2", "b.Z"]

    # Bounds

    async def test_what_is_over_is_forgotten_and_what_is_not_stays(self, ledger: Ledger) -> None:
        await take(ledger, "1", draw(60), draw(5, "day", ends_us=10), draw(6, "open", ends_us=10))
        await ledger.settle(call("1"), {"tokens": 60}, now_us=2)
        await take(ledger, "2", draw(1, "open", ends_us=10), window(3, "hour"))
        before_us = max(KEPT_SETTLED_US + 2, KEPT_ENDED_US + 10) - 1
        await ledger.forget(now_us=before_us)
        assert await ledger.accounts("acme") == ["day", "hour", "open", ACME]
        await ledger.forget(now_us=before_us + 2 * HOUR_US)
        assert await ledger.accounts("acme") == ["hour", "open", ACME]
        await ledger.settle(call("2"), {"tokens": 1}, now_us=before_us)
        await ledger.forget(now_us=before_us + 2 * HOUR_US)
        assert await ledger.accounts("acme") == [ACME]
        assert await total(ledger) == Total(60, 0)

    # All at once

    async def test_concurrent_calls_never_exceed_and_leave_nothing_over(self, open_ledger: Opener) -> None:
        async with open_ledger() as one, open_ledger() as two:

            async def spend(number: int) -> int:
                ledger, mine = (one, two)[number % 2], call(str(number))
                own = draw(1, f"agents.{number % 3}", most=17)
                draws = [draw(9), own] if number % 4 else [own, draw(9)]
                while True:
                    if await ledger.reserve(mine, draws, now_us=number, until_us=HOUR_US) == Reserved():
                        break
                    await asyncio.sleep(0)
                found = await ledger.totals("acme", [ACME], now_us=number)
                assert found[ACME].used <= 100
                await asyncio.sleep(0)
                if number % 5 == 0:
                    await ledger.release(mine)
                    return 0
                await ledger.settle(mine, {"tokens": 1}, now_us=number)
                return 1

            async with asyncio.timeout(60):
                spent = sum(await asyncio.gather(*(spend(number) for number in range(60))))
            found = await one.totals("acme", [ACME, "agents.0", "agents.1", "agents.2"], now_us=100)
            assert found[ACME] == Total(spent, 0)
            assert sum(found[f"agents.{number}"].used for number in range(3)) == spent
            assert spent == 60 * 4 // 5
            assert await take(one, "last", draw(100 - spent)) == Reserved()
            assert await take(two, "more", draw(1)) == Refused(ACME, 100, 100, 1)

    async def test_the_same_call_reserved_and_settled_by_many_counts_once(self, open_ledger: Opener) -> None:
        async with open_ledger() as one, open_ledger() as two:
            both = (one, two)
            async with asyncio.timeout(60):
                await asyncio.gather(*(take(both[n % 2], "1", draw(60), draw(1, "b")) for n in range(10)))
                assert await total(one) == Total(60, 60)
                await asyncio.gather(*(both[n % 2].settle(call("1"), {"tokens": 7}, now_us=2) for n in range(10)))
            assert await total(two) == Total(7, 0)

    # Several classes inherit this test, which is what `differing_executors` warns of and what is meant here.
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    @given(steps=st.lists(st.deferred(lambda: A_STEP), max_size=30))
    async def test_it_does_what_a_naive_one_does(self, steps: list["Step"]) -> None:
        with tempfile.TemporaryDirectory() as directory:
            naive, now_us = Naive(), 0
            async with self.storage(Path(directory))() as ledger:
                for after_us, method, arguments in steps:
                    now_us += after_us
                    found = await getattr(ledger, method)(**arguments(now_us))
                    assert found == getattr(naive, method)(**arguments(now_us))
                    for tenant in ("x", FLEET):
                        names = sorted({one.account for one in DRAWS})
                        found = await ledger.totals(tenant, names, now_us=now_us)
                        assert found == naive.totals(tenant, names, now_us=now_us)


async def take(ledger: Ledger, name: str, *draws: Draw, now_us: int = 1) -> Reserved | Refused:
    """Reserve for a call of this name."""
    return await ledger.reserve(call(name), draws, now_us=now_us, until_us=now_us + HOUR_US)


async def total(ledger: Ledger, *, now_us: int = 1) -> Total | None:
    """What the account of the tests has."""
    return (await ledger.totals("acme", [ACME], now_us=now_us)).get(ACME)


def window(amount: int, account: str = ACME) -> Draw:
    """A draw on an account that slides by the hour."""
    return draw(amount, account, window_us=HOUR_US)


class Item(NamedTuple):
    """One draw in the naive ledger: which, when, how much of it counts, and whether it may still change."""

    holder: Holder
    draw: Draw
    at_us: int
    amount: int
    is_open: bool
    is_warned: bool


class Naive:
    """What a ledger does, told by a list of everything that ever happened."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.warned: list[tuple[Holder, Draw, int]] = []
        self.settled: set[Holder] = set()

    def reserve(self, holder: Holder, draws: Sequence[Draw], *, now_us: int, until_us: int) -> Reserved | Refused:
        if holder in self.settled:
            return Reserved()
        others = [item for item in self.items if item.holder != holder]
        warnings: list[str] = []
        for draw in draws:
            used = self.used(others, draw.tenant, draw.account, now_us)
            if draw.most is not None and used + draw.amount > draw.most:
                return Refused(draw.account, used, draw.most, draw.amount)
            if draw.soft is not None and used + draw.amount >= draw.soft and not self.is_warned(holder, draw, now_us):
                warnings.append(draw.account)
        self.items = others
        for draw in draws:
            is_warned = draw.account in warnings
            self.items.append(Item(holder, draw, now_us, draw.amount, True, is_warned))
            if is_warned:
                self.warned.append((holder, draw, now_us))
        return Reserved(tuple(warnings))

    def settle(self, holder: Holder, used: Mapping[Unit, int] | None, *, now_us: int) -> None:
        if not any(item.holder == holder and item.is_open for item in self.items):
            return
        self.settled.add(holder)
        amounts: dict[str, int] = dict((used or {}).items())
        self.items = [
            item._replace(amount=amounts.get(item.draw.unit, item.amount), is_open=False)
            if item.holder == holder
            else item
            for item in self.items
        ]

    def release(self, holder: Holder) -> None:
        if holder not in self.settled:
            self.items = [item for item in self.items if item.holder != holder]

    def totals(self, tenant: str, accounts: Sequence[str], *, now_us: int) -> dict[str, Total]:
        found = {}
        for name in accounts:
            used = self.used(self.items, tenant, name, now_us)
            open_items = [
                item for item in self.items if item.is_open and (item.draw.tenant, item.draw.account) == (tenant, name)
            ]
            found[name] = Total(used, min(used, sum(item.amount for item in open_items)))
        return {name: one for name, one in found.items() if one.used}

    def used(self, items: list[Item], tenant: str, account: str, now_us: int) -> int:
        return sum(
            item.amount
            for item in items
            if (item.draw.tenant, item.draw.account) == (tenant, account) and self.counts(item.draw, item.at_us, now_us)
        )

    def counts(self, draw: Draw, at_us: int, now_us: int) -> bool:
        if not draw.window_us:
            return True
        step_us = max(1, draw.window_us // WINDOW_STEPS)
        return (at_us + step_us - 1) // step_us * step_us + draw.window_us > now_us

    def is_warned(self, holder: Holder, draw: Draw, now_us: int) -> bool:
        """Whether somebody was, and it was not this call with what it holds now."""
        is_own = any(
            item.holder == holder and item.is_warned and item.draw.account == draw.account for item in self.items
        )
        return not is_own and any(
            warned.account == draw.account and self.counts(warned, at_us, now_us) for _, warned, at_us in self.warned
        )


Step = tuple[int, str, Callable[[int], dict[str, Any]]]
"""How much later, a method of the ledger, and what it is called with at a moment."""

SOME_HOLDER = st.sampled_from(
    [Holder("x", "s", "1"), Holder("x", "s", "2"), Holder("x", "é", "1"), Holder("x", "S", "3")]
)
DRAWS = [
    draw(amount, account, tenant=tenant, most=most, soft=soft, window_us=window_us, unit=unit)
    for account, tenant, most, soft, window_us, unit in (
        ("a", "x", 10, 6, 0, "tokens"),
        ("é", "x", None, 5, 0, "microusd"),
        ("w", "x", 8, 4, 5000, "tokens"),
        ("W", FLEET, 6, None, 3, "rate"),
    )
    for amount in (1, 3, 7)
]
SOME_DRAWS = st.lists(st.sampled_from(DRAWS), max_size=4, unique_by=lambda one: one.account)
SOME_AMOUNTS = st.none() | st.dictionaries(st.sampled_from(["tokens", "microusd", "calls"]), st.integers(0, 12))
LATER_US = st.integers(0, 3) | st.sampled_from([0, 10, 2500, 4995, 5000, 5005])

A_STEP: st.SearchStrategy[Step] = st.one_of(
    st.builds(
        lambda after_us, holder, draws: (
            after_us,
            "reserve",
            lambda now_us: {"holder": holder, "draws": draws, "now_us": now_us, "until_us": now_us + 9},
        ),
        LATER_US,
        SOME_HOLDER,
        SOME_DRAWS,
    ),
    st.builds(
        lambda after_us, holder, used: (
            after_us,
            "settle",
            lambda now_us: {"holder": holder, "used": used, "now_us": now_us},
        ),
        LATER_US,
        SOME_HOLDER,
        SOME_AMOUNTS,
    ),
    st.builds(lambda after_us, holder: (after_us, "release", lambda now_us: {"holder": holder}), LATER_US, SOME_HOLDER),
)


def shared(ledger: Ledger) -> Opener:
    """An opener for a storage that is one object."""

    @asynccontextmanager
    async def open_ledger() -> AsyncIterator[Ledger]:
        yield ledger

    return open_ledger
