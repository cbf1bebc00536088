"""The rules about one kind of call, as Python code: one function that judges, and one for each part of each condition.

The function answers at once where no rule refuses or asks, nothing is missing and nothing fails; there a sieve over all
conditions has proved that. Everything else is judged rule by rule, in the order in which they are written, by the very
conditions that explanations show.
"""

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from ostler.domain.constraint import nodes
from ostler.domain.constraint.coder import Coder
from ostler.domain.constraint.facts import Facts
from ostler.domain.constraint.folding import FALSE, TRUE, Known, fold
from ostler.domain.constraint.history import Question
from ostler.domain.constraint.kinds import ROLES, Kind, Path
from ostler.domain.constraint.printer import show_expression
from ostler.domain.constraint.reader import RISK_UNITS, Reader
from ostler.domain.constraint.sieve import Clause, sieve
from ostler.domain.constraint.slots import RISK, Asker, Slots
from ostler.domain.constraint.syntax import And, Boolean, Expression, Input, Text
from ostler.domain.constraint.targets import Called
from ostler.domain.constraint.values import Fault
from ostler.domain.constraint.verdict import Demand, Verdict

ALLOWS_IN_A_ROW = 6
"""So many ALLOW rules are asked one after the other before it pays to ask first whether any of them matches."""


class Prepared(NamedTuple):
    """A rule, ready for every program that it is part of.

    `kinds` are the types of its arguments; `opaque` is a condition over the arguments that is code already.
    """

    name: str
    effect: Literal["allow", "deny", "require"]
    condition: Expression | None
    kinds: Mapping[Path, Kind]
    reason: str
    demand: Demand | None = None
    opaque: Callable[[Mapping[str, Any]], bool] | None = None


class Part(NamedTuple):
    """A part of the risk score: its amount, and when it counts."""

    amount: Expression
    condition: Expression | None
    kinds: Mapping[Path, Kind]
    because: str


class Stamp(NamedTuple):
    """What every verdict of a policy says of the policy."""

    name: str
    version: int
    digest: str

    def verdict(
        self,
        effect: Literal["allow", "deny", "require"],
        rule: str = "",
        reason: str = "",
        demands: tuple[Demand, ...] = (),
        risk: float | None = None,
    ) -> Verdict:
        return Verdict(effect, rule, reason, demands, risk, f"{self.name}@{self.version}", self.digest[:16])


Test = tuple[str, Callable[[Mapping[str, Any]], Any]]
"""One part of a condition as it is written, and its code, over the values by variable."""


class Rule(NamedTuple):
    """A rule of a program: what is left of its condition for this kind of call."""

    prepared: Prepared
    condition: Expression


