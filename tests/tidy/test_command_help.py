"""The help of every command is looked at before it changes: it is the part of the interface that people read.

`OSTLER_UPDATE_GOLDEN=1` writes it anew.
"""

import os
from collections.abc import Iterator

import click
from click.testing import CliRunner

from ostler.cli import cli
from tests.tidy.rules import ROOT

GOLDEN = ROOT / "tests/golden/cli"


def commands(command: click.Command, *path: str) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None, f"`{name}` is listed and not there"
            if not inner.hidden:
                yield from commands(inner, *path, name)


def helped(path: tuple[str, ...]) -> str:
    result = CliRunner().invoke(cli, [*path, "--help"], prog_name="ostler", terminal_width=100, color=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_help_of_every_command_is_as_it_was_agreed() -> None:
    shown = {"-".join(("ostler", *path)) + ".txt": helped(path) for path in commands(cli)}
    if os.environ.get("OSTLER_UPDATE_GOLDEN"):
        GOLDEN.mkdir(parents=True, exist_ok=True)
        for stale in GOLDEN.glob("*.txt"):
            stale.unlink()
        for name, text in shown.items():
            (GOLDEN / name).write_text(text, "utf-8")
    agreed = {path.name: path.read_text("utf-8") for path in GOLDEN.glob("*.txt")}
    assert shown == agreed, "if the new help reads better, agree to it with OSTLER_UPDATE_GOLDEN=1"


def test_every_command_says_in_one_line_what_it_does() -> None:
    context = click.Context(cli)
    found = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    assert found
    assert [name for name, command in found.items() if not (command and command.get_short_help_str())] == []
