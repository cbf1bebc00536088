"""Sessions in the foreground, and the exit code that says what came of them."""

import json
from pathlib import Path

import pytest

from ostler.cli import follow
from tests.cli.conftest import Ostler


def started(ostler: Ostler, goal: str) -> str:
    return ostler("run", "clerk", goal, "--detach").stdout.strip()


def test_a_run_prints_the_answer_and_narrates_beside_it(ostler: Ostler) -> None:
    result = ostler("run", "clerk", "answer")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "forty-two\n"
    assert "model strategy:clerk (strategy): named in ostler.toml" in result.stderr
    assert "started" in result.stderr
    assert "completed in" in result.stderr
    assert "1 step, 0 tool calls" in result.stderr


def test_a_run_as_json_prints_the_session_and_nothing_else(ostler: Ostler) -> None:
    result = ostler("run", "clerk", "answer", "--json")
    view = json.loads(result.stdout)
    assert (view["status"], view["text"], view["model_kind"]) == ("completed", "forty-two", "strategy")


def test_a_run_as_json_lines_prints_each_event_and_then_the_session(ostler: Ostler) -> None:
    lines = [json.loads(line) for line in ostler("run", "clerk", "answer", "-o", "jsonl").stdout.splitlines()]
    types = ["agent.started", "model.requested", "model.completed", "agent.completed"]
    assert [line["type"] for line in lines[:-1]] == types
    assert lines[-1]["status"] == "completed"


FROZEN = """
input frozen: boolean = false
input ceiling: number = 3
input place: text = ""
ALLOW model
DENY tool.* IF frozen
"""


def test_a_run_can_be_put_under_a_policy_with_inputs(ostler: Ostler, project: Path) -> None:
    (project / "frozen.rules").write_text(f"policy frozen version 2\n{FROZEN}ALLOW tool.*")
    free = ostler("run", "clerk", "chat", "--policy", "frozen.rules", "--input", "ceiling=4.5", "--input", "place=a b")
    assert free.exit_code == 0, free.stderr
    assert "→ call" in free.stderr
    frozen = ostler("run", "clerk", "chat", "--policy", "frozen.rules", "--input", "frozen=true")
    assert "refused" in frozen.stderr
    assert "→ call" not in frozen.stderr
    shown = ostler("inspect", json.loads(ostler("ps", "--all", "--json").stdout)[0]["id"]).stdout
    assert "frozen@2" in shown


@pytest.mark.parametrize(
    ("given", "exit_code", "said"),
    [
        (["--policy", "standrd"], 7, "Did you mean standard?"),
        (["--policy", "nowhere.rules"], 7, "nowhere.rules cannot be read"),
        (["--policy", "frozen.rules", "--input", "frozen"], 2, "is no input"),
        (["--policy", "frozen.rules", "--input", "frozn=true"], 2, "did you mean 'frozen'?"),
        (["--policy", "frozen.rules", "--input", "frozen=1"], 2, "inputs.frozen"),
        (["--policy", "frozen.rules", "--input", "frozen=true", "--input", "frozen=true"], 2, "given twice"),
        (["--input", "frozen=true"], 2, "is declared by no policy"),
    ],
)
def test_a_policy_or_an_input_that_will_not_do_is_told(
    ostler: Ostler, project: Path, given: list[str], exit_code: int, said: str
) -> None:
    (project / "frozen.rules").write_text(FROZEN)
    done = ostler("run", "clerk", "answer", *given)
    assert (done.exit_code, said in done.stderr) == (exit_code, True), done.stderr
    assert not json.loads(ostler("ps", "--all", "--json").stdout)


def test_a_hook_that_is_not_there_is_told_before_a_session_starts(ostler: Ostler, project: Path) -> None:
    hooks = """
from ostler import Continue, hook


@hook("pre_tool", name="manners")
def manners(asked) -> Continue:
    return Continue()
"""
    with (project / "tools.py").open("a") as file:
        file.write(hooks)
    agent = project / "polite.toml"
    agent.write_text('name = "polite"\nmodel = "strategy:clerk"\ntools = ["chat"]\nhooks = ["maners"]')
    done = ostler("run", str(agent), "chat")
    assert (done.exit_code, "hooks[0]: no hook is called 'maners' (did you mean 'manners'?)" in done.stderr) == (
        2,
        True,
    )
    agent.write_text(agent.read_text().replace("maners", "manners"))
    assert ostler("run", str(agent), "chat").exit_code == 0


