"""`ostler policy propose … apply, withdraw, move`: from a file to what sessions are under, each step by whoever may."""

import json
from pathlib import Path

import pytest

from ostler.cli import policy_change
from ostler.cli.exits import Exit
from tests.cli.conftest import Ostler
from tests.cli.test_look import ran

HOUSE = """
policy house version 1
default allow
DENY tool.look BECAUSE "not on sundays" AS "sundays"
"""
TIGHTER = HOUSE.replace("version 1", "version 2") + 'DENY tool.pay BECAUSE "nothing is paid" AS "frozen"\n'
WIDER = "policy house version 3\ndefault allow\n"


@pytest.fixture
def house(ostler: Ostler) -> Path:
    """Two people who govern, one who does not, and the rules of the house."""
    for name, *scopes in (("ada", "--scope", "*"), ("bo", "--scope", "govern"), ("eve", "--scope", "crm.*")):
        assert ostler("principal", "add", name, *scopes).exit_code == 0
    path = Path("house.rules")
    path.write_text(HOUSE)
    return path


def proposed(ostler: Ostler, path: Path, text: str, *options: str) -> str:
    """The digest of a policy that is proposed."""
    path.write_text(text)
    done = ostler("policy", "propose", str(path), "--as", "ada", *options)
    assert done.exit_code == 0, done.stderr
    return done.stdout.strip()


def listed(ostler: Ostler, *options: str) -> dict[str, dict[str, object]]:
    found = json.loads(ostler("policy", "list", "--json", *options).stdout)
    return {f"{one['name']}@{one['version']}": one for one in found}


def applied(ostler: Ostler, path: Path, text: str) -> str:
    digest = proposed(ostler, path, text)
    assert ostler("policy", "apply", digest, "--as", "ada").exit_code == 0
    return digest


def test_a_first_policy_only_adds_to_what_others_deny_and_is_applied_at_once(ostler: Ostler, house: Path) -> None:
    done = ostler("policy", "propose", str(house), "--because", "it is quieter", "--as", "ada")
    digest = done.stdout.strip()
    assert "house@1 is narrower than having none of its name." in done.stderr
    assert f"ostler policy apply {digest[:12]}" in done.stderr
    done = ostler("policy", "apply", digest[:8], "--as", "ada")
    assert "New sessions are under house@1." in done.stderr
    (one,) = listed(ostler).values()
    assert (one["stage"], one["is_in_force"], one["change"], one["by"]) == ("applied", True, "narrower", "ada")
    assert one["because"] == "it is quieter"
    session = ran(ostler, "look for ever")
    assert "not on sundays" in ostler("inspect", session).stdout
    policies = json.loads(ostler("inspect", session, "--json").stdout)["policies"]
    assert [(one["name"], one["place"]) for one in policies] == [("house", "layer"), ("default", "own")]
    assert policies[0]["digest"] == digest


def test_a_widening_takes_the_approval_of_somebody_else_who_may(ostler: Ostler, house: Path) -> None:
    applied(ostler, house, HOUSE)
    house.write_text(WIDER)
    done = ostler("policy", "propose", str(house), "--as", "ada")
    digest = done.stdout.strip()
    assert "house@3 is wider than house@1." in done.stderr
    assert "Somebody else must approve it" in done.stderr
    for step, by, code, said in (
        ("apply", "ada", Exit.CONFLICT, "is not approved"),
        ("approve", "ada", Exit.DENIED, "ada proposed this policy, and cannot be the one who approves it."),
        ("approve", "eve", Exit.DENIED, "eve lacks the scope 'govern'."),
    ):
        refused = ostler("policy", step, digest, "--as", by)
        assert (refused.exit_code, said in refused.stderr) == (code, True)
    assert ostler("policy", "approve", digest, "--reason", "fine", "--as", "bo").exit_code == 0
    assert ostler("policy", "apply", digest, "--as", "ada").exit_code == 0
    found = listed(ostler)
    assert (found["house@3"]["is_in_force"], found["house@3"]["approved_by"]) == (True, "bo")
    assert (found["house@1"]["stage"], found["house@1"]["is_in_force"]) == ("applied", False)
    assert "no longer applied" in ostler("policy", "list").stdout


def test_without_the_solver_nothing_is_known_to_be_narrower(
    ostler: Ostler, house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy_change, "has_solver", lambda: False)
    done = ostler("policy", "propose", str(house), "--as", "ada", "--json")
    assert json.loads(done.stdout)["change"] == "unknown"
    assert "pip install 'ostler[solver]'" in done.stderr
    assert ostler("policy", "apply", json.loads(done.stdout)["digest"], "--as", "ada").exit_code == Exit.CONFLICT


def test_what_is_only_tried_is_recorded_and_changes_nothing(ostler: Ostler, house: Path) -> None:
    digest = proposed(ostler, house, HOUSE)
    assert ostler("policy", "shadow", digest, "--as", "ada").exit_code == 0
    assert listed(ostler)["house@1"]["stage"] == "shadow"
    session = ran(ostler, "look for ever")
    shown = ostler("inspect", session).stdout
    assert "only tried" in shown
    assert "deny house@1 sundays" in shown
    calls = json.loads(ostler("inspect", session, "--json").stdout)["calls"]
    looks = [call for call in calls if call.get("tool") == "look"]
    assert {(call["stage"], *call["shadow"]) for call in looks} == {("done", "deny house@1 sundays")}


