"""Asks a solver whether there is a call for which something holds of policies, and which one it is."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import z3  # type: ignore[import-untyped]

from ostler.app.policy.case import Case
from ostler.app.policy.encode import Encoder
from ostler.app.policy.sorts import Sort, conditions_of, inputs_of, sorts
from ostler.app.policy.symbols import Symbols
from ostler.app.policy.texts import questions_about_texts, texts_compared
from ostler.app.policy.words import Kind, Pattern, kinds
from ostler.domain.constraint.prepare import exceeded
from ostler.domain.constraint.syntax import (
    Allow,
    Deny,
    Limit,
    Parsed,
    Redact,
    Require,
    Rule,
    Statement,
    Target,
    condition_of,
)
from ostler.domain.tool import ToolSpec

TIMEOUT_MS = 2_000
"""Milliseconds for one question; what is not answered by then is reported as open."""
_PREFERENCES_MAX = 60
_ANYTHING = Kind("other", frozenset(), is_single=False, is_vague=True)


class Ruled(NamedTuple):
    """A rule: when it concerns a call, and when it matches one."""

    name: str
    rule: Rule
    concerns: Any
    matches: Any


class View(NamedTuple):
    """What a policy says of calls of one sort.

    `error` is where it cannot be evaluated, and so denies; `unspoken` where no rule matches; `is_open`: these calls are
    allowed then.
    """

    parsed: Parsed
    rules: Sequence[Ruled]
    error: Any
    denies: Any
    asks: Any
    allows: Any
    unspoken: Any
    is_open: bool


class Answer(msgspec.Struct, frozen=True):
    """Whether there is such a call, and one. `is_exact`: the solver has left nothing of this call open."""

    found: Literal["yes", "no", "unknown"]
    case: Case | None = None
    is_exact: bool = False


class Field:
    """One sort of call, and policies that are asked about it."""

    def __init__(self, sort: Sort, policies: Sequence[Parsed], words: Mapping[str, Sequence[Kind]]) -> None:
        self.sort = sort
        self.symbols = Symbols(sort, words)
        self.views = [_view(parsed, self.symbols) for parsed in policies]
        self._inputs = sorted({one.name for parsed in policies for one in parsed.inputs})
        self._solver = z3.Solver()
        self._solver.set("timeout", TIMEOUT_MS)
        self._solver.add(*self.symbols.axioms)
        self._exactly = z3.Bool("exactly")
        self._solver.add(z3.Implies(self._exactly, z3.And(*self.symbols.pins)))

    def find(self, *terms: Any) -> Answer:
        """A call for which all of these hold, the plainest if that is easy."""
        self._solver.push()
        self._solver.add(*terms)
        try:
            first = self._solver.check(self._exactly)
            if first == z3.sat:
                return Answer("yes", self._plainest([self._exactly]), is_exact=True)
            second = self._solver.check()
            if second == z3.sat:
                return Answer("yes", self.symbols.case(self._solver.model(), self._inputs))
            return Answer("no" if second == z3.unsat else "unknown")
        finally:
            self._solver.pop()

    def holds_somewhere(self, *terms: Any) -> bool | None:
        """Whether there is such a call at all; None if that is open."""
        answer = self._solver.check(*terms)
        return None if answer == z3.unknown else bool(answer == z3.sat)

    def _plainest(self, settled: list[Any]) -> Case:
        """A call in which as much as possible is not there, not so, and nothing."""
        model = self._solver.model()
        for wish in self.symbols.wishes()[:_PREFERENCES_MAX]:
            if z3.is_true(model.eval(wish, model_completion=True)):
                settled.append(wish)
            elif self._solver.check(*settled, wish) == z3.sat:
                settled.append(wish)
                model = self._solver.model()
        return self.symbols.case(model, self._inputs)


def fields(policies: Sequence[Parsed], tools: Sequence[ToolSpec] | None = None) -> Iterator[Field]:
    """Every sort of call that these policies tell apart, ready to be asked about. Raises `UsageError`."""
    asked: dict[str, set[Pattern]] = {}
    for parsed in policies:
        inputs = inputs_of(parsed)
        for statement in parsed.statements:
            for condition in conditions_of(statement):
                for name, pattern in questions_about_texts(condition, inputs):
                    asked.setdefault(name, set()).add(pattern)
    for parsed in policies:
        for statement in parsed.statements:
            for condition in conditions_of(statement):
                for one, other in texts_compared(condition):
                    shared = asked.get(one, set()) | asked.get(other, set())
                    asked |= {one: shared, other: shared}
    words = {name: kinds(patterns) or [_ANYTHING] for name, patterns in asked.items()}
    for sort in sorts(policies, asked.get("tool.name", ()), tools):
        yield Field(sort, policies, words)


def _view(parsed: Parsed, symbols: Symbols) -> View:
    errors: list[Any] = []
    inputs = inputs_of(parsed)
    risk = _Risk(parsed, symbols)
    encoder = Encoder(symbols, inputs, risk.score)
    rules = []
    for name, rule in parsed.named_rules():
        concerns = _concerns(rule, symbols)
        if z3.is_false(z3.simplify(concerns)):
            continue
        encoder.errors = []
        matches = _matches(rule, encoder)
        rules.append(Ruled(name, rule, concerns, z3.And(concerns, matches)))
        errors += [z3.And(concerns, error) for error in encoder.errors]
    error = z3.Or(*errors)
    said = {
        kind: z3.Or(*[one.matches for one in rules if isinstance(one.rule, kind)])
        for kind in (Deny, Limit, Require, Allow)
    }
    unspoken = z3.And(z3.Not(error), z3.Not(z3.Or(*said.values())))
    denies = z3.Or(error, said[Deny], said[Limit])
    asks = z3.And(z3.Not(denies), said[Require])
    is_open = parsed.default == "allow" or symbols.sort.operation == "model"
    allows = z3.And(z3.Not(denies), z3.Not(asks), z3.Or(said[Allow], z3.BoolVal(is_open)))
    return View(parsed, rules, error, z3.Not(z3.Or(asks, allows)), asks, allows, unspoken, is_open)


def _concerns(statement: Statement, symbols: Symbols) -> Any:
    """Whether one of the targets of a statement names the call."""
    targets = getattr(statement, "targets", ())
    return z3.Or(*[_names(target, symbols) for target in targets])


def _names(target: Target, symbols: Symbols) -> Any:
    match target.space:
        case "operation":
            return z3.BoolVal(True)
        case "role":
            return symbols.role(target.glob)
        case "effect":
            has_effect = symbols.text_is("effect", f"is {target.glob}", lambda word: word.example == target.glob)
            return z3.And(symbols.sort.operation == "tool", has_effect)
        case "tool" | "model" | "memory" | "session":
            is_named = Pattern.glob(target.glob) in symbols.sort.matched
            return z3.BoolVal(target.space == symbols.sort.operation and is_named)


def _matches(rule: Rule, encoder: Encoder) -> Any:
    match rule:
        case Allow() | Deny() | Require():
            return encoder.condition(condition_of(rule))
        case Limit():
            return encoder.condition(exceeded(rule))
        case Redact():
            return z3.BoolVal(True)


class _Risk:
    """The risk score, made when a rule first asks for it."""

    def __init__(self, parsed: Parsed, symbols: Symbols) -> None:
        self._parsed = parsed
        self._symbols = symbols
        self._made: tuple[Any, list[Any]] | None = None

    def score(self) -> tuple[Any, list[Any]]:
        """The sum of the parts, within 0 and 1, and where it has none."""
        if self._made is None:
            encoder = Encoder(self._symbols, inputs_of(self._parsed), self.score)
            parts, errors = [], []
            for risk in self._parsed.risks:
                concerns = _concerns(risk, self._symbols)
                applies, amount = encoder.part_of_risk(condition_of(risk), risk.amount)
                parts.append(z3.If(z3.And(concerns, applies), amount, z3.RealVal(0)))
                errors += [z3.And(concerns, error) for error in encoder.errors]
            total = z3.Sum(*parts) if parts else z3.RealVal(0)
            self._made = z3.If(total < 0, z3.RealVal(0), z3.If(total > 1, z3.RealVal(1), total)), errors
        return self._made
