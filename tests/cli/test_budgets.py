"""Budgets on the command line."""

import asyncio
import json
from pathlib import Path

from ostler.adapters.store.sqlite import SqliteStore
from ostler.adapters.store.sqlite_ledger import SqliteLedger
from ostler.app.world import SystemClock
from ostler.domain.budget import Budget, Holder, account, draws, worst_of_tool
from ostler.domain.identity import LOCAL_USER
from tests.cli.conftest import Ostler


async def spend(project: Path, most: int) -> None:
    """Two calls on the budget of the tenant, one of them settled."""
    store = await SqliteStore.open(project / ".ostler" / "ostler.db")
    ledger, now_us = SqliteLedger(store), SystemClock().now_us()
    budget = Budget(name="calls_per_month", scope="tenant", unit="calls", most=most, period="month")
    wanted = draws([account(f"tenants.{LOCAL_USER.tenant}", LOCAL_USER.tenant, budget, now_us)], worst_of_tool(1.0))
    holders = [Holder(LOCAL_USER.tenant, "ses_1", name) for name in ("1.1", "1.2")]
    for holder in holders:
        await ledger.reserve(holder, wanted, now_us=now_us, until_us=now_us)
    await ledger.settle(holders[-1], {"calls": 1}, now_us=now_us)
    await store.close()


def test_budgets_are_shown_with_what_is_used_and_reserved(ostler: Ostler, project: Path) -> None:
    file = project / "ostler.toml"
    file.write_text(f'{file.read_text()}\n[budgets.tenants."*"]\ncalls_per_month = 4\n[budgets.fleet]\nusd = 7\n')
    assert ostler("run", "clerk", "answer", "--detach").exit_code == 0
    asyncio.run(spend(project, 4))
    fleet, tenant = json.loads(ostler("budgets", "--json").stdout)
    assert (fleet["account"], fleet["unit"], fleet["used"], fleet["most"]) == ("fleet.usd", "microusd", 0, 7_000_000)
    assert (tenant["used"], tenant["reserved"], tenant["most"], tenant["then"]) == (2, 1, 4, "stop")
    shown = ostler("budgets").stdout
    assert "1 call " in shown
    assert "█████▒▒▒▒▒░░░░░░░░░░  50 %" in shown
    assert "7 USD" in shown


def test_without_budgets_it_says_so(ostler: Ostler) -> None:
    shown = ostler("budgets")
    assert (shown.exit_code, shown.stdout) == (0, "")
    assert "There are no budgets" in shown.stderr
    assert json.loads(ostler("budgets", "--json").stdout) == []


def test_a_mistake_in_budgets_is_told(ostler: Ostler, project: Path) -> None:
    file = project / "ostler.toml"
    file.write_text(f"{file.read_text()}\n[budgets.fleet]\nuds = 7\n")
    refused = ostler("budgets")
    assert (refused.exit_code, "budgets.fleet.uds: is unknown (did you mean 'usd'?)" in refused.stderr) == (2, True)
