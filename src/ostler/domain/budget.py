"""Budgets: what may be used within a scope and a period, and what one call draws on them.

A call reserves the most that it can use before it begins, and settles what it has used after its end. Amounts are whole
numbers of their unit: tokens, micro-dollars, calls (of tools), steps (calls of models) and microseconds.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple, assert_never, cast, get_args

import msgspec

from ostler.domain.model import Price
from ostler.domain.scheduling import EVERYONE

Scope = Literal["call", "session", "tree", "agent", "principal", "tenant", "fleet"]
Unit = Literal["tokens", "microusd", "calls", "steps", "microseconds", "rate"]
"""`rate` is whatever a rule limits, in millionths; budgets have the others."""
Period = Literal["hour", "day", "month"]

FLEET = ""
"""The tenant of accounts that all tenants draw on."""
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
AMOUNT_MAX = 2**53
"""No amount is counted as more, so that sums of them fit wherever they are kept."""
FOREVER_US = 2**62
WINDOW_STEPS = 1000
"""A window slides in so many steps; what is in it leaves at the next step, never too early."""
KEPT_SETTLED_US = DAY_US
"""How long it is remembered that a call was settled."""
KEPT_ENDED_US = 40 * DAY_US
"""How long accounts of a period that is over can be looked at."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """At most `most` of a unit within a scope, in each `period` (None: ever, or as long as the scope lasts).

    `name` is what it is called within its table of the settings (`usd_per_day`). A period is one of the calendar (UTC),
    or any stretch of this length, in microseconds. From `soft` on a warning is given, once in a period. What would go
    beyond `most` is refused (`stop`), or a person is asked (`ask`). A call whose price is not known is refused where
    money counts, unless it is to be let through uncounted (`unpriced` "allow").
    """

    name: str
    scope: Scope
    unit: Unit
    most: int
    soft: int | None = None
    period: Period | int | None = None
    then: Literal["stop", "ask"] = "stop"
    unpriced: Literal["refuse", "allow"] = "refuse"


class Who(NamedTuple):
    """Whose call it is; `root` is the session that the tree of `session` began with."""

    tenant: str
    session: str
    root: str
    agent: str
    principal: str


class Amounts(msgspec.Struct, frozen=True, gc=False):
    """How much of each unit. `microusd` None is money of which nobody knows how much."""

    tokens: int = 0
    microusd: int | None = 0
    calls: int = 0
    steps: int = 0
    microseconds: int = 0

    def known(self) -> dict[Unit, int]:
        """Those that are known, by unit."""
        return {unit: amount for unit in get_args(Unit) if (amount := getattr(self, unit, None)) is not None}


class Holder(NamedTuple):
    """The call that a reservation is for."""

    tenant: str
    session: str
    call: str


class Draw(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a call takes from one account. `most` None counts it without a limit.

    With `window_us`, what counts is what was reserved within that time. `ends_us` is when nothing draws on the account
    any more (None: never).
    """

    tenant: str
    account: str
    amount: int
    most: int | None
    unit: Unit = "rate"
    soft: int | None = None
    window_us: int = 0
    ends_us: int | None = None


class Seen(NamedTuple):
    """What an account knows of others: how much they use, and whether it was warned of before."""

    used: int
    is_warned: bool


class Reserved(NamedTuple):
    """All of it is there. `warnings` are the accounts that this call was the first to take to their soft limit."""

    warnings: tuple[str, ...] = ()


class Refused(NamedTuple):
    """Nothing was reserved: of `most`, this account has `used` already, and the call might take `amount`."""

    account: str
    used: int
    most: int
    amount: int


class Total(NamedTuple):
    """What an account has: `used` with all that is `reserved` and not yet settled."""

    used: int
    reserved: int


def judge(draws: Sequence[Draw], seen: Sequence[Seen]) -> Reserved | Refused:
    """Whether everything is there, given what others use; what to warn of, or the first account that lacks it."""
    warnings = []
    for draw, found in zip(draws, seen, strict=True):
        after = found.used + draw.amount
        if draw.most is not None and after > draw.most:
            return Refused(draw.account, found.used, draw.most, draw.amount)
        if draw.soft is not None and after >= draw.soft and not found.is_warned:
            warnings.append(draw.account)
    return Reserved(tuple(warnings))


