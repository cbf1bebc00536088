"""What rules say of calls: deny over require over allow over the default, and nothing that is missing opens a door."""

from typing import Any

import pytest

from benchmarks import verdicts
from ostler.domain.constraint.compile import Compiled, compile_policy, policy_of
from ostler.domain.constraint.facts import Facts
from ostler.domain.constraint.layers import judge_layers
from ostler.domain.constraint.policy import Policy, Rule
from ostler.domain.constraint.targets import Called
from ostler.domain.constraint.thresholds import thresholds
from ostler.domain.tool import ToolSpec
from ostler.kernel.errors import DefinitionInvalid, PolicyInvalid


def compiled(*rules: str, name: str = "house") -> Compiled:
    return compile_policy(policy_of("\n".join(rules), name))


def effect(rules: str, **facts: Any) -> str:
    return compiled(rules).judge(Facts(**{"tool": "pay", **facts})).effect


@pytest.mark.parametrize(
    ("rules", "expected", "rule"),
    [
        ("ALLOW *\nDENY tool.pay", "deny", "house#2"),
        ("DENY tool.pay\nREQUIRE approval FOR *", "deny", "house#1"),
        ("ALLOW *\nREQUIRE approval FOR *", "require", "house#2"),
        ("ALLOW tool.other", "deny", "house#default"),
        ("default allow\nDENY tool.other", "allow", ""),
        ("ALLOW tool.p*\nALLOW *", "allow", "house#1"),
        ('DENY * AS "never"', "deny", "never"),
        ("REDACT output OF * MATCHING pii.email\nALLOW *", "allow", "house#2"),
    ],
)
def test_a_denial_wins_then_an_approval_then_an_allowance(rules: str, expected: str, rule: str) -> None:
    found = compiled(rules).judge(Facts(tool="pay"))
    assert (found.effect, found.rule) == (expected, rule)
    assert (found.policy, len(found.digest)) == ("house@1", 16)


def test_the_demands_of_all_rules_that_ask_are_made() -> None:
    rules = 'REQUIRE approval BY role "a" WITHIN 2h FOR *\nREQUIRE 2 approvals BY role "b", "c" FOR tool.* BECAUSE "d"'
    first, second = compiled(rules).judge(Facts(tool="pay")).demands
    assert (first.count, first.roles, first.within_s) == (1, ("a",), 7200.0)
    assert (second.count, second.roles, second.within_s, second.reason) == (2, ("b", "c"), None, "d")


def test_a_model_is_used_unless_a_rule_refuses_it() -> None:
    rules = compiled("ALLOW tool.x\nDENY model.big-*")
    assert rules.judge(Facts(operation="model", tool="small")).effect == "allow"
    assert rules.judge(Facts(operation="model", tool="big-1")).effect == "deny"
    assert rules.judge(Facts(operation="memory", tool="notes")).effect == "deny"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "missing_attribute"),
        ("5", "wrong_type"),
        (True, "wrong_type"),
        ([], "wrong_type"),
        (float("nan"), "not_finite"),
        (float("inf"), "not_finite"),
        (float("-inf"), "not_finite"),
    ],
)
@pytest.mark.parametrize(
    "rule", ["DENY tool.pay IF args.n > 5", "ALLOW tool.pay IF args.n < 5", "DENY * IF NOT args.n == 1"]
)
def test_what_is_missing_or_of_the_wrong_type_denies(value: Any, code: str, rule: str) -> None:
    found = compiled("default allow", rule).judge(Facts(tool="pay", args={} if value is None else {"n": value}))
    assert (found.effect, found.rule) == ("deny", "house#error")
    assert "args.n" in found.reason
    assert f"policy.error.{code}" in found.reason


@pytest.mark.parametrize(
    ("rules", "facts"),
    [
        ("input flag: boolean\nALLOW * IF flag OR true", {}),
        ("input flag: boolean = true\nALLOW * IF flag", {"inputs": {"flag": "true"}}),
        ("input flag: boolean = true\nALLOW * IF flag", {"inputs": {"flagg": True}}),
        ("ALLOW * IF 1 / args.n > 0", {"args": {"n": 0}}),
        ("ALLOW * IF args.n * 1e300 > 0", {"args": {"n": 1e300}}),
        ("ALLOW * IF args.to FROM user", {"args": {"to": "a"}}),
        ("ALLOW * IF NOT HAPPENED(tool.x) WITHIN 1h", {}),
        ("ALLOW * IF session.steps < 5", {"steps": float("nan")}),
        ("ALLOW * IF session.steps < 5", {"steps": True}),
    ],
)
def test_an_error_denies_whatever_it_is(rules: str, facts: dict[str, Any]) -> None:
    found = compiled(rules).judge(Facts(tool="pay", **facts))
    if rules.endswith("OR true"):
        assert found.effect == "allow"  # what is certain is not asked
    else:
        assert (found.effect, found.rule) == ("deny", "house#error")


