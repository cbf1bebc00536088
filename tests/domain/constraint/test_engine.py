"""The compiled verdict is that of a naive reading of the rules, for any policy and any call."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import verdicts
from ostler.domain.constraint import nodes
from ostler.domain.constraint import syntax as s
from ostler.domain.constraint.check import check
from ostler.domain.constraint.compile import Compiled, policy_of
from ostler.domain.constraint.facts import Facts
from ostler.domain.constraint.parser import parse
from ostler.domain.constraint.printer import show
from ostler.domain.constraint.program import Program
from ostler.domain.constraint.targets import Called
from ostler.domain.tool import Effect, ToolSpec
from tests.domain.constraint.generate import calls, dense, plain_calls, policies, trees
from tests.domain.constraint.reference import Reference


@given(trees)
@settings(max_examples=100, deadline=None)
def test_what_is_printed_reads_as_what_it_was(parsed: s.Parsed) -> None:
    assert parse(show(parsed)) == parsed


@given(policies, calls)
@settings(max_examples=300, deadline=None)
def test_the_compiled_verdict_is_the_naive_one(parsed: s.Parsed, facts: Facts) -> None:
    assert check(parsed) == []
    compiled = Compiled(policy_of(show(parsed)))
    found = compiled.judge(facts)
    assert (found.effect, found.rule) == Reference(parsed, compiled.history, facts).verdict(), show(parsed)
    assert compiled.program(called_in(facts)).judge_in_order(facts) == found, show(parsed)
    assert compiled.explain(facts).verdict == found


@given(dense, st.lists(plain_calls, min_size=20, max_size=20))
@settings(max_examples=100, deadline=None)
def test_the_sieve_lets_nothing_through_and_holds_nothing_back(parsed: s.Parsed, some: list[Facts]) -> None:
    compiled = Compiled(policy_of(show(parsed)))
    for facts in some:
        found = compiled.judge(facts)
        assert (found.effect, found.rule) == Reference(parsed, (), facts).verdict(), show(parsed)


@pytest.mark.parametrize("operators", [("<", "<="), ("<=", "<"), (">", ">="), (">=", ">"), ("==", "==")])
def test_of_many_bounds_each_refuses_just_what_it_should(operators: tuple[str, str]) -> None:
    bounds = enumerate((3, 1, 2, 2, 5, 5, 1))
    rules = [
        f'DENY * IF args.n {operators[which % 2]} {bound} AND args.id MATCHES "{which}*"' for which, bound in bounds
    ]
    compiled = Compiled(policy_of("\n".join(["default allow", *rules])))
    swapped = Compiled(policy_of("\n".join(["default allow", *(rule.replace("MATCHES", "==") for rule in rules)])))
    for n in (0, 1, 1.5, 2, 3, 4, 5, 6):
        for number, star in itertools.product(range(7), ("", "*")):
            facts = Facts(args={"n": n, "id": f"{number}{star}"})
            for policy in (compiled, swapped):
                assert policy.judge(facts) == policy.program(called_in(facts)).judge_in_order(facts)


@pytest.mark.parametrize("roles", [(), ("sends_out",), ("deletes", "shares", "sends_out", "moves_money")])
@pytest.mark.parametrize("labels", [(), ("untrusted",), ("untrusted", "private")])
@pytest.mark.parametrize("effect", ["read", "once"])
def test_without_risk_lines_the_usual_parts_count(
    roles: tuple[str, ...], labels: tuple[str, ...], effect: Effect
) -> None:
    facts = Facts(tool="pay", roles=frozenset(roles), labels=frozenset(labels), effect=effect)
    for tenth in range(11):
        for comparison in ("<", "==", ">"):
            parsed = parse(f"default allow\nDENY * IF risk_score {comparison} {tenth / 10}", "house")
            found = Compiled(policy_of(show(parsed))).judge(facts)
            assert (found.effect, found.rule) == Reference(parsed, (), facts).verdict(), (tenth, comparison)


def test_calls_that_pass_are_judged_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the sieve would be right and useless."""
    asked: list[int] = []
    monkeypatch.setattr(Program, "holds", lambda self, number, values: asked.append(number))
    compiled = Compiled(policy_of(verdicts.our_rules(100)))
    for facts in verdicts.calls(compiled, 20):
        asked.clear()
        assert compiled.judge(facts).effect == "allow"
        assert asked == []


def called_in(facts: Facts) -> Called:
    return Called(facts.operation, facts.tool, facts.roles, facts.effect)


def test_kinds_of_calls_that_no_rule_tells_apart_share_their_code() -> None:
    text = "default allow\nDENY * IF role.deletes AND args.n > 1\nDENY effect.read IF args.m == 1\nDENY * IF args.n > 9"
    compiled = Compiled(policy_of(text))

    def program(tool: str, effect: Effect, *roles: str) -> Program:
        return compiled.program(Called("tool", tool, frozenset(roles), effect))

    assert program("a", "once") is program("b", "idempotent", "shares")
    assert program("a", "once", "deletes") is program("b", "once", "deletes", "shares")
    assert len({program("a", "once"), program("a", "once", "deletes"), program("a", "read")}) == 3


def test_code_is_written_when_a_call_is_first_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """What decides about the tools that a model is shown is no reason to compile."""
    made: list[object] = []
    monkeypatch.setattr(nodes, "function", lambda *given: made.append(given))
    compiled = Compiled(policy_of("DENY tool.pay IF args.amount > 3\nDENY tool.rm\nALLOW tool.pay"))
    specs = [ToolSpec(name, "Does.", {}) for name in ("pay", "rm")]
    assert [compiled.could_allow(spec, {}) for spec in specs] == [True, False]
    assert made == []


def test_what_cannot_be_compiled_denies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "function", None)
    compiled = Compiled(policy_of("default allow\nDENY tool.pay IF args.amount > 3"))
    verdict = compiled.judge(Facts(tool="pay", args={"amount": 1}))
    assert (verdict.effect, verdict.rule) == ("deny", "policy#error")
