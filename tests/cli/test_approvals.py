"""Approvals in the names of several people: who may decide, what they see, and what becomes of the call."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ostler.cli.exits import Exit
from tests.cli.conftest import Ostler
from tests.cli.test_steer import kinds

DESK = """
name = "desk"
tools = ["pay"]
policy = "desk.rules"
"""
RULES = {
    "finance": 'REQUIRE approval BY role "finance" FOR tool.pay BECAUSE "money is leaving"',
    "two": 'REQUIRE 2 approvals BY role "finance" FOR tool.pay',
    "soon": 'REQUIRE approval BY role "finance" WITHIN 1s FOR tool.pay',
    "anybody": "REQUIRE approval FOR tool.pay\nDENY tool.pay IF args.amount > 100",
}


@pytest.fixture(autouse=True)
def people(ostler: Ostler) -> None:
    """Uma asks for things; Finn and Fay are of finance, and Cara is a clerk who may approve."""
    for name, *rights in (
        ("uma", "--scope", "*", "--role", "finance"),
        ("finn", "--role", "finance"),
        ("fay", "--role", "finance"),
        ("cara", "--scope", "approve"),
    ):
        assert ostler("principal", "add", name, *rights).exit_code == 0


def asking(ostler: Ostler, project: Path, rules: str) -> str:
    """A session of Uma that waits before it pays 5."""
    (project / "agents/desk.toml").write_text(DESK)
    (project / "agents/desk.rules").write_text(RULES[rules])
    done = ostler("run", "desk", "pay", "--as", "uma")
    assert done.exit_code == Exit.WAITING, done.stderr
    session: str = json.loads(ostler("ps", "--json").stdout)[0]["id"]
    return session


def paid() -> str:
    return Path("paid").read_text() if Path("paid").exists() else ""


def test_a_run_does_not_wait_for_a_person_whom_a_program_of_the_agent_waits_for(ostler: Ostler, project: Path) -> None:
    (project / "agents/desk.toml").write_text(DESK.replace('["pay"]', '["pay", "code.run"]'))
    (project / "agents/desk.rules").write_text(f"{RULES['anybody']}\nALLOW tool.code.run\nALLOW model")
    done = ostler("run", "desk", "compute", "--timeout", "30")
    assert done.exit_code == Exit.WAITING, done.stderr
    assert ostler("approve", json.loads(ostler("ps", "--json").stdout)[0]["id"], "--as", "cara").exit_code == 0
    assert paid() == ""


def test_the_session_is_of_whoever_started_it(ostler: Ostler, project: Path) -> None:
    session = asking(ostler, project, "finance")
    assert json.loads(ostler("inspect", session, "--json").stdout)["by"]["id"] == "uma"
    (one,) = json.loads(ostler("approvals", "--json").stdout)
    assert one["by"] == "uma"


def test_each_sees_what_they_may_decide_about(ostler: Ostler, project: Path) -> None:
    session = asking(ostler, project, "finance")
    shown = ostler("approvals").stdout
    assert "1 approval of the role finance" in shown
    assert "cannot decide: it takes the role finance" in shown, "the owner of the store is not of finance"
    mine = {
        name: [(one["session"], one["yours"]) for one in json.loads(done.stdout)]
        for name in ("finn", "cara", "uma")
        for done in [ostler("approvals", "--mine", "--as", name, "--json")]
    }
    assert mine == {"finn": [(session, "approve")], "cara": [], "uma": [(session, "deny")]}
    assert "may only deny or ask back: uma asked for it" in ostler("approvals", "--as", "uma").stdout
    assert "you " not in ostler("approvals", "--as", "finn").stdout
    assert "Nothing waits for your approval." in ostler("approvals", "--mine", "--as", "cara").stderr


def test_only_the_role_that_the_rule_names_counts_and_never_who_asked(ostler: Ostler, project: Path) -> None:
    session = asking(ostler, project, "finance")
    for name, said in (("cara", "it takes the role finance"), ("uma", "cannot be the one who approves it")):
        refused = ostler("approve", session, "--as", name)
        assert (refused.exit_code, said in refused.stderr) == (Exit.CONFLICT, True)
    assert ostler("approve", session, "-r", "checked", "--as", "finn").exit_code == 0
    late = ostler("deny", session, "1.1", "--as", "fay")
    assert late.exit_code == Exit.CONFLICT
    assert ostler("resume", session).exit_code == 0
    assert paid() == "5\n"
    found = kinds(ostler, session)
    assert (found.count("approval.granted"), found.count("approval.rejected")) == (1, 3)
    assert "finn: checked" in ostler("why", session, "1.1").stdout


def test_a_quorum_waits_for_the_last_of_them(ostler: Ostler, project: Path) -> None:
    session = asking(ostler, project, "two")
    assert "it still needs 1 approval of the role finance" in ostler("approve", session, "--as", "finn").stderr
    assert "finn has approved it already" in ostler("approve", session, "--as", "finn").stderr
    assert ostler("approvals", "--mine", "--as", "finn", "--json").stdout != "[]"
    assert ostler("resume", session).exit_code == Exit.WAITING
    assert "still needs" not in ostler("approve", session, "--as", "fay").stderr
    assert ostler("resume", session).exit_code == 0
    assert paid() == "5\n"


def test_arguments_are_changed_by_whoever_approves_and_judged_again(ostler: Ostler, project: Path) -> None:
    session = asking(ostler, project, "anybody")
    assert ostler("approve", session, "--args", '{"amount": 3}', "--as", "cara").exit_code == 0
    assert ostler("resume", session).exit_code == 0
    assert paid() == "3\n"
    other = asking(ostler, project, "anybody")
    assert ostler("approve", other, "--args", '{"amount": 300}', "--as", "cara").exit_code == 0
    assert ostler("resume", other).exit_code == 0
    assert paid() == "3\n", "the rules deny it, whoever has approved it"


def test_asking_back_leaves_the_call_undone_and_the_question_is_told(ostler: Ostler, project: Path) -> None:
    session = asking(ostler, project, "finance")
    assert "Asked about call 1.1" in ostler("ask", session, "What is it for?", "--as", "finn").stderr
    assert ostler("resume", session).exit_code == 0
    assert paid() == ""
    assert "finn asks before deciding: What is it for?" in ostler("inspect", session, "--context").stdout


def test_nobody_in_time_is_neither_a_yes_nor_a_no(ostler: Ostler, project: Path) -> None:
    session = asking(ostler, project, "soon")
    (one,) = json.loads(ostler("approvals", "--json").stdout)
    while datetime.now(UTC) < datetime.fromisoformat(one["expires"]):
        pass
    late = ostler("approve", session, "--as", "finn")
    assert (late.exit_code, "the time for it is over" in late.stderr) == (Exit.CONFLICT, True)
    assert ostler("resume", session).exit_code == 0
    assert paid() == ""
    found = kinds(ostler, session)
    assert "approval.expired" in found
    assert not {"approval.granted", "approval.denied"} & set(found)


def test_an_approval_of_another_call_than_the_one_looked_at_does_not_count(ostler: Ostler, project: Path) -> None:
    session = asking(ostler, project, "finance")
    (one,) = json.loads(ostler("approvals", "--as", "finn", "--json").stdout)
    other = ostler("approve", session, "--digest", "0" * 64, "--as", "finn")
    assert (other.exit_code, "not the one that was looked at" in other.stderr) == (Exit.CONFLICT, True)
    assert ostler("approve", session, "--digest", one["digest"], "--as", "finn").exit_code == 0


def test_approving_unseen_leaves_to_others_what_is_for_others(ostler: Ostler, project: Path) -> None:
    session = asking(ostler, project, "finance")
    left = ostler("resume", session, "--yes", "--as", "uma")
    assert left.exit_code == Exit.WAITING
    assert "Call 1.1 is not for uma to approve: uma asked for it" in left.stderr
    assert ostler("resume", session, "--yes", "--as", "finn").exit_code == 0
    assert paid() == "5\n"


def test_nobody_steers_the_session_of_another_tenant(ostler: Ostler, project: Path) -> None:
    session = asking(ostler, project, "finance")
    ostler("principal", "add", "kim", "--scope", "*", "--role", "finance", "--as", "acme/local")
    before = kinds(ostler, session)
    for words in (
        ("approve", session),
        ("deny", session),
        ("ask", session, "Why?"),
        ("send", session, "stop"),
        ("pause", session),
        ("resume", session),
        ("cancel", session),
        ("kill", session),
        ("fork", session),
        ("policy", "move", session),
    ):
        refused = ostler(*words, "--as", "acme/kim")
        assert (refused.exit_code, "There is no session" in refused.stderr) == (Exit.CONFLICT, True), words
    assert kinds(ostler, session) == before
    assert json.loads(ostler("approvals", "--as", "acme/kim", "--json").stdout) == []
    assert json.loads(ostler("ps", "--as", "acme/kim", "--json").stdout) == []


@pytest.mark.parametrize("command", ["approve", "deny", "ask", "pause", "cancel", "kill", "send"])
def test_who_steers_is_in_the_log(ostler: Ostler, project: Path, command: str) -> None:
    session = asking(ostler, project, "finance")
    words = (command, session, "hello") if command in ("ask", "send") else (command, session)
    assert ostler(*words, "--as", "finn").exit_code == 0
    raw = [json.loads(line) for line in ostler("logs", session, "--raw").stdout.splitlines()]
    assert "finn" in [event.get("by") for event in raw[4:]]