class Program:
    """Judges every call of one kind by the rules that concern it.

    `rules`, and `parts` of the risk score, come with what the kind of call leaves of their conditions.
    """

    def __init__(
        self,
        stamp: Stamp,
        called: Called,
        rules: Sequence[Rule],
        parts: Sequence[tuple[Part, Expression]],
        *,
        inputs: Mapping[str, Input],
        questions: Mapping[Question, int],
        default: Literal["allow", "deny"],
    ) -> None:
        self._stamp = stamp
        self._known = known_of(called)
        self._is_model = called.operation == "model"
        self._inputs = inputs
        self._default = default
        self._rules = [rule for rule in rules if rule.condition != FALSE]
        self._without = [rule.prepared for rule in rules if rule.condition == FALSE]
        self._parts = [(part, condition) for part, condition in parts if condition != FALSE]
        self.slots = Slots(inputs, questions)
        self.slots.when_risk_is_needed(self._need_risk)
        for rule, condition in self._rules:
            self.slots.need(condition, Asker(rule.name, rule.kinds))
        self._coder = Coder(self.slots)
        self._tests: dict[int, list[Test]] = {}
        self._calculations: dict[str, Callable[[Mapping[str, Any]], Any]] = {}
        self.judge: Callable[[Facts], Verdict] = self._judge_first
        """The verdict on a call of this kind. Never raises. The code is written when it is first asked for."""

    @property
    def looks_at_risk(self) -> bool:
        return RISK in self.slots.all

    # ------------------------------------------------------------------------------------------------- rule by rule

    def judge_in_order(self, facts: Facts) -> Verdict:
        """The verdict, rule by rule. Whatever goes wrong denies."""
        try:
            values = self.values(facts)
        except Fault as fault:
            return self.refused(fault)
        except Exception as error:
            return self._failed(error)
        risk = values[self.slots.all[RISK].variable] if self.looks_at_risk else None
        try:
            return self._first_match(values, risk)
        except Exception as error:
            return self._failed(error)

    def _first_match(self, values: Mapping[str, Any], risk: float | None) -> Verdict:
        for number, (rule, _) in enumerate(self._rules):
            if rule.effect == "deny" and self.holds(number, values):
                return self._stamp.verdict("deny", rule.name, rule.reason, (), risk)
        asking = [
            rule
            for number, (rule, _) in enumerate(self._rules)
            if rule.effect == "require" and self.holds(number, values)
        ]
        if asking:
            demands = tuple(rule.demand for rule in asking if rule.demand is not None)
            return self._stamp.verdict("require", asking[0].name, asking[0].reason, demands, risk)
        for number, (rule, _) in enumerate(self._rules):
            if rule.effect == "allow" and self.holds(number, values):
                return self._stamp.verdict("allow", rule.name, rule.reason, (), risk)
        return self._without_match(risk)

    def _without_match(self, risk: float | None) -> Verdict:
        if self._is_model or self._default == "allow":
            return self._stamp.verdict("allow", "", "", (), risk)
        return self._stamp.verdict("deny", f"{self._stamp.name}#default", "no rule allows it", (), risk)

    def values(self, facts: Facts) -> dict[str, Any]:
        """Every value that is needed, by its variable. Raises `Fault` for the first that cannot be had."""
        for name in facts.inputs:
            if name not in self._inputs:
                raise Fault("unknown_input", name, f"an input {name!r} was given, which the policy does not declare")
        values: dict[str, Any] = {"f": facts, "args": facts.args}
        for slot in self.slots.all.values():
            if slot.origin == "calculated":
                values[slot.variable] = self._calculated(slot.variable, values)
            elif slot.origin == "risk":
                values[slot.variable] = risk_score(amount for _, amount, counts in self.risk_parts(values) if counts)
            else:
                try:
                    values[slot.variable] = slot.read(facts)
                except Fault as fault:
                    raise Fault(fault.code, slot.shown, f"{slot.rule} needs {slot.shown}: {fault.what}") from None
        return values

    def holds(self, number: int, values: Mapping[str, Any]) -> bool:
        """Whether the condition of the rule with this number (from 0, of those that concern the call) holds."""
        return all(test(values) for _, test in self.tests(number))

    def tests(self, number: int) -> list[Test]:
        """The parts of a rule's condition, all of which must hold; they are made when they are first asked for."""
        if number not in self._tests:
            rule, condition = self._rules[number]
            parts = condition.operands if isinstance(condition, And) else (condition,) if condition != TRUE else ()
            self._tests[number] = [self._coder.test(part, rule.kinds) for part in parts]
            if rule.opaque is not None:
                opaque = rule.opaque
                self._tests[number].append(("its globs match", lambda values: opaque(values["args"])))
        return self._tests[number]

    @property
    def rules(self) -> list[Prepared]:
        """The rules that concern the call, in the order in which they are written."""
        return [rule for rule, _ in self._rules]

    @property
    def ruled_out(self) -> list[tuple[Prepared, str]]:
        """Rules about such calls that cannot match any of them, each with the part of its condition that fails."""
        found = []
        for rule in self._without:
            whole = rule.condition
            parts = whole.operands if isinstance(whole, And) else (whole,)
            folded = ((part, fold(part, self._known)) for part in parts if part is not None)
            failing = (show_expression(part) for part, left in folded if left == FALSE)
            found.append((rule, next(failing, "")))
        return found

    def risk_parts(self, values: Mapping[str, Any]) -> list[tuple[Part, float, bool]]:
        """The parts of the risk score: each with its amount, and whether it counts."""
        found = []
        for part, condition in self._parts:
            counts = bool(self._coder.test(condition, part.kinds)[1](values))
            amount = self._coder.test(part.amount, part.kinds)[1](values) if counts else 0.0
            found.append((part, amount, counts))
        return found

    def could_allow(self, inputs: Mapping[str, Any] | None) -> bool:
        """Whether any call of this kind could be allowed or approved, as far as inputs and the kind of call decide."""
        known = {} if inputs is None else _literals(inputs, self._inputs)
        answers = [(rule.prepared.effect, _possible(rule, known)) for rule in self._rules]
        if ("deny", True) in answers:
            return False
        if any(effect != "deny" and answer is not False for effect, answer in answers):
            return True
        return self._is_model or self._default == "allow"

    def refused(self, fault: Fault) -> Verdict:
        """What is said of a call of which something cannot be known."""
        return self._stamp.verdict(
            "deny", f"{self._stamp.name}#error", f"{fault.what} (policy.error.{fault.code})", (), None
        )

    def _failed(self, error: Exception) -> Verdict:
        if isinstance(error, ZeroDivisionError | OverflowError):
            return self.refused(Fault("arithmetic", "", f"a calculation failed: {type(error).__name__}"))
        return self.refused(Fault("failed", "", f"a condition could not be evaluated: {type(error).__name__}"))

    def _calculated(self, variable: str, values: Mapping[str, Any]) -> Any:
        slot = next(slot for slot in self.slots.all.values() if slot.variable == variable)
        if variable not in self._calculations:
            self._calculations[variable] = self._coder.calculation(slot)
        try:
            return self._calculations[variable](values)
        except (ZeroDivisionError, OverflowError) as error:
            what = "divides by zero" if isinstance(error, ZeroDivisionError) else "is too large"
            raise Fault("arithmetic", slot.shown, f"{slot.rule} needs {slot.shown}, which {what}") from None
        except Fault as fault:
            raise Fault(fault.code, slot.shown, f"{slot.rule} needs {slot.shown}: {fault.what}") from None

    # ------------------------------------------------------------------------------------------------------- at once

    def _judge_first(self, facts: Facts) -> Verdict:
        try:
            self.judge = self._compiled()
        except Exception as error:
            return self._failed(error)
        return self.judge(facts)

    def _compiled(self) -> Callable[[Facts], Verdict]:
        """The function that judges; it turns to `judge_in_order` where something is not as it mostly is."""
        in_order = [nodes.give(nodes.call(nodes.load("in_order"), nodes.load("f")))]
        reader = Reader(self._coder, self.slots, self._inputs, in_order)
        body = reader.code()
        if self.looks_at_risk:
            body += reader.risk_code(self._risk_parts(), self.slots.all[RISK].variable)
        refusing = [clause for rule in self._rules if rule.prepared.effect != "allow" for clause in self._clauses(rule)]
        body += sieve(refusing, in_order)
        body += self._allowing()
        names = {"in_order": self.judge_in_order, "Exception": Exception, "Verdict": Verdict, **self._coder.names}
        return nodes.function(["f"], [nodes.unless_it_fails(body, in_order)], names)

    def _clauses(self, rule: Rule) -> list[Clause]:
        clauses = self._coder.clauses(rule.condition, rule.prepared.kinds)
        if rule.prepared.opaque is None:
            return clauses
        opaque = self._coder.opaque(rule.prepared.opaque)
        return [(*clause, opaque) for clause in clauses]

    def _allowing(self) -> list[ast.stmt]:
        allowing = [rule for rule in self._rules if rule.prepared.effect == "allow"]
        each = [self._allow(rule) for rule in allowing]
        end = self._answer(self._without_match(None))
        if len(each) <= ALLOWS_IN_A_ROW:
            return [*each, end]
        # The usual answers are the last rule's and the default: the others are asked all at once whether any matches.
        others = [clause for rule in allowing[:-1] for clause in self._clauses(rule)]
        in_order = [nodes.give(nodes.call(nodes.load("in_order"), nodes.load("f")))]
        return [*sieve(others, in_order), each[-1], end]

    def _allow(self, rule: Rule) -> ast.stmt:
        answer = self._answer(self._stamp.verdict("allow", rule.prepared.name, rule.prepared.reason))
        tests = [] if rule.condition == TRUE else [self._coder.code(rule.condition, rule.prepared.kinds)]
        if rule.prepared.opaque is not None:
            tests.append(self._coder.opaque(rule.prepared.opaque).node)
        return nodes.when(nodes.all_of(tests), [answer]) if tests else answer

    def _answer(self, verdict: Verdict) -> ast.stmt:
        """The verdict itself, made once; or with the risk score of the call, where the policy looks at it."""
        if not self.looks_at_risk:
            return nodes.give(nodes.load(self._coder.keep(verdict)))
        risk = nodes.load(self.slots.all[RISK].variable)
        fields = (verdict.effect, verdict.rule, verdict.reason, (), risk, verdict.policy, verdict.digest)
        return nodes.give(
            nodes.call(
                nodes.load("Verdict"),
                *(each if isinstance(each, ast.expr) else nodes.constant(each) for each in fields),
            )
        )

    def _risk_parts(self) -> Iterator[tuple[Expression, Mapping[Path, Kind], ast.expr | None]]:
        for part, condition in self._parts:
            yield part.amount, part.kinds, None if condition == TRUE else self._coder.code(condition, part.kinds)

    # ----------------------------------------------------------------------------------------------------- beginning

    def _need_risk(self) -> None:
        for part, condition in self._parts:
            asker = Asker(f"the risk score of {self._stamp.name}", part.kinds)
            self.slots.need(condition, asker)
            self.slots.need(part.amount, asker)


