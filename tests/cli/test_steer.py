"""Commands that tell a session something."""

import json
from pathlib import Path

from tests.cli.conftest import Ostler


def started(ostler: Ostler, goal: str) -> str:
    return ostler("run", "clerk", goal, "--detach").stdout.strip()


def kinds(ostler: Ostler, session: str) -> list[str]:
    return [json.loads(line)["type"] for line in ostler("logs", session, "-o", "jsonl").stdout.splitlines()]


def test_what_is_sent_is_in_the_log(ostler: Ostler) -> None:
    session = started(ostler, "answer")
    result = ostler("send", session, "and be quick")
    assert result.exit_code == 0
    assert "No worker is running" in result.stderr
    assert kinds(ostler, session) == ["agent.started", "input.received"]


def test_a_killed_session_has_ended(ostler: Ostler) -> None:
    session = started(ostler, "answer")
    result = ostler("kill", session, "--json")
    view = json.loads(result.stdout)
    assert (view["status"], view["reason"]) == ("cancelled", "killed")
    again = ostler("kill", session)
    assert again.exit_code == 7
    assert f"ostler fork {session}" in again.stderr


def test_a_cancelled_session_that_nothing_was_under_way_in_ends_at_once(ostler: Ostler) -> None:
    session = started(ostler, "answer")
    assert f"Cancelled {session}." in ostler("cancel", session, "-r", "no need").stderr
    assert kinds(ostler, session) == ["agent.started", "cancel.requested", "agent.cancelled"]


def test_only_the_call_that_waits_can_be_approved(ostler: Ostler, project: Path) -> None:
    ostler("run", "clerk", "pay")
    session = json.loads(ostler("ps", "--json").stdout)[0]["id"]
    assert ostler("approve", session, "7.7").exit_code == 7
    assert ostler("deny", session, "7.7", "--json").exit_code == 7
    assert "approval.granted" not in kinds(ostler, session)


def test_a_fork_shares_the_past_and_hears_something_else(ostler: Ostler) -> None:
    ostler("run", "clerk", "answer")
    session = json.loads(ostler("ps", "--all", "--json").stdout)[0]["id"]
    forked = ostler("fork", session, "--say", "are you sure?")
    name = forked.stdout.strip()
    assert forked.exit_code == 0, forked.stderr
    assert kinds(ostler, name)[-2:] == ["agent.forked", "input.received"]
    assert json.loads(ostler("inspect", name, "--json").stdout)["session"]["origin"] == session
    refused = ostler("fork", session, "--at", "2")
    assert refused.exit_code == 7
    assert "nearest earlier event" in refused.stderr
    assert ostler("replay", name).exit_code == 0