def test_a_run_that_fails_exits_with_1_and_says_why(ostler: Ostler) -> None:
    result = ostler("run", "clerk", "no such part")
    assert result.exit_code == 1
    assert "failed (error): provider_rejected: There is no part" in result.stderr
    assert "ostler why ses_" in result.stderr
    assert result.stdout == ""


def test_a_failure_and_an_answer_are_said_once_on_the_way_and_once_at_the_end(ostler: Ostler) -> None:
    failed = ostler("run", "clerk", "no such part").stderr
    assert failed.count("There is no part") == 2
    assert "token" not in failed, "nothing was used"
    answered = ostler("run", "clerk", "answer")
    assert (answered.stderr.count("forty-two"), answered.stdout.count("forty-two")) == (1, 1)


@pytest.mark.parametrize("output", ["table", "json", "jsonl"])
def test_what_a_tool_prints_does_not_get_among_the_data(ostler: Ostler, output: str) -> None:
    result = ostler("run", "clerk", "chat", "-o", output)
    assert result.exit_code == 0
    assert "printed by a tool" not in result.stdout
    assert "printed by a tool" in result.stderr


def test_a_goal_that_is_no_text_is_refused(ostler: Ostler) -> None:
    result = ostler("run", "clerk", "\udcff")
    assert result.exit_code == 2
    assert "is not valid UTF-8" in result.stderr


def test_a_run_that_waits_for_approval_exits_with_3_and_says_how_to_go_on(ostler: Ostler, project: Path) -> None:
    result = ostler("run", "clerk", "pay")
    assert result.exit_code == 3
    session = json.loads(ostler("ps", "--json").stdout)[0]["id"]
    assert "[ask-before-paying: money is leaving]" in result.stderr
    assert f"ostler approve {session}" in result.stderr
    assert f"ostler deny {session}" in result.stderr
    assert f"ostler resume {session}" in result.stderr
    assert not (project / "paid").exists()


def test_an_approved_call_is_performed_by_the_resumed_session(ostler: Ostler, project: Path) -> None:
    ostler("run", "clerk", "pay")
    (waiting,) = json.loads(ostler("approvals", "--json").stdout)
    approved = ostler("approve", waiting["session"], waiting["call"], "--reason", "it is due")
    assert approved.exit_code == 0, approved.stderr
    assert "ostler resume" in approved.stderr
    result = ostler("resume", waiting["session"])
    assert (result.exit_code, result.stdout) == (0, "paid it\n")
    assert (project / "paid").read_text() == "5\n"
    assert ostler("approve", waiting["session"]).exit_code == 7


def test_a_denied_call_is_not_performed_and_the_agent_goes_on(ostler: Ostler, project: Path) -> None:
    ostler("run", "clerk", "pay")
    (waiting,) = json.loads(ostler("approvals", "--json").stdout)
    assert ostler("deny", waiting["session"], "-r", "too dear").exit_code == 0
    result = ostler("resume", waiting["session"])
    assert result.exit_code == 0
    assert "denied" not in result.stdout
    assert not (project / "paid").exists()


def test_approving_everything_unseen_is_said_and_recorded(ostler: Ostler, project: Path) -> None:
    result = ostler("run", "clerk", "pay", "--yes", "-o", "jsonl")
    assert result.exit_code == 0
    granted = [line for line in map(json.loads, result.stdout.splitlines()) if line.get("type") == "approval.granted"]
    assert [event["data"]["reason"] for event in granted] == ["run with --yes"]
    assert (project / "paid").read_text() == "5\n"


