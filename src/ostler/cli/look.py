"""Lists of sessions and of what waits for a person: ps, approvals."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from ostler.app.service import Runtime
from ostler.cli.base import using_runtime
from ostler.cli.output import Format, emit, output_options, say, table
from ostler.cli.words import age, arguments, short, usd
from ostler.views.sessions import Approval, SessionView

if TYPE_CHECKING:
    from rich.table import Table

LIVE = ("queued", "running", "waiting", "paused", "quarantined")
LIMIT = 1000


@click.command()
@click.option("--all", "-a", "is_all", is_flag=True, help="Ended sessions, too.")
@click.option("--status", "statuses", multiple=True, metavar="STATUS", help="Only sessions with this status.")
@click.option("--agent", metavar="NAME", help="Only sessions of this agent.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="How many at most.")
@output_options
def ps(is_all: bool, statuses: tuple[str, ...], agent: str | None, limit: int, output: Format) -> None:
    """List sessions, newest first; without --all or --status those that have not ended."""

    async def ask(runtime: Runtime) -> list[SessionView]:
        wanted = statuses or (() if is_all else LIVE)
        return await runtime.sessions(statuses=wanted, agent=agent, limit=limit)

    views = using_runtime(ask)
    if not views and output == "table":
        say("No sessions." if is_all or statuses else "No sessions are under way. `ostler ps --all` lists ended ones.")
        return
    emit(views, output, lambda: _sessions(views))


def _sessions(views: list[SessionView]) -> "Table":
    now = datetime.now(UTC)
    rows = [
        (
            view.id,
            view.agent,
            status(view),
            str(view.steps),
            usd(view.cost_microusd),
            age(view.started, now),
            short(view.goal or view.text or "", 120),
        )
        for view in views
    ]
    return table("id", "agent", "status", "steps>", "cost>", "age>", "goal…", rows=rows)


def status(view: SessionView) -> str:
    """The status and, where it has one, its reason."""
    if view.waiting_for is not None:
        return f"waiting for {view.waiting_for}"
    return f"{view.status} ({view.reason})" if view.reason and view.status in ("failed", "cancelled") else view.status


@click.command()
@click.argument("session", required=False)
@output_options
def approvals(session: str | None, output: Format) -> None:
    """List the calls that wait for a person: what would be done, which rule asks, and until when."""

    async def ask(runtime: Runtime) -> list[Approval]:
        if session is not None:
            views = [await (await runtime.session(session)).view()]
        else:
            views = await runtime.sessions(statuses=("waiting", "paused", "running"), limit=LIMIT)
        return [view.approval for view in views if view.approval is not None]

    waiting = using_runtime(ask)
    if not waiting and output == "table":
        say("Nothing waits for an approval.")
        return
    emit(waiting, output, lambda: _approvals(waiting))
    if output == "table":
        say(f"Answer with `ostler approve {waiting[0].session}` or `ostler deny {waiting[0].session}`.")


def _approvals(waiting: list[Approval]) -> "Table":
    rows = [
        (
            one.session,
            one.call,
            f"{one.tool} {arguments(one.arguments)}",
            one.rule,
            short(one.reason),
            one.expires or "–",
        )
        for one in waiting
    ]
    return table("session", "call", "what~", "rule", "reason~", "until", rows=rows)
