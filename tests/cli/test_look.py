"""Commands that look: what they print for people and for machines."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import Ostler


def ran(ostler: Ostler, goal: str) -> str:
    ostler("run", "clerk", goal)
    session: str = json.loads(ostler("ps", "--all", "--json").stdout)[0]["id"]
    return session


def test_sessions_that_have_ended_are_listed_only_when_asked_for(ostler: Ostler) -> None:
    assert ostler("ps").stdout == ""
    ended, waiting = ran(ostler, "answer"), ran(ostler, "pay")
    listed = ostler("ps")
    assert waiting in listed.stdout
    assert "waiting for approval" in listed.stdout
    assert ended not in listed.stdout
    assert ended in ostler("ps", "--all").stdout
    assert ended in ostler("ps", "--status", "completed").stdout
    assert ostler("ps", "--all", "--agent", "nobody").stdout == ""
    assert len(json.loads(ostler("ps", "--all", "--limit", "1", "--json").stdout)) == 1


def test_every_format_says_the_same(ostler: Ostler) -> None:
    session = ran(ostler, "answer")
    as_json = json.loads(ostler("ps", "-a", "-o", "json").stdout)
    assert as_json == [json.loads(line) for line in ostler("ps", "-a", "-o", "jsonl").stdout.splitlines()]
    assert as_json == yaml.safe_load(ostler("ps", "-a", "-o", "yaml").stdout)
    assert as_json == json.loads(ostler("ps", "-a", "--json").stdout)
    assert as_json[0]["id"] == session


def test_an_id_may_be_shortened_as_long_as_it_is_one_session_s_own(ostler: Ostler) -> None:
    first, second = ran(ostler, "answer"), ran(ostler, "answer")
    for name in (second, second[:-3], second.removeprefix("ses_")[:-3]):
        assert json.loads(ostler("inspect", name, "--json").stdout)["session"]["id"] == second
    ambiguous = ostler("inspect", "ses_0")
    assert ambiguous.exit_code == 7
    assert first in ambiguous.stderr
    unknown = ostler("inspect", "ses_nothing")
    assert unknown.exit_code == 7
    assert "ostler ps --all" in unknown.stderr


def test_errors_are_json_where_the_output_is(ostler: Ostler) -> None:
    result = ostler("inspect", "nothing", "--json")
    assert (result.exit_code, result.stdout) == (7, "")
    assert json.loads(result.stderr)["error"]["code"] == "not_found"
    usage = ostler("logs", "--json", "-f", "nothing")
    assert usage.exit_code == 2
    assert json.loads(usage.stderr)["error"]["code"] == "usage"


def test_logs_show_one_line_for_each_event(ostler: Ostler) -> None:
    session = ran(ostler, "rob")
    lines = ostler("logs", session).stdout.splitlines()
    entries = [json.loads(line) for line in ostler("logs", session, "-o", "jsonl").stdout.splitlines()]
    assert len(lines) == len(entries)
    assert [entry["seq"] for entry in entries] == list(range(1, len(entries) + 1))
    assert any("refused" in line and "no-robbery" in line for line in lines)
    later = ostler("logs", session, "--after", "4").stdout.splitlines()
    assert later == lines[4:]
    assert json.loads(ostler("logs", session, "--json").stdout) == entries


def test_following_an_ended_session_ends(ostler: Ostler) -> None:
    session = ran(ostler, "answer")
    assert ostler("logs", "-f", session).stdout == ostler("logs", session).stdout
    assert ostler("logs", "-f", session, "--after", "99").stdout == ""
    assert ostler("logs", "-f", session, "--json").exit_code == 2


def test_raw_logs_are_the_stored_bytes_and_cloudevents_carry_the_attributes(ostler: Ostler) -> None:
    session = ran(ostler, "answer")
    raw = [json.loads(line) for line in ostler("logs", session, "--raw").stdout.splitlines()]
    assert raw[0]["type"] == "agent.started"
    clouds = [json.loads(line) for line in ostler("logs", session, "--cloudevents").stdout.splitlines()]
    assert clouds[0]["specversion"] == "1.0"
    assert clouds[0]["type"] == "dev.ostler.agent.started"
    assert ostler("logs", session, "--raw", "--cloudevents").exit_code == 2


def test_inspect_shows_usage_limits_rules_and_calls(ostler: Ostler) -> None:
    session = ran(ostler, "pay")
    shown = ostler("inspect", session).stdout
    for part in ("clerk@1", "steps 4", "ask-before-paying", "money is leaving", "amount=5", "ostler approve"):
        assert part in shown
    data = json.loads(ostler("inspect", session, "--json").stdout)
    assert [(call["call"], call["stage"]) for call in data["calls"]] == [("1", "done"), ("1.1", "waiting")]
    assert data["calls"][0]["cost_microusd"] == 2000
    assert data["limits"]["steps"] == 4


def test_inspect_shows_the_state_and_what_the_model_would_be_sent(ostler: Ostler) -> None:
    session = ran(ostler, "rob")
    state = json.loads(ostler("inspect", session, "--state").stdout)
    assert state["session"] == session
    prompt = ostler("inspect", session, "--context").stdout
    assert prompt.startswith("system\nYou are a helpful agent.")
    assert "it is not ours" in prompt
    early = json.loads(ostler("inspect", session, "--context", "1", "--json").stdout)
    assert [message["role"] for message in early["messages"]] == ["user"]
    assert ostler("inspect", session, "--context", "99").exit_code == 7


@pytest.mark.parametrize(
    ("goal", "subject", "said"),
    [
        ("pay", [], ["needs an approval, and waits for it", "ask-before-paying", "money is leaving"]),
        ("rob", ["1.1"], ["rob {}", "refused: nothing was performed", "no-robbery", "it is not ours"]),
        ("rob", ["4"], ["Why call 1.1"]),
        ("rob", ["1"], ["agent.started"]),
        ("rob", [], ["completed", "final_answer", "1.1 rob (no-robbery)"]),
        ("look for ever", [], ["step_limit", "the limit of 4 steps is used up"]),
    ],
)
def test_why_explains_decisions_and_states(ostler: Ostler, goal: str, subject: list[str], said: list[str]) -> None:
    session = ran(ostler, goal)
    shown = ostler("why", session, *subject)
    assert shown.exit_code == 0, shown.stderr
    assert [part for part in said if part not in shown.stdout] == []


def test_why_asks_back_for_a_call_that_is_not_there(ostler: Ostler) -> None:
    session = ran(ostler, "rob")
    assert ostler("why", session, "1.2").exit_code == 7
    assert ostler("why", session, "99").exit_code == 7


def test_approvals_show_what_would_be_done_and_who_asks(ostler: Ostler) -> None:
    assert ostler("approvals").stdout == ""
    session = ran(ostler, "pay")
    shown = ostler("approvals").stdout
    for part in (session, "1.1", "pay", "amount", "5", "ask-before-paying", "money is leaving", "no end"):
        assert part in shown
    (one,) = json.loads(ostler("approvals", session, "--json").stdout)
    assert one["arguments"] == {"amount": 5}


def test_a_damaged_session_does_not_hide_the_others(ostler: Ostler, project: Path) -> None:
    damaged, whole = ran(ostler, "answer"), ran(ostler, "answer")
    alter(project, damaged)
    views = {view["id"]: view for view in json.loads(ostler("ps", "--all", "--json").stdout)}
    assert views[damaged]["reason"] == "unreadable"
    assert views[whole]["text"] == "forty-two"
    assert ostler("inspect", damaged).exit_code == 8
    assert ostler("replay", damaged).exit_code == 8
    assert ostler("resume", damaged).exit_code == 8
    verified = ostler("verify")
    assert verified.exit_code == 8
    assert "event 3 was altered" in verified.stdout
    assert ostler("verify", whole).exit_code == 0


def alter(project: Path, session: str) -> None:
    """Change what the model said, behind the store's back."""
    with closing(sqlite3.connect(project / ".ostler/ostler.db")) as connection, connection:
        changed = connection.execute(
            "UPDATE events SET data = CAST(replace(CAST(data AS TEXT), 'forty-two', 'forty-one') AS BLOB) "
            "WHERE seq = 3 AND stream = (SELECT key FROM streams WHERE name = ?)",
            (session,),
        )
        assert changed.rowcount == 1


