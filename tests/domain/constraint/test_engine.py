"""The compiled verdict is that of a naive reading of the rules, for any policy and any call."""

from typing import Any

from hypothesis import given, settings

from ostler.domain.constraint import syntax as s
from ostler.domain.constraint.check import check
from ostler.domain.constraint.compile import compile_policy, policy_of
from ostler.domain.constraint.facts import Facts
from ostler.domain.constraint.parser import parse
from ostler.domain.constraint.printer import show
from tests.domain.constraint.generate import calls, policies, trees
from tests.domain.constraint.reference import Reference


@given(trees)
@settings(max_examples=100, deadline=None)
def test_what_is_printed_reads_as_what_it_was(parsed: s.Parsed) -> None:
    assert parse(show(parsed)) == parsed


@given(policies, calls)
@settings(max_examples=300, deadline=None)
def test_the_compiled_verdict_is_the_naive_one(parsed: s.Parsed, facts: Facts) -> None:
    assert check(parsed) == []
    compiled = compile_policy(policy_of(show(parsed)))
    found = compiled.judge(facts)
    assert (found.effect, found.rule) == Reference(parsed, compiled.history, facts).verdict(), show(parsed)
    called: Any = compiled.program(compiled_as(facts))
    assert called.judge_in_order(facts) == found, show(parsed)
    assert compiled.explain(facts).verdict == found


def compiled_as(facts: Facts) -> Any:
    from ostler.domain.constraint.targets import Called

    return Called(facts.operation, facts.tool, facts.roles, facts.effect)
