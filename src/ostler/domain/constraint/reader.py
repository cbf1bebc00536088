"""Writes the code that reads what conditions need of a call, and turns away what is not as it mostly is."""

import ast
from collections.abc import Iterable, Mapping
from typing import Any

from ostler.domain.constraint import nodes
from ostler.domain.constraint.coder import Coder, Kinds
from ostler.domain.constraint.kinds import Path
from ostler.domain.constraint.slots import Slot, Slots, given_input
from ostler.domain.constraint.syntax import Expression, Input, Name, Number, parts_of
from ostler.domain.constraint.values import MISSING

RISK_UNITS = 1_000_000_000
"""Risk parts are added up in billionths: 0.1 + 0.2 is 0.3."""

_FIELDS: dict[Path, tuple[str, str]] = {
    ("agent", "name"): ("agent", "text"),
    ("agent", "version"): ("agent_version", "integer"),
    ("principal", "id"): ("principal", "text"),
    ("principal", "kind"): ("principal_kind", "text"),
    ("principal", "roles"): ("principal_roles", "words"),
    ("principal", "scopes"): ("principal_scopes", "words"),
    ("tenant", "id"): ("tenant", "text"),
    ("session", "id"): ("session", "text"),
    ("session", "steps"): ("steps", "integer"),
    ("session", "tool_calls"): ("tool_calls", "integer"),
    ("session", "tokens"): ("tokens", "integer"),
    ("session", "cost"): ("cost_microusd", "integer"),
    ("session", "elapsed"): ("elapsed_us", "integer"),
    ("context", "labels"): ("labels", "words"),
}
"""Facts that are one field of `Facts`, and the type of that field."""
_LABELS: dict[Path, str] = {("context", "untrusted"): "untrusted", ("context", "private"): "private"}
_TYPES = {
    "text": ("str",),
    "boolean": ("bool",),
    "number": ("int", "float"),
    "integer": ("int",),
    "words": ("frozenset",),
}


