"""The demonstration: demo."""

import asyncio
import inspect
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
from ostler.cli.output import Format, console, output_options, put, say
from ostler.cli.story import DIGEST_CHARS, Story, mark
from ostler.cli.words import count

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
    except BrokenPipeError:  # nobody reads on
        shutil.rmtree(stage.folder, ignore_errors=True)
        raise
    except Exception:
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
        put(whole, output)
    if not report.is_kept:
        say(f"Not as promised: {', '.join(name for name, is_kept in report.promises.items() if not is_kept)}.")
        raise click.exceptions.Exit(Exit.FAILED)


def _summary(report: Report) -> RenderableType:
    """Each promise, whether it was kept, and what shows it."""
    killed, recovered, approved, counted = report.killed, report.recovered, report.approved, report.count
    outcomes = ", ".join(f"{number} {outcome}" for outcome, number in report.outcomes.items())
    anew = f"the agent was told so and ran the tests anew, as call {recovered.again}"
    once = "one intent, one attempt and one outcome each"
    if counted.twice:
        once = f"but not once each: {', '.join(counted.twice)}"
    shown = {
        "repaired": f"""
            the tests: {report.tests_before} → {report.tests_after}
            {count(report.session.steps, "step")}, calls: {outcomes}""",
        "refused": "\n".join(f"{one.call:<5}{one.what}  ← {one.rule}" for one in report.refusals),
        "recovered": f"""
            process {killed.pid} died by SIGKILL during call {killed.call}
            process {recovered.pid} found it dead, and recorded of call {killed.call}: {recovered.outcome}
            {anew}""",
        "once": f"""
            the log: {counted.calls} calls, {once}
            the tests themselves: {counted.runs_seen} runs; the log: {counted.runs_logged}
            git itself: {counted.commits_seen} new commit; the log: {counted.commits_logged}""",
        "approved": f"""
            {approved.call:<5}{approved.what}
            asked by {approved.rule}, granted by {approved.by}
            commits before: {approved.commits_before}, after: {approved.commits_after}""",
        "replayed": f"""
            {report.replay.decisions} decisions made again offline; the state is {report.replay.digest[:DIGEST_CHARS]}…
            in the store it is {report.replay.digest_in_store[:DIGEST_CHARS]}…""",
        "verified": f"""
            {len(report.logs)} logs, {sum(log.events for log in report.logs)} events: every hash fits""",
    }
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, is_kept in report.promises.items():
        grid.add_row(mark(is_kept, name), inspect.cleandoc(shown[name]))
    return Padding(grid, (0, 0, 0, 2))


def _suggest(out: Console, report: Report) -> None:
    """Commands that work on what is left, to be copied as they stand."""
    commands = _next(report, store="")
    width = max(len(command) for command, _ in commands)
    are_beside = all(len(f"  {command:<{width}}  # {shows}") <= out.width for command, shows in commands)
    out.print(Text(f"  export OSTLER_STORE={report.store}", "cyan"), soft_wrap=True)
    for command, shows in commands:
        told, shown = Text(f"  {command}", "cyan"), Text(f"  # {shows}", "dim")
        told.pad_right(width - len(command) if are_beside else 0)
        out.print(Text.assemble(told, shown) if are_beside else Text.assemble(shown, "\n", told), soft_wrap=True)


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
