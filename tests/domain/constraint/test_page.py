"""The page about the language says what the code says."""

import pytest

from ostler.domain.constraint.compile import compile_policy, policy_of
from ostler.domain.constraint.facts import VOCABULARY
from ostler.domain.constraint.grammar import GRAMMAR
from ostler.domain.constraint.kinds import KNOWN, ROLES
from ostler.domain.constraint.prepare import DEFAULT_RISK
from ostler.domain.constraint.values import FACTS
from tests.docs.test_pages_run import blocks
from tests.tidy.rules import ROOT

PAGE = ROOT / "docs" / "reference" / "rules.md"


@pytest.mark.parametrize("text", blocks(PAGE, "rules"), ids=lambda text: text.split()[0])
def test_every_policy_on_the_page_compiles(text: str) -> None:
    assert compile_policy(policy_of(text)).name


def test_the_page_has_the_grammar_every_fact_every_role_and_the_usual_risk() -> None:
    assert blocks(PAGE, "lark") == [GRAMMAR.lstrip("\n")]
    assert DEFAULT_RISK in blocks(PAGE, "rules")
    text = PAGE.read_text("utf-8")
    for one in VOCABULARY:
        assert f"| `{one.name}` | {one.kind} | {one.about} |" in text
    assert all(f"`{role}`" in text for role in ROLES)


def test_every_fact_can_be_read() -> None:
    assert set(FACTS) == set(KNOWN) - {("risk_score",)}
