"""The conditions of a strategy's rules, in the language of policies."""

from functools import lru_cache

from ostler.domain.constraint.compile import Compiled, compile_policy
from ostler.domain.constraint.facts import Facts
from ostler.domain.constraint.parser import parse
from ostler.domain.constraint.policy import Policy
from ostler.kernel.errors import PolicyInvalid

_NAME = "strategy"
_RULE = "holds"


def holds(condition: str, facts: Facts) -> bool:
    """Whether a condition holds of a request. One that cannot be evaluated does not; where there is no budget, more is
    left than any amount.
    """
    verdict = _compiled(condition).judge(facts)
    return verdict.effect == "allow" and verdict.rule == _RULE


def problem_with(condition: str) -> str | None:
    """What is wrong with a condition; None if it can be used."""
    text = _text(condition)
    try:
        parsed = parse(text, _NAME)
        compiled = compile_policy(Policy(name=_NAME, text=text))
    except PolicyInvalid as error:
        return str(error.problems[0][1])
    if len(parsed.statements) != 1:
        return "is more than one condition"
    if compiled.inputs:
        return f"there is no {next(iter(compiled.inputs))!r} (see the list of facts)"
    if compiled.history:
        return "asks about the past, which is not looked at for a choice of models"
    return None


def _text(condition: str) -> str:
    return f'allow if (\n{condition}\n) as "{_RULE}"'


@lru_cache(maxsize=256)
def _compiled(condition: str) -> Compiled:
    return compile_policy(Policy(name=_NAME, text=_text(condition)))
