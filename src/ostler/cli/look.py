"""Lists of sessions and of what waits for a person: ps, approvals."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

import click
import msgspec

from ostler.app.halts import Halt, halts
from ostler.app.service import Runtime
from ostler.cli.base import acting_option, acting_principal, find_session, using_runtime
from ostler.cli.output import Format, Rows, blocks, emit, output_options, say
from ostler.cli.words import age, short, until, usd, whole
from ostler.domain.identity import DEFAULT_TENANT, Principal
from ostler.domain.scheduling import EVERYONE
from ostler.domain.session.approvals import objection, objection_to_grant
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
@acting_option
@output_options
def ps(
    is_all: bool, statuses: tuple[str, ...], agent: str | None, limit: int, acting: str | None, output: Format
) -> None:
    """List sessions, newest first; without --all or --status those that have not ended."""

    async def ask(runtime: Runtime) -> tuple[list[Listed], list[Halt]]:
        tenant = (await acting_principal(runtime, acting)).tenant
        wanted = statuses or (() if is_all else LIVE)
        views = await runtime.sessions(tenant=tenant, statuses=wanted, agent=agent, limit=limit)
        listed = await _with_workers(runtime, views, tenant, wanted, agent, limit)
        return listed, await halts(runtime.parts, [tenant])

    views, halted = using_runtime(ask)
    for one in halted:
        say(halt_said(one))
    if not views and output == "table":
        of = f" of {agent}" if agent else ""
        all_of_them = f"No sessions{of}" + (f" with the status {' or '.join(statuses)}." if statuses else ".")
        is_everything = is_all or statuses
        say(all_of_them if is_everything else f"No sessions{of} are under way. `ostler ps --all` lists ended ones.")
        return
    emit(views, output, lambda: _sessions(views))


def halt_said(one: Halt) -> str:
    """What is halted, by whom, since when and why, on one line."""
    is_all = one.tenant == EVERYONE
    what = "Everything" if is_all else f"The tenant {one.tenant}"
    if one.agent:
        what = f"The agent {one.agent}" if is_all else f"The agent {one.agent} of the tenant {one.tenant}"
    option = " --all" if is_all else "" if one.tenant == DEFAULT_TENANT else f" --tenant {one.tenant}"
    option += f" --agent {one.agent}" if one.agent else ""
    why = short(one.reason, 200) or "no reason was given"
    return f"{what} is halted by {one.by} since {one.since}: {why}. `ostler release{option}` lets it go on."


async def _with_workers(
    runtime: Runtime,
    views: Sequence[SessionView],
    tenant: str,
    statuses: Sequence[str],
    agent: str | None,
    limit: int,
) -> list[Listed]:
    """These sessions, and who holds them."""
    store, now_us = runtime.parts.store, runtime.parts.clock.now_us()
    living = {name for name, until_us in await store.workers() if until_us > now_us}
    found = await store.streams(tenant, prefix="ses_", statuses=statuses, queue=agent, limit=limit)
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


class Waiting(Approval, frozen=True, omit_defaults=True):
    """A call that waits, and what whoever asks may do about it: `approve` it or refuse it, only `deny` it, or nothing.

    `objection` is why not more.
    """

    yours: Literal["approve", "deny", ""] = ""
    objection: str = ""


@click.command()
@click.argument("session", required=False)
@click.option("--mine", is_flag=True, help="Only those that whoever acts may decide about.")
@acting_option
@output_options
def approvals(session: str | None, mine: bool, acting: str | None, output: Format) -> None:
    """List the calls that wait for people: what would be done, which rule asks whom for what, and until when."""

    async def ask(runtime: Runtime) -> list[Waiting]:
        by = await acting_principal(runtime, acting)
        if session is not None:
            views = [await (await find_session(runtime, session, tenant=by.tenant)).view()]
        else:
            views = await runtime.sessions(tenant=by.tenant, statuses=("waiting", "paused", "running"), limit=LIMIT)
        found = [await _waiting(runtime, view.approval, by) for view in views if view.approval is not None]
        return [one for one in found if one.yours or not mine]

    waiting = using_runtime(ask)
    if not waiting and output == "table":
        say("Nothing waits for your approval." if mine else "Nothing waits for an approval.")
        return
    emit(waiting, output, lambda: blocks([[*question(one), ("you", _yours(one))] for one in waiting]))
    if output == "table":
        say(f"Answer with `ostler approve {waiting[0].session}` or `ostler deny {waiting[0].session}`.")


async def _waiting(runtime: Runtime, asked: Approval, by: Principal) -> Waiting:
    """With what `by` may do about it now."""
    found = await runtime.session(asked.session, tenant=by.tenant)
    state, known = await found.state(), msgspec.structs.asdict(asked)
    problem = objection(state, asked.call, by, found.now_us())
    if problem is not None:
        return Waiting(**known, objection=problem)
    problem = objection_to_grant(state, by)
    return Waiting(**known, yours="deny" if problem else "approve", objection=problem or "")


def _yours(one: Waiting) -> str:
    """Why whoever asks may not do as they please with it; empty if they may."""
    if not one.objection:
        return ""
    return f"may only deny or ask back: {one.objection}" if one.yours else f"cannot decide: {one.objection}"


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
