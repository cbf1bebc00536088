"""Whether an agent does other things since its model has changed."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ostler.app.drift import Change, Drift, changes_of, drift, sessions_of
from ostler.app.service import Runtime
from ostler.cli.base import acting_option, acting_principal, using_runtime
from ostler.cli.exits import Exit
from ostler.cli.output import Format, Rows, emit, output_options, say
from ostler.cli.words import count, duration, span_us, usd
from ostler.domain.drift import FAMILY, LEVEL, Compared, Mix
from ostler.kernel.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

BAR = 30
SVG_WIDTH = 130
TOOLS_MAX = 8
"""Tools whose shares are drawn."""


@click.command(name="drift")
@click.argument("agent")
@click.option(
    "--before", metavar="WHAT", help="One side: sessions of this model, or started before this moment or event."
)
@click.option("--after", metavar="WHAT", help="The other side: sessions of this model, or started since then.")
@click.option("--since", default="90d", show_default=True, metavar="SPAN", help="How far back: 90d, 12h, 30m.")
@click.option("--changes", "only_changes", is_flag=True, help="Only list the changes of the agent's model.")
@click.option("--svg", type=click.Path(dir_okay=False, path_type=Path), help="Also draw the report into this file.")
@acting_option
@output_options
def drift_(
    agent: str,
    before: str | None,
    after: str | None,
    since: str,
    only_changes: bool,
    svg: Path | None,
    acting: str | None,
    output: Format,
) -> None:
    """Compare what AGENT (coder, or coder@3) did before and after a change of its model.

    Without --before and --after, around the last change. WHAT is a model (openai:gpt-6.1), a moment (2026-03-31, UTC),
    or an event (SESSION, or SESSION/SEQ). Only sessions that have ended count; forks and trials do not.

    The exit code is 0 if no difference was found, 1 if one was, and 7 if there is too little to compare.
    """
    span = span_us(since)
    if only_changes and (before or after or svg):
        raise UsageError("--changes lists what has changed, and compares nothing.")

    async def look(runtime: Runtime) -> tuple[list[Change], Drift | None]:
        parts, tenant = runtime.parts, (await acting_principal(runtime, acting)).tenant
        sessions = await sessions_of(parts, agent, tenant=tenant, since_us=parts.clock.now_us() - span)
        if only_changes:
            return await changes_of(parts, sessions, tenant=tenant), None
        return [], await drift(parts, sessions, before=before, after=after, tenant=tenant)

    changes, found = using_runtime(look)
    if found is None:
        if not changes and output == "table":
            say(f"The model of {agent} has not changed.")
            return
        emit(changes, output, lambda: _changes(changes))
        return
    emit(found, output, lambda: _report(found))
    if svg is not None:
        _draw(found, svg)
    if found.is_cut or found.unreadable:
        cut = ["only the newest sessions were read"] if found.is_cut else []
        say("; ".join([*cut, f"{count(found.unreadable, 'session')} could not be read"] if found.unreadable else cut))
    if found.comparison.differing:
        raise click.exceptions.Exit(Exit.FAILED)


def _changes(changes: Sequence[Change]) -> Rows:
    rows = [(change.at[:19].replace("T", " "), change.kind, change.what, change.session) for change in changes]
    return Rows("when", "seen", "change~", "session", rows=rows)


def _report(found: Drift) -> "RenderableType":
    """The verdict, the table behind it, and the picture."""
    from rich.console import Group
    from rich.text import Text

    lines = [Text(line) for line in _heading(found)]
    verdict = [Text(line, style="bold") for line in _verdict(found)]
    bars = [Text(line) for line in _bars(found)]
    return Group(*lines, "", _table(found), "", *bars, "", *verdict)


def _heading(found: Drift) -> list[str]:
    lines = [f"{found.agent}: {found.change.what} ({found.change.kind})" if found.change else found.agent]
    for side, name in ((found.before, "before"), (found.after, "after")):
        versions = f"; answered by {', '.join(side.versions)}" if side.versions else ""
        span = f"{side.first[:10]} to {side.last[:10]}"
        lines.append(
            f"{name:<7} {count(side.sessions, 'session')} {side.which} ({span}), {', '.join(side.drivers)}{versions}"
        )
    return lines


def _verdict(found: Drift) -> list[str]:
    """Plainly: what differs and by how much; or that nothing was found, and what would have been."""
    differing = found.comparison.differing
    if differing:
        return [f"Different since: {said(one)}." for one in differing]
    completed = found.comparison.compared[0]
    sizes = f"With {found.before.sessions} and {found.after.sessions} sessions"
    if completed.detectable is None:
        return ["No difference found.", f"{sizes} no difference of the share completed would have been found reliably."]
    points = f"{100 * completed.detectable:.0f} points"
    return [
        "No difference found.",
        f"{sizes} a difference of {points} of the share completed would have been found with 80 % power.",
    ]


def said(one: Compared) -> str:
    """One difference in words."""
    p = f"p {_p(one.p)} after correction for {FAMILY} comparisons"
    if one.before is None or one.after is None:
        return f"{one.name}: {100 * one.effect:.0f} % of what is asked for has moved to other tools ({p})"
    change = f"from {value(one, one.before)} to {value(one, one.after)}"
    if one.unit == "share":
        return f"{one.name} {change}, {_points(one)} ({p})"
    more = "more" if one.effect > 0 else "less"
    return f"{one.name} {change}, a session more often takes {more} (delta {_interval(one)}; {p})"


def _table(found: Drift) -> Rows:
    rows = [
        (
            one.name,
            value(one, one.before),
            value(one, one.after),
            _effect(one),
            _detectable(one),
            one.test,
            _p(one.p),
            "different" if one.differs else "–",
        )
        for one in found.comparison.compared
    ]
    return Rows("", "before>", "after>", "effect (95 %)", "detectable>", "test", f"p (Holm, {LEVEL})>", "", rows=rows)


def value(one: Compared, number: float | None) -> str:
    """A number in its unit; medians of measures."""
    if number is None:
        return "–"
    match one.unit:
        case "share":
            return f"{100 * number:.0f} %"
        case "microusd":
            return usd(int(number))
        case "microseconds":
            return duration(int(number))
        case "count" | "distance":
            return f"{number:g}"


def _effect(one: Compared) -> str:
    match one.unit:
        case "share":
            return _points(one)
        case "distance":
            return f"distance {one.effect:.2f} (by chance up to {one.high or 0:.2f})"
        case _:
            return f"delta {_interval(one)}"


def _points(one: Compared) -> str:
    effect, low, high = (round(100 * number) for number in (one.effect, one.low or 0, one.high or 0))
    return f"{effect:+d} points ({low:+d} to {high:+d})"


def _interval(one: Compared) -> str:
    return f"{one.effect:+.2f} ({one.low or 0:+.2f} to {one.high or 0:+.2f})"


def _detectable(one: Compared) -> str:
    if one.unit == "distance":
        return "–"
    if one.detectable is None:
        return "none"
    return f"{100 * one.detectable:.0f} points" if one.unit == "share" else f"delta {one.detectable:.2f}"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _bars(found: Drift) -> list[str]:
    """Two bars for each thing that is there at all, one above the other."""
    lines = []
    for one in found.comparison.compared:
        if one.before is not None and one.after is not None and (one.before or one.after):
            most = 1.0 if one.unit == "share" else max(one.before, one.after)
            lines += _pair(one.name, (one.before, one.after), most, [value(one, one.before), value(one, one.after)])
        elif one.unit == "distance":
            for mix in found.comparison.tools[:TOOLS_MAX]:
                lines += _pair(f"tool {mix.tool}", (mix.before, mix.after), 1.0, _shares(mix))
    return lines


def _shares(mix: Mix) -> list[str]:
    return [f"{100 * mix.before:.0f} %", f"{100 * mix.after:.0f} %"]


def _pair(name: str, values: tuple[float, float], most: float, shown: Sequence[str]) -> list[str]:
    """`░` before, `█` after. What there is at all can be seen."""
    lengths = [0 if not most else max(1 if number else 0, round(BAR * number / most)) for number in values]
    return [
        f"{name[:24]:<24} before {'░' * lengths[0]} {shown[0]}",
        f"{'':<24} after  {'█' * lengths[1]} {shown[1]}",
    ]


def _draw(found: Drift, file: Path) -> None:
    from rich.console import Console

    paper = Console(record=True, width=SVG_WIDTH, file=io.StringIO(), highlight=False, emoji=False, markup=False)
    paper.print(_report(found))
    try:
        file.write_text(paper.export_svg(title=f"ostler drift {found.agent}"), "utf-8")
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}.") from error
    say(f"Drawn into {file}.")
