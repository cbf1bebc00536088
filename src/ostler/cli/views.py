"""Read models: views (how far they are, and making them anew), and usage."""

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import Literal

import click
import msgspec

from ostler.app.bootstrap import Parts
from ostler.app.service import Runtime
from ostler.cli.base import using_runtime
from ostler.cli.output import Format, Rows, emit, output_options, say
from ostler.cli.words import count, duration, usd
from ostler.domain.identity import LOCAL_USER
from ostler.kernel.errors import StoreFull, StoreReadOnly
from ostler.runtime.projector import Progress
from ostler.views.catalogue import VIEWS
from ostler.views.fold import AnyView
from ostler.views.usage import DAY_US, SUMS_FIRST, USAGE, Tally, add, day_name, first_key, place

PAGE = 1_000
PROGRESS_S = 0.2
By = Literal["day", "agent", "model"]


class Standing(msgspec.Struct, frozen=True):
    """A view: up to which position it has read the log, how many positions it is behind, and how many rows it has."""

    name: str
    version: int
    position: int
    behind: int
    rows: int


class Rebuilt(msgspec.Struct, frozen=True):
    """A view that was made anew from this many events, and how long that took."""

    name: str
    version: int
    position: int
    events: int
    seconds: float


@click.group(invoke_without_command=True)
@output_options
@click.pass_context
def views(ctx: click.Context, output: Format) -> None:
    """List the read models: how far each has read the log, and how many rows it has.

    They are computed from the log and may lag behind it; whatever shows them reads the rest from the log.
    """
    if ctx.invoked_subcommand is not None:
        return

    async def ask(runtime: Runtime) -> list[Standing]:
        head = await runtime.parts.store.head()
        return [await _standing(runtime.parts, view, head) for view in VIEWS]

    found = using_runtime(ask)
    emit(found, output, lambda: _standings(found))


async def _standing(parts: Parts, view: AnyView, head: int) -> Standing:
    position, rows, after = await parts.views.position(view.id), 0, ""
    while page := await parts.views.page(view.id, LOCAL_USER.tenant, after=after, limit=PAGE):
        rows, after = rows + len(page), page[-1][0]
    return Standing(view.name, view.version, position, max(0, head - position), rows)


def _standings(found: Sequence[Standing]) -> Rows:
    rows = [
        (one.name, str(one.version), f"{one.position:,}", f"{one.behind:,}" if one.behind else "–", f"{one.rows:,}")
        for one in found
    ]
    return Rows("view", "version>", "position>", "behind>", "rows>", rows=rows)


@views.command()
@click.argument("names", metavar="[NAME]...", nargs=-1, type=click.Choice([view.name for view in VIEWS]))
@output_options
def rebuild(names: tuple[str, ...], output: Format) -> None:
    """Delete views, all or those named, and fold them anew from the first event of the log.

    Sessions may go on meanwhile. A view that is interrupted goes on from there with the next worker or command.
    """
    wanted = [view for view in VIEWS if not names or view.name in names]

    async def work(runtime: Runtime) -> list[Rebuilt]:
        return [await _rebuilt(runtime.parts, view) for view in wanted]

    done = using_runtime(work)
    emit(done, output, lambda: _rebuilds(done))


async def _rebuilt(parts: Parts, view: AnyView) -> Rebuilt:
    started = time.monotonic()
    with Gauge() as gauge:
        await parts.projector([view], progress=gauge.show).rebuild()
    events = gauge.last.events if gauge.last is not None else 0
    return Rebuilt(view.name, view.version, await parts.views.position(view.id), events, time.monotonic() - started)


def _rebuilds(done: Sequence[Rebuilt]) -> Rows:
    rows = [
        (
            *(one.name, str(one.version), f"{one.events:,}", duration(int(one.seconds * 1e6))),
            f"{one.events / one.seconds:,.0f}/s" if one.seconds else "–",
        )
        for one in done
    ]
    return Rows("view", "version>", "events>", "took>", "rate>", rows=rows)