class Broken:
    def said(self, value: object, sources: Any) -> bool:
        raise OSError("nobody is there")


def test_sources_that_fail_deny() -> None:
    found = compiled("default allow\nDENY * UNLESS args.to FROM user").judge(
        Facts(tool="pay", args={"to": "a"}, sources=Broken())
    )
    assert (found.effect, found.rule) == ("deny", "house#error")


def test_an_argument_may_be_missing_where_the_rule_asks_for_it() -> None:
    rules = "default allow\nDENY tool.pay IF EXISTS(args.n) AND args.n / 2 > 5"
    assert effect(rules) == "allow"
    assert effect(rules, args={"n": None}) == "allow"
    assert effect(rules, args={"n": 12}) == "deny"
    assert effect(rules, args={"n": 8}) == "allow"
    assert effect(rules, args={"n": "8"}) == "deny"


def test_a_role_that_a_tool_does_not_have_settles_a_condition_before_it_asks() -> None:
    rules = 'default allow\nDENY tool.* IF role.sends_out AND args.host != "ours"'
    assert effect(rules) == "allow"
    assert effect(rules, roles=frozenset({"sends_out"})) == "deny"
    assert effect(rules, roles=frozenset({"sends_out"}), args={"host": "ours"}) == "allow"


@pytest.mark.parametrize(
    ("condition", "args", "holds"),
    [
        ('args.h IN {"a.example", "*.org"}', {"h": "x.org"}, True),
        ('args.h IN {"a.example", "*.org"}', {"h": "a.exampleX"}, False),
        ('args.l HAS "*"', {"l": ["a"]}, False),
        ("args.p > USD 20", {"p": "USD 20.01"}, True),
        ("args.p > USD 20", {"p": {"amount": 20, "currency": "USD"}}, False),
        ("args.d >= 10m", {"d": "600s"}, True),
        ('args.u MATCHES "http://*.example/*"', {"u": "http://a.example/b"}, True),
        ("args.u MATCHES /^[0-9]+$/", {"u": "12"}, True),
        ("args.u MATCHES /^[0-9]+$/", {"u": "12a"}, False),
        ("args.a == args.b", {"a": "x", "b": "x"}, True),
        ("LENGTH(args.l) > 1", {"l": [1, 2]}, True),
        ('LOWER(args.u) == "a"', {"u": "A"}, True),
        ("args.x.0.y == 1", {"x": [{"y": 1}]}, True),
        ("budget.tokens_left < 100", {}, False),
        ("budget.tokens_left - 5 < 100", {}, False),
        ('time.weekday == "thu" AND time.hour == 0 AND time.date == "1970-01-01"', {}, True),
    ],
)
def test_a_condition_holds_where_it_says_so(condition: str, args: dict[str, Any], holds: bool) -> None:
    found = compiled(f"default allow\nDENY * IF {condition}").judge(Facts(tool="pay", args=args))
    assert found.rule != "house#error", found.reason
    assert (found.effect == "deny") == holds


def test_risk_parts_are_added_exactly_and_capped() -> None:
    parts = ("RISK 0.1", "RISK 0.2 IF role.deletes", 'RISK 0.9 IF context.untrusted BECAUSE "read it"')
    policy = compiled(*parts, "DENY * IF risk_score > 0.3", "ALLOW *")
    deletes = frozenset({"deletes"})
    assert policy.judge(Facts(tool="rm", roles=deletes)).risk == 0.3
    assert policy.judge(Facts(tool="rm", roles=deletes)).effect == "allow"
    assert policy.judge(Facts(tool="rm", labels=frozenset({"untrusted"}))).risk == 1.0
    counted = policy.explain(Facts(tool="rm", labels=frozenset({"untrusted"}))).risk
    assert [(part.amount, part.because, part.counts) for part in counted] == [(0.1, "", True), (0.9, "read it", True)]


def test_a_limit_refuses_the_call_that_would_exceed_it() -> None:
    policy = compiled("ALLOW *\nLIMIT tool.mail TO 2 PER 1h PER tenant\nLIMIT SUM(tool.pay.args.n) TO 100 PER 1d")
    assert [(one.ceiling, one.per, one.question) for one in policy.limits] == [(2, "tenant", 0), (100, "session", 1)]
    assert policy.judge(Facts(tool="mail", history=(1.0, 0.0))).effect == "allow"
    assert policy.judge(Facts(tool="mail", history=(2.0, 0.0))).effect == "deny"
    assert policy.judge(Facts(tool="pay", args={"n": 40}, history=(0.0, 60.0))).effect == "allow"
    assert policy.judge(Facts(tool="pay", args={"n": 40}, history=(0.0, 60.5))).effect == "deny"
    assert policy.judge(Facts(tool="pay", args={}, history=(0.0, 0.0))).rule == "house#error"


