"""What is found odd about rules, each with a call that shows it."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostler.app.policy.analysis import analyse
from ostler.app.policy.files import policy_from
from ostler.app.policy.findings import Finding
from ostler.app.policy.witness import judged, matched
from ostler.domain.constraint.compile import compile_policy
from ostler.domain.constraint.policy import Policy
from ostler.domain.tool import ToolSpec
from tests.app.policy.randomly import cases, policies

PAY = ToolSpec(
    "pay",
    "Pays.",
    {
        "type": "object",
        "properties": {"amount": {"type": "number"}},
        "required": ["amount"],
        "additionalProperties": False,
    },
    roles=("moves_money",),
)


def found(text: str, tools: list[ToolSpec] | None = None) -> list[Finding]:
    return analyse(policy_from(text, "one"), tools)


@pytest.mark.parametrize(
    ("rules", "rule", "kind"),
    [
        ("ALLOW tool.pay IF args.amount > 5 AND args.amount < 3", "one#1", "never fires"),
        ("DENY tool.pay IF role.deletes AND NOT role.deletes", "one#1", "never fires"),
        ('ALLOW tool.pay IF args.to == "a" AND args.to MATCHES "b*"', "one#1", "never fires"),
        ("DENY tool.pay\nALLOW tool.pay IF args.amount < 3", "one#2", "dead"),
        (
            "DENY tool.pay IF args.amount >= 3\nDENY tool.pay IF args.amount < 3\nALLOW tool.pay IF args.amount > 0",
            "one#3",
            "dead",
        ),
        ("ALLOW tool.pay IF args.amount < 5\nALLOW tool.pay IF args.amount < 3", "one#2", "redundant"),
        ("DENY tool.pay\nDENY tool.pay", "one#2", "redundant"),
        ("default allow\nALLOW tool.pay", "one#1", "redundant"),
        ("REQUIRE 2 approvals FOR tool.pay\nREQUIRE approval FOR tool.pay", "one#2", "redundant"),
        ("ALLOW tool.pay\nDENY tool.pay IF args.amount > 5", "one#1", "overruled"),
        ("DENY tool.x IF COUNT(tool.y) WITHIN 1h < 0", "one#1", "never fires"),
        ("ALLOW tool.x IF risk_score > 1", "one#1", "never fires"),
    ],
)
def test_an_odd_rule_is_found(rules: str, rule: str, kind: str):
    (finding,) = [one for one in found(rules) if one.rule == rule]
    assert finding.kind == kind
    assert (finding.witness is None) == (kind == "never fires")
    assert finding.witness is None or finding.witness.is_confirmed


@pytest.mark.parametrize(
    "rules",
    [
        "REQUIRE approval FOR tool.pay\nREQUIRE 2 approvals FOR tool.pay IF args.amount > 5",
        "ALLOW tool.pay IF args.amount < 5\nALLOW tool.pay IF args.amount > 3",
        "DENY tool.pay IF args.to FROM untrusted\nALLOW tool.pay IF args.to FROM user",
    ],
)
def test_of_rules_that_all_matter_nothing_is_said(rules: str):
    assert [one for one in found(rules) if one.severity == "warning"] == []


def test_calls_of_which_no_rule_speaks_are_shown():
    (gap,) = [one for one in found("ALLOW tool.pay IF args.amount < 5") if one.kind == "gap"]
    assert "tool pay" in gap.message
    assert gap.witness is not None
    assert gap.witness.is_confirmed


def test_of_known_tools_only_what_they_can_be_asked_counts():
    dead = "DENY role.moves_money\nALLOW tool.pay IF args.amount < 5"
    assert [one.kind for one in found(dead) if one.rule == "one#2"] == ["overruled"]
    assert [one.kind for one in found(dead, [PAY]) if one.rule == "one#2"] == ["dead"]
    assert [one.kind for one in found("DENY role.deletes", [PAY]) if one.rule] == ["aims at nothing"]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(policies(), st.lists(cases(), min_size=20, max_size=20))
def test_no_call_refutes_what_is_said_of_a_rule(policy: Policy, calls):
    compiled = compile_policy(policy)
    findings = analyse(policy)
    idle = {one.rule: one.kind for one in findings if one.severity == "warning"}
    assert all(one.witness is None or one.witness.is_confirmed for one in findings)
    for case in calls:
        verdict = judged(compiled, case)
        if verdict.rule.endswith("#error"):
            continue
        assert not [name for name in matched(compiled, case) if idle.get(name) in ("never fires", "aims at nothing")]
        assert idle.get(verdict.rule) != "dead"