def test_a_store_that_is_something_else_is_refused_and_left_alone(ostler: Ostler, project: Path) -> None:
    file = project / "letters.db"
    file.write_text("Dear friend, " * 100)
    result = ostler("--store", f"sqlite:///{file}", "ps")
    assert result.exit_code == 2
    assert "is not an Ostler store" in result.stderr
    assert ostler("--store", f"sqlite:///{project}", "ps").exit_code == 2
    assert file.read_text() == "Dear friend, " * 100
    assert ostler("--store", "mysql://x", "ps").exit_code == 2


def test_a_folder_may_be_named_instead_of_gone_to(ostler: Ostler, project: Path) -> None:
    session = ran(ostler, "answer")
    (project / "deep").mkdir()
    elsewhere = ostler("-C", "deep", "ps", "--all", "--json")
    assert json.loads(elsewhere.stdout)[0]["id"] == session, "the project reaches down into its folders"
    assert Path.cwd() == project


LOOKING = [
    ["ps"],
    ["approvals"],
    ["verify"],
    *([name, "ses_1"] for name in ("logs", "inspect", "why", "replay", "export")),
]


@pytest.mark.parametrize("command", LOOKING, ids=lambda command: command[0])
def test_whoever_only_looks_makes_no_store(ostler: Ostler, project: Path, command: list[str]) -> None:
    named = ostler("--store", "sqlite:///deep/slip.db", *command)
    assert (named.exit_code, named.stdout) == (7, "")
    assert "There is no store at deep/slip.db" in named.stderr
    unnamed = ostler(*command)
    assert unnamed.exit_code == (7 if len(command) > 1 else 0), unnamed.stderr
    assert not (project / "deep").exists()
    assert not (project / ".ostler").exists()


