"""Turns conditions over slots into Python syntax trees."""

import ast
from collections.abc import Callable, Mapping
from typing import Any

from ostler.domain.constraint import nodes
from ostler.domain.constraint.folding import items_of
from ostler.domain.constraint.globs import matcher
from ostler.domain.constraint.kinds import Kind, Path
from ostler.domain.constraint.printer import show_expression
from ostler.domain.constraint.regex import searcher
from ostler.domain.constraint.sieve import Clause, Test, asked
from ostler.domain.constraint.slots import SOURCES, Slot, Slots, is_optional_in, said_kinds
from ostler.domain.constraint.syntax import (
    And,
    Arithmetic,
    Boolean,
    Call,
    Compare,
    Comparison,
    Duration,
    Expression,
    From,
    Has,
    History,
    In,
    ListOf,
    Matches,
    Money,
    Name,
    Negative,
    Not,
    Number,
    Or,
    Regex,
    SetOf,
    Text,
)
from ostler.domain.constraint.values import MISSING, Collection, finite

Kinds = Mapping[Path, Kind]
CLAUSES_MAX = 16
"""A condition that would be more alternatives than that is not taken apart."""

_OPPOSITE: dict[Comparison, Comparison] = {"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_TURNED: dict[Comparison, Comparison] = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_WORDS = (("context", "labels"), ("principal", "roles"), ("principal", "scopes"))
"""Facts that are sets."""


class Coder:
    """Writes the code of one program. `names` are the values that its functions see besides their parameters."""

    def __init__(self, slots: Slots) -> None:
        self.names: dict[str, Any] = {"MISSING": MISSING, "finite": finite, "all": all, "map": map, "len": len}
        self.names |= {"type": type, "int": int, "float": float, "str": str, "bool": bool, "frozenset": frozenset}
        self.names["round"] = round
        self._slots = slots
        self._kept = 0

    def keep(self, value: Any) -> str:
        """A name for a value that is made at compile time."""
        self._kept += 1
        name = f"k{self._kept}"
        self.names[name] = value
        return name

    # -------------------------------------------------------------------------------------------------- conditions

    def code(self, expression: Expression, kinds: Kinds) -> ast.expr:
        """The value of an expression, where all slots are variables."""
        match expression:
            case Number() | Text() | Boolean():
                return nodes.constant(expression.value)
            case Duration():
                return nodes.constant(expression.us)
            case Money():
                return nodes.constant(expression.micro)
            case ListOf() | SetOf():
                return nodes.load(self.keep(Collection(items_of(expression))))
            case Name() | Arithmetic() | Negative():
                return nodes.load(self._slots.of(expression, kinds).variable)
            case History():
                answer = nodes.load(self._slots.of(expression, kinds).variable)
                is_count = expression.asks in ("COUNT", "SUM")
                return answer if is_count else nodes.compare(answer, ">", nodes.constant(0))
            case Not():
                return nodes.negated(self.code(expression.operand, kinds))
            case And():
                return nodes.all_of([self.code(each, kinds) for each in expression.operands])
            case Or():
                return nodes.any_of([self.code(each, kinds) for each in expression.operands])
            case Compare():
                left, right = self.code(expression.left, kinds), self.code(expression.right, kinds)
                return nodes.compare(left, expression.operator, right)
            case In():
                return self._membership(expression.item, expression.collection, kinds)
            case Has():
                return self._membership(expression.item, expression.collection, kinds)
            case Matches():
                return nodes.call(self._pattern(expression.pattern), self.code(expression.text, kinds))
            case From():
                said = nodes.attribute(nodes.load(self._slots.all[SOURCES].variable), "said")
                value = self.code(expression.value, said_kinds(expression, kinds))
                return nodes.call(said, value, nodes.constant(expression.sources))
            case Call():
                return self._call(expression, kinds)

    def test(self, expression: Expression, kinds: Kinds) -> tuple[str, Callable[[Mapping[str, Any]], Any]]:
        """An expression as it is written, and a function from the values of slots to its value."""
        return show_expression(expression), self._over_values(self.code(expression, kinds))

    def calculation(self, slot: Slot) -> Callable[[Mapping[str, Any]], Any]:
        """A function from the values of slots to what a slot is calculated to be. It may raise."""
        code = self.calculation_code(slot)
        if not slot.is_optional:
            code = nodes.call(nodes.load("finite"), code, nodes.constant(slot.shown))
        return self._over_values(code)

    def calculation_code(self, slot: Slot) -> ast.expr:
        """What a slot is calculated from; `MISSING` if an argument is that may be."""
        assert slot.expression is not None
        code = self._calculated(slot.expression, slot.kinds)
        if not slot.is_optional:
            return code
        used = {one.variable: one for one in self._slots.all.values()}
        optional = [name for name in sorted(nodes.variables(code)) if name in used and used[name].is_optional]
        if optional:
            missing = nodes.load("MISSING")
            is_missing = nodes.any_of([nodes.compare(nodes.load(name), "is", missing) for name in optional])
            return nodes.choose(is_missing, missing, nodes.call(nodes.load("finite"), code, nodes.constant(slot.shown)))
        return nodes.call(nodes.load("finite"), code, nodes.constant(slot.shown))

    def _calculated(self, expression: Expression, kinds: Kinds) -> ast.expr:
        match expression:
            case Arithmetic():
                left, right = self._calculated(expression.left, kinds), self._calculated(expression.right, kinds)
                return nodes.calculate(left, expression.operator, right)
            case Negative():
                return nodes.negative(self._calculated(expression.operand, kinds))
            case _:
                return self.code(expression, kinds)

    def _over_values(self, node: ast.expr) -> Callable[[Mapping[str, Any]], Any]:
        used = sorted(nodes.variables(node) & {slot.variable for slot in self._slots.all.values()})
        function = nodes.function(used, [nodes.give(node)], self.names)
        return lambda values: function(*[values[name] for name in used])

    def _membership(self, item: Expression, collection: Expression, kinds: Kinds) -> ast.expr:
        holds = self._holds(collection, kinds)
        value = self.code(item, kinds)
        if self._is_collection(item, kinds):
            return nodes.call(nodes.load("all"), nodes.call(nodes.load("map"), holds, value))
        if isinstance(holds, ast.Attribute) and holds.attr == "__contains__":
            return nodes.compare(value, "in", holds.value)
        return nodes.call(holds, value)

    def _holds(self, collection: Expression, kinds: Kinds) -> ast.expr:
        """A function that says whether the collection has an item."""
        if isinstance(collection, ListOf | SetOf):
            known = Collection(items_of(collection))
            if known.globs:
                return nodes.load(self.keep(known.holds))
            return nodes.attribute(nodes.constant(known.exact), "__contains__")
        value = self.code(collection, kinds)
        is_input = isinstance(collection, Name) and self._slots.of(collection, kinds).origin == "input"
        return nodes.attribute(value, "holds" if is_input else "__contains__")

    def _is_collection(self, expression: Expression, kinds: Kinds) -> bool:
        if isinstance(expression, ListOf | SetOf):
            return True
        return isinstance(expression, Name) and self._slots.of(expression, kinds).kind in (
            "texts",
            "numbers",
            "scalars",
        )

    def _pattern(self, pattern: Text | Regex) -> ast.expr:
        known = matcher(pattern.value) if isinstance(pattern, Text) else searcher(pattern.pattern)
        return nodes.load(self.keep(known))

    def _call(self, expression: Call, kinds: Kinds) -> ast.expr:
        argument = expression.argument
        if expression.function == "EXISTS":
            assert isinstance(argument, Name)
            slot = self._slots.all[("args", argument.path, "any")]
            return nodes.compare(nodes.load(slot.variable), "is not", nodes.load("MISSING"))
        value = self.code(argument, kinds)
        if expression.function == "LOWER":
            return nodes.call(nodes.attribute(value, "lower"))
        return nodes.call(nodes.load("len"), value)

    # ---------------------------------------------------------------------------------------------------- the sieve

    def opaque(self, condition: Callable[[Mapping[str, Any]], bool]) -> Test:
        """A condition over the arguments that is code already."""
        return Test("other", "", None, nodes.call(nodes.load(self.keep(condition)), nodes.load("a")))

    def clauses(self, condition: Expression, kinds: Kinds) -> list[Clause]:
        """Alternatives of tests that are a condition between them: it holds if all tests of any of them do."""
        return self._alternatives(condition, kinds, holds=True)

    def _alternatives(self, condition: Expression, kinds: Kinds, *, holds: bool) -> list[Clause]:
        if isinstance(condition, Boolean):
            return [()] if condition.value == holds else []
        if isinstance(condition, Not):
            return self._alternatives(condition.operand, kinds, holds=not holds)
        if isinstance(condition, And | Or):
            parts = [self._alternatives(each, kinds, holds=holds) for each in condition.operands]
            if isinstance(condition, And) == holds:
                return self._product(condition, parts, kinds, holds=holds)
            if not is_optional_in(condition, self._slots, kinds):
                return [clause for part in parts for clause in part]
        return [(self._test(condition, kinds, holds=holds),)]

    def _product(self, condition: And | Or, parts: list[list[Clause]], kinds: Kinds, *, holds: bool) -> list[Clause]:
        clauses: list[Clause] = [()]
        for part in parts:
            clauses = [(*clause, *more) for clause in clauses for more in part]
            if len(clauses) > CLAUSES_MAX:
                return [(self._whole(condition, kinds, holds=holds),)]
        return clauses

    def _whole(self, condition: Expression, kinds: Kinds, *, holds: bool) -> Test:
        node = self.code(condition, kinds)
        return Test("other", "", None, node if holds else nodes.negated(node))

    def _test(self, condition: Expression, kinds: Kinds, *, holds: bool) -> Test:
        whole = self._whole(condition, kinds, holds=holds)
        if is_optional_in(condition, self._slots, kinds):
            return whole
        match condition:
            case Compare():
                return self._compared(condition, kinds, whole, holds=holds)
            case In(item=item, collection=ListOf() | SetOf() as collection) if holds:
                known = Collection(items_of(collection))
                if not known.globs and known.items and isinstance(item, Name) and not self._is_collection(item, kinds):
                    return Test("one of", self._slots.of(item, kinds).variable, known.exact, whole.node)
            case Has(collection=Name() as collection, item=Text(value=word)) if holds:
                slot = self._slots.of(collection, kinds)
                if slot.path in _WORDS:
                    return Test("holds", slot.variable, frozenset((word,)), whole.node)
            case Name():
                return Test("true" if holds else "false", self._slots.of(condition, kinds).variable, holds, whole.node)
            case History(asks="HAPPENED" | "SUCCEEDED") if holds:
                return Test("above", self._slots.of(condition, kinds).variable, (0, True), whole.node)
        return whole

    def _compared(self, condition: Compare, kinds: Kinds, whole: Test, *, holds: bool) -> Test:
        """A comparison of a slot with a literal, whichever way round it is written."""
        left, right, operator = condition.left, condition.right, condition.operator
        if not isinstance(left, Name | Arithmetic | Negative | History):
            left, right, operator = right, left, _TURNED[operator]
        if not isinstance(left, Name | Arithmetic | Negative | History):
            return whole
        if not holds:
            operator = _OPPOSITE[operator]
        variable = self._slots.of(left, kinds).variable
        value = self.code(right, kinds)
        if not isinstance(value, ast.Constant):
            return whole
        literal: Any = value.value
        node = nodes.compare(nodes.load(variable), operator, value)
        if type(literal) is bool:
            is_wanted = literal == (operator == "==")
            truth = nodes.load(variable)
            return Test(
                "true" if is_wanted else "false", variable, is_wanted, truth if is_wanted else nodes.negated(truth)
            )
        if operator == "==":
            return Test("one of", variable, frozenset((literal,)), asked("one of", variable, frozenset((literal,))))
        if operator == "!=" or type(literal) is str:
            return Test("other", "", None, node)
        kind = "above" if operator in (">", ">=") else "below"
        return Test("above" if kind == "above" else "below", variable, (literal, operator in (">", "<")), node)
