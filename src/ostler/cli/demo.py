"""The demonstration: demo."""

import asyncio
import shlex
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import click
import msgspec
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ostler.app.demo.play import play
from ostler.app.demo.report import Report
from ostler.app.demo.stage import Stage
from ostler.cli.exits import Exit
from ostler.cli.output import Format, console, encode, output_options, say
from ostler.cli.story import DIGEST_CHARS, Story, mark
from ostler.cli.words import count
from ostler.kernel.errors import OstlerError

COLUMNS_MAX = 116
"""Wider than this, what belongs together stands too far apart."""


@click.command()
@output_options
def demo(output: Format) -> None:
    """Watch an agent repair a small project while things go wrong: no key, no network.

    The agent `coder` works on a copy of an example in a temporary folder. Three forbidden calls are refused, its worker
    is killed and another goes on, a commit waits for an approval, and at the end the session is replayed offline and
    verified. With --json the summary goes to standard output and everything else to standard error.
    """
    out = console(err=output != "table")
    out.width = min(out.width, COLUMNS_MAX)
    story = Story(out)
    stage = Stage(Path(tempfile.mkdtemp(prefix="ostler-demo-")).resolve())

    async def work() -> Report:
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await play(stage, story.tell)

    try:
        report = asyncio.run(work())
    except (KeyboardInterrupt, asyncio.CancelledError):
        shutil.rmtree(stage.folder, ignore_errors=True)
        say("Interrupted. Nothing of it is running any more, and nothing is left.")
        raise click.exceptions.Exit(Exit.INTERRUPTED) from None
    except OstlerError:
        if stage.workspace.exists():
            say(f"The demo did not come to its end. What there is of it is in {stage.folder}")
        else:
            stage.folder.rmdir()
        raise
    story.chapter("What just happened", f"in {report.took_s:.1f} s")
    out.print(_summary(report))
    story.chapter("Try next")
    _suggest(out, report)
    if output != "table":
        commands = [command for command, _ in _next(report, store=f"--store {report.store} ")]
        whole = {"is_kept": report.is_kept, **msgspec.structs.asdict(report), "next": commands}
        click.echo(encode(whole, output))
    if not report.is_kept:
        say(f"Not as promised: {', '.join(name for name, is_kept in report.promises.items() if not is_kept)}.")
        raise click.exceptions.Exit(Exit.FAILED)


def _summary(report: Report) -> RenderableType:
    """Each promise, whether it was kept, and what shows it."""
    shown = {
        "repaired": [
            f"tests: {report.tests_before} → {report.tests_after}",
            f"{count(report.session.steps, 'step')}, calls: "
            + ", ".join(f"{number} {outcome}" for outcome, number in report.outcomes.items()),
        ],
        "refused": [f"{one.call:<5}{one.what}  ← {one.rule}" for one in report.refusals],
        "recovered": [
            f"process {report.killed.pid} was killed by SIGKILL during call {report.killed.call}: {report.killed.what}",
            f"process {report.recovered.pid} found it dead and recorded the outcome of {report.killed.call} as "
            f"{report.recovered.outcome}; told so, the agent ran the tests anew, as call {report.recovered.again}",
        ],
        "once": [
            f"in the log, {report.count.calls} calls have one intent, one attempt and one outcome each",
            f"from outside: the tests counted {report.count.runs_seen} runs of themselves (the log has "
            f"{report.count.runs_logged}), git has {report.count.commits_seen} new commit (the log has "
            f"{report.count.commits_logged})",
        ],
        "approved": [
            f"{report.approved.call:<5}{report.approved.what}  ← {report.approved.rule}",
            f"granted by {report.approved.by}; {count(report.approved.commits_before, 'commit')} before, "
            f"{report.approved.commits_after} after",
        ],
        "replayed": [
            f"{count(report.replay.decisions, 'decision')} made again offline; the state is the same: "
            f"{report.replay.digest[:DIGEST_CHARS]}…"
        ],
        "verified": [
            f"{count(len(report.logs), 'log')}, {sum(log.events for log in report.logs)} events, chains whole"
        ],
    }
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, is_kept in report.promises.items():
        grid.add_row(mark(is_kept, name), Text("\n".join(shown[name])))
    return Padding(grid, (0, 0, 0, 2))


def _suggest(out: Console, report: Report) -> None:
    """Commands that work on what is left, to be copied as they stand."""
    commands = _next(report, store="")
    width = max(len(command) for command, _ in commands)
    out.print(Text(f"  export OSTLER_STORE={report.store}", "cyan"), soft_wrap=True)
    for command, shows in commands:
        line = Text.assemble((f"  {command:<{width}}", "cyan"), (f"  # {shows}", "dim"))
        if len(line) > out.width:
            line = Text.assemble((f"  # {shows}\n", "dim"), (f"  {command}", "cyan"))
        out.print(line, soft_wrap=True)


def _next(report: Report, *, store: str) -> list[tuple[str, str]]:
    """Commands to try, and what each of them shows; `store` goes between the program and the command."""
    ostler, session, first = f"{_program()} {store}".rstrip(), report.session.id, report.refusals[0].call
    return [
        (f"{ostler} inspect {session}", "all there is to know of it"),
        (f"{ostler} why {session} {first}", "which rule refused this call"),
        (f"{ostler} why {session} {report.killed.call}", "what became of the interrupted call"),
        (f"{ostler} logs {session}", "what you have just watched"),
        (f"{ostler} replay {session}", "decide all of it again"),
        (f"git -C {report.workspace} show", "what the agent has committed"),
        (f"rm -rf {report.folder}", "remove everything that the demo has left"),
    ]


def _program() -> str:
    """How the person called this program."""
    called = Path(sys.argv[0])
    if called.name != "ostler":
        return f"{shlex.quote(sys.executable)} -m ostler"
    found = shutil.which("ostler")
    is_found = found is not None and called.exists() and Path(found).samefile(called)
    return "ostler" if is_found else shlex.quote(str(called))
