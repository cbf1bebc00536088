"""`ostler policy`: what it prints, how it exits, and that it says where a mistake is."""

import json
from pathlib import Path

import pytest

from ostler.app.policy import checking
from tests.cli.conftest import Ostler
from tests.cli.test_look import ran

RULES = """
policy payments version 3
ALLOW tool.pay IF args.amount <= 10
REQUIRE approval BY role "finance" FOR tool.pay IF args.amount > 10
DENY tool.rob BECAUSE "it is not ours"
"""
EXAMPLES = """
[[examples]]
name = "a small payment passes"
tool = "pay"
args.amount = 5
expect = "allow"

[[examples]]
name = "a large one is for finance"
tool = "pay"
args.amount = 500
facts.principal.roles = ["clerk"]
expect = "require"
rule = "payments#2"
"""


def wrote(name: str, text: str) -> str:
    Path(name).write_text(text)
    return name


def test_rules_without_mistakes_pass(ostler: Ostler) -> None:
    done = ostler("policy", "check", wrote("payments.rules", RULES), "--json")
    assert done.exit_code == 0
    (checked,) = json.loads(done.stdout)
    assert [finding["kind"] for finding in checked["findings"]] == ["gap"]
    assert "payments.rules: 1 note." in done.stderr


def test_a_mistake_is_shown_where_it_stands(ostler: Ostler) -> None:
    done = ostler("policy", "check", wrote("bad.rules", 'DENY tool.pay IF principl.id == "x"'))
    assert done.exit_code == 2
    assert "line 1, column 18" in done.stdout
    assert "principal.id" in done.stdout
    assert "                 ^" in done.stdout
    assert "Traceback" not in done.output


def test_a_rule_that_does_nothing_is_a_warning_with_a_call_that_shows_it(ostler: Ostler) -> None:
    done = ostler("policy", "check", wrote("odd.rules", "DENY tool.pay\nALLOW tool.pay IF args.amount < 3"))
    assert done.exit_code == 1
    assert "dead: odd#2" in done.stdout
    assert "odd.rules:2:1" in done.stdout
    assert "tool pay amount=0" in done.stdout
    assert "deny by odd#1" in done.stdout


def test_a_misspelt_detector_is_a_warning_and_one_of_the_project_is_none(ostler: Ostler) -> None:
    with Path("ostler.toml").open("a") as file:
        file.write('\n[detectors]\n"acme.ticket" = "TCK-[0-9]+"\n')
    rules = "ALLOW model\nREDACT output OF tool.* MATCHING pii.emial\nREDACT output OF tool.* MATCHING acme.ticket"
    done = ostler("policy", "check", wrote("out.rules", rules), "--json")
    assert done.exit_code == 1
    ((checked),) = json.loads(done.stdout)
    (found,) = [finding for finding in checked["findings"] if finding["kind"] == "no detector"]
    assert (found["line"], found["rule"]) == (2, "out#2")
    assert "did you mean 'pii.email'?" in found["message"]


def test_an_empty_file_of_rules_is_a_mistake(ostler: Ostler) -> None:
    done = ostler("policy", "check", wrote("empty.rules", "\n"))
    assert done.exit_code == 2
    assert "the file is empty" in done.stdout


def test_the_tools_of_ostler_are_known_to_the_rules_of_an_agent(ostler: Ostler) -> None:
    agent = wrote("filer.toml", 'name = "filer"\ntools = ["files.*", "pay"]')
    done = ostler("policy", "check", wrote("files.rules", "ALLOW tool.files.raed"), "--agent", agent)
    assert done.exit_code != 7, done.stderr
    assert "files.read" in done.stdout


def test_without_the_solver_text_and_types_are_checked_all_the_same(
    ostler: Ostler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "has_solver", lambda: False)
    done = ostler("policy", "check", wrote("payments.rules", RULES))
    assert done.exit_code == 0
    assert "pip install 'ostler[solver]'" in done.stderr
    assert ostler("policy", "check", wrote("bad.rules", "DENY tool.pay IF x.y")).exit_code == 2


