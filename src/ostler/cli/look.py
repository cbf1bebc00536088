"""Lists of sessions and of what waits for a person: ps, approvals."""

from collections.abc import Sequence
from datetime import UTC, datetime

import click
import msgspec

from ostler.app.service import Runtime
from ostler.cli.base import find_session, using_runtime
from ostler.cli.output import Format, Rows, blocks, emit, output_options, say
from ostler.cli.words import age, short, until, usd, whole
from ostler.domain.identity import LOCAL_USER
from ostler.domain.session.state import ENDED
from ostler.ports import StreamInfo
from ostler.views.sessions import Approval, SessionView

LIVE = ("queued", "running", "waiting", "paused", "quarantined")
LIMIT = 1000


class Listed(SessionView, frozen=True):
    """A session in a list: `worker` is the living one that holds it, `is_due` says that one could go on with it now."""

    worker: str | None
    is_due: bool


@click.command()
@click.option("--all", "-a", "is_all", is_flag=True, help="Ended sessions, too.")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice([*LIVE, *ENDED]),
    help="Only sessions with this status; may be repeated.",
)
@click.option("--agent", metavar="NAME", help="Only sessions of this agent.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="How many at most.")
@output_options
def ps(is_all: bool, statuses: tuple[str, ...], agent: str | None, limit: int, output: Format) -> None:
    """List sessions, newest first; without --all or --status those that have not ended."""

    async def ask(runtime: Runtime) -> list[Listed]:
        wanted = statuses or (() if is_all else LIVE)
        views = await runtime.sessions(statuses=wanted, agent=agent, limit=limit)
        return await _with_workers(runtime, views, wanted, agent, limit)

    views = using_runtime(ask)
    if not views and output == "table":
        of = f" of {agent}" if agent else ""
        all_of_them = f"No sessions{of}" + (f" with the status {' or '.join(statuses)}." if statuses else ".")
        is_everything = is_all or statuses
        say(all_of_them if is_everything else f"No sessions{of} are under way. `ostler ps --all` lists ended ones.")
        return
    emit(views, output, lambda: _sessions(views))


async def _with_workers(
    runtime: Runtime, views: Sequence[SessionView], statuses: Sequence[str], agent: str | None, limit: int
) -> list[Listed]:
    """These sessions, and who holds them."""
    store, now_us = runtime.parts.store, runtime.parts.clock.now_us()
    living = {name for name, until_us in await store.workers() if until_us > now_us}
    found = await store.streams(LOCAL_USER.tenant, prefix="ses_", statuses=statuses, queue=agent, limit=limit)
    infos: dict[str, StreamInfo] = {info.stream.name: info for info in found}
    listed = []
    for view in views:
        info = infos.get(view.id)
        worker = info.worker if info is not None and info.worker in living else None
        due_us = info.standing.due_us if info is not None else None
        is_due = worker is None and due_us is not None and due_us <= now_us
        listed.append(Listed(**msgspec.structs.asdict(view), worker=worker, is_due=is_due))
    return listed


def _sessions(views: Sequence[Listed]) -> Rows:
    now = datetime.now(UTC)
    rows = [
        (
            view.id,
            view.agent,
            f"{'ready' if view.status == 'running' else status(view)} (no worker)" if view.is_due else status(view),
            str(view.steps),
            usd(view.cost_microusd),
            age(view.started, now),
            short(view.goal or view.text or "", 120),
        )
        for view in views
    ]
    return Rows("id", "agent", "status", "steps>", "cost>", "age>", "goal…", rows=rows)


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
            views = [await (await find_session(runtime, session)).view()]
        else:
            views = await runtime.sessions(statuses=("waiting", "paused", "running"), limit=LIMIT)
        return [view.approval for view in views if view.approval is not None]

    waiting = using_runtime(ask)
    if not waiting and output == "table":
        say("Nothing waits for an approval.")
        return
    emit(waiting, output, lambda: blocks([question(one) for one in waiting]))
    if output == "table":
        say(f"Answer with `ostler approve {waiting[0].session}` or `ostler deny {waiting[0].session}`.")


def question(asked: Approval) -> list[tuple[str, str]]:
    """What people are to decide upon, with nothing left out."""
    return [
        ("session", asked.session),
        ("for", asked.by),
        ("call", asked.call),
        ("tool", asked.tool or "(the model itself)"),
        *((f"  {name}", whole(value) or '""') for name, value in asked.arguments.items()),
        ("rule", asked.rule),
        ("reason", whole(asked.reason)),
        *((("needs" if not place else ""), whole(missing)) for place, missing in enumerate(asked.missing)),
        *([("approved by", ", ".join(asked.approved_by))] if asked.approved_by else []),
        *([("undone", asked.undone)] if asked.undone else []),
        *([("risk", _risk(asked))] if asked.risk is not None else []),
        *([("cost so far", usd(asked.cost_microusd))] if asked.cost_microusd else []),
        *((("evidence" if not place else ""), whole(said)) for place, said in enumerate(asked.evidence)),
        ("until", until(asked.expires, datetime.now(UTC)) if asked.expires else "no end"),
        ("digest", asked.digest),
    ]


def _risk(asked: Approval) -> str:
    parts = ", ".join(f"{what} {amount:+g}" for what, amount in asked.risk_parts)
    return f"{asked.risk:.2f}" + (f" ({parts})" if parts else "")
