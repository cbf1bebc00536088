"""The command lines of the documents are ones that the command line understands."""

import re
import shlex
from pathlib import Path

import click
import pytest

from ostler.cli import cli
from tests.docs.test_pages_run import PAGES, blocks

GUIDE = [page for page in PAGES if page.stem == "run-many-workers"]


def command_lines(page: Path) -> list[list[str]]:
    """The words of every `ostler …` line that a page shows."""
    lines = "\n".join([*blocks(page, "console"), *blocks(page, "sh")]).splitlines()
    words = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]
    return [rest for first, *rest in filter(None, words) if first == "ostler"]


def check(words: list[str]) -> None:
    """Raises a click error if these words cannot be understood. Nothing is done."""
    group = click.Context(cli, info_name="ostler")
    command: click.Command = cli
    while isinstance(command, click.Group):
        name, found, words = command.resolve_command(group, words)
        assert found is not None, name
        command = found
    known = {option for parameter in command.params for option in parameter.opts}
    given = {re.split("=", word)[0] for word in words if word.startswith("--")}
    assert given <= known
    folders = [index + 1 for index, word in enumerate(words) if word == "--workspace"]
    command.make_context(
        "ostler", ["." if index in folders else word for index, word in enumerate(words)], parent=group
    )


@pytest.mark.parametrize("page", GUIDE, ids=lambda page: page.stem)
def test_every_command_of_a_page_can_be_given(page: Path) -> None:
    lines = command_lines(page)
    assert len(lines) > 3
    for words in lines:
        check(words)


def test_a_command_that_is_not_there_is_noticed() -> None:
    for words in (["worke"], ["worker", "--leas", "15"], ["worker", "--lease", "soon"]):
        with pytest.raises((click.UsageError, AssertionError)):
            check(words)
