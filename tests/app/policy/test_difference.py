"""How two policies compare: what is proved holds of every call, and what is shown is so."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostler.app.policy.difference import difference
from ostler.app.policy.files import policy_from
from ostler.app.policy.witness import judged, lets_more_pass
from ostler.domain.constraint.compile import compile_policy
from ostler.domain.constraint.policy import Policy
from tests.app.policy.randomly import cases, policies

RANDOMLY = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@RANDOMLY
@given(policies(), policies(), st.lists(cases(), min_size=20, max_size=20))
def test_what_is_proved_holds_of_every_call(old: Policy, new: Policy, calls):
    found = difference(old, new)
    before, after = compile_policy(old), compile_policy(new)
    for case in calls:
        one, other = judged(before, case), judged(after, case)
        if found.kind in ("equal", "narrower"):
            assert not lets_more_pass(other, one), (case, one, other)
        if found.kind in ("equal", "wider"):
            assert not lets_more_pass(one, other), (case, one, other)


@RANDOMLY
@given(policies(), policies())
def test_what_is_shown_is_so(old: Policy, new: Policy):
    found = difference(old, new)
    policies = compile_policy(old), compile_policy(new)
    for witness in (*found.allows, *found.refuses):
        assert witness.is_confirmed, witness
        assert witness.verdicts == tuple(judged(policy, witness.case) for policy in policies)


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ("ALLOW tool.pay IF args.amount < 10", "ALLOW tool.pay IF args.amount < 10.0", "equal"),
        ("ALLOW tool.pay IF args.amount <= 10", "ALLOW tool.pay IF args.amount < 10", "narrower"),
        ("ALLOW tool.pay IF args.amount <= 10", "ALLOW tool.pay IF args.amount <= 11", "wider"),
        ("ALLOW tool.pay", "ALLOW tool.post", "incomparable"),
        ("ALLOW tool.*", "ALLOW tool.*\nDENY tool.pay.*", "narrower"),
        ("ALLOW tool.*", "REQUIRE approval FOR tool.*", "narrower"),
        ("REQUIRE 2 approvals FOR tool.*", "REQUIRE approval FOR tool.*", "wider"),
        ("REQUIRE approval FOR tool.*", 'REQUIRE approval BY role "boss" FOR tool.*', "narrower"),
        ("REQUIRE approval WITHIN 1h FOR tool.*", "REQUIRE approval WITHIN 2h FOR tool.*", "wider"),
        ("ALLOW tool.*\nLIMIT tool.pay TO 2 PER 1h", "ALLOW tool.*\nLIMIT tool.pay TO 2 PER 2h", "narrower"),
        ("ALLOW tool.*\nLIMIT tool.pay TO 2 PER 1h", "ALLOW tool.*\nLIMIT tool.pay TO 3 PER 1h", "wider"),
        ("ALLOW tool.*\nREDACT output OF tool.crm.* MATCHING pii", "ALLOW tool.*", "wider"),
        ("ALLOW tool.pay IF args.to FROM user", "ALLOW tool.pay IF args.to FROM user, tool.book", "wider"),
        ("ALLOW tool.pay IF args.to FROM trusted", "ALLOW tool.pay IF args.to FROM user", "narrower"),
        ('ALLOW tool.get IF args.host IN {"a.b", "*.org"}', 'ALLOW tool.get IF args.host IN {"*.org"}', "narrower"),
        (
            "ALLOW tool.get IF args.host MATCHES /^a+$/",
            "ALLOW tool.get IF args.host MATCHES /^a+$/ AND args.n > 1",
            "narrower",
        ),
        ("ALLOW tool.pay IF risk_score < 0.3", "ALLOW tool.pay IF risk_score <= 0.3", "wider"),
    ],
)
def test_a_changed_policy_is_compared_with_the_one_before(old: str, new: str, kind: str):
    found = difference(policy_from(old, "one"), policy_from(new, "one"))
    assert found.kind == kind
    assert all(witness.is_confirmed for witness in (*found.allows, *found.refuses))
    assert bool(found.allows) == (kind in ("wider", "incomparable"))


def test_a_policy_that_cannot_be_looked_at_is_never_called_narrower():
    text = (
        "ALLOW tool.pay IF args.a * args.b * args.c * args.d == 7 AND args.a * args.a * args.b == 3 * args.c * args.d"
    )
    assert difference(policy_from("ALLOW tool.x", "one"), policy_from(text, "one")).kind in ("unknown", "incomparable")


@pytest.mark.parametrize(
    "rule",
    [
        'ALLOW tool.pay IF args.to == "b" AND args.to FROM user',
        "ALLOW tool.pay IF args.amount FROM user AND args.amount == 7",
        'ALLOW tool.pay IF args.to < "b" AND NOT args.to FROM user AND args.to IN {"", "a*"}',
        "ALLOW tool.pay IF NOT destinations FROM user",
        "ALLOW tool.pay IF EXISTS(args.amount) AND args.amount / args.rate > 2 AND args.rate < 0",
        "ALLOW tool.pay IF NOT 8 >= -(args.amount / args.rate)",
    ],
)
def test_who_said_what_is_shown_as_the_gate_hears_it(rule: str):
    """What is blank everybody has said; what is short counts only where it is set apart; nothing is divided by 0."""
    (witness,) = difference(policy_from("default deny", "old"), policy_from(rule, "new")).allows
    assert witness.is_confirmed, witness


@pytest.mark.parametrize("condition", ["args.amount + 0.1 == 0.3", "args.amount * args.amount == 2"])
def test_what_only_exact_numbers_can_do_is_not_claimed(condition: str):
    """The proof is about exact numbers; calls are judged with those that a computer has."""
    (witness,) = difference(policy_from("default deny", "old"), policy_from(f"ALLOW * IF {condition}", "new")).allows[
        :1
    ]
    assert not witness.is_confirmed
