"""`ostler drift` and `ostler models trial`, as they are typed."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ostler.app import plugins
from ostler.cli.exits import Exit
from ostler.domain.model import ModelRequest, Reply
from ostler.testing import calls
from tests.cli.conftest import Ostler


def rash(request: ModelRequest) -> Reply:
    """Robs where another one would pay, and answers where it would look."""
    goal = next(iter(request.messages))
    first = len(request.messages) == 1
    return calls(("rob", {})) if first and getattr(goal, "text", "") == "pay" else Reply("whatever")


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plugins.STRATEGIES, "rash", "tests.cli.test_drift:rash")


def run(ostler: Ostler, goal: str, *, model: str = "strategy:clerk", times: int = 1) -> None:
    for _ in range(times):
        ostler("run", "clerk", goal, "--model", model, "--yes")


def test_a_changed_agent_is_told_from_the_one_before_with_an_exit_code_for_scripts(
    ostler: Ostler, tmp_path: Path
) -> None:
    run(ostler, "chat", times=8)
    run(ostler, "chat", model="strategy:rash", times=8)
    done = ostler("drift", "clerk", "--svg", "drift.svg")
    assert done.exit_code == Exit.FAILED, done.output
    assert "clerk: strategy:clerk to strategy:rash (recorded)" in done.stdout
    assert "Different since: steps from 2 to 1, a session more often takes less (delta -1.00" in done.stdout
    assert "tool chat" in done.stdout
    assert ElementTree.parse(tmp_path / "drift.svg").getroot().tag.endswith("svg")
    told = json.loads(ostler("drift", "clerk", "--json").stdout)
    assert (told["before"]["sessions"], told["after"]["sessions"]) == (8, 8)
    assert {one["name"] for one in told["comparison"]["compared"] if one["differs"]} >= {"tools", "steps"}


def test_an_agent_that_does_the_same_has_not_drifted_and_what_would_have_been_found_is_said(ostler: Ostler) -> None:
    run(ostler, "answer", times=12)
    sessions = json.loads(ostler("ps", "--all", "--json").stdout)
    middle = sorted(one["id"] for one in sessions)[6]
    done = ostler("drift", "clerk", "--after", middle, "--before", middle)
    assert done.exit_code == Exit.DONE, done.output
    assert "No difference found." in done.stdout
    assert "With 6 and 6 sessions" in done.stdout


def test_changes_are_listed_and_none_are_none(ostler: Ostler) -> None:
    run(ostler, "answer")
    assert "has not changed" in ostler("drift", "clerk", "--changes").stderr
    assert json.loads(ostler("drift", "clerk", "--changes", "--json").stdout) == []
    run(ostler, "answer", model="strategy:rash")
    done = ostler("drift", "clerk", "--changes")
    assert done.exit_code == Exit.DONE
    assert "strategy:clerk to strategy:rash" in done.stdout
    (change,) = json.loads(ostler("drift", "clerk", "--changes", "--json").stdout)
    assert (change["kind"], change["session"][:4]) == ("recorded", "ses_")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("clerk",), Exit.CONFLICT, "has not changed"),
        (("clerk", "--after", "2020-01-01"), Exit.CONFLICT, "Too few sessions of clerk"),
        (("clerk", "--after", "nonsense"), Exit.CONFLICT, "driven by 'nonsense'"),
        (("clerk", "--since", "soon"), Exit.USAGE, "no span of time"),
        (("clerk", "--changes", "--after", "2020-01-01"), Exit.USAGE, "compares nothing"),
        (("nobody", "--before", "2020-01-01"), Exit.CONFLICT, "Too few sessions of nobody"),
    ],
)
def test_what_cannot_be_compared_is_said_plainly(
    ostler: Ostler, arguments: tuple[str, ...], code: Exit, says: str
) -> None:
    run(ostler, "answer")
    done = ostler("drift", *arguments)
    assert done.exit_code == code
    assert says in done.stderr
    assert "Traceback" not in done.output


def test_a_trial_shows_where_another_model_would_have_decided_otherwise_and_does_nothing(
    ostler: Ostler, tmp_path: Path
) -> None:
    run(ostler, "pay")
    assert (tmp_path / "paid").read_text() == "5\n"
    done = ostler("models", "trial", "strategy:rash", "--against", "clerk")
    assert done.exit_code == Exit.DONE, done.output
    assert "strategy:rash on 2 decisions of 1 session of clerk" in done.stdout
    assert "other tools" in done.stdout
    assert 'pay {"amount":5}' in done.stdout
    assert not (tmp_path / "robbed").exists()
    assert (tmp_path / "paid").read_text() == "5\n"
    newest = json.loads(ostler("ps", "--all", "--json").stdout)[0]
    assert (newest["reason"], newest["model"]) == ("trial", "strategy:rash")
    assert "to try strategy:rash" in ostler("logs", newest["id"]).stdout
    told = json.loads(ostler("models", "trial", "strategy:clerk", "--against", "clerk@1", "--json").stdout)
    assert (told["counts"], told["exact"]["value"]) == ({"same": 2}, 1.0)
    assert told["cost_then_microusd"] == told["cost_now_microusd"] == 2000


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("strategy:rash", "--against", "nobody"), "no decision of nobody"),
        (("strategy:unknown", "--against", "clerk"), "no strategy 'unknown'"),
        (("anthropic:x", "--against", "clerk"), "ANTHROPIC_API_KEY"),
    ],
)
def test_a_trial_that_cannot_be_held_says_why(ostler: Ostler, arguments: tuple[str, ...], says: str) -> None:
    run(ostler, "answer")
    done = ostler("models", "trial", *arguments)
    assert done.exit_code != Exit.DONE
    assert says in done.stderr
    assert "Traceback" not in done.output


def test_trials_are_no_sessions_of_the_agent_in_what_was_used(ostler: Ostler) -> None:
    run(ostler, "answer")
    ostler("models", "trial", "strategy:rash", "--against", "clerk")
    used = json.loads(ostler("usage", "--by", "agent", "--json").stdout)
    assert sorted(json.dumps(used).count(name) > 0 for name in ("clerk@1", "clerk@1 (trial)")) == [True, True]
