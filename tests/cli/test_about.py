"""The command line about itself: help, versions, completion, errors that are nobody's usage."""

import json
import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from ostler.cli import COMMANDS, cli
from ostler.cli.exits import MEANINGS, Exit, of_error, of_session
from ostler.kernel import errors
from tests.cli.conftest import Ostler


def test_the_list_of_commands_says_what_the_commands_say_of_themselves() -> None:
    context = click.Context(cli)
    for entries in COMMANDS.values():
        for name in entries:
            command = cli.get_command(context, name)
            assert command is not None
            assert command.name == name
            assert command.help


def test_a_misspelt_command_gets_a_suggestion(ostler: Ostler) -> None:
    result = ostler("inspct")
    assert result.exit_code == 2
    assert "Did you mean 'inspect'?" in result.stderr


def test_versions_are_printed(ostler: Ostler) -> None:
    assert ostler("--version").stdout.startswith("ostler ")
    versions = json.loads(ostler("version", "--json").stdout)
    assert versions["python"] == ".".join(str(part) for part in sys.version_info[:3])
    assert "sqlite" in ostler("version").stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_completion_script(ostler: Ostler, shell: str) -> None:
    script = ostler("completion", shell)
    assert script.exit_code == 0
    assert "_OSTLER_COMPLETE" in script.stdout


def test_completion_knows_the_commands_and_imports_none_of_them() -> None:
    code = (
        "import sys; from ostler.cli import main; sys.argv = ['ostler']\n"
        "try: main()\n"
        "finally: print(*[m for m in sys.modules if m.startswith('ostler.cli.')], file=sys.stderr)"
    )
    environment = {
        **os.environ,
        "_OSTLER_COMPLETE": "bash_complete",
        "COMP_WORDS": "ostler app",
        "COMP_CWORD": "1",
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["plain,approvals", "plain,approve"]
    assert "ostler.cli.look" not in done.stderr


def test_a_defect_is_told_without_a_traceback_unless_one_asks_for_it(
    ostler: Ostler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("what a pity")

    ostler("run", "clerk", "answer", "--detach")
    session = json.loads(ostler("ps", "--json").stdout)[0]["id"]
    monkeypatch.setattr("ostler.cli.inspect.why_state", broken)
    result = ostler("why", session)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "ZeroDivisionError: what a pity" in result.stderr
    assert "OSTLER_DEBUG=1" in result.stderr
    monkeypatch.setenv("OSTLER_DEBUG", "1")
    assert isinstance(ostler("why", session).exception, ZeroDivisionError)


def test_every_exit_code_is_explained_in_the_help() -> None:
    assert set(MEANINGS) == set(Exit)
    shown = CliRunner().invoke(cli, ["--help"]).output
    assert [code for code in Exit if f"\n  {int(code)} " not in shown] == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UsageError(), 2),
        (errors.DefinitionInvalid("x", []), 2),
        (errors.NotFound(), 7),
        (errors.StaleWrite(), 7),
        (errors.ReplayDiverged(), 8),
        (errors.StoreCorrupt(), 8),
        (errors.StoreFull(), 1),
        (errors.ProviderRejected(), 1),
        (TimeoutError(), 124),
        (KeyboardInterrupt(), 130),
        (ValueError(), 1),
    ],
)
def test_an_error_has_its_exit_code(error: BaseException, code: int) -> None:
    assert of_error(error) == code


@pytest.mark.parametrize(
    ("status", "reason", "code"),
    [
        ("completed", "final_answer", 0),
        ("failed", "error", 1),
        ("failed", "internal_error", 1),
        ("waiting", None, 3),
        ("paused", "let me look", 3),
        ("failed", "denied", 4),
        ("failed", "cost_limit", 5),
        ("failed", "tool_call_limit", 5),
        ("failed", "timeout", 5),
        ("cancelled", "cancelled", 6),
        ("cancelled", "killed", 6),
    ],
)
def test_a_session_has_its_exit_code(status: str, reason: str | None, code: int) -> None:
    assert of_session(status, reason) == code
