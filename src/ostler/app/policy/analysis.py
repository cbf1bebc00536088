"""Finds rules that do nothing, rules that contradict each other, and calls of which no rule speaks."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import z3  # type: ignore[import-untyped]

from ostler.app.policy.case import Case
from ostler.app.policy.difference import demand_of
from ostler.app.policy.files import parsed_of
from ostler.app.policy.findings import Finding, FindingKind, Severity
from ostler.app.policy.solver import Answer, Field, Ruled, View, fields
from ostler.app.policy.witness import Witness, is_as_strict, matched, witness
from ostler.domain.constraint.compile import compile_policy
from ostler.domain.constraint.policy import Policy
from ostler.domain.constraint.syntax import Allow, Deny, Limit, Redact, Require, Rule
from ostler.domain.constraint.verdict import Verdict
from ostler.domain.tool import ToolSpec

NAMED_MAX = 8
"""Rules and tools that one finding names."""


def analyse(policy: Policy, tools: Sequence[ToolSpec] | None = None) -> list[Finding]:
    """What there is to be said of a policy, over all calls or over those of the given tools, in the order of its rules.

    Raises `PolicyInvalid` for a policy that cannot be compiled, and `UsageError` for one that is too tangled.
    """
    return _Analysis(policy, tools).findings()


class _Analysis:
    def __init__(self, policy: Policy, tools: Sequence[ToolSpec] | None) -> None:
        self._compiled = compile_policy(policy)
        self._parsed = parsed_of(policy)
        self._fields = list(fields([self._parsed], tools))
        self._dropped: set[str] = set()

    def findings(self) -> list[Finding]:
        found = {name: self._of_rule(name, rule) for name, rule in [*self._parsed.named_rules()][::-1]}
        ordered = [found[name] for name, _ in self._parsed.named_rules()]
        return [*(one for several in ordered for one in several), *self._gaps()]

    def _of_rule(self, name: str, rule: Rule) -> list[Finding]:
        """What is wrong with one rule. Of two that say the same, the later one is redundant."""
        of_tools = all(target.space in ("tool", "role", "effect") for target in rule.targets)
        within = [field for field in self._fields if field.sort.operation == "tool" or not of_tools]
        concerned = [(field, one) for field in within for one in field.views[0].rules if one.name == name]
        if not concerned:
            return [_finding("aims at nothing", name, rule, "its targets name no tool that there is")]
        if isinstance(rule, Redact):
            return []
        fires = _first(field.find(one.matches, z3.Not(field.views[0].error)) for field, one in concerned)
        if fires.found == "no":
            return [_finding("never fires", name, rule, "its condition can never be true")]
        if fires.found == "unknown":
            return [_finding("open", name, rule, "whether it ever fires was not found out in time")]
        return self._of_firing(name, rule, concerned)

    def _of_firing(self, name: str, rule: Rule, concerned: list[tuple[Field, Ruled]]) -> list[Finding]:
        counts = _first(field.find(one.matches, _counts(one, field.views[0])) for field, one in concerned)
        if counts.found == "no":
            self._dropped.add(name)
            return [self._dead(name, rule, concerned)]
        needed = _first(field.find(self._is_needed(one, field.views[0])) for field, one in concerned)
        if needed.found == "no":
            self._dropped.add(name)
            return [self._redundant(name, rule, concerned)]
        overruled = self._overruled(name, rule, concerned) if isinstance(rule, Allow) else []
        if "unknown" in (counts.found, needed.found):
            overruled.append(_finding("open", name, rule, "whether it changes anything was not found out in time"))
        return overruled

    def _dead(self, name: str, rule: Rule, concerned: list[tuple[Field, Ruled]]) -> Finding:
        found = _first(field.find(one.matches, z3.Not(field.views[0].error)) for field, one in concerned)
        assert found.case is not None, "it fires"
        shown = self._witness(found.case, name, lambda verdict: verdict.effect != "allow")
        others = self._winners(shown, name)
        return _finding("dead", name, rule, f"whenever it matches, {_list(others)} wins over it", others, shown)

    def _redundant(self, name: str, rule: Rule, concerned: list[tuple[Field, Ruled]]) -> Finding:
        found = _first(field.find(one.matches, z3.Not(field.views[0].error)) for field, one in concerned)
        assert found.case is not None, "it fires"
        shown = self._witness(found.case, name, lambda verdict: True)
        alike = {other for other, one in self._parsed.named_rules() if _is_alike(one, rule)} - self._dropped
        others = tuple(other for other in matched(self._compiled, found.case) if other in alike)
        because = f"{_list(others)} says the same" if others else "the default says the same"
        return _finding(
            "redundant", name, rule, f"without it every verdict would be the same: {because}", others, shown
        )

    def _overruled(self, name: str, rule: Rule, concerned: list[tuple[Field, Ruled]]) -> list[Finding]:
        """The rules that deny some of what this one allows."""
        others: list[str] = []
        shown: Witness | None = None
        for field, one in concerned:
            view = field.views[0]
            for other in view.rules:
                if not isinstance(other.rule, Deny) or other.name in others:
                    continue
                if not field.holds_somewhere(one.matches, other.matches, z3.Not(view.error)):
                    continue
                others.append(other.name)
                if shown is None:
                    answer = field.find(one.matches, other.matches, z3.Not(view.error))
                    if answer.case is not None:
                        shown = self._witness(answer.case, name, lambda verdict: verdict.effect == "deny")
        if not others:
            return []
        message = f"some of what it allows is denied by {_list(others)}"
        return [_finding("overruled", name, rule, message, tuple(others), shown)]

    def _gaps(self) -> list[Finding]:
        """Calls of which no rule speaks. Model calls need none."""
        silent: list[str] = []
        first: Case | None = None
        for field in self._fields:
            if field.sort.operation == "model":
                continue
            answer = field.find(field.views[0].unspoken)
            if answer.case is not None:
                silent.append(f"{field.sort.operation} {field.sort.name}")
                first = first or answer.case
        if first is None:
            return []
        said = {"allow": "allowed", "deny": "denied"}[self._parsed.default]
        shown = witness(first, [self._compiled], lambda verdict: verdict.effect == self._parsed.default)
        message = f"no rule speaks of some calls, which are {said} by default: {_list(silent)}"
        return [Finding("gap", message, witness=shown)]

    def _is_needed(self, one: Ruled, view: View) -> Any:
        """Where the verdict would be another without this rule."""
        others = [
            other.matches
            for other in view.rules
            if other.name != one.name
            and other.name not in self._dropped
            and _is_alike(other.rule, one.rule)
            and (not isinstance(one.rule, Require) or is_as_strict(demand_of(other), demand_of(one)))
        ]
        is_default = isinstance(one.rule, Allow) and view.is_open
        return z3.And(one.matches, _counts(one, view), z3.Not(z3.Or(*others)), z3.BoolVal(not is_default))

    def _witness(self, case: Case, name: str, claim: Callable[[Verdict], bool]) -> Witness:
        fires = name in matched(self._compiled, case)
        return witness(case, [self._compiled], lambda verdict: fires and claim(verdict))

    def _winners(self, shown: Witness, name: str) -> tuple[str, ...]:
        kinds = {other: rule for other, rule in self._parsed.named_rules() if not isinstance(rule, Allow | Redact)}
        return tuple(other for other in matched(self._compiled, shown.case) if other in kinds and other != name)


def _counts(one: Ruled, view: View) -> Any:
    """Where nothing wins over a rule of this effect."""
    match one.rule:
        case Allow():
            return view.allows
        case Require():
            return view.asks
        case Deny() | Limit() | Redact():
            return z3.Not(view.error)


def _is_alike(one: Rule, other: Rule) -> bool:
    """Whether two rules say the same of a call that both match, but for what they demand."""
    denying = (Deny, Limit)
    return type(one) is type(other) or (isinstance(one, denying) and isinstance(other, denying))


def _first(answers: Iterable[Answer]) -> Answer:
    """The first call that is found, one that leaves nothing open if there is any; else whether the question is open."""
    best = Answer("no")
    for answer in answers:
        if answer.is_exact:
            return answer
        if best.found != "yes" and answer.found != "no":
            best = answer
    return best


def _finding(
    kind: FindingKind, name: str, rule: Rule, message: str, others: tuple[str, ...] = (), shown: Witness | None = None
) -> Finding:
    severity: Severity = "note" if kind in ("overruled", "open") else "warning"
    return Finding(kind, message, severity, name, rule.at.line, rule.at.column, others, shown)


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMED_MAX])
    return shown if len(names) <= NAMED_MAX else f"{shown} and {len(names) - NAMED_MAX} more"
