"""Why a policy says what it says of a call: every rule that concerns it, and what kept it from matching."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from ostler.domain.constraint.facts import Facts
from ostler.domain.constraint.program import Program
from ostler.domain.constraint.values import Fault
from ostler.domain.constraint.verdict import Verdict


class Considered(msgspec.Struct, frozen=True, omit_defaults=True):
    """A rule that concerns the call. `matched` is None if it could not be evaluated.

    `unmet` is the first part of its condition that does not hold, as it is written; `reason` is the rule's own.
    """

    rule: str
    effect: Literal["allow", "deny", "require"]
    matched: bool | None
    unmet: str = ""
    reason: str = ""


class RiskPart(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part of the risk score, and whether it counts for the call."""

    amount: float
    because: str
    counts: bool


class Explanation(msgspec.Struct, frozen=True, omit_defaults=True):
    """A verdict, the rules and the parts of the risk score behind it, and the facts that they looked at, as text."""

    verdict: Verdict
    rules: tuple[Considered, ...] = ()
    risk: tuple[RiskPart, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()


def explained(program: Program, verdict: Verdict, facts: Facts) -> Explanation:
    """The explanation of a verdict, by the very conditions that are enforced."""
    try:
        values = program.values(facts)
    except Exception as error:
        needed = error.attribute if isinstance(error, Fault) else ""
        unknown = (Considered(rule.name, rule.effect, None, needed, rule.reason) for rule in program.rules)
        return Explanation(verdict, (*unknown, *_ruled_out(program)))
    rules = (_considered(program, number, values) for number in range(len(program.rules)))
    risk = program.risk_parts(values) if program.looks_at_risk else []
    return Explanation(
        verdict,
        (*rules, *_ruled_out(program)),
        tuple(RiskPart(amount, part.because, counts) for part, amount, counts in risk),
        tuple((slot.shown, _shown(values[slot.variable])) for slot in program.slots.all.values()),
    )


def _considered(program: Program, number: int, values: Mapping[str, Any]) -> Considered:
    rule = program.rules[number]
    for written, holds in program.tests(number):
        try:
            if not holds(values):
                return Considered(rule.name, rule.effect, False, written, rule.reason)
        except Exception:
            return Considered(rule.name, rule.effect, None, written, rule.reason)
    return Considered(rule.name, rule.effect, True, "", rule.reason)


def _ruled_out(program: Program) -> tuple[Considered, ...]:
    """Rules that what is called rules out, whatever its arguments are."""
    return tuple(Considered(rule.name, rule.effect, False, unmet, rule.reason) for rule, unmet in program.ruled_out)


def _shown(value: Any) -> str:
    text = str(sorted(value)) if isinstance(value, frozenset) else str(value)
    return text if len(text) <= VALUE_CHARACTERS_MAX else f"{text[:VALUE_CHARACTERS_MAX]}…"


VALUE_CHARACTERS_MAX = 120
