"""A look at everything that Ostler stands on: doctor."""

import asyncio

import click
from rich.table import Table
from rich.text import Text

from ostler.app.doctor import examine
from ostler.app.settings import ProjectFile, Settings
from ostler.cli.base import settings
from ostler.cli.exits import Exit
from ostler.cli.output import Format, console, emit_lines, output_options, printing_aside, put, say
from ostler.kernel.errors import DefinitionInvalid, OstlerError
from ostler.ports import Finding

STYLES = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "bad": ("✗", "bold red")}


@click.command()
@click.option("--deep", is_flag=True, help="Read the whole of a SQLite store, to find damaged pages.")
@output_options
def doctor(deep: bool, output: Format) -> None:
    """Check this installation, its store, sandbox and model, and say what to do about what is not well.

    Of a store in use also its workers, its queue, sessions that are stuck or put aside, and views and relays that lag.
    Nothing is made or changed. Exit code 1 if anything that is needed is broken.
    """
    known, problem = _settings()

    async def look() -> list[Finding]:
        return [check async for check in examine(known, problem, deep=deep)]

    with printing_aside():
        checks = asyncio.run(look())
    if output == "table":
        _print(checks)
    elif output == "jsonl":
        emit_lines(checks)
    else:
        put(checks, output)
    bad = [check.name for check in checks if check.verdict == "bad"]
    if bad:
        say(f"Needed and broken: {', '.join(bad)}.")
        raise click.exceptions.Exit(Exit.FAILED)


def _settings() -> tuple[Settings, OstlerError | None]:
    """The settings; where those of the project cannot be read, the others, and why."""
    try:
        return settings(), None
    except DefinitionInvalid as error:
        return settings(ProjectFile()), error


def _print(checks: list[Finding]) -> None:
    lines = Table.grid(padding=(0, 1))
    lines.add_column(no_wrap=True)
    lines.add_column(no_wrap=True)
    lines.add_column(overflow="fold")
    for check in checks:
        symbol, style = STYLES[check.verdict]
        lines.add_row(Text(symbol, style), check.name, check.found)
        if check.why:
            lines.add_row("", "", Text(check.why, "dim"))
        if check.todo:
            lines.add_row("", "", Text(f"→ {check.todo}", "dim"))
    console().print(lines)
