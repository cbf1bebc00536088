"""Trying another model on decisions that one has made: models trial."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from ostler.app.project import load_code
from ostler.app.service import Runtime
from ostler.app.trial import Made, Said, Trial, Tried
from ostler.app.trial import trial as tried
from ostler.cli.base import acting_option, acting_principal, settings_of_existing
from ostler.cli.output import Format, Rows, console, emit, output_options, printing_aside, say
from ostler.cli.signals import tell_troubles
from ostler.cli.words import count, duration, short, span_us, usd
from ostler.domain.effects import Interval

if TYPE_CHECKING:
    from rich.console import RenderableType

EXAMPLES_MAX = 10
EXAMPLE_CHARS = 160
WORDS: dict[Said, str] = {
    "same": "the same",
    "arguments": "other arguments of the same tools",
    "tools": "other tools",
    "answer": "an answer instead of a call",
    "call": "a call instead of an answer",
    "refusal": "it refused",
    "unusable": "its reply could not be used",
    "failed": "no reply",
}


@click.command()
@click.argument("model", metavar="PROVIDER:NAME")
@click.option("--against", required=True, metavar="AGENT", help="Whose decisions: coder, or coder@3.")
@click.option("--since", default="30d", show_default=True, metavar="SPAN", help="How far back: 30d, 12h, 30m.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1_000), help="Decisions at most.")
@acting_option
@output_options
def trial(model: str, against: str, since: str, limit: int, acting: str | None, output: Format) -> None:
    """Ask another model what it would have decided, before an agent is switched to it.

    Recorded decisions of the agent are put to the model, each in a fork of its session that ends with the reply: the
    question passes the gate, is in the log and counts for budgets, and nothing that the model asks for is performed.
    One decision of each session is taken, the newest first, and a second one of each only if there are too few.
    """
    known, span = settings_of_existing(), span_us(since)

    async def work() -> Trial:
        async with Runtime.open(known, worker=False) as runtime:
            tell_troubles(runtime)
            runtime.parts.know(*load_code(known.tools))
            by = await acting_principal(runtime, acting)
            with _gauge() as progress:
                since_us = runtime.parts.clock.now_us() - span
                return await tried(runtime, model, against, since_us=since_us, limit=limit, by=by, progress=progress)

    with printing_aside():
        found = asyncio.run(work())
    emit(found, output, lambda: _report(found))
    if found.skipped:
        say(f"{count(found.skipped, 'session')} left out, whose transcripts are written for a model of another sort.")


@contextmanager
def _gauge() -> Iterator[Callable[[int, int], None]]:
    """Shows on a terminal how many decisions have been put to the model."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("asking"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    shown = console(err=True)
    with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as bar:
        task = bar.add_task("asking", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _report(found: Trial) -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    examples = [one for one in found.decisions if one.said != "same"]
    parts: list[RenderableType] = [Text(line) for line in _summary(found)]
    parts += ["", _counts(found)]
    if examples:
        parts += ["", _examples(examples[:EXAMPLES_MAX])]
    if len(examples) > EXAMPLES_MAX:
        parts.append(Text(f"… and {len(examples) - EXAMPLES_MAX} more; --json has all of them."))
    return Group(*parts)


def _summary(found: Trial) -> list[str]:
    decisions = f"{count(len(found.decisions), 'decision')} of {count(found.sessions, 'session')}"
    lines = [
        f"{found.model} on {decisions} of {found.agent}",
        f"the same tools in {_rate(found.agreement)}, with the same arguments in {_rate(found.exact)}",
        f"cost  {usd(found.cost_then_microusd)} then, {usd(found.cost_now_microusd)} now",
    ]
    if found.span_then_us is not None and found.span_now_us is not None:
        lines.append(
            f"time  {duration(int(found.span_then_us))} then, {duration(int(found.span_now_us))} now (medians)"
        )
    return lines


def _rate(rate: Interval) -> str:
    return f"{100 * rate.value:.0f} % ({100 * rate.low:.0f} to {100 * rate.high:.0f} %)"


def _counts(found: Trial) -> Rows:
    counts = [(said, found.counts[said]) for said in WORDS if said in found.counts]
    most = max((number for _, number in counts), default=1)
    return Rows(
        "it said", "decisions>", "", rows=[(WORDS[said], str(n), "█" * -(-30 * n // most)) for said, n in counts]
    )


def _examples(tried: Sequence[Tried]) -> Rows:
    rows = [
        (
            f"{one.session}/{one.seq}",
            WORDS[one.said],
            _made(one.then),
            _made(one.now) if one.now else short(one.problem),
        )
        for one in tried
    ]
    return Rows("decision", "it said", "then~", "now~", rows=rows)


def _made(made: Made) -> str:
    said = "; ".join(f"{call.name} {call.arguments}" for call in made.calls) or made.text
    return short(said, EXAMPLE_CHARS)
