"""Names that are no facts: inputs that have to be given, of the kind that their use says."""

import pytest

from ostler.domain.constraint.compile import compile_policy, policy_of
from ostler.domain.constraint.facts import Facts
from ostler.domain.constraint.implied import implied
from ostler.domain.constraint.parser import parse
from ostler.kernel.errors import PolicyInvalid

EXAMPLE = """
policy payments version 3

DENY  tool.*            IF unsafe_environment == true                 BECAUSE "environment is unsafe"
ALLOW tool.transfer     IF args.amount <= 1000 AND risk_score < 0.5
REQUIRE approval BY role "finance" WITHIN 2h  FOR tool.transfer IF args.amount > 1000
REQUIRE 2 approvals BY role "risk"            FOR tool.trade    IF risk_score >= 0.6
LIMIT tool.send_email TO 20 PER 1h PER tenant
DENY  tool.send_email   IF HAPPENED(tool.read_secret) WITHIN 10m
DENY  tool.refund       IF SUM(tool.refund.args.amount) WITHIN 24h PER principal > 2000
REDACT output OF tool.crm.* MATCHING pii.email, pii.iban
DENY  tool.send_money   UNLESS args.recipient FROM user, tool.address_book
DENY  role.sends_out    IF context.labels HAS "secret" AND NOT args.host IN allowed_hosts
"""


@pytest.mark.parametrize(
    ("condition", "kind"),
    [
        ("x == true", "boolean"),
        ("x", "boolean"),
        ("NOT x", "boolean"),
        ("x < 0.5", "number"),
        ("args.amount + x > 3", "number"),
        ('x == "prod"', "text"),
        ('x MATCHES "*.example"', "text"),
        ("x > 2h", "duration"),
        ("x <= USD 20", "money"),
        ("args.host IN x", "set"),
        ('x HAS "a"', "set"),
    ],
)
def test_an_undeclared_name_is_an_input_of_the_kind_that_its_use_says(condition: str, kind: str) -> None:
    ((name, found),) = [(one.name, one.kind) for one in implied(parse(f"DENY tool.* IF {condition}"))]
    assert (name, found) == ("x", kind)


def test_the_bare_forms_are_policies_and_what_was_not_given_denies() -> None:
    policy = compile_policy(policy_of("ALLOW operation IF risk_score < 0.5\nDENY if unsafe_environment == true"))
    assert policy.problems_with({}) == [("unsafe_environment", "is missing: a boolean")]
    assert policy.judge(Facts(tool="pay")).effect == "deny"
    assert policy.judge(Facts(tool="pay", inputs={"unsafe_environment": False})).effect == "allow"
    assert policy.judge(Facts(tool="pay", inputs={"unsafe_environment": True})).effect == "deny"


def test_a_whole_policy_may_leave_its_inputs_undeclared() -> None:
    policy = compile_policy(policy_of(EXAMPLE))
    assert {name: one.kind for name, one in policy.inputs.items()} == {
        "unsafe_environment": "boolean",
        "allowed_hosts": "set",
    }
    given = {"unsafe_environment": False, "allowed_hosts": ["api.example.com"]}
    sent = Facts(
        tool="post",
        roles=frozenset({"sends_out"}),
        args={"host": "evil.example"},
        labels=frozenset({"secret"}),
        inputs=given,
    )
    assert policy.judge(sent).rule == "payments#10"
    small = Facts(tool="transfer", args={"amount": 1000}, inputs=given)
    assert policy.judge(small).effect == "allow"


@pytest.mark.parametrize("slip", ["risk_scor < 0.5", "efect == 3", "contxt.labels HAS 3"])
def test_what_is_nearly_a_fact_is_a_slip(slip: str) -> None:
    with pytest.raises(PolicyInvalid, match="there is no"):
        policy_of(f"DENY tool.* IF {slip}")
