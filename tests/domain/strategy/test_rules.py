"""Conditions of strategies: the language of policies, one condition at a time."""

import pytest

from ostler.domain.constraint.facts import Facts
from ostler.domain.strategy.rules import holds, problem_with

FACTS = Facts(
    operation="model", tool="m", effect="read", steps=3, cost_left_microusd=90_000, labels=frozenset({"private"})
)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("budget.cost_left < USD 0.10", True),
        ("budget.cost_left < USD 0.09", False),
        ("budget.tokens_left < 1000000000", False),
        ("session.steps > 2 and context.private", True),
        ("not context.private", False),
        ("context.private # of whatever kind", True),
        ("args.amount > 1", False),
        ("1 > 2", False),
    ],
)
def test_a_condition_holds_or_does_not_and_what_cannot_be_evaluated_does_not(condition: str, expected: bool) -> None:
    assert problem_with(condition) is None
    assert holds(condition, FACTS) is expected


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        ("budget.cost_lef < USD 0.10", "did you mean 'budget.cost_left'"),
        ("budget.cost_left < 5", "compared with"),
        ("session.steps >", "makes no sense"),
        ('true) as "x" deny (true', "expected|makes no sense|more than one"),
        ("true) allow if (true", "more than one condition"),
        ("count(tool.x) within 1h > 3", "asks about the past"),
        ("steps > 3", "there is no 'steps'"),
        ("", "makes no sense"),
    ],
)
def test_what_is_no_condition_is_refused_and_says_why(condition: str, problem: str) -> None:
    found = problem_with(condition)
    assert found is not None
    assert any(part in found for part in problem.split("|")), found
