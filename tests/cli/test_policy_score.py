"""`ostler policy score`: the table, the JSON, and what it says when it is asked in vain."""

import json

from tests.cli.conftest import Ostler
from tests.tidy.rules import ROOT

OFFICE = str(ROOT / "tests" / "data" / "suites" / "office.json")
ROLES = str(ROOT / "tests" / "data" / "suites" / "office.toml")
SCORE = ("policy", "score", "--suite", OFFICE, "--roles", ROLES)


def test_the_table_has_a_line_for_each_suite_and_for_all(ostler: Ostler) -> None:
    done = ostler(*SCORE, "--rules", "standard")
    assert done.exit_code == 0, done.output
    office, overall = (line.split() for line in done.stdout.splitlines()[-2:])
    assert (office[0], overall[0]) == ("office", "all")
    assert office[1:] == overall[1:]
    assert " ".join(office[1:6]) == "5 4 (80.0%) 1 (20.0%)"
    assert "1 of 4 (25.0%)" in done.stdout
    assert "Not counted: 3 attacks" in done.stderr


def test_json_has_every_task_and_attack(ostler: Ostler) -> None:
    score = json.loads(ostler(*SCORE, "--rules", "standard", "--json").stdout)
    assert score["total"]["done"] == 4
    assert score["total"]["let_through"] == 0
    assert (len(score["tasks"]), len(score["attacks"])) == (5, 12)
    assert score["tasks"][3]["held"] == ["1:pay"]


def test_the_standard_is_what_is_scored_unless_another_policy_is_named(ostler: Ostler) -> None:
    assert json.loads(ostler(*SCORE, "--json").stdout)["policy"] == "standard@1"
    assert json.loads(ostler(*SCORE, "--rules", "strict", "--json").stdout)["policy"] == "strict@1"


def test_details_name_what_needs_a_person_and_what_gets_through(ostler: Ostler) -> None:
    assert "office bill is approved: 1:pay" in ostler(*SCORE, "--details").stderr
    rules = ROOT / "tests" / "data" / "suites" / "open.rules"
    told = ostler(*SCORE, "--rules", str(rules), "--details").stderr
    assert "office steal is let through during summary" in told


def test_a_mistake_is_told_without_a_traceback(ostler: Ostler) -> None:
    for words, says in (
        (("--suite", "none.json", "--roles", ROLES), "none.json cannot be read"),
        (("--suite", OFFICE, "--roles", OFFICE), "is not valid TOML"),
        (("--suite", OFFICE, "--roles", ROLES, "--rules", "standrad"), "Did you mean standard?"),
        (("--suite", OFFICE), "--roles"),
    ):
        done = ostler("policy", "score", *words)
        assert done.exit_code != 0
        assert says in done.stderr
        assert "Traceback" not in done.output
