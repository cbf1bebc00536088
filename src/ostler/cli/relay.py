"""Relays in the foreground, and how they stand: relay, relays."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import click

from ostler.app import relays as app
from ostler.app.service import Runtime
from ostler.app.targets import RelayTarget
from ostler.cli.base import settings, settings_of_existing, using_runtime
from ostler.cli.exits import Exit
from ostler.cli.output import Format, Rows, emit, output_options, put, say
from ostler.cli.signals import Troubles, on_signals
from ostler.kernel.event import timestamp
from ostler.runtime.relay import DeadLetter, Relay, State

LOOK_S = 0.5
LAG_S = 5.0
"""How often it is said how far behind a relay is."""


class Position(click.ParamType[int]):
    """A position in the log: a number, or one of its two ends."""

    name = "position"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number; -1 for the end."""
        if value in ("start", "end"):
            return 0 if value == "start" else -1
        if not str(value).isdecimal():
            self.fail(f"{value!r} is neither a number nor `start` nor `end`.", param, ctx)
        return int(value)


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--from",
    "begin",
    type=Position(),
    metavar="POSITION",
    help="First go to this position of the log, or to its `start` or `end`.",
)
@click.option("--until-idle", is_flag=True, help="Exit as soon as everything is handed over.")
def relay(names: tuple[str, ...], begin: int | None, until_idle: bool) -> None:
    """Hand the log on to what ostler.toml names in [relays.NAME], until told to stop: these relays, or all.

    Each goes on where it has stopped, however it has stopped: every event arrives at least once and in order, and
    whoever takes it tells a repeated one by its id. A target that does not answer is waited for. SIGTERM or Ctrl-C
    stops; a second one stops at once.
    """
    known = settings()
    targets = app.find(known, names)

    async def work() -> None:
        stop = asyncio.Event()
        async with Runtime.open(known, worker=False) as runtime, AsyncExitStack() as stack:
            _stop_on_signals(stop)
            if begin is not None:
                for target in targets:
                    moved = await app.move(target, runtime.parts, None if begin < 0 else begin)
                    say(f"{target.name}: goes on from position {moved}")
            running = [await _started(target, runtime, stack) for target in targets]
            await _watch(running, stop, until_idle)
        say("Stopped.")

    try:
        asyncio.run(work())
    except asyncio.CancelledError:
        say("Stopped at once. What was not stored is handed over again.")
        raise click.exceptions.Exit(Exit.INTERRUPTED) from None


Running = tuple[Relay, "asyncio.Task[None]"]


async def _started(target: RelayTarget, runtime: Runtime, stack: AsyncExitStack) -> Running:
    """A relay at work. Leaving the stack stops it, and lets go of its bus."""
    bus = app.make_bus(target, runtime.parts)
    stack.push_async_callback(bus.close)
    troubles = Troubles()
    relay = app.make_relay(target, bus, runtime.parts, trouble=lambda error: troubles(target.name, error))

    def on_change(state: State) -> None:
        say(f"{target.name}: {state}")

    relay.on_change = on_change
    say(f"{target.name}: to {target.shown}")
    task = asyncio.create_task(relay.run(), name=f"relay {target.name}")
    stack.push_async_callback(_stop, task)
    return relay, task


async def _stop(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task])


async def _watch(running: Sequence[Running], stop: asyncio.Event, until_idle: bool) -> None:
    """Say how far behind they are until it is time to stop. Raises what ends a relay by itself."""
    loop = asyncio.get_running_loop()
    said_s, said = loop.time(), dict[str, int]()
    stopping = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set():
            done, _ = await asyncio.wait(
                [stopping, *(task for _, task in running)], timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done - {stopping}:
                task.result()
            lags = {relay.name: await relay.lag() for relay, _ in running}
            if until_idle and all(relay.state == "following" and not lags[relay.name] for relay, _ in running):
                say("Everything is handed over.")
                return
            if loop.time() >= said_s + LAG_S:
                said_s = loop.time()
                for relay, _ in running:
                    lag = lags[relay.name]
                    if relay.state != "following" and lag and lag != said.get(relay.name):
                        say(f"{relay.name}: {lag:,} events behind")
                    said[relay.name] = lag
    finally:
        stopping.cancel()


def _stop_on_signals(stop: asyncio.Event) -> None:
    task = asyncio.current_task()
    assert task is not None

    def first() -> None:
        say("Stopping. A second signal stops at once.")
        stop.set()

    on_signals(first, task.cancel)


@click.group(invoke_without_command=True)
@output_options
@click.pass_context
def relays(ctx: click.Context, output: Format) -> None:
    """List the relays of ostler.toml: where they hand the log on to, how far they are, what they left out."""
    if ctx.invoked_subcommand is not None:
        return
    targets = app.find(settings_of_existing())

    async def ask(runtime: Runtime) -> list[app.RelayView]:
        return [await app.look(target, runtime.parts) for target in targets]

    views = using_runtime(ask)
    emit(views, output, lambda: _table(views))
    if output == "table" and (waiting := [view.name for view in views if view.dead_letters]):
        say(f"Events that were not handed over: ostler relays dead {waiting[0]}")


def _table(views: Sequence[app.RelayView]) -> Rows:
    rows = [
        (
            view.name,
            view.to,
            str(view.position) if view.begun else "not begun",
            str(view.lag),
            str(view.dead_letters),
        )
        for view in views
    ]
    return Rows("name", "to…", "position>", "lag>", "dead letters>", rows=rows)


@relays.command()
@click.argument("name")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 10_000), help="How many at most.")
@output_options
def dead(name: str, limit: int, output: Format) -> None:
    """List the events that a relay could not hand over, the oldest first, and why."""
    (target,) = app.find(settings_of_existing(), [name])

    async def ask(runtime: Runtime) -> list[DeadLetter]:
        return await app.letters(target, runtime.parts, limit=limit)

    found = using_runtime(ask)
    if not found and output == "table":
        say(f"{name} has handed over everything that it has come to.")
        return
    emit(found, output, lambda: _letters(found))
    if output == "table":
        say(f"Hand them over again with: ostler relays retry {name}")


def _letters(letters: Sequence[DeadLetter]) -> Rows:
    rows = [
        (str(one.position), one.stream, str(one.seq), _moment(one.at_us), one.reason.replace("\n", " "))
        for one in letters
    ]
    return Rows("position>", "stream", "seq>", "given up", "reason~", rows=rows)


def _moment(at_us: int) -> str:
    return datetime.fromisoformat(timestamp(at_us)).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


@relays.command()
@click.argument("name")
@click.argument("positions", nargs=-1, type=click.IntRange(1), metavar="[POSITION]...")
@output_options
def retry(name: str, positions: tuple[int, ...], output: Format) -> None:
    """Hand dead letters over once more: those at these positions, or all.

    They arrive after younger events. The relay may be at work meanwhile. Exit code 1 if one could not be handed over;
    it is kept.
    """
    (target,) = app.find(settings_of_existing(), [name])

    async def work(runtime: Runtime) -> app.Retried:
        bus = app.make_bus(target, runtime.parts)
        try:
            return await app.retry(target, bus, runtime.parts, positions=positions)
        finally:
            await bus.close()

    came = using_runtime(work)
    say(f"{name}: {came.delivered} handed over" + (f", {came.failed} not: {came.reason}" if came.failed else "."))
    if output != "table":
        put(came, output)
    if came.failed:
        raise click.exceptions.Exit(Exit.FAILED)