def test_rules_are_checked_against_the_tools_of_an_agent(ostler: Ostler) -> None:
    done = ostler("policy", "check", wrote("typo.rules", "DENY tool.pai"), "--agent", "clerk")
    assert done.exit_code == 2
    assert "did you mean 'pay'?" in done.stdout
    tools = wrote("t.json", json.dumps([{"name": "pay", "description": "Pays.", "parameters": {"type": "object"}}]))
    assert ostler("policy", "check", "typo.rules", "--tools", tools).exit_code == 2


def test_a_policy_that_lets_more_pass_is_told_by_the_exit_code(ostler: Ostler) -> None:
    old = wrote("old.rules", RULES)
    same = ostler("policy", "diff", old, wrote("same.rules", RULES.replace("<= 10", "<= 10.0")), "--json")
    assert (same.exit_code, json.loads(same.stdout)["kind"]) == (0, "equal")
    narrower = ostler("policy", "diff", old, wrote("narrower.rules", RULES + "DENY tool.pay IF args.amount > 100"))
    assert narrower.exit_code == 0
    assert "is held back" in narrower.stdout
    assert "narrower.rules is narrower than old.rules." in narrower.stderr
    wider = ostler("policy", "diff", old, wrote("wider.rules", RULES.replace('BY role "finance" ', "")))
    assert wider.exit_code == 1
    assert "gets further" in wider.stdout
    assert "wider.rules is wider than old.rules." in wider.stderr


def test_examples_beside_rules_are_tried(ostler: Ostler) -> None:
    wrote("payments.rules", RULES)
    wrote("payments.examples.toml", EXAMPLES)
    for place in ("payments.rules", "payments.examples.toml", "."):
        done = ostler("policy", "test", place)
        assert done.exit_code == 0, done.output
        assert "2 examples, none not as expected." in done.stderr
        assert "no example matches payments#3" in done.stderr
    wrote("payments.examples.toml", EXAMPLES.replace("args.amount = 5\n", "args.amount = 50\n"))
    done = ostler("policy", "test")
    assert done.exit_code == 1
    assert "a small payment passes" in done.stdout
    assert "require by payments#2" in done.stdout


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("facts.principal.rolls = []", "did you mean 'principal.roles'?"),
        ("facts.session.steps = true", "must be a whole number"),
        ("args.amount = nan", "must be a finite number"),
        ("expects = 'allow'", "did you mean 'expect'?"),
        ("facts.time.hour = 24", "must be 0 to 23"),
        ("facts.risk_score = 1", "is computed"),
    ],
)
def test_what_no_call_can_be_is_refused(ostler: Ostler, wrong: str, said: str) -> None:
    wrote("payments.rules", RULES)
    wrote("payments.examples.toml", f'[[examples]]\ntool = "pay"\nexpect = "allow"\n{wrong}\n')
    done = ostler("policy", "test")
    assert done.exit_code == 2
    assert said in done.stderr
    assert "examples[0]" in done.stderr


def test_a_call_that_is_described_is_explained(ostler: Ostler) -> None:
    rules = wrote("payments.rules", RULES)
    call = wrote("call.toml", 'tool = "pay"\nargs.amount = 50')
    done = ostler("policy", "explain", call, "--rules", rules)
    assert done.exit_code == 0, done.output
    assert "require by payments#2" in done.stdout
    assert "allow, no: args.amount <= 10" in done.stdout
    assert ostler("policy", "explain", call).exit_code == 2


def test_a_call_of_the_past_is_explained_and_judged_by_other_rules(ostler: Ostler) -> None:
    session = ran(ostler, "rob")
    events = [json.loads(line) for line in ostler("logs", session, "-o", "jsonl").stdout.splitlines()]
    (seq,) = [event["seq"] for event in events if event["type"] == "constraint.failed"]
    done = ostler("policy", "explain", f"{session}/{seq}", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)[0]["verdict"]["rule"] == "no-robbery"
    rules = wrote("open.rules", "default allow")
    done = ostler("policy", "backtest", rules, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["changes"] == {"deny to allow": 1}
    listed = ostler("policy", "backtest", rules).stdout
    assert f"{session}/{seq}" in listed
    assert ostler("policy", "explain", "nothing").exit_code == 2


def test_commands_of_other_modules_are_listed(ostler: Ostler) -> None:
    listed = ostler("policy", "--help").stdout
    for name in ("check", "diff", "test", "explain", "backtest", "score"):
        assert f"  {name} " in listed
