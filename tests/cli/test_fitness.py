"""`ostler fitness`: how the targets stand, measuring them, and what is said of mistakes."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ostler.cli import fitness as command
from ostler.cli.exits import Exit
from tests.cli.conftest import Ostler

TARGETS = f"""
- name: site-up
  command: [{sys.executable}, check.py]
  target: "== 0"
  weight: 3
  every: 1m
  on_fail: halt
  agent: clerk
- name: speed
  measure: duration_p95_s
  target: "<= 2"
  unit: s
"""


@pytest.fixture
def site(project: Path) -> Path:
    (project / "fitness.yaml").write_text(TARGETS)
    return set_value(project, 0)


def set_value(project: Path, value: int) -> Path:
    (project / "check.py").write_text(f"raise SystemExit({value})")
    return project


def listed(ostler: Ostler) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ostler("fitness", "list", "--json").stdout)
    return found


@pytest.mark.usefixtures("site")
def test_what_was_never_measured_is_unknown_and_no_failure(ostler: Ostler) -> None:
    for words in (("fitness",), ("fitness", "list")):
        done = ostler(*words)
        assert (done.exit_code, done.stdout.count("unknown")) == (0, 2)
        assert "Nothing is known yet." in done.stderr
    assert listed(ostler)["score"] is None


@pytest.mark.usefixtures("site")
def test_running_it_measures_with_progress_and_shows_the_score(ostler: Ostler) -> None:
    done = ostler("fitness", "run")
    assert done.exit_code == 0
    assert "✓ site-up: 0 (== 0)" in done.stderr
    assert "? speed: unknown (0 of 5 sessions) (<= 2)" in done.stderr
    assert "Fitness: 100 of 100." in done.stderr
    one, other = listed(ostler)["targets"]
    assert (one["value"], one["passed"], one["because"], one["values"]) == (0, True, "asked", [0])
    assert (other["value"], other["passed"]) == (None, None)


def test_a_target_that_fails_makes_the_exit_code_1_and_halts_its_agent_until_a_person_releases_it(
    ostler: Ostler, site: Path
) -> None:
    ostler("fitness", "run", "site-up")
    set_value(site, 7)
    done = ostler("fitness", "run", "site-up")
    assert done.exit_code == Exit.FAILED
    assert "The fitness target 'site-up' fails: 7, and should be == 0." in done.stderr
    assert ostler("fitness").exit_code == Exit.FAILED
    assert "Fitness: 0 of 100." in ostler("fitness", "list").stderr
    view = listed(ostler)["targets"][0]
    assert (view["followed"], view["values"], bool(view["failing_since"])) == (["halted"], [0, 7], True)
    refused = ostler("run", "clerk", "answer")
    assert (refused.exit_code, "The agent clerk was halted by fitness" in refused.stderr) == (Exit.CONFLICT, True)
    seen = ostler("top", "--once").stdout
    assert "The agent clerk of the tenant default is halted by fitness since" in seen
    assert "Fitness: site-up of default is 7 since" in seen
    assert "`ostler release --agent clerk`" in ostler("ps").stderr
    released = ostler("release", "--agent", "clerk", "--json")
    assert json.loads(released.stdout) == {"halted": False, "changed": True, "tenant": "default", "agent": "clerk"}
    assert ostler("run", "clerk", "answer").exit_code == 0
    assert ostler("fitness", "run", "site-up").exit_code == Exit.FAILED
    assert ostler("run", "clerk", "answer").exit_code == 0, "it is halted once, for as long as it fails"
    history = json.loads(ostler("fitness", "history", "site-up", "--json").stdout)
    assert [(entry["what"], entry["value"]) for entry in history] == [
        ("asked", 0),
        ("asked", 7),
        ("halted", None),
        ("asked", 7),
    ]
    assert "should be == 0" in ostler("fitness", "history", "site-up").stdout


@pytest.mark.usefixtures("site")
def test_one_agent_is_halted_and_released_by_hand(ostler: Ostler) -> None:
    assert "The agent clerk is halted." in ostler("halt", "a strange bill", "--agent", "clerk").stderr
    assert "The agent clerk was halted already." in ostler("halt", "again", "--agent", "clerk").stderr
    assert "The agent clerk is released." in ostler("release", "--agent", "clerk").stderr
    assert "The agent clerk was not halted." in ostler("release", "--agent", "clerk").stderr


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "site-uq"), "There is no fitness target 'site-uq'. Did you mean 'site-up'?"),
        (("history", "nothing"), "There are: site-up, speed."),
    ],
)
def test_a_misspelt_target_is_named(ostler: Ostler, words: tuple[str, ...], said: str) -> None:
    done = ostler("fitness", *words)
    assert (done.exit_code, said in " ".join(done.stderr.split())) == (Exit.CONFLICT, True), done.stderr


@pytest.mark.usefixtures("site")
def test_a_target_without_a_history_says_how_to_measure_it(ostler: Ostler) -> None:
    assert "`ostler fitness run speed` does it now" in ostler("fitness", "history", "speed").stderr


def test_the_doctor_reads_the_file(ostler: Ostler, site: Path) -> None:
    def found() -> tuple[str, str]:
        checks = json.loads(ostler("doctor", "--json").stdout)
        (check,) = [check for check in checks if check["name"] == "fitness"]
        return check["verdict"], check["found"]

    assert found() == ("ok", "fitness.yaml: site-up, speed")
    (site / "fitness.yaml").write_text("- name: a\n  comand: x\n  target: '== 0'")
    state, said = found()
    assert (state, "did you mean 'command'?" in said) == ("bad", True)


def test_where_there_are_no_targets_it_is_said_where_they_belong(ostler: Ostler, project: Path) -> None:
    done = ostler("fitness")
    assert (done.exit_code, "fitness.yaml" in done.stderr) == (Exit.USAGE, True)
    (project / "fitness.yaml").write_text("- name: a\n  comand: x\n  target: '== 0'")
    for words in (("fitness",), ("run", "clerk", "answer")):
        done = ostler(*words)
        assert (done.exit_code, "did you mean 'command'?" in done.stderr) == (Exit.USAGE, True)


def test_the_last_values_are_drawn_in_letters_that_every_file_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    assert command.sparkline([]) == ""
    assert command.sparkline([1.0, 1.0]) == "=="
    assert command.sparkline([0.0, 7.0, 3.5]) == "_#="
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert command.sparkline([0.0, 7.0]) == "▁█"
