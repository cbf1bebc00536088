"""Which type every value in a condition has: declared, known, or inferred for arguments from how they are used."""

from collections.abc import Mapping
from typing import TypeAlias, get_args

from ostler.domain.constraint.facts import VOCABULARY
from ostler.domain.constraint.problems import Problem, problem_at
from ostler.domain.constraint.syntax import (
    And,
    Arithmetic,
    Boolean,
    Call,
    Compare,
    Duration,
    Expression,
    From,
    Has,
    History,
    In,
    Input,
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
from ostler.domain.suggest import did_you_mean
from ostler.domain.tool import Role

Kind: TypeAlias = str
"""`number`, `text`, `boolean`, `duration`, `money USD` (with its currency); `texts` and `numbers` (a list or a set of
them); of arguments of which no more is known `scalar` (a text or a number), `scalars` (a list of them), `sized` (what
has a length) and `any`.
"""

Path: TypeAlias = tuple[str, ...]

KNOWN: dict[Path, Kind] = {
    tuple(one.name.split(".")): {"set": "texts", "list": "texts", "money": "money USD"}.get(one.kind, one.kind)
    for one in VOCABULARY
}
ROLES: tuple[Role, ...] = get_args(Role)

_ORDERED = ("number", "text", "duration", "money")
_COLLECTIONS = {"text": "texts", "number": "numbers", "scalar": "scalars"}
_ITEMS = {collection: item for item, collection in _COLLECTIONS.items()}


def input_kind(declared: Input) -> Kind:
    """The type of an input. Lists and sets are of texts, unless their default holds numbers."""
    if declared.kind in ("set", "list"):
        default = declared.default
        is_numbers = isinstance(default, ListOf | SetOf) and any(isinstance(one, Number) for one in default.items)
        return "numbers" if is_numbers else "texts"
    if declared.kind == "money":
        return f"money {declared.default.currency}" if isinstance(declared.default, Money) else "money USD"
    return declared.kind


class Kinds:
    """The types within one rule. `of` answers for every expression that was told to `condition` or `number`."""

    def __init__(self, inputs: Mapping[str, Input], *, in_risk: bool = False) -> None:
        self.arguments: dict[Path, Kind] = {}
        self.problems: list[Problem] = []
        self._inputs = inputs
        self._in_risk = in_risk
        self._is_final = False

    def condition(self, expression: Expression) -> None:
        """Infer the types of a condition, and note what is wrong with it."""
        self._infer(expression, "boolean")

    def number(self, expression: Expression) -> None:
        """Infer the types of an amount."""
        self._infer(expression, "number")

    def of(self, expression: Expression) -> Kind | None:
        """The type of an expression; None if it is an argument of which nothing is known."""
        match expression:
            case Number() | History():
                return "boolean" if isinstance(expression, History) and not _counts(expression) else "number"
            case Text():
                return "text"
            case Boolean() | Not() | And() | Or() | Compare() | In() | Has() | Matches() | From():
                return "boolean"
            case Duration():
                return "duration"
            case Money():
                return f"money {expression.currency}"
            case ListOf() | SetOf():
                kinds = {self.of(item) for item in expression.items}
                return "numbers" if kinds == {"number"} else "texts"
            case Name():
                return self._of_name(expression)
            case Arithmetic():
                return self._of_arithmetic(expression)
            case Negative():
                return self.of(expression.operand)
            case Call():
                return {"LOWER": "text", "LENGTH": "number", "EXISTS": "boolean"}[expression.function]

    # ------------------------------------------------------------------------------------------------- inference

    def _infer(self, expression: Expression, kind: Kind) -> None:
        """Twice: what one use of an argument says of its type holds for uses before it."""
        for is_final in (False, True):
            self._is_final = is_final
            self.problems.clear()
            self._expect(expression, kind)
            self._visit(expression)

    def _visit(self, expression: Expression) -> None:
        match expression:
            case Not():
                self._expect(expression.operand, "boolean")
                self._visit(expression.operand)
            case And() | Or():
                for operand in expression.operands:
                    self._expect(operand, "boolean")
                    self._visit(operand)
            case Compare():
                self._compare(expression)
            case In():
                self._membership(expression, expression.item, expression.collection)
            case Has():
                self._membership(expression, expression.item, expression.collection)
            case Matches():
                self._expect(expression.text, "text")
                self._visit(expression.text)
            case From():
                self._visit(expression.value)
            case Arithmetic():
                self._arithmetic(expression)
            case Negative():
                self._visit(expression.operand)
                if self.of(expression.operand) is None and self._is_final:
                    self._expect(expression.operand, "number")
            case Call():
                self._call(expression)
            case Name():
                self._name(expression)
            case ListOf() | SetOf():
                if len({self.of(item) for item in expression.items} | {"text"}) > 2 or any(
                    self.of(item) not in ("text", "number") for item in expression.items
                ):
                    self._wrong(expression, "its items are not all texts, nor all numbers")
            case Number() | Text() | Boolean() | Duration() | Money() | History():
                pass

    def _expect(self, expression: Expression, kind: Kind) -> None:
        """An expression must be of this type; an argument of unknown type is."""
        found = self.of(expression)
        if found is None:
            self._settle(expression, kind)
        elif found not in (kind, "any") and self._is_final:
            self._wrong(expression, f"expected a {_said(kind)}, found {_article(found)}")

    def _settle(self, expression: Expression, kind: Kind) -> None:
        match expression:
            case Name():
                self.arguments[expression.path] = kind
            case Negative():
                self._settle(expression.operand, kind)
            case Arithmetic():
                self._settle_missing(expression.left, kind)
                self._settle_missing(expression.right, kind if expression.operator in "+-" else "number")
            case _:
                raise AssertionError(f"{expression} has a type")

    def _settle_missing(self, expression: Expression, kind: Kind) -> None:
        if self.of(expression) is None:
            self._settle(expression, kind)

    def _compare(self, expression: Compare) -> None:
        left, right = expression.left, expression.right
        self._visit(left)
        self._visit(right)
        kind, other = self.of(left), self.of(right)
        if kind is None and other is None:
            if not self._is_final:
                return
            kind = "scalar" if expression.operator in ("==", "!=") else "number"
            self._expect(left, kind)
        if kind is None and other is not None:
            self._settle(left, kind := other)
        elif other is None and kind is not None:
            self._settle_missing(right, kind)
            other = self.of(right)
        if not self._is_final or kind in (None, "any") or other in (None, "any"):
            return
        if kind != other and {kind, other} not in ({"scalar", "text"}, {"scalar", "number"}):
            self._wrong(expression, f"{_article(kind)} compared with {_article(other)}")
        elif kind in _ITEMS:
            self._wrong(expression, "lists and sets compared", "use IN or HAS")
        elif expression.operator not in ("==", "!=") and not kind.startswith(_ORDERED):
            self._wrong(expression, f"{_article(kind)} has no order")

    def _membership(self, expression: Expression, item: Expression, collection: Expression) -> None:
        self._visit(item)
        self._visit(collection)
        of_item, of_collection = self.of(item), self.of(collection)
        if of_collection is None:
            if of_item is None and not self._is_final:
                return
            plain = of_item or "scalar"
            of_collection = plain if plain in _ITEMS else _COLLECTIONS.get(plain, "texts")
            self._settle(collection, of_collection)
        if of_item is None:
            self._settle(item, of_item := _ITEMS.get(of_collection, "text"))
        if not self._is_final or "any" in (of_item, of_collection):
            return
        if of_collection not in _ITEMS:
            self._wrong(collection, f"{_article(of_collection)} holds no items", "use MATCHES for a part of a text")
        elif "scalar" not in (plain := _ITEMS.get(of_item, of_item), held := _ITEMS[of_collection]) and plain != held:
            self._wrong(expression, f"{_article(of_item)} in {_article(of_collection)}")

    def _arithmetic(self, expression: Arithmetic) -> None:
        self._visit(expression.left)
        self._visit(expression.right)
        kind, other = self.of(expression.left), self.of(expression.right)
        if expression.operator in "*/":
            if other is None and kind is not None:
                self._settle(expression.right, "number")
            if kind is None and other is not None and (other != "number" or self._is_final):
                self._settle(expression.left, "number")
        elif kind is None and other is not None:
            self._settle(expression.left, other)
        elif other is None and kind is not None:
            self._settle(expression.right, kind)
        if not self._is_final:
            return
        if self.of(expression) is None:
            self._settle(expression, "number")
        if self._of_arithmetic(expression) == "":
            left, right = self.of(expression.left) or "any", self.of(expression.right) or "any"
            if "any" in (left, right):
                return
            self._wrong(expression, f"{_article(left)} {expression.operator} {_article(right)} is nothing")

    def _of_arithmetic(self, expression: Arithmetic) -> Kind | None:
        """The type of a calculation; "" if there is no such calculation."""
        left, right = self.of(expression.left), self.of(expression.right)
        if left is None or right is None:
            return None
        quantities = all(kind in ("number", "duration") or kind.startswith("money") for kind in (left, right))
        match expression.operator:
            case "+" | "-":
                return left if quantities and left == right else ""
            case "*":
                return (left if right == "number" else right if left == "number" else "") if quantities else ""
            case "/":
                return (left if right == "number" else "number" if left == right else "") if quantities else ""

    def _call(self, expression: Call) -> None:
        argument = expression.argument
        if expression.function == "EXISTS":
            if not isinstance(argument, Name) or argument.path[0] != "args" or len(argument.path) < 2:
                self._wrong(argument, "only an argument of the call can be missing", "for example EXISTS(args.amount)")
            return
        self._visit(argument)
        if expression.function == "LOWER":
            self._expect(argument, "text")
        elif self._is_final and self.of(argument) is None:
            self._settle(argument, "sized")
        elif self._is_final and not (self.of(argument) in (None, "text", "sized") or self.of(argument) in _ITEMS):
            self._wrong(argument, f"{_article(self.of(argument) or 'any')} has no length")

    # ----------------------------------------------------------------------------------------------------- names

    def _of_name(self, name: Name) -> Kind | None:
        path = name.path
        if path in KNOWN:
            return KNOWN[path]
        if path[0] == "args":
            return self.arguments.get(path)
        if path[0] == "role":
            return "boolean"
        if len(path) == 1 and path[0] in self._inputs:
            return input_kind(self._inputs[path[0]])
        return "any"

    def _name(self, name: Name) -> None:
        path = name.path
        written = ".".join(path)
        if path == ("risk_score",) and self._in_risk:
            self._wrong(name, "the risk score as a part of itself", "a RISK line uses other facts")
        if path in KNOWN or (path[0] == "args" and len(path) > 1) or (len(path) == 1 and path[0] in self._inputs):
            return
        if path[0] == "role" and path[1:] and len(path) == 2 and path[1] in ROLES:
            return
        known = [".".join(one) for one in KNOWN] + [f"role.{role}" for role in ROLES] + list(self._inputs)
        near = did_you_mean(written, known)
        declare = f"arguments are args.{written}; inputs are declared: input {written}: text"
        hint = f"did you mean {near!r}?" if near else declare if len(path) == 1 else "see the list of facts"
        self._wrong(name, f"there is no {written!r}", hint)

    def _wrong(self, expression: Expression, message: str, hint: str = "") -> None:
        if self._is_final:
            self.problems.append(problem_at(expression.at, message, hint))


def is_regex(expression: Expression) -> bool:
    """Whether an expression matches a regular expression, for which an extra package is needed."""
    return isinstance(expression, Matches) and isinstance(expression.pattern, Regex)


def _counts(question: History) -> bool:
    return question.asks in ("COUNT", "SUM")


def _said(kind: Kind) -> str:
    words = {"texts": "list or set of texts", "numbers": "list or set of numbers", "boolean": "condition"}
    return words.get(kind, kind)


def _article(kind: Kind) -> str:
    if kind == "any":
        return "something"
    return f"a {_said(kind) if kind != 'boolean' else 'boolean'}"