class Gauge:
    """Shows on a terminal how far a view is, on a line of its own that is gone afterwards."""

    def __init__(self) -> None:
        self.last: Progress | None = None
        self._started = self._shown = time.monotonic()
        self._width = 0

    def __enter__(self) -> "Gauge":
        return self

    def __exit__(self, *_: object) -> None:
        self._write("")

    def show(self, progress: Progress) -> None:
        """Take note of it, and show it if it is time to."""
        now = time.monotonic()
        self.last = progress
        if now - self._shown >= PROGRESS_S:
            self._shown = now
            self._write(self.line(progress, now - self._started))

    @staticmethod
    def line(progress: Progress, seconds: float) -> str:
        """`usage  42 %   120,000 events   35,000/s   5.0 s left`."""
        rate = progress.events / seconds if seconds else 0.0
        left = progress.head - progress.position
        eta = f"   {duration(int(left / rate * 1e6))} left" if rate else ""
        share = 100 * progress.position / progress.head if progress.head else 100
        return f"{progress.view}  {share:3.0f} %   {count(progress.events, 'event')}   {rate:,.0f}/s{eta}"

    def _write(self, text: str) -> None:
        if sys.stderr.isatty():
            click.echo("\r" + text.ljust(self._width) + ("" if text else "\r"), nl=False, err=True)
            self._width = len(text)


@click.command()
@click.option("--days", default=30, show_default=True, type=click.IntRange(1, 36_500), help="How many, with today.")
@click.option(
    "--by",
    type=click.Choice(["day", "agent", "model"]),
    default="day",
    show_default=True,
    help="What it is summed up by.",
)
@output_options
def usage(days: int, by: By, output: Format) -> None:
    """Show what was used: sessions, calls, tokens and costs, by day (UTC), agent or model.

    A call is counted on the day of its beginning, tokens and costs on the day of the reply, and what a fork shares with
    its origin only there.
    """

    async def ask(runtime: Runtime) -> dict[str, Tally]:
        parts = runtime.parts
        await _catch_up(parts)
        return _summed(await _sums_since(parts, day_name(parts.clock.now_us() - (days - 1) * DAY_US)), by)

    found = using_runtime(ask)
    if not found and output == "table":
        say(f"Nothing was used in {count(days, 'day')}.")
        return
    emit(
        [{by: name} | msgspec.structs.asdict(tally) for name, tally in found.items()], output, lambda: _usage(found, by)
    )
    unreadable = sum(tally.unreadable for tally in found.values())
    if unreadable:
        say(f"{count(unreadable, 'event')} could not be read and so not be counted: `ostler verify` shows which logs.")


async def _catch_up(parts: Parts) -> None:
    try:
        with Gauge() as gauge:
            await parts.projector([USAGE], progress=gauge.show).catch_up()
    except (StoreReadOnly, StoreFull) as error:
        behind = await parts.store.head() - await parts.views.position(USAGE.id)
        say(f"The last {count(behind, 'event')} of the log are not counted yet. {error.message}")


async def _sums_since(parts: Parts, day: str) -> list[tuple[str, Tally]]:
    sums: list[tuple[str, Tally]] = []
    after = first_key(day)
    while page := await parts.views.page(USAGE.id, LOCAL_USER.tenant, after=after, limit=PAGE):
        sums += [(key, USAGE.sums.unpack(body)) for key, body in page if key.startswith(SUMS_FIRST)]
        after = page[-1][0]
        if not after.startswith(SUMS_FIRST):
            break
    return sums


_NAMES: dict[By, Callable[[str], str]] = {
    "day": lambda key: place(key)[0],
    "agent": lambda key: place(key)[1],
    "model": lambda key: place(key)[2],
}


def _summed(sums: Iterable[tuple[str, Tally]], by: By) -> dict[str, Tally]:
    """One sum for each day, agent or model, in this order."""
    found: dict[str, Tally] = {}
    for key, tally in sums:
        name = _NAMES[by](key)
        found[name] = add(found.get(name, Tally()), tally)
    return dict(sorted(found.items()))


def _usage(found: dict[str, Tally], by: By) -> Rows:
    rows = [_cells(name, tally) for name, tally in found.items()]
    if len(rows) > 1:
        rows.append(_cells("all", reduce(add, found.values())))
    columns = ("sessions>", "completed>", "failed>", "cancelled>", "model calls>", "tool calls>", "refused>")
    return Rows(by, *columns, "unknown>", "tokens in>", "out>", "cached>", "cost>", rows=rows)


def _cells(name: str, used: Tally) -> list[str]:
    numbers = (
        *(used.sessions, used.completed, used.failed, used.cancelled, used.model_calls, used.tool_calls, used.refused),
        *(used.unknown, used.input_tokens, used.output_tokens, used.cache_read_tokens + used.cache_write_tokens),
    )
    return [name, *(f"{number:,}" if number else "–" for number in numbers), usd(used.cost_microusd)]
