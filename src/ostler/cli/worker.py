"""A worker in the foreground: worker."""

import asyncio
import signal
from contextlib import ExitStack

import click

import ostler
from ostler.app.project import load_code
from ostler.app.service import Runtime
from ostler.app.settings import shown
from ostler.app.vault import scrubbed_output
from ostler.cli.base import settings
from ostler.cli.exits import Exit
from ostler.cli.output import printing_aside, say
from ostler.cli.signals import ignore_troubles, on_signals, tell_troubles
from ostler.cli.words import count
from ostler.domain.identity import LOCAL_USER
from ostler.domain.scheduling import WorkerSettings
from ostler.kernel.event import StreamId
from ostler.ports import EventStore
from ostler.runtime.worker import Worker

LOOK_S = 1.0
PAGE = 500
MAY_BE_DUE = ("queued", "running", "waiting", "paused")


@click.command()
@click.option("--concurrency", "-c", default=1000, show_default=True, type=click.IntRange(1), help="Sessions at once.")
@click.option(
    "--lease",
    default=30.0,
    show_default=True,
    metavar="S",
    type=click.FloatRange(1),
    help="How long its hold lasts without a sign of life.",
)
@click.option(
    "--sweep",
    default=1.0,
    show_default=True,
    metavar="S",
    type=click.FloatRange(0, min_open=True),
    help="How often it looks for sessions that time alone has made due, or whose worker died.",
)
@click.option(
    "--claims-per-second",
    "claims_per_s",
    default=1000.0,
    show_default=True,
    metavar="N",
    type=click.FloatRange(0, min_open=True),
    help="How many sessions it takes on in a second at most.",
)
@click.option("--agent", "agents", multiple=True, metavar="NAME", help="Only sessions of this agent; may be repeated.")
@click.option("--until-idle", is_flag=True, help="Exit as soon as nothing is due.")
def worker(
    concurrency: int, lease: float, sweep: float, claims_per_s: float, agents: tuple[str, ...], until_idle: bool
) -> None:
    """Run the sessions that are due until told to stop.

    SIGTERM or Ctrl-C lets calls under way finish, then stops; a second one stops at once. Sessions keep their state
    either way. Any number of workers may share a store; the [limits] of ostler.toml hold for all of them together.
    SIGUSR1 makes it say what calls cost so far, and in which stage they failed; it says so at its end, too.
    """
    known = settings()
    wanted = WorkerSettings(
        keeps_views=True,
        concurrency=concurrency,
        claims_per_s=claims_per_s,
        lease_s=lease,
        sweep_s=sweep,
        queues=agents or None,
        version=ostler.__version__,
    )

    printing = ExitStack()

    async def work() -> None:
        stop, changed = asyncio.Event(), asyncio.Event()
        async with Runtime.open(known, worker=False) as runtime:
            printing.enter_context(scrubbed_output(runtime.parts.seen))
            _stop_on_signals(runtime, stop)
            tell_troubles(runtime)
            runtime.parts.know(*load_code(known.tools))
            running = await runtime.work(wanted)
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _tell_stages, running)

            def on_hold(stream: StreamId, holds: bool) -> None:
                say(f"{'takes' if holds else 'lets go of'} {stream.name} ({running.running} held)")
                changed.set()

            running.on_hold = on_hold
            say(
                f"worker {running.name.partition('/')[0]} on {shown(known.store)}, agents: {', '.join(agents) or 'all'}"
            )
            while not stop.is_set():
                if until_idle and await _is_idle(runtime.parts.store, running, runtime.parts.clock.now_us(), agents):
                    say("Nothing is due.")
                    return
                changed.clear()
                await _first(stop, changed)
            say("Stopping; calls under way may finish. A second signal stops at once.")
        _tell_stages(running)
        say("Stopped.")

    try:
        with printing_aside(), printing:
            asyncio.run(work())
    except asyncio.CancelledError:
        say("Stopped at once. Sessions keep their state.")
        raise click.exceptions.Exit(Exit.INTERRUPTED) from None


def _stop_on_signals(runtime: Runtime, stop: asyncio.Event) -> None:
    task = asyncio.current_task()
    assert task is not None

    def stop_at_once() -> None:
        ignore_troubles(runtime)
        task.cancel()

    on_signals(stop.set, stop_at_once)


def _tell_stages(worker: Worker) -> None:
    """Say what the stages cost that attempts of calls pass."""
    for what, stages in worker.stages().items():
        passed = [
            f"{one.stage} {one.own_us / one.calls:,.0f} µs" + (f", {one.failures:,} failed" if one.failures else "")
            for one in stages
            if one.calls
        ]
        if passed:
            say(f"{count(stages[0].calls, 'attempt')} of calls of {what}, on average: {'; '.join(passed)}")


async def _is_idle(store: EventStore, worker: Worker, now_us: int, agents: tuple[str, ...]) -> bool:
    """Whether this worker holds nothing and there is nothing due that it could take."""
    if worker.running:
        return False
    living = {name for name, until_us in await store.workers() if until_us > now_us}
    before: int | None = None
    while page := await store.streams(LOCAL_USER.tenant, prefix="ses_", statuses=MAY_BE_DUE, before=before, limit=PAGE):
        for info in page:
            due_us = info.standing.due_us
            is_wanted = not agents or info.standing.queue in agents
            if is_wanted and due_us is not None and due_us <= now_us and info.worker not in living:
                return False
        before = page[-1].number
    return True


async def _first(*events: asyncio.Event) -> None:
    """Wait for any of these, and no longer than until it is time to look again."""
    tasks = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(tasks, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
