"""What a changed policy lets pass that the one before it did not, and what it refuses: by proof, with an example."""

from collections.abc import Sequence
from typing import Any

import msgspec
import z3  # type: ignore[import-untyped]

from ostler.app.policy.comparison import Difference
from ostler.app.policy.files import parsed_of
from ostler.app.policy.solver import Answer, Ruled, View, fields
from ostler.app.policy.witness import Witness, is_as_strict, lets_more_pass, witness
from ostler.domain.constraint.compile import Compiled, compile_policy
from ostler.domain.constraint.policy import Policy
from ostler.domain.constraint.syntax import Redact, Require
from ostler.domain.constraint.targets import Called
from ostler.domain.constraint.verdict import Demand
from ostler.domain.governance import Change
from ostler.domain.tool import ToolSpec

US_PER_S = 1_000_000


def difference(old: Policy, new: Policy, tools: Sequence[ToolSpec] | None = None) -> Difference:
    """Compare two policies over all calls, or over those of the given tools.

    One example for each sort of call that is treated otherwise. Raises `PolicyInvalid`, `UsageError`.
    """
    compiled = (compile_policy(old), compile_policy(new))
    if compiled[0].digest == compiled[1].digest:
        return Difference("equal")
    allows: list[Witness] = []
    refuses: list[Witness] = []
    undecided: list[str] = []
    for field in fields([parsed_of(old), parsed_of(new)], tools):
        before, after = field.views
        if _say_the_same(before, after):
            continue
        for one, other, found, policies in (
            (after, before, allows, (compiled[1], compiled[0])),
            (before, after, refuses, compiled),
        ):
            answer = field.find(_gets_further(one, other))
            if answer.found == "unknown":
                undecided.append(f"{field.sort.operation} {field.sort.name}")
            elif answer.case is not None:
                found.append(_shown(answer, policies, is_swapped=found is allows))
    return Difference(_kind(allows, refuses, undecided), tuple(allows), tuple(refuses), tuple(undecided))


def _say_the_same(one: View, other: View) -> bool:
    """Whether two policies have the same rules about these calls, by whatever names, so that nothing needs a proof."""
    first, second = (
        ([ruled.rule for ruled in view.rules], view.parsed.default, view.parsed.inputs, view.parsed.risks)
        for view in (one, other)
    )
    return first == second


def _kind(allows: list[Witness], refuses: list[Witness], undecided: list[str]) -> Change:
    if undecided and not (allows and refuses):
        return "unknown"
    if allows:
        return "incomparable" if refuses else "wider"
    return "narrower" if refuses else "equal"


def _gets_further(one: View, other: View) -> Any:
    """Where a call gets further by one policy than by another, or less is taken out of its output."""
    passes = z3.And(other.denies, z3.Not(one.denies))
    unasked = z3.And(other.asks, one.allows)
    asked_less = z3.And(other.asks, one.asks, z3.Or(*[_is_not_met(rule, one) for rule in _of(other, Require)]))
    shown = z3.And(z3.Not(one.denies), z3.Or(*_shown_more(one, other)))
    return z3.Or(passes, unasked, asked_less, shown)


def _is_not_met(wanted: Ruled, view: View) -> Any:
    """Where a rule asks for approvals, and none of the other policy asks for as much."""
    rules = [rule.matches for rule in _of(view, Require) if is_as_strict(demand_of(rule), demand_of(wanted))]
    return z3.And(wanted.matches, z3.Not(z3.Or(*rules)))


def demand_of(ruled: Ruled) -> Demand:
    """What a rule that requires approvals wants."""
    rule = ruled.rule
    assert isinstance(rule, Require), "it was chosen as one"
    within_s = rule.within_us / US_PER_S if rule.within_us is not None else None
    return Demand(ruled.name, rule.count, rule.roles, within_s)


def _shown_more(one: View, other: View) -> list[Any]:
    """Where a detector takes something out of the output by the other policy only."""
    hidden: dict[str, list[Any]] = {}
    for ruled in other.rules:
        for detector in ruled.rule.detectors if isinstance(ruled.rule, Redact) else ():
            hidden.setdefault(detector, []).append(ruled.concerns)
    return [z3.And(z3.Or(*terms), z3.Not(_hides(one, detector))) for detector, terms in hidden.items()]


def _hides(view: View, detector: str) -> Any:
    rules = [one.concerns for one in view.rules if isinstance(one.rule, Redact) and detector in one.rule.detectors]
    return z3.Or(*rules)


def _of(view: View, kind: type[Any]) -> list[Ruled]:
    return [rule for rule in view.rules if isinstance(rule.rule, kind)]


def _shown(answer: Answer, policies: tuple[Compiled, Compiled], *, is_swapped: bool) -> Witness:
    """The example, with the verdicts of the old policy and the new one, in this order."""
    assert answer.case is not None, "it was found"
    case, (one, other) = answer.case, policies
    made = witness(case, policies, lets_more_pass)
    if not made.is_confirmed:
        called = Called(case.operation, case.tool, frozenset(case.roles), case.effect)
        shows_more = not set(other.redactions(called)) <= set(one.redactions(called))
        made = msgspec.structs.replace(made, is_confirmed=shows_more)
    return msgspec.structs.replace(made, verdicts=made.verdicts[::-1]) if is_swapped else made
