"""A store at work, looked at again and again: top."""

import asyncio
import signal
import sys
import time
from typing import TYPE_CHECKING

import click

from ostler.app.overview import Overview, ReaderView, Watch, WorkerView
from ostler.app.service import Runtime
from ostler.cli.base import settings_of_existing
from ostler.cli.breaker import breaker_said
from ostler.cli.look import halt_said
from ostler.cli.output import Format, Rows, console, emit, output_options
from ostler.cli.words import count, duration

if TYPE_CHECKING:
    from rich.console import RenderableType

INTERVAL_S = 1.0
ROWS_MAX = 15
"""Rows of each part that a screen shows; the rest is counted."""
STYLES = {"alive": "green", "silent": "yellow", "lost": "red"}


@click.command()
@click.option("--once", is_flag=True, help="Show it once and end, as it does where there is no terminal.")
@click.option(
    "--interval",
    default=INTERVAL_S,
    show_default=True,
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    help="How often to look.",
)
@output_options
def top(once: bool, interval: float, output: Format) -> None:
    """Watch a store at work: workers, what is due to whom, what is stuck or parked and why, who lags behind the log.

    Everything comes from the store, so that it may be watched from any machine. Ctrl-C ends it.
    """
    if once or output != "table" or not sys.stdout.isatty():
        overview = asyncio.run(_look_once())
        emit(overview, output, lambda: screen(overview, None))
        return
    asyncio.run(_watch(interval))


async def _look_once() -> Overview:
    known = settings_of_existing()
    async with Runtime.open(known, worker=False) as runtime:
        return await Watch(known, runtime.parts).look()


async def _watch(interval_s: float) -> None:
    from rich.live import Live

    known, stop = settings_of_existing(), asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    async with Runtime.open(known, worker=False) as runtime:
        watch = Watch(known, runtime.parts)
        before: tuple[int, float] | None = None
        with Live(console=console(), screen=True, auto_refresh=False) as live:
            while not stop.is_set():
                seen, now = await watch.look(), time.monotonic()
                rate = None if before is None else (seen.events - before[0]) / (now - before[1])
                before = seen.events, now
                live.update(screen(seen, rate), refresh=True)
                await _rest(stop, interval_s)


async def _rest(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass


def screen(seen: Overview, events_per_s: float | None) -> "RenderableType":
    """All that was seen, part under part; parts that are empty are left out."""
    from rich.console import Group

    parts: list[RenderableType] = [_head(seen, events_per_s), "", _workers(seen)]
    for part in (_queues(seen), _suspects(seen), _aside(seen), _readers(seen)):
        if part is not None:
            parts += ["", part]
    return Group(*parts)


def _head(seen: Overview, events_per_s: float | None) -> "RenderableType":
    from rich.text import Text

    rate = "" if events_per_s is None else f", {events_per_s:,.0f} a second"
    oldest = "" if seen.oldest_due_s is None else f", the longest for {_time(seen.oldest_due_s)}"
    statuses = ", ".join(f"{number:,} {status}" for status, number in seen.statuses.items()) or "none under way"
    lines = [
        Text.assemble((seen.store, "bold"), f"   {seen.at}   {count(seen.events, 'event')}{rate}"),
        Text(f"sessions: {statuses}; {seen.failed_lately} failed in the last hour"),
        Text(f"queue: {seen.due:,} due{oldest}; {seen.held:,} held, {seen.later:,} due later"),
    ]
    lines += [Text(halt_said(one), "bold red") for one in seen.halted]
    lines += [Text(breaker_said(one), "red") for one in seen.breakers[:ROWS_MAX]]
    lines += [
        Text(f"Fitness: {one.name} of {one.tenant} is {one.value:g} since {one.since}, should be {one.goal}", "red")
        for one in seen.unfit[:ROWS_MAX]
    ]
    if seen.breakers_unknown:
        lines.append(Text(seen.breakers_unknown, "yellow"))
    if not seen.is_whole:
        lines.append(Text("There are more tenants and agents than are counted here.", "yellow"))
    return Text("\n").join(lines)


def _workers(seen: Overview) -> "RenderableType":
    from rich.text import Text

    if not seen.workers:
        return Text("No worker runs on this store. `ostler worker` starts one.", "yellow")
    rows = [
        (
            one.id,
            one.state,
            one.host,
            "–" if one.pid is None else str(one.pid),
            one.version or "–",
            str(one.held),
            _life(one),
        )
        for one in seen.workers[:ROWS_MAX]
    ]
    return Rows("worker", "state", "host", "pid>", "version", "held>", "lease", rows=rows)


def _life(worker: WorkerView) -> str:
    if worker.lease_left_s is not None:
        return f"{_time(worker.lease_left_s)} left"
    return "–" if worker.silent_s is None else f"silent for {_time(worker.silent_s)}"


def _queues(seen: Overview) -> "RenderableType | None":
    rows = [
        (
            *(one.tenant, one.agent, f"{one.due:,}", f"{one.held:,}", f"{one.later:,}"),
            "–" if one.oldest_due_s is None else _time(one.oldest_due_s),
            str(one.priority_max)
            if one.priority_min == one.priority_max
            else f"{one.priority_min} … {one.priority_max}",
        )
        for one in seen.queues[:ROWS_MAX]
    ]
    columns = ("tenant", "agent", "due>", "held>", "later>", "oldest due>", "priority>")
    return Rows(*columns, rows=rows) if rows else None


def _suspects(seen: Overview) -> "RenderableType | None":
    rows = [
        (one.session, one.agent, one.status, str(one.attempts), _time(one.taken_s), one.worker or "–")
        for one in seen.suspects[:ROWS_MAX]
    ]
    return Rows("suspect", "agent", "status", "attempts>", "taken>", "by~", rows=rows) if rows else None


def _aside(seen: Overview) -> "RenderableType | None":
    rows = [(one.session, one.agent, one.status, one.reason, one.todo) for one in seen.aside[:ROWS_MAX]]
    return Rows("put aside", "agent", "status", "because~", "what to do~", rows=rows) if rows else None


def _readers(seen: Overview) -> "RenderableType | None":
    rows = [(*_reader(one),) for one in seen.readers[:ROWS_MAX]]
    return Rows("reader", "kind", "position>", "behind>", "by>", "dead letters>", rows=rows) if rows else None


def _reader(one: ReaderView) -> tuple[str, str, str, str, str, str]:
    behind = f"{one.lag:,}" if one.begun and one.lag else "–" if one.begun else "not begun"
    by = "–" if one.behind_s is None else _time(one.behind_s)
    return one.name, one.kind, f"{one.position:,}", behind, by, str(one.dead_letters or "–")


def _time(seconds: float) -> str:
    return duration(int(seconds * 1e6))
