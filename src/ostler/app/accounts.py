"""How the budgets stand, for those who want to look."""

import msgspec

from ostler.domain.budget import FLEET, Budget, Budgets, Scope, Unit, account, budgets_of
from ostler.domain.scheduling import EVERYONE
from ostler.ports import Ledger

PAGE = 1_000
NAMES_MAX = 10_000
"""Accounts of one kind that are looked at."""


class BudgetStanding(msgspec.Struct, frozen=True):
    """A budget as it stands: `used` of `most`, with what is `reserved` for calls under way, in whole `unit`s."""

    account: str
    scope: Scope
    subject: str
    unit: Unit
    used: int
    reserved: int
    most: int
    soft: int | None
    then: str


async def standings(
    ledger: Ledger, budgets: Budgets, tenant: str, *, now_us: int, with_sessions: bool = False
) -> list[BudgetStanding]:
    """How the budgets stand that calls of this tenant draw on now: those that are named, and all that were used.

    Those of sessions and trees only `with_sessions`.
    """
    found = await _standing(ledger, FLEET, "fleet", "", budgets.fleet, now_us)
    found += await _standing(ledger, tenant, "tenants", tenant, budgets_of(budgets.tenants, tenant), now_us)
    for kind, tables in (("agents", budgets.agents), ("principals", budgets.principals)):
        used = await _used(ledger, tenant, kind, tables.get(EVERYONE, ()), now_us)
        for name in sorted({*tables, *used} - {EVERYONE}):
            found += await _standing(ledger, tenant, kind, name, budgets_of(tables, name), now_us)
    if with_sessions:
        for kind, listed in (("trees", budgets.trees), ("sessions", budgets.sessions)):
            for name in await _used(ledger, tenant, kind, listed, now_us):
                found += await _standing(ledger, tenant, kind, name, listed, now_us)
    return found


async def _standing(
    ledger: Ledger, tenant: str, kind: str, subject: str, budgets: tuple[Budget, ...], now_us: int
) -> list[BudgetStanding]:
    place = f"{kind}.{subject}" if subject else kind
    accounts = [account(place, tenant, budget, now_us) for budget in budgets]
    totals = await ledger.totals(tenant, [one.name for one in accounts], now_us=now_us) if accounts else {}
    found = []
    for one in accounts:
        used, reserved = totals.get(one.name, (0, 0))
        budget = one.budget
        found.append(
            BudgetStanding(
                account=one.name,
                scope=budget.scope,
                subject=subject,
                unit=budget.unit,
                used=used,
                reserved=reserved,
                most=budget.most,
                soft=budget.soft,
                then=budget.then,
            )
        )
    return found


async def _used(ledger: Ledger, tenant: str, kind: str, budgets: tuple[Budget, ...], now_us: int) -> list[str]:
    """Whose accounts of these budgets have something on them now."""
    prefix, after = f"{kind}.", ""
    endings = [account("", tenant, budget, now_us).name for budget in budgets]
    found: dict[str, None] = {}
    for _ in range(NAMES_MAX // PAGE if budgets else 0):
        names = await ledger.accounts(tenant, prefix=prefix, after=after, limit=PAGE)
        for name in names:
            for ending in endings:
                if name.endswith(ending):
                    found[name.removeprefix(prefix).removesuffix(ending)] = None
        if len(names) < PAGE:
            break
        after = names[-1]
    return list(found)
