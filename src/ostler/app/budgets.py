"""What `ostler.toml` says of budgets, and the ledger that keeps them."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, cast, get_args

import msgspec

from ostler.app.definition import Problem
from ostler.app.plugins import STORES, part
from ostler.domain.budget import DAY_US, HOUR_US, Budget, Budgets, Period, Scope, Unit
from ostler.domain.scheduling import EVERYONE
from ostler.ports import EventStore, Ledger

Positive = Annotated[int, msgspec.Meta(ge=1, le=10**15)]
Amount = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
Then = Literal["stop", "ask"]

NOTHING = "limits nothing; set at least one of: "
_SHARE = re.compile(r"(\d{1,3}(?:\.\d+)?) ?%")
_UNITS: dict[str, Unit] = {
    "usd": "microusd",
    "tokens": "tokens",
    "calls": "calls",
    "steps": "steps",
    "seconds": "microseconds",
}
_SLIDING_US: dict[Period, int] = {"hour": HOUR_US, "day": DAY_US, "month": 30 * DAY_US}


class CallBudget(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[budgets.calls]`: what one call may use at most. `then` and `unpriced` as in `Budget`."""

    usd: Amount | None = None
    tokens: Positive | None = None
    seconds: Amount | None = None
    then: Then = "stop"
    unpriced: Literal["refuse", "allow"] = "refuse"


class TotalBudget(CallBudget, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[budgets.sessions]` and `[budgets.trees]`: what each may use. A warning is given at the share `soft` (`80%`)."""

    calls: Positive | None = None
    steps: Positive | None = None
    soft: str | None = None


class PeriodBudget(TotalBudget, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[budgets.tenants.NAME]`, also of `agents` and `principals`, and `[budgets.fleet]`: ever, or in a period.

    An hour, a day and a month are those of the calendar (UTC); where they are `sliding`, any 60 minutes, 24 hours and
    30 days.
    """

    usd_per_hour: Amount | None = None
    usd_per_day: Amount | None = None
    usd_per_month: Amount | None = None
    tokens_per_hour: Positive | None = None
    tokens_per_day: Positive | None = None
    tokens_per_month: Positive | None = None
    calls_per_hour: Positive | None = None
    calls_per_day: Positive | None = None
    calls_per_month: Positive | None = None
    steps_per_hour: Positive | None = None
    steps_per_day: Positive | None = None
    steps_per_month: Positive | None = None
    seconds_per_hour: Amount | None = None
    seconds_per_day: Amount | None = None
    seconds_per_month: Amount | None = None
    sliding: bool = False


class BudgetTables(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[budgets]`: by the name of a tenant, an agent or a principal; `*` is each of the others.

    What a table leaves out is as the table `*` of its kind says. Agents and principals are counted in each tenant.
    """

    tenants: dict[str, PeriodBudget] = {}
    agents: dict[str, PeriodBudget] = {}
    principals: dict[str, PeriodBudget] = {}
    fleet: PeriodBudget = PeriodBudget()
    trees: TotalBudget = TotalBudget()
    sessions: TotalBudget = TotalBudget()
    calls: CallBudget = CallBudget()

    @property
    def budgets(self) -> Budgets:
        """The budgets that these tables make. They have no problems."""
        return Budgets(
            tenants=_named(self.tenants, "tenant"),
            agents=_named(self.agents, "agent"),
            principals=_named(self.principals, "principal"),
            fleet=_budgets(self.fleet, "fleet"),
            trees=_budgets(self.trees, "tree"),
            sessions=_budgets(self.sessions, "session"),
            calls=_budgets(self.calls, "call"),
        )


def problems_in_budgets(tables: BudgetTables) -> list[Problem]:
    """What is wrong with these tables beyond their form, with the path of each."""
    found: list[Problem] = []
    kinds = {"tenants": tables.tenants, "agents": tables.agents, "principals": tables.principals}
    for kind, named in kinds.items():
        for name, own in named.items():
            at = f"budgets.{kind}.{name}"
            if not name:
                found.append((at, "is nobody's name; `*` stands for all others"))
            found += _problems(own, at, is_wanted=True)
    single: dict[str, CallBudget] = {
        "fleet": tables.fleet,
        "trees": tables.trees,
        "sessions": tables.sessions,
        "calls": tables.calls,
    }
    for kind, table in single.items():
        found += _problems(table, f"budgets.{kind}", is_wanted=table != type(table)())
    return found


def ledger(url: str, store: EventStore) -> Ledger:
    """What keeps budgets beside this store, which was opened at `url`."""
    scheme = url.partition(":")[0]
    if scheme == "memory":
        made: Ledger = part(STORES["memory ledger"])()
    else:
        made = part(STORES["sqlite ledger" if scheme == "sqlite" else "postgres ledger"])(store)
    return made


def _problems(table: CallBudget, at: str, *, is_wanted: bool) -> list[Problem]:
    found = []
    if is_wanted and not _amounts(table):
        found.append((at, NOTHING + ", ".join(name for name in table.__struct_fields__ if _is_amount(name))))
    soft = table.soft if isinstance(table, TotalBudget) else None
    if soft is not None and _share(soft) is None:
        found.append((f"{at}.soft", f'{soft!r} is no share of a budget; write one such as "80%"'))
    return found


def _named(tables: Mapping[str, PeriodBudget], scope: Scope) -> dict[str, tuple[Budget, ...]]:
    """For each name its own budgets, and those of all others for what it leaves out."""
    shared = _by_amount(tables.get(EVERYONE, PeriodBudget()), scope)
    return {name: tuple((shared | _by_amount(table, scope)).values()) for name, table in tables.items()}


def _budgets(table: CallBudget, scope: Scope) -> tuple[Budget, ...]:
    return tuple(_by_amount(table, scope).values())


def _by_amount(table: CallBudget, scope: Scope) -> dict[str, Budget]:
    """The budgets of a table, by what is set in it."""
    share = _share(table.soft) if isinstance(table, TotalBudget) and table.soft is not None else None
    found = {}
    for name, amount in _amounts(table).items():
        unit, _, period = name.partition("_per_")
        most = round(amount * 1e6) if unit in ("usd", "seconds") else int(amount)
        is_sliding = bool(period) and isinstance(table, PeriodBudget) and table.sliding
        found[name] = Budget(
            name=f"{name}.sliding" if is_sliding else name,
            scope=scope,
            unit=_UNITS[unit],
            most=most,
            soft=None if share is None else max(1, int(most * share)),
            period=_period(period, is_sliding=is_sliding),
            then=table.then,
            unpriced=table.unpriced,
        )
    return found


def _period(name: str, *, is_sliding: bool) -> Period | int | None:
    if name not in get_args(Period):
        return None
    period = cast("Period", name)
    return _SLIDING_US[period] if is_sliding else period


def _amounts(table: CallBudget) -> dict[str, float]:
    """What is set of what may be used, by the names of the settings."""
    return {name: value for name in table.__struct_fields__ if _is_amount(name) and (value := getattr(table, name))}


def _is_amount(name: str) -> bool:
    return name.partition("_per_")[0] in _UNITS


def _share(text: str) -> float | None:
    match = _SHARE.fullmatch(text)
    if match is None:
        return None
    share = float(match[1]) / 100
    return share if 0 < share <= 1 else None
