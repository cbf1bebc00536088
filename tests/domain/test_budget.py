"""Budgets as pure values: which accounts, for which period, how much at worst."""

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.domain.budget import (
    AMOUNT_MAX,
    FLEET,
    WINDOW_STEPS,
    Amounts,
    Budget,
    Budgets,
    Draw,
    Left,
    Refused,
    Reserved,
    Seen,
    Total,
    Who,
    counted,
    draws,
    judge,
    left,
    rate,
    settled,
    shown,
    worst_of_model,
    worst_of_tool,
)
from ostler.domain.model import Price, Usage, cost_microusd

WHO = Who("acme", "ses_2", "ses_1", "coder", "ann")
HOUR_US = 3_600_000_000


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000_000)


def budget(name: str, most: int = 100, **more) -> Budget:
    return Budget(name=name, most=most, **({"scope": "tenant", "unit": "tokens"} | more))


ALL = Budgets(
    tenants={"acme": (budget("tokens_per_day", period="day"),), "*": (budget("tokens"),)},
    agents={"*": (budget("usd_per_month", scope="agent", unit="microusd", period="month"),)},
    principals={"bob": (budget("tokens", scope="principal"),)},
    fleet=(budget("calls_per_hour", scope="fleet", unit="calls", period="hour"),),
    trees=(budget("steps", scope="tree", unit="steps"),),
    sessions=(budget("seconds", scope="session", unit="microseconds"),),
)


def test_a_call_draws_on_an_account_of_each_scope_and_period():
    found = ALL.accounts(WHO, at("2026-03-31T23:59:59.999"))
    assert [(one.tenant, one.name) for one in found] == [
        ("acme", "sessions.ses_2.seconds"),
        ("acme", "trees.ses_1.steps"),
        ("acme", "agents.coder.usd_per_month.2026-03"),
        ("acme", "tenants.acme.tokens_per_day.2026-03-31"),
        (FLEET, "fleet.calls_per_hour.2026-03-31T23"),
    ]
    assert [one.ends_us for one in found] == [None, None, *[at("2026-04-01T00:00:00")] * 3]


@pytest.mark.parametrize(
    ("period", "moment", "name", "end"),
    [
        ("hour", "2026-12-31T23:00:00", "2026-12-31T23", "2027-01-01T00:00:00"),
        ("day", "2028-02-28T12:00:00", "2028-02-28", "2028-02-29T00:00:00"),
        ("day", "2028-02-29T00:00:00", "2028-02-29", "2028-03-01T00:00:00"),
        ("month", "2026-12-01T00:00:00", "2026-12", "2027-01-01T00:00:00"),
        ("month", "2026-01-31T10:00:00", "2026-01", "2026-02-01T00:00:00"),
    ],
)
def test_periods_are_those_of_the_calendar_in_utc(period, moment, name, end):
    (found,) = Budgets(fleet=(budget("x", scope="fleet", period=period),)).accounts(WHO, at(moment))
    assert (found.name, found.ends_us) == (f"fleet.x.{name}", at(end))


@given(at_us=st.integers(0, at("2200-01-01T00:00:00")), period=st.sampled_from(["hour", "day", "month"]))
def test_a_period_ends_where_the_next_one_begins(at_us, period):
    budgets = Budgets(fleet=(budget("x", scope="fleet", period=period),))
    (now,) = budgets.accounts(WHO, at_us)
    assert now.ends_us is not None
    (last,) = budgets.accounts(WHO, now.ends_us - 1)
    (following,) = budgets.accounts(WHO, now.ends_us)
    assert at_us < now.ends_us
    assert last == now
    assert following.name > now.name


def test_what_is_not_drawn_on_is_not_asked():
    accounts = ALL.accounts(WHO, 0)
    assert {draw.unit for draw in draws(accounts, worst_of_tool(2.0))} == {"calls", "microseconds"}
    assert {draw.unit for draw in draws(accounts, worst_of_model(10, 5, None, 1.0))} == {
        "tokens",
        "steps",
        "microseconds",
    }


def test_a_lifted_budget_counts_and_refuses_nothing():
    accounts = ALL.accounts(WHO, 0)
    name = "tenants.acme.tokens_per_day.1970-01-01"
    (draw,) = [draw for draw in draws(accounts, Amounts(tokens=500), lifted={name}) if draw.account == name]
    assert (draw.amount, draw.most) == (500, None)


def test_the_worst_case_is_the_dearest_input_and_a_reply_of_full_length():
    price = Price(input_microusd=3_000_000, output_microusd=15_000_000, cache_write_microusd=3_750_000)
    worst = worst_of_model(1_000, 500, price, 60.0)
    assert worst == Amounts(tokens=1_500, microusd=3_750 + 7_500, steps=1, microseconds=60_000_000)


@given(
    usage=st.builds(Usage, *[st.integers(0, 10**6)] * 4),
    price=st.builds(Price, *[st.integers(0, 10**8)] * 2, *[st.none() | st.integers(0, 10**8)] * 2),
)
def test_no_call_costs_more_than_its_worst_case(usage, price):
    given_tokens = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    worst = worst_of_model(given_tokens, usage.output_tokens, price, 60.0)
    assert usage.total_tokens <= worst.tokens
    assert worst.microusd is not None
    assert cost_microusd(usage, price) <= worst.microusd