def test_a_list_that_is_empty_says_which(ostler: Ostler) -> None:
    ran(ostler, "answer")
    assert "No sessions are under way." in ostler("ps").stderr
    assert "No sessions of nobody are under way." in ostler("ps", "--agent", "nobody").stderr
    assert "No sessions of nobody." in ostler("ps", "--all", "--agent", "nobody").stderr
    assert (
        "No sessions with the status failed or paused."
        in ostler("ps", "--status", "failed", "--status", "paused").stderr
    )
    assert ostler("ps", "--status", "foo").exit_code == 2
    assert ostler("--store", "", "ps").exit_code == 2


def test_a_session_that_nobody_runs_is_ready_rather_than_running(ostler: Ostler) -> None:
    session = ran(ostler, "pay")
    (waiting,) = json.loads(ostler("ps", "--json").stdout)
    assert (waiting["status"], waiting["worker"], waiting["is_due"]) == ("waiting", None, False)
    ostler("approve", session)
    assert "ready (no worker)" in ostler("ps").stdout
    (ready,) = json.loads(ostler("ps", "--json").stdout)
    assert (ready["status"], ready["worker"], ready["is_due"]) == ("running", None, True)


def test_workers_have_logs_as_well(ostler: Ostler) -> None:
    ran(ostler, "answer")
    streams = [one["stream"] for one in json.loads(ostler("verify", "--json").stdout)]
    (worker,) = (name for name in streams if name.startswith("wrk_"))
    assert "worker.started" in ostler("logs", worker).stdout
    entries = json.loads(ostler("logs", worker, "--json").stdout)
    assert [entry["type"] for entry in entries] == ["worker.started", "worker.stopped"]
    assert json.loads(ostler("logs", worker, "--raw", "--after", "1").stdout)["type"] == "worker.stopped"
    assert ostler("verify", worker).exit_code == 0
    assert ostler("logs", "-f", worker).exit_code == 2
    assert ostler("logs", "wrk_none").exit_code == 7
    inspected = ostler("inspect", worker)
    assert (inspected.exit_code, "is a worker, not a session" in inspected.stderr) == (2, True)


def test_a_session_without_a_name_is_asked_for(ostler: Ostler) -> None:
    result = ostler("logs", "")
    assert (result.exit_code, "The name of the session is empty." in result.stderr) == (2, True)


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_nothing_is_lost_on_a_narrow_terminal(ostler: Ostler, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    session = ran(ostler, "pay")
    (replayed,) = json.loads(ostler("replay", session, "--json").stdout)
    for command, parts in (
        (["approvals"], [session, "amount", "5", "ask-before-paying", "money is leaving"]),
        (["ps"], [session, "clerk@1", "waiting for approval", "pay"]),
        (["verify"], [session, "whole"]),
        (["replay", session], [session, replayed["digest"]]),
    ):
        shown = ostler(*command).stdout
        assert max(map(len, shown.splitlines())) <= width
        folded = "".join(line.strip() for line in shown.splitlines())
        assert [part for part in parts if part not in shown and part not in folded] == []


def test_inspect_counts_and_dates_as_people_do(ostler: Ostler, project: Path) -> None:
    agent = project / "agents/clerk.toml"
    agent.write_text(agent.read_text().replace("100_000", "3_000_000"))
    session = ran(ostler, "rob")
    shown = ostler("inspect", session).stdout
    assert "tokens 3,000,000" in shown
    (asked, *_) = json.loads(ostler("inspect", session, "--json").stdout)["calls"]
    assert asked["began"].endswith("Z")
    assert asked["ended"] >= asked["began"]
    assert json.loads(ostler("why", session, "-o", "json").stdout)["answer"]["status"] == "completed"