def _leaves_us(now_us: int, window_us: int) -> int:
    """When something reserved now leaves a window: at the first step that is not too early."""
    step_us = max(1, window_us // WINDOW_STEPS)
    return -(-now_us // step_us) * step_us + window_us


def counted(draw: Draw, now_us: int) -> int:
    """Until when what is drawn now counts, and whoever draws after it is warned no more."""
    return _leaves_us(now_us, draw.window_us) if draw.window_us else FOREVER_US


def settled(unit: str, reserved: int, used: Mapping[Unit, int] | None) -> int:
    """What counts of an amount of this unit once it is settled."""
    amount = reserved if used is None else used.get(cast("Unit", unit), reserved)
    return min(max(0, amount), AMOUNT_MAX)


class Gap(msgspec.Struct, frozen=True):
    """Why a budget does not let a call pass: it is used up (`used` of `most`), or the price is not known (None).

    The text does not say what all tenants together have used: no tenant is to learn of the others.
    """

    account: str
    budget: Budget
    amount: int
    used: int | None

    def __str__(self) -> str:
        if self.used is None:
            return f"the budget {self.account} counts money, and the price of this model is not known"
        most, unit = self.budget.most, self.budget.unit
        if self.budget.scope == "fleet":
            return f"the budget {self.account} has no room for this call, which may use {shown(self.amount, unit)}"
        return (
            f"the budget {self.account} has {shown(max(0, most - self.used), unit)} left of {shown(most, unit)}, "
            f"and this call may use {shown(self.amount, unit)}"
        )


class Account(NamedTuple):
    """One budget as it holds for one subject at one moment: the account that it is kept in."""

    tenant: str
    name: str
    budget: Budget
    ends_us: int | None


class Left(NamedTuple):
    """What the tightest budget of a tenant leaves; None where there is none. What all tenants share is not in it."""

    tokens: int | None = None
    microusd: int | None = None
    calls: int | None = None


class Budgets(msgspec.Struct, frozen=True):
    """All budgets. Tables of names have `*` for all others; those of agents and principals hold in each tenant."""

    tenants: Mapping[str, tuple[Budget, ...]] = {}
    agents: Mapping[str, tuple[Budget, ...]] = {}
    principals: Mapping[str, tuple[Budget, ...]] = {}
    fleet: tuple[Budget, ...] = ()
    trees: tuple[Budget, ...] = ()
    sessions: tuple[Budget, ...] = ()
    calls: tuple[Budget, ...] = ()

    def __bool__(self) -> bool:
        return any(getattr(self, field) for field in self.__struct_fields__)

    def accounts(self, who: Who, at_us: int) -> tuple[Account, ...]:
        """What the calls of this session draw on at this moment, from the narrowest scope to the widest."""
        found: list[Account] = []
        for place, tenant, budgets in (
            (f"sessions.{who.session}", who.tenant, self.sessions),
            (f"trees.{who.root}", who.tenant, self.trees),
            (f"agents.{who.agent}", who.tenant, budgets_of(self.agents, who.agent)),
            (f"principals.{who.principal}", who.tenant, budgets_of(self.principals, who.principal)),
            (f"tenants.{who.tenant}", who.tenant, budgets_of(self.tenants, who.tenant)),
            ("fleet", FLEET, self.fleet),
        ):
            found += [account(place, tenant, budget, at_us) for budget in budgets]
        return tuple(found)

    def gaps(self, who: Who, worst: Amounts, at_us: int) -> tuple[Gap, ...]:
        """Why this call may not begin, whatever others have used: it is too large, or its price is not known."""
        single = [Account(who.tenant, f"calls.{budget.name}", budget, None) for budget in self.calls]
        gaps = []
        for one in (*single, *self.accounts(who, at_us)):
            amount: int | None = getattr(worst, one.budget.unit)
            if amount is None and one.budget.unpriced == "refuse":
                gaps.append(Gap(one.name, one.budget, 0, None))
            elif one.budget.scope == "call" and amount is not None and amount > one.budget.most:
                gaps.append(Gap(one.name, one.budget, amount, 0))
        return tuple(gaps)


def left(accounts: Sequence[Account], totals: Mapping[str, Total]) -> Left:
    """What the tightest of these accounts leaves, of those that are the tenant's own; totals are by name."""
    found: dict[str, int] = {}
    for one in accounts:
        if one.tenant == FLEET:
            continue
        used = totals.get(one.name, Total(0, 0)).used
        rest = max(0, one.budget.most - used)
        found[one.budget.unit] = min(found.get(one.budget.unit, rest), rest)
    return Left(found.get("tokens"), found.get("microusd"), found.get("calls"))


def draws(accounts: Sequence[Account], worst: Amounts, *, lifted: Collection[str] = ()) -> tuple[Draw, ...]:
    """What a call reserves. Accounts of these names (`lifted`) count it, and refuse nothing."""
    found = []
    for one in accounts:
        budget, amount = one.budget, getattr(worst, one.budget.unit)
        if amount:
            found.append(
                Draw(
                    tenant=one.tenant,
                    account=one.name,
                    amount=min(amount, AMOUNT_MAX),
                    most=None if one.name in lifted else budget.most,
                    unit=budget.unit,
                    soft=budget.soft,
                    window_us=budget.period if isinstance(budget.period, int) else 0,
                    ends_us=one.ends_us,
                )
            )
    return tuple(found)


def budgets_of(tables: Mapping[str, tuple[Budget, ...]], name: str) -> tuple[Budget, ...]:
    """What a table of names has for this one, or else for all others."""
    return tables.get(name) or tables.get(EVERYONE, ())


def account(place: str, tenant: str, budget: Budget, at_us: int) -> Account:
    """The account of a budget at a moment: `tenants.acme.usd_per_day.2026-03-31`, of a new name in each period."""
    begin, end = _calendar(budget.period, at_us)
    return Account(tenant, f"{place}.{budget.name}{begin and '.'}{begin}", budget, end)


def worst_of_model(input_tokens: int, output_tokens: int, price: Price | None, timeout_s: float) -> Amounts:
    """The most that a call of a model can use: its input at the dearest rate there is, and a reply of full length."""
    cost = None
    if price is not None:
        dearest = max(price.input_microusd, price.cache_read_microusd or 0, price.cache_write_microusd or 0)
        cost = -(-(input_tokens * dearest + output_tokens * price.output_microusd) // 1_000_000)
    return Amounts(tokens=input_tokens + output_tokens, microusd=cost, steps=1, microseconds=_us(timeout_s))


def worst_of_tool(timeout_s: float) -> Amounts:
    """The most that a call of a tool can use."""
    return Amounts(calls=1, microseconds=_us(timeout_s))


def rate(name: str, tenant: str, *, amount: float, most: float, window_us: int) -> Draw:
    """What a call takes of a limit of a rule: at most so much of anything within a window. Kept in millionths."""
    return Draw(
        tenant=tenant,
        account=f"rules.{name}",
        amount=math.ceil(min(max(amount, 0) * 1e6, AMOUNT_MAX)),
        most=math.floor(min(max(most, 0) * 1e6, AMOUNT_MAX - 1)),
        window_us=window_us,
    )


def shown(amount: int, unit: Unit) -> str:
    """An amount as people write it."""
    match unit:
        case "microusd":
            return f"{amount / 1e6:.6f}".rstrip("0").rstrip(".") + " USD"
        case "microseconds":
            return f"{amount / 1e6:g} s"
        case "tokens" | "calls" | "steps":
            return f"{amount:,} {unit if amount != 1 else unit.removesuffix('s')}"
        case "rate":
            return f"{amount / 1e6:g}"
        case _:
            assert_never(unit)


def _us(seconds: float) -> int:
    return int(seconds * 1_000_000)


def _calendar(period: Period | int | None, at_us: int) -> tuple[str, int | None]:
    """The name of the calendar's period that a moment is in, and its end; no name and no end without one."""
    if period is None or isinstance(period, int):
        return "", None
    moment = _EPOCH + timedelta(microseconds=at_us)
    match period:
        case "hour":
            return moment.strftime("%Y-%m-%dT%H"), (at_us // HOUR_US + 1) * HOUR_US
        case "day":
            return moment.strftime("%Y-%m-%d"), (at_us // DAY_US + 1) * DAY_US
        case "month":
            first = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
            following = (first + timedelta(days=32)).replace(day=1)
            return moment.strftime("%Y-%m"), (following - _EPOCH) // timedelta(microseconds=1)
        case _:
            assert_never(period)