def test_an_unknown_price_is_refused_where_money_counts_unless_it_is_let_through():
    unpriced = worst_of_model(10, 5, None, 1.0)
    (gap,) = ALL.gaps(WHO, unpriced, 0)
    assert str(gap).startswith("the budget agents.coder.usd_per_month.1970-01 counts money, and the price")
    allowed = Budgets(fleet=(budget("usd", unit="microusd", unpriced="allow"),))
    assert (allowed.gaps(WHO, unpriced, 0), draws(allowed.accounts(WHO, 0), unpriced)) == ((), ())


def test_a_call_that_is_too_large_is_refused_whatever_others_use():
    budgets = Budgets(calls=(budget("tokens", 1_000, scope="call"), budget("usd", scope="call", unit="microusd")))
    assert budgets.gaps(WHO, Amounts(tokens=1_000), 0) == ()
    (gap,) = budgets.gaps(WHO, Amounts(tokens=1_001), 0)
    assert (
        str(gap) == "the budget calls.tokens has 1,000 tokens left of 1,000 tokens, and this call may use 1,001 tokens"
    )
    assert budgets.accounts(WHO, 0) == ()


def test_who_has_no_budget_draws_on_nothing():
    assert not Budgets()
    assert Budgets(principals={"bob": (budget("tokens"),)}).accounts(WHO, 0) == ()


def test_the_tightest_budget_says_what_is_left():
    wide, narrow = budget("tokens"), budget("tokens_per_hour", 60, period="hour")
    agents = {"coder": (budget("calls", unit="calls"),)}
    fleet = (budget("usd", scope="fleet", unit="microusd"),)
    accounts = Budgets(tenants={"*": (wide, narrow)}, agents=agents, fleet=fleet).accounts(WHO, 0)
    assert left(accounts, {}) == Left(60, None, 100)
    totals = {"tenants.acme.tokens": Total(70, 0), "agents.coder.calls": Total(130, 0)}
    assert left(accounts, totals) == Left(30, None, 0)


def draw(amount: int, most: int | None, soft: int | None = None, account: str = "a") -> Draw:
    return Draw(tenant="acme", account=account, amount=amount, most=most, soft=soft)


@pytest.mark.parametrize(
    ("used", "amount", "expected"),
    [
        (90, 10, Reserved(("a",))),
        (90, 11, Refused("a", 90, 100, 11)),
        (69, 10, Reserved()),
        (70, 10, Reserved(("a",))),
        (0, 101, Refused("a", 0, 100, 101)),
    ],
)
def test_the_limit_may_be_reached_and_the_soft_one_warns_when_it_is(used, amount, expected):
    assert judge([draw(amount, 100, 80)], [Seen(used, False)]) == expected


def test_nobody_is_warned_a_second_time_and_the_first_lack_is_told():
    assert judge([draw(90, 100, 80)], [Seen(0, True)]) == Reserved()
    several = [draw(1, None), draw(2, 1, account="b"), draw(2, 1, account="c")]
    assert judge(several, [Seen(5, False)] * 3) == Refused("b", 5, 1, 2)


@given(now_us=st.integers(0, 10**16), window_us=st.integers(1, 10**13))
def test_what_is_in_a_window_never_leaves_it_too_early_and_hardly_too_late(now_us, window_us):
    sliding = Draw(tenant="", account="", amount=1, most=1, window_us=window_us)
    late_us = counted(sliding, now_us) - (now_us + window_us)
    assert 0 <= late_us <= max(0, window_us // WINDOW_STEPS)


@given(amount=st.floats(allow_nan=False), most=st.floats(allow_nan=False))
def test_an_amount_of_a_rule_is_never_counted_as_less(amount, most):
    found = rate("x", "acme", amount=amount, most=most, window_us=1)
    if 0 <= amount <= 1e6:
        assert found.amount == math.ceil(amount * 1e6)
    assert 0 <= found.amount <= AMOUNT_MAX
    assert found.most is not None
    assert 0 <= found.most < AMOUNT_MAX


def test_what_nobody_knows_stays_as_it_was_reserved():
    assert settled("tokens", 7, None) == settled("tokens", 7, {"calls": 1}) == 7
    assert (settled("tokens", 7, {"tokens": 3}), settled("tokens", 7, {"tokens": -3})) == (3, 0)


@pytest.mark.parametrize(
    ("amount", "unit", "text"),
    [
        (1_250_000, "microusd", "1.25 USD"),
        (20_000_000, "microusd", "20 USD"),
        (100_000_000, "microusd", "100 USD"),
        (5, "microusd", "0.000005 USD"),
        (0, "microusd", "0 USD"),
        (90_500_000, "microseconds", "90.5 s"),
        (1_000_000, "tokens", "1,000,000 tokens"),
        (2_500_000, "rate", "2.5"),
    ],
)
def test_amounts_are_shown_as_people_write_them(amount, unit, text):
    assert shown(amount, unit) == text
