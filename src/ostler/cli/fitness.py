"""How healthy the system is that agents work on: the fitness targets, measuring them, and how they have done."""

import sys
from collections.abc import Sequence

import click

from ostler.app.health import Entry, Health, TargetView, health, history, measure
from ostler.app.service import Runtime
from ostler.cli.base import acting_option, acting_principal, using_runtime
from ostler.cli.exits import Exit
from ostler.cli.output import Format, Rows, emit, output_options, say
from ostler.domain.fitness.events import FitnessMeasured
from ostler.domain.fitness.target import levels
from ostler.kernel.errors import OstlerError

BLOCKS = "▁▂▃▄▅▆▇█"
PLAIN = "_.-~=+*#"
SHOWN = 24
"""Values of a target that are drawn."""


@click.group(invoke_without_command=True)
@click.pass_context
def fitness(ctx: click.Context) -> None:
    """See how the fitness targets stand that fitness.yaml declares, and measure them.

    Without a command, it lists them. The exit code is 1 if one of them fails; an unknown one neither passes nor fails.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_)


@fitness.command("list")
@acting_option
@output_options
def list_(acting: str | None, output: Format) -> None:
    """List the targets as they were last measured, with their score."""

    async def ask(runtime: Runtime) -> Health:
        return await health(runtime.parts, tenant=(await acting_principal(runtime, acting)).tenant)

    _show(using_runtime(ask), output)


@fitness.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@acting_option
@output_options
def run(names: tuple[str, ...], acting: str | None, output: Format) -> None:
    """Measure targets now, and record it.

    All of them, or those that are named. What their `on_fail` wants follows from it, as if a worker had measured them.
    """

    def progress(event: FitnessMeasured) -> None:
        found = event.found
        say(f"{_mark(found.passed)} {found.target}: {found} ({found.goal}), {event.took_us / 1e6:.1f} s")

    def trouble(error: OstlerError) -> None:
        say(error.message)

    async def work(runtime: Runtime) -> Health:
        tenant = (await acting_principal(runtime, acting)).tenant
        return await measure(runtime.parts, names, tenant=tenant, progress=progress, trouble=trouble)

    _show(using_runtime(work, makes_store=True), output)


@fitness.command("history")
@click.argument("name")
@click.option("--limit", "-n", default=50, show_default=True, type=click.IntRange(1, 10_000), help="How many entries.")
@acting_option
@output_options
def history_(name: str, limit: int, acting: str | None, output: Format) -> None:
    """Show what happened to one target.

    What was measured, who lowered it, what followed.
    """

    async def ask(runtime: Runtime) -> list[Entry]:
        tenant = (await acting_principal(runtime, acting)).tenant
        return await history(runtime.parts, name, tenant=tenant, limit=limit)

    found = using_runtime(ask)
    if not found and output == "table":
        say(f"{name} was never measured. `ostler fitness run {name}` does it now.")
        return
    emit(found, output, lambda: _entries(found))


def _show(found: Health, output: Format) -> None:
    emit(found, output, lambda: _table(found))
    if output == "table":
        say("Nothing is known yet." if found.score is None else f"Fitness: {found.score:.0f} of 100.")
    if found.failing:
        raise click.exceptions.Exit(Exit.FAILED)


def _table(found: Health) -> Rows:
    rows = [
        (
            f"{_mark(one.passed)} {one.name}",
            _number(one.value, one.unit),
            f"{one.goal} {one.unit}".rstrip(),
            f"{one.weight:g}",
            sparkline(one.values[-SHOWN:]),
            one.failing_since[:16].replace("T", " ") or "–",
            one.on_fail,
            _by(one),
        )
        for one in found.targets
    ]
    return Rows("target", "value>", "should be", "weight>", "last", "fails since", "on fail", "last change~", rows=rows)


def _by(one: TargetView) -> str:
    """Who changed it last, or why it is unknown."""
    said = [one.reason] if one.value is None else []
    if one.lowered_by and one.passed is False:
        said.append(f"lowered by {one.lowered_by}")
    elif one.changed_by:
        said.append(f"changed by {one.changed_by}")
    return "; ".join([*said, *one.followed]) or "–"


def sparkline(values: Sequence[float]) -> str:
    """The values as bars, the oldest first; in plain letters where nobody may be able to show others."""
    blocks = BLOCKS if sys.stdout.isatty() else PLAIN
    return "".join(blocks[level] for level in levels(values, len(blocks)))


def _mark(passed: bool | None) -> str:
    return "?" if passed is None else "✓" if passed else "✗"


def _number(value: float | None, unit: str) -> str:
    return "unknown" if value is None else f"{value:.4g} {unit}".rstrip()


def _entries(found: Sequence[Entry]) -> Rows:
    rows = [
        (
            one.at[:19].replace("T", " "),
            one.what,
            "–" if one.what in ("warned", "halted", "vetoed", "overridden") else _number(one.value, ""),
            _mark(one.passed),
            one.detail,
            f"{one.session}/{one.call}" if one.call else one.session,
        )
        for one in found
    ]
    return Rows("when", "why", "value>", "", "detail~", "session", rows=rows)