def known_of(called: Called) -> Known:
    """What is known before the call: its roles, its effect, its kind and the name of what is called."""
    return {
        ("operation",): Text(value=called.operation),
        ("tool", "name"): Text(value=called.tool),
        ("effect",): Text(value=called.effect),
        **{("role", role): Boolean(value=role in called.roles) for role in ROLES},
    }


def _possible(rule: Rule, known: Known) -> bool | None:
    """Whether a rule matches every call, or none; None if that depends on the call."""
    if rule.prepared.opaque is not None:
        return None
    left = fold(rule.condition, known) if known else rule.condition
    return left.value if isinstance(left, Boolean) else None


def _literals(inputs: Mapping[str, Any], declared: Mapping[str, Input]) -> Known:
    """The texts and truth values among the inputs that a session has, as literals."""
    values = {name: one.default for name, one in declared.items()}
    found: dict[Path, Text | Boolean] = {
        (name,): value for name, value in values.items() if isinstance(value, Text | Boolean)
    }
    for name, value in inputs.items():
        if name in declared and type(value) in (str, bool):
            found[(name,)] = Boolean(value=value) if isinstance(value, bool) else Text(value=value)
    return found


def risk_score(amounts: Iterable[float]) -> float:
    """The sum of the parts, added up in billionths and kept within 0 and 1."""
    total = sum(round(amount * RISK_UNITS) for amount in amounts)
    return max(0, min(total, RISK_UNITS)) / RISK_UNITS
