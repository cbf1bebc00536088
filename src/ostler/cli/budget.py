"""Budgets: what is used of them."""

from collections.abc import Sequence

import click

from ostler.app.accounts import BudgetStanding, standings
from ostler.app.service import Runtime
from ostler.cli.base import settings_of_existing, using_runtime
from ostler.cli.output import Format, Rows, emit, output_options, say
from ostler.domain.budget import shown
from ostler.domain.identity import LOCAL_USER

BAR = 20


@click.command()
@click.option("--sessions", "with_sessions", is_flag=True, help="Also those of sessions and of trees of sessions.")
@output_options
def budgets(with_sessions: bool, output: Format) -> None:
    """Show how the budgets of the project stand: used, reserved for calls under way, and the limit.

    Budgets by the hour, the day or the month show the present one (UTC). Calls are limited one by one, so that there
    is nothing to show of `[budgets.calls]`.
    """
    tables = settings_of_existing().budgets.budgets

    async def ask(runtime: Runtime) -> list[BudgetStanding]:
        parts, now_us = runtime.parts, runtime.parts.clock.now_us()
        return await standings(parts.ledger, tables, LOCAL_USER.tenant, now_us=now_us, with_sessions=with_sessions)

    found = using_runtime(ask)
    if not found and output == "table":
        say("There are no budgets that are shown here; ostler.toml has them under [budgets].")
        return
    emit(found, output, lambda: _standings(found))


def _standings(found: Sequence[BudgetStanding]) -> Rows:
    rows = [
        (
            one.account,
            shown(one.used - one.reserved, one.unit),
            shown(one.reserved, one.unit) if one.reserved else "–",
            shown(one.most, one.unit),
            f"{_bar(one)} {100 * one.used / one.most:3.0f} %",
        )
        for one in found
    ]
    return Rows("budget", "used>", "reserved>", "limit>", "", rows=rows)


def _bar(one: BudgetStanding) -> str:
    """Used, reserved and free, in `BAR` columns. What is used at all can be seen."""
    used = min(BAR, -(-BAR * (one.used - one.reserved) // one.most))
    taken = max(used, min(BAR, BAR * one.used // one.most))
    return "█" * used + "▒" * (taken - used) + "░" * (BAR - taken)