def test_an_explanation_names_what_kept_each_rule_from_matching() -> None:
    policy = compiled('DENY tool.pay IF args.n > 5 AND args.to == "x"\nALLOW tool.pay IF args.n <= 5\nDENY tool.other')
    explanation = policy.explain(Facts(tool="pay", args={"n": 4, "to": "x"}))
    assert [(one.rule, one.matched, one.unmet) for one in explanation.rules] == [
        ("house#1", False, "args.n > 5"),
        ("house#2", True, ""),
    ]
    assert explanation.facts == (("args.n", "4"), ("args.to", "x"))


def test_no_layer_undoes_what_one_above_it_refuses() -> None:
    tenant = compiled("default allow\nDENY tool.pay IF COUNT(tool.pay) WITHIN 1h > 2", name="tenant")
    agent = compiled('input who: text\nALLOW * IF who == "a"\nREQUIRE approval FOR tool.mail', name="agent")
    inputs = {"who": "a"}
    assert judge_layers((tenant, agent), Facts(tool="pay", inputs=inputs, history=(3.0,))).rule == "tenant#1"
    assert judge_layers((tenant, agent), Facts(tool="pay", inputs=inputs, history=(0.0,))).effect == "allow"
    assert judge_layers((tenant, agent), Facts(tool="mail", inputs=inputs, history=(0.0,))).effect == "require"
    assert judge_layers((tenant, agent), Facts(tool="pay", inputs={"who": "b"}, history=(0.0,))).effect == "deny"
    assert (
        judge_layers((tenant, agent), Facts(tool="pay", inputs={"who": "a", "x": 1}, history=(0.0,))).effect == "deny"
    )
    assert judge_layers((), Facts(tool="pay")).effect == "deny"


def test_thresholds_are_the_same_rules() -> None:
    policy = compile_policy(thresholds({"max_risk_score": 0.7, "compliance_required": True}))

    def judged(risk: float, **inputs: Any) -> str:
        return policy.judge(Facts(tool="x", effect="read", inputs={"assessed_risk": risk, **inputs})).effect

    assert judged(0.70, compliant=True) == "allow"
    assert judged(0.71, compliant=True) == "deny"
    assert judged(0.1, compliant=False) == "deny"
    assert judged(0.1) == "deny"


def test_a_threshold_that_is_not_there_is_told_with_the_one_that_was_meant() -> None:
    with pytest.raises(DefinitionInvalid, match="did you mean 'max_risk_score'") as caught:
        thresholds({"max_risk_scor": 0.7, "compliance_required": "yes"})
    assert len(caught.value.problems) == 2


def test_a_tool_that_no_call_could_use_is_told_from_the_others() -> None:
    policy = compiled(
        "input live: boolean = false\nDENY role.deletes\nDENY tool.pay UNLESS live\nALLOW tool.pay, tool.rm"
    )

    def spec(name: str, *roles: Any) -> ToolSpec:
        return ToolSpec(name=name, description="", parameters={}, roles=roles)

    assert policy.could_allow(spec("pay"))
    assert policy.could_allow(spec("pay"), {"live": True})
    assert not policy.could_allow(spec("pay"), {})
    assert not policy.could_allow(spec("rm", "deletes"))
    assert policy.could_allow(spec("rm"))
    assert not policy.could_allow(spec("other"))


def test_what_is_redacted_is_named_once_each() -> None:
    policy = compiled("REDACT output OF tool.crm.* MATCHING pii.email, pii.iban\nREDACT output OF * MATCHING pii.email")
    assert policy.redactions(Called("tool", "crm.get", frozenset(), "read")) == ("pii.email", "pii.iban")
    assert policy.redactions(Called("model", "m", frozenset(), "once")) == ("pii.email",)


def test_a_digest_is_of_what_decides() -> None:
    one = compiled("DENY tool.pay IF args.n > 5  # why")
    assert one.digest == compiled("deny tool.pay\n if args.n > 5").digest
    assert one.digest != compiled("DENY tool.pay IF args.n > 6").digest


def test_inputs_are_judged_before_a_session_starts() -> None:
    policy = compiled('input a: number\ninput b: set = {"x"}\nALLOW *')
    assert policy.problems_with({"a": 1, "b": ["y"]}) == []
    assert [name for name, _ in policy.problems_with({"aa": 1, "b": [1]})] == ["aa", "a", "b"]


def test_a_policy_has_rules_or_a_text() -> None:
    with pytest.raises(PolicyInvalid, match="not both"):
        compile_policy(Policy(rules=(Rule("deny", "*"),), text="DENY *"))


def test_a_verdict_over_a_hundred_rules_is_as_fast_as_promised() -> None:
    best = min(
        (verdicts.measure(times=200, calls_measured=5, cedar=False) for _ in range(3)), key=lambda one: one.worst_ratio
    )
    assert best.worst_ratio < 60
    assert best.thousand_ratio < 2