def test_a_proposal_that_does_not_compile_is_refused_where_the_mistake_stands(ostler: Ostler, house: Path) -> None:
    house.write_text('DENY tool.pay IF principl.id == "x"')
    done = ostler("policy", "propose", str(house))
    assert done.exit_code == Exit.USAGE
    assert "line 1, column 18" in done.stderr
    assert "^" in done.stderr
    assert "No policy was proposed." in ostler("policy", "list").stderr


def test_rules_that_changed_need_another_version(ostler: Ostler, house: Path) -> None:
    applied(ostler, house, HOUSE)
    house.write_text(HOUSE + "DENY tool.pay\n")
    done = ostler("policy", "propose", str(house))
    assert done.exit_code == Exit.CONFLICT
    assert "Give the changed policy a new version." in done.stderr


def test_what_was_rejected_is_not_applied(ostler: Ostler, house: Path) -> None:
    digest = proposed(ostler, house, HOUSE)
    assert ostler("policy", "reject", digest, "-r", "sundays are fine", "--as", "bo").exit_code == 0
    assert "is rejected already" in ostler("policy", "apply", digest, "--as", "ada").stderr


def test_the_rules_of_a_proposal_are_printed_as_they_were_written(ostler: Ostler, house: Path) -> None:
    digest = proposed(ostler, house, HOUSE, "--because", "it is quieter")
    shown = ostler("policy", "show", digest[:10])
    assert shown.stdout == HOUSE
    assert "house@1, proposed (narrower), by ada: it is quieter" in shown.stderr
    assert json.loads(ostler("policy", "show", digest, "--json").stdout)["text"] == HOUSE
    assert ostler("policy", "show", "ffff").exit_code == Exit.CONFLICT


def test_a_session_keeps_its_policies_until_it_is_moved(ostler: Ostler, house: Path) -> None:
    applied(ostler, house, HOUSE)
    session = ran(ostler, "pay")
    applied(ostler, house, TIGHTER)
    ostler("approve", session)
    refused = ostler("policy", "move", session, "--as", "eve")
    assert "eve lacks the scope 'govern'." in refused.stderr
    moved = ostler("policy", "move", session, "--reason", "payments are frozen", "--as", "ada")
    assert moved.exit_code == 0, moved.stderr
    assert f"{session} is under house@2, default@1." in moved.stderr
    ostler("resume", session)
    assert not Path("paid").exists(), "an approved call is judged by the rules of today"
    assert "frozen" in ostler("inspect", session).stdout
    kinds = [json.loads(line)["type"] for line in ostler("logs", session, "-o", "jsonl").stdout.splitlines()]
    assert "policy.moved" in kinds
    assert ostler("replay", session).exit_code == 0


def test_a_session_is_moved_to_another_policy_of_its_own(ostler: Ostler, house: Path) -> None:
    session = ran(ostler, "pay")
    Path("own.rules").write_text("policy own version 7\ndefault allow\n")
    assert "is under own@7." in ostler("policy", "move", session, "--policy", "own.rules").stderr
    assert "is under strict@1." in ostler("policy", "move", session, "--policy", "strict").stderr


def test_a_policy_of_all_tenants_holds_in_each_and_is_not_for_people_of_one(ostler: Ostler, house: Path) -> None:
    assert ostler("principal", "add", "kim", "--scope", "govern", "--as", "acme/local").exit_code == 0
    for words in (("--all",), ("--tenant", "default")):
        refused = ostler("policy", "propose", str(house), "--as", "acme/kim", *words)
        assert "kim is of the tenant acme, and governs nothing beyond it." in refused.stderr
    digest = proposed(ostler, house, HOUSE, "--all")
    assert ostler("policy", "apply", digest, "--all", "--as", "bo").exit_code == 0
    assert listed(ostler, "--as", "acme/kim")["house@1"]["tenant"] == "*"
    session = ran(ostler, "look for ever")
    assert "not on sundays" in ostler("inspect", session).stdout


def test_a_policy_is_withdrawn(ostler: Ostler, house: Path) -> None:
    applied(ostler, house, HOUSE)
    assert ostler("policy", "withdraw", "house", "--as", "eve").exit_code == Exit.DENIED
    assert "Somebody else has to do it" in ostler("policy", "withdraw", "house", "--as", "bo").stderr
    assert listed(ostler)["house@1"]["is_in_force"]
    assert ostler("policy", "withdraw", "house", "--as", "bo").exit_code == Exit.DENIED
    assert ostler("policy", "withdraw", "house", "-r", "not needed").exit_code == 0
    assert not listed(ostler)["house@1"]["is_in_force"]
    assert ostler("policy", "withdraw", "house").exit_code == Exit.CONFLICT