def test_a_refusal_is_shown_with_its_rule_and_reason(ostler: Ostler, project: Path) -> None:
    result = ostler("run", "clerk", "rob")
    assert result.exit_code == 0
    assert "refused     1.1 rob [no-robbery]: it is not ours" in result.stderr
    assert not (project / "robbed").exists()


@pytest.mark.parametrize(("goal", "reason"), [("look for ever", "step_limit"), ("spend", "token_limit")])
def test_a_run_whose_limit_is_used_up_exits_with_5(ostler: Ostler, goal: str, reason: str) -> None:
    result = ostler("run", "clerk", goal, "--json")
    assert result.exit_code == 5
    assert json.loads(result.stdout)["reason"] == reason


def test_a_run_that_takes_too_long_exits_with_124_and_keeps_its_state(
    ostler: Ostler, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "GRACE_S", 0.01)
    result = ostler("run", "clerk", "hang", "--timeout", "1")
    assert result.exit_code == 124
    (view,) = json.loads(ostler("ps", "--json").stdout)
    assert f"ostler resume {view['id']}" in result.stderr
    assert ostler("resume", view["id"]).exit_code == 0, "what is unknown is told to the agent, which goes on"
    assert (project / "hung").read_text() == "hung\n", "a call that happens once is not begun again"


def test_a_cancelled_session_exits_with_6(ostler: Ostler) -> None:
    session = started(ostler, "hang")
    assert ostler("pause", session).exit_code == 0
    assert ostler("cancel", session).exit_code == 0
    assert ostler("logs", "-f", session).stdout.rstrip().endswith("cancelled by local")
    assert ostler("run", "clerk", "answer", "--detach").exit_code == 0
    assert ostler("resume", session).exit_code == 7


def test_a_paused_session_exits_with_3_until_it_is_resumed(ostler: Ostler) -> None:
    session = started(ostler, "answer")
    ostler("pause", session, "-r", "let me look")
    assert json.loads(ostler("ps", "--json").stdout)[0]["status"] == "paused"
    result = ostler("resume", session)
    assert (result.exit_code, result.stdout) == (0, "forty-two\n")


def test_a_detached_session_waits_for_a_worker(ostler: Ostler) -> None:
    result = ostler("run", "clerk", "answer", "-d")
    session = result.stdout.strip()
    assert session.startswith("ses_")
    assert "No worker is running" in result.stderr
    assert ostler("worker", "--until-idle").exit_code == 0
    assert json.loads(ostler("inspect", session, "--json").stdout)["session"]["text"] == "forty-two"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["clark", "answer"], 7, "Did you mean 'clerk'?"),
        (["./none.toml", "answer"], 7, "none.toml cannot be read"),
        (["clerk", ""], 2, "goal: is empty"),
        ([".", "answer"], 7, ". is a folder, not an agent"),
        (["clerk", "answer", "--workspace", "nowhere"], 2, "nowhere"),
        (["clerk", "answer", "--model", "gpt"], 2, "PROVIDER:NAME"),
        (["clerk"], 2, "Missing argument 'GOAL'"),
    ],
)
def test_what_cannot_be_run_is_refused_with_what_to_do(
    ostler: Ostler, arguments: list[str], code: int, said: str
) -> None:
    result = ostler("run", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert json.loads(ostler("ps", "--all", "--json").stdout) == []


def test_a_malformed_agent_is_refused_with_every_problem(ostler: Ostler, project: Path) -> None:
    (project / "agents/clerk.toml").write_text('name = "Clerk"\ntools = ["lock"]\n[limits]\nsteps = "many"\n')
    result = ostler("run", "clerk", "answer")
    assert result.exit_code == 2
    assert "limits.steps" in result.stderr
    assert "did you mean 'look'?" in result.stderr


def test_broken_tools_of_a_project_are_refused_with_their_place(ostler: Ostler, project: Path) -> None:
    (project / "tools.py").write_text("import nothing_of_this_name\n")
    result = ostler("run", "clerk", "answer")
    assert result.exit_code == 2
    assert "tools.py has 1 problem" in result.stderr
    assert "nothing_of_this_name" in result.stderr
