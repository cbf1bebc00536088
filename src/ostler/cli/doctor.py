"""A look at everything that Ostler stands on: doctor."""

import asyncio

import click

from ostler.app.doctor import Check, examine
from ostler.cli.base import settings
from ostler.cli.exits import Exit
from ostler.cli.output import Format, console, emit_lines, encode, output_options, say

STYLES = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "bad": ("✗", "bold red")}


@click.command()
@output_options
def doctor(output: Format) -> None:
    """Check this installation, its store, sandbox and model, and say what to do about what is not well.

    Exit code 1 if anything that is needed is broken.
    """
    known = settings()

    async def look() -> list[Check]:
        return [check async for check in examine(known)]

    checks = asyncio.run(look())
    if output == "table":
        _print(checks)
    elif output == "jsonl":
        emit_lines(checks)
    else:
        click.echo(encode(checks, output))
    bad = [check.name for check in checks if check.verdict == "bad"]
    if bad:
        say(f"Needed and broken: {', '.join(bad)}.")
        raise click.exceptions.Exit(Exit.FAILED)


def _print(checks: list[Check]) -> None:
    out = console()
    for check in checks:
        symbol, style = STYLES[check.verdict]
        out.print(symbol, style=style, end=" ")
        out.print(f"{check.name:<15} {check.found}", soft_wrap=True)
        if check.todo:
            out.print(f"{'':17} → {check.todo}", style="dim", soft_wrap=True)