class Reader:
    """Writes the beginning of the function that judges. `otherwise` is what it does with everything unusual."""

    def __init__(self, coder: Coder, slots: Slots, inputs: Mapping[str, Input], otherwise: list[ast.stmt]) -> None:
        self._coder = coder
        self._slots = slots
        self._inputs = inputs
        self._otherwise = otherwise
        self._unusual: list[ast.expr] = []
        self._quantities: list[str] = []

    def code(self) -> list[ast.stmt]:
        """Reads and checks everything but the risk score and what is calculated from it."""
        facts = nodes.load("f")
        found = [nodes.assign("a", nodes.attribute(facts, "args")), *self._given()]
        for slot in self._slots.all.values():
            if slot.origin not in ("calculated", "risk"):
                found.append(nodes.assign(slot.variable, self._read(slot)))
        if self._unusual:
            found.append(nodes.when(nodes.any_of(self._unusual), self._otherwise))
        return [*found, *self._calculate(of_risk=False)]

    def risk_code(self, parts: Iterable[tuple[Expression, Kinds, ast.expr | None]], score: str) -> list[ast.stmt]:
        """Adds up the parts of the risk score: each amount, where its condition (None: always) holds."""
        certain, total, found = 0, nodes.load("total"), []
        for expression, kinds, condition in parts:
            if isinstance(expression, Number) and condition is None:
                certain += round(expression.value * RISK_UNITS)
                continue
            adding = nodes.assign("total", nodes.calculate(total, "+", self._amount(expression, kinds)))
            found.append(adding if condition is None else nodes.when(condition, [adding]))
        units, nothing = nodes.constant(RISK_UNITS), nodes.constant(0)
        kept = nodes.choose(nodes.compare(total, "<", units), total, units)
        kept = nodes.choose(nodes.compare(total, ">", nothing), kept, nothing)
        found = [nodes.assign("total", nodes.constant(certain)), *found]
        return [*found, nodes.assign(score, nodes.calculate(kept, "/", units)), *self._calculate(of_risk=True)]

    def _amount(self, expression: Expression, kinds: Kinds) -> ast.expr:
        if isinstance(expression, Number):
            return nodes.constant(round(expression.value * RISK_UNITS))
        amount = nodes.calculate(self._coder.code(expression, kinds), "*", nodes.constant(RISK_UNITS))
        return nodes.call(nodes.load("round"), amount)

    def _given(self) -> list[ast.stmt]:
        """Takes the inputs, none of which may be unknown."""
        given = nodes.load("i")
        is_unknown = given
        if self._inputs:
            known = nodes.load(self._coder.keep(frozenset(self._inputs).issuperset))
            is_unknown = nodes.negated(nodes.call(known, given))
        return [
            nodes.assign("i", nodes.attribute(nodes.load("f"), "inputs")),
            nodes.when(is_unknown, self._otherwise),
        ]

    def _read(self, slot: Slot) -> ast.expr:
        match slot.origin:
            case "args" if len(slot.path) == 2 and not slot.is_optional and (slot.kind in _TYPES or slot.kind == "any"):
                self._expect(slot, slot.kind)
                return nodes.item(nodes.load("a"), slot.path[1])
            case "input" if slot.kind in _TYPES:
                return self._read_input(slot, nodes.item(nodes.load("i"), slot.path[0]))
            case "input":
                return self._read_input(slot, self._asked(slot))
            case "history":
                self._expect(slot, "number")
                return nodes.item(nodes.attribute(nodes.load("f"), "history"), int(slot.path[0]))
            case "sources":
                self._expect(slot, "any")
                return nodes.attribute(nodes.load("f"), "sources")
            case "fact" if slot.path in _FIELDS:
                field, kind = _FIELDS[slot.path]
                self._expect(slot, kind)
                return nodes.attribute(nodes.load("f"), field)
            case "fact" if slot.path in _LABELS:
                labels = nodes.attribute(nodes.load("f"), "labels")
                return nodes.compare(nodes.constant(_LABELS[slot.path]), "in", labels)
            case _:
                return self._asked(slot)

    def _read_input(self, slot: Slot, given: ast.expr) -> ast.expr:
        name = slot.path[0]
        if slot.kind in _TYPES:
            self._expect(slot, slot.kind)
        default: Any = given_input(self._inputs[name])
        if default is MISSING:
            return given
        is_given = nodes.compare(nodes.constant(name), "in", nodes.load("i"))
        is_plain = isinstance(default, str | int | float)
        return nodes.choose(
            is_given, given, nodes.constant(default) if is_plain else nodes.load(self._coder.keep(default))
        )

    def _asked(self, slot: Slot) -> ast.expr:
        return nodes.call(nodes.load(self._coder.keep(slot.read)), nodes.load("f"))

    def _expect(self, slot: Slot, kind: str) -> None:
        value = nodes.load(slot.variable)
        if kind == "any":
            self._unusual.append(nodes.compare(value, "is", nodes.constant(None)))
            return
        found = nodes.call(nodes.load("type"), value)
        wrong = [nodes.compare(found, "is not", nodes.load(name)) for name in _TYPES[kind]]
        self._unusual.append(nodes.all_of(wrong))
        if kind == "number":
            self._quantities.append(slot.variable)

    def _calculate(self, *, of_risk: bool) -> list[ast.stmt]:
        """Calculates, and makes sure that all numbers are finite: their sum is, and else each is looked at."""
        found: list[ast.stmt] = []
        for slot in self._slots.all.values():
            if slot.expression is not None and _uses_risk(slot.expression) == of_risk:
                found.append(nodes.assign(slot.variable, self._coder.calculation_code(slot)))
                if not slot.is_optional:
                    self._quantities.append(slot.variable)
        if self._quantities:
            total = nodes.load(self._quantities[0])
            for variable in self._quantities[1:]:
                total = nodes.calculate(total, "+", nodes.load(variable))
            found.append(nodes.assign("total", total))
            is_finite = nodes.compare(nodes.calculate(nodes.load("total"), "-", nodes.load("total")), "==", _ZERO)
            found.append(nodes.when(nodes.negated(is_finite), self._otherwise))
        self._quantities.clear()
        return found


_ZERO = nodes.constant(0)


def _uses_risk(expression: Expression) -> bool:
    if isinstance(expression, Name):
        return expression.path == ("risk_score",)
    return any(_uses_risk(part) for part in parts_of(expression))
