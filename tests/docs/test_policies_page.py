"""What the page about policies shows is what happens."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from ostler.app.policy.examples import Example
from ostler.cli import cli
from tests.docs.test_commands_parse import check, command_lines
from tests.docs.test_pages_run import blocks
from tests.tidy.rules import ROOT

PAGE = ROOT / "docs/how-to/policies.md"


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the page shows."""
    monkeypatch.chdir(tmp_path)
    (rules,) = blocks(PAGE, "rules")
    (examples,) = blocks(PAGE, "toml examples")
    Path("payments.rules").write_text(rules)
    Path("payments.examples.toml").write_text(examples)
    return tmp_path


@pytest.mark.usefixtures("shown")
def test_the_rules_that_are_shown_have_no_mistakes_and_do_what_the_examples_say():
    checked = CliRunner().invoke(cli, ["policy", "check", "payments.rules"])
    assert checked.exit_code == 0, checked.output
    tried = CliRunner().invoke(cli, ["policy", "test"])
    assert tried.exit_code == 0, tried.output
    assert "4 examples, none not as expected." in tried.stderr


def test_the_command_lines_that_are_shown_are_understood():
    lines = command_lines(PAGE)
    assert len(lines) == 7
    for line in lines:
        check(line)


def test_every_key_of_an_example_is_described():
    described = set(re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (`.*?) \|", PAGE.read_text(), re.MULTILINE))))
    assert {field for field in Example.__struct_fields__ if field != "name"} <= described
