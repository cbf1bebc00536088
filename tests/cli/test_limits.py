"""Priorities and limits on the command line."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Ostler


def test_a_session_has_the_priority_that_it_is_given_and_inspect_shows_it(ostler: Ostler) -> None:
    session = ostler("run", "clerk", "answer", "--detach", "--priority", "7").stdout.strip()
    assert json.loads(ostler("inspect", session, "--json").stdout)["priority"] == 7
    assert "priority     7" in ostler("inspect", session).stdout
    assert ostler("worker", "--until-idle", "--sweep", "0.05", "--claims-per-second", "50").exit_code == 0
    assert ostler("replay", session).exit_code == 0


def test_a_session_of_no_special_priority_shows_none(ostler: Ostler) -> None:
    session = ostler("run", "clerk", "answer", "--detach").stdout.strip()
    assert json.loads(ostler("inspect", session, "--json").stdout)["priority"] == 0
    assert "priority" not in ostler("inspect", session).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "clerk", "answer", "--priority", "1001"),
        ("run", "clerk", "answer", "--priority", "high"),
        ("worker", "--sweep", "0"),
        ("worker", "--claims-per-second", "-1"),
    ],
)
def test_what_makes_no_sense_is_refused(ostler: Ostler, arguments: tuple[str, ...]) -> None:
    assert ostler(*arguments).exit_code == 2


def test_limits_of_the_project_hold_for_commands_and_mistakes_in_them_are_told(ostler: Ostler, project: Path) -> None:
    file = project / "ostler.toml"
    text = file.read_text()
    file.write_text(f"{text}\n[limits.providers.strategy]\nmodel_calls = 1\nmodel_calls_per_minute = 6000\n")
    assert ostler("run", "clerk", "answer").exit_code == 0
    file.write_text(f"{text}\n[limits.providers.strategy]\nmodel_call = 1\n")
    refused = ostler("run", "clerk", "answer")
    assert (refused.exit_code, "limits.providers.strategy.model_call: is unknown" in refused.stderr) == (2, True)
