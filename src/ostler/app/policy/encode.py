"""Rules as formulas: what a condition says of the unknowns of a call, and where it cannot be evaluated."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import z3  # type: ignore[import-untyped]

from ostler.app.policy.sorts import Inputs
from ostler.app.policy.symbols import BUDGETS, LABELS, MISSING, TEXT, Symbols
from ostler.app.policy.texts import key_of
from ostler.app.policy.words import Kind as Word
from ostler.app.policy.words import Pattern
from ostler.domain.constraint.kinds import KNOWN, Kinds, input_kind
from ostler.domain.constraint.printer import show_expression
from ostler.domain.constraint.regex import searcher
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
    ListOf,
    Matches,
    Money,
    Name,
    Negative,
    Not,
    Number,
    Or,
    SetOf,
    Text,
    parts_of,
    walk,
)

_OF_THE_TOOL = (("operation",), ("tool", "name"), ("effect",))


class Encoder:
    """The conditions of one policy as formulas. `errors` collects where the last one has no value."""

    def __init__(self, symbols: Symbols, inputs: Inputs, risk: Callable[[], tuple[Any, list[Any]]]) -> None:
        self.symbols = symbols
        self.inputs = inputs
        self.errors: list[Any] = []
        self._risk = risk
        self._kinds = Kinds(inputs)
        self._present: frozenset[tuple[str, ...]] = frozenset()
        self._calculated_with: list[Any] | None = None

    def condition(self, expression: Expression | None) -> Any:
        """Whether a condition holds. An absent one always does."""
        if expression is None:
            return z3.BoolVal(True)
        self._kinds = Kinds(self.inputs)
        self._kinds.condition(expression)
        return self._truth(expression)

    def part_of_risk(self, condition: Expression | None, amount: Expression) -> tuple[Any, Any]:
        """When a part of the risk score counts, and what it comes to."""
        self.errors = []
        with self._unless(z3.BoolVal(False) if condition is None else self._decided(condition)[1]):
            applies = self.condition(condition)
            self._kinds.number(amount)
            return applies, self._quantity(amount)

    # -------------------------------------------------------------------------------------------------- conditions

    def _truth(self, expression: Expression) -> Any:
        match expression:
            case Boolean():
                return z3.BoolVal(expression.value)
            case Not():
                return z3.Not(self._truth(expression.operand))
            case And():
                return z3.And(*self._joined(expression))
            case Or():
                return z3.Or(*self._joined(expression))
            case Compare():
                return self._compared(expression)
            case In():
                return self._membership(expression.item, expression.collection)
            case Has():
                return self._membership(expression.item, expression.collection)
            case Matches():
                return self._matched(expression)
            case From():
                return self._from(expression)
            case Call():
                assert expression.function == "EXISTS", "the only function that is a condition"
                assert isinstance(expression.argument, Name), "the types were checked"
                return self.symbols.argument(expression.argument.path) != MISSING
            case History():
                return self.symbols.answer(expression) > 0
            case Name():
                return self._named_truth(expression)
            case _:
                raise AssertionError(f"{show_expression(expression)} is no condition")

    def _joined(self, expression: And | Or) -> list[Any]:
        """The parts. After `EXISTS(args.x) AND` it is no mistake that `args.x` is missing, as in `constraint.slots`."""
        before, terms = self._present, []
        is_all = isinstance(expression, And)
        decided = [self._decided(operand) for operand in expression.operands]
        with self._unless(z3.Or(*[not_so if is_all else so for so, not_so in decided])):
            for operand in expression.operands:
                terms.append(self._truth(operand))
                self._present |= _present(operand, holds=is_all)
        self._present = before
        return terms

    @contextmanager
    def _unless(self, is_decided: Any) -> Iterator[None]:
        """What the tool alone decides is not asked, and so cannot go wrong; see `ostler.domain.constraint.folding`."""
        before, self.errors = self.errors, []
        yield
        self.errors = [*before, *[z3.And(z3.Not(is_decided), error) for error in self.errors]]

    def _decided(self, expression: Expression) -> tuple[Any, Any]:
        """When the tool alone, its roles and its effect make a condition true, and when false."""
        match expression:
            case Not():
                so, not_so = self._decided(expression.operand)
                return not_so, so
            case And() | Or():
                parts = [self._decided(operand) for operand in expression.operands]
                so, not_so = [one for one, _ in parts], [other for _, other in parts]
                return (z3.And(*so), z3.Or(*not_so)) if isinstance(expression, And) else (z3.Or(*so), z3.And(*not_so))
            case Boolean() | Name() | Compare() | In() | Matches() if _is_of_the_tool(expression):
                term = self._truth(expression)
                return term, z3.Not(term)
            case _:
                return z3.BoolVal(False), z3.BoolVal(False)

    def _named_truth(self, name: Name) -> Any:
        if name.path[0] == "role":
            return self.symbols.role(name.path[1])
        key = key_of(name)
        if key in LABELS:
            return self.symbols.member("context.labels", LABELS[key])
        return self._given(name, self.symbols.boolean(key))

    def _compared(self, expression: Compare) -> Any:
        left, right = expression.left, expression.right
        kind, other = self._kinds.of(left), self._kinds.of(right)
        if kind == other == "boolean":
            equal = self._truth(left) == self._truth(right)
            return equal if expression.operator == "==" else z3.Not(equal)
        if kind == other == "text":
            return self._compared_texts(expression)
        if "scalar" in (kind, other) or kind is None or other is None:
            return self._free(expression)
        if isinstance(left, Arithmetic) and left.operator == "/" and not isinstance(right, Arithmetic):
            return self._compared_quotient(left, expression.operator, right)
        if isinstance(right, Arithmetic) and right.operator == "/" and not isinstance(left, Arithmetic):
            return self._compared_quotient(right, _TURNED[expression.operator], left)
        return _COMPARISONS[expression.operator](self._quantity(left), self._quantity(right))

    def _compared_quotient(self, quotient: Arithmetic, operator: str, other: Expression) -> Any:
        """Compares without dividing: beside a number that is linear, which the solver always decides."""
        over, under = self._parts_of_calculation(quotient)
        bound = self._quantity(other)
        turned = _COMPARISONS[_TURNED[operator]](over, bound * under)
        return z3.If(under > 0, _COMPARISONS[operator](over, bound * under), turned)

    def _compared_texts(self, expression: Compare) -> Any:
        """Equality with a text that is written in the rule is exact; all else is settled by examples."""
        for one, other, turned in (
            (expression.left, expression.right, expression.operator),
            (expression.right, expression.left, _TURNED[expression.operator]),
        ):
            if isinstance(other, Text) and self._has_words(one):
                return self._compared_with(one, turned, other.value)
        left, right = expression.left, expression.right
        if not (isinstance(left, Name) and isinstance(right, Name)) or expression.operator not in ("==", "!="):
            return self._free(expression)
        if any(key_of(name).startswith("inputs.") for name in (left, right)):
            return self._free(expression)  # it may be its default instead
        equal = self._equal_texts(left, right)
        return equal if expression.operator == "==" else z3.Not(equal)

    def _equal_texts(self, left: Name, right: Name) -> Any:
        """Whether two texts of the call are the same: known where each can only be one text."""
        one, other = self._bound(left), self._bound(right)
        term = self.symbols.boolean(f"{one} == {other}")
        for number, word in enumerate(self.symbols.words(one)):
            for place, second in enumerate(self.symbols.words(other)):
                are_these = z3.And(self.symbols.text(one) == number, self.symbols.text(other) == place)
                fits = z3.Implies(are_these, term == z3.BoolVal(word.example == second.example))
                is_known = word.is_single and second.is_single
                (self.symbols.axioms if is_known else self.symbols.pins).append(fits)
        return term

    def _compared_with(self, one: Expression, operator: str, text: str) -> Any:
        if operator in ("==", "!="):
            equal = self._is_like(one, Pattern(text))
            return equal if operator == "==" else z3.Not(equal)
        compare = _TEXT_ORDER[operator]
        return self._asked_of_text(one, f"{operator} {text!r}", lambda found: compare(found, text))

    def _has_words(self, expression: Expression) -> bool:
        return isinstance(expression, Name) or (
            isinstance(expression, Call) and expression.function == "LOWER" and isinstance(expression.argument, Name)
        )

    def _is_like(self, text: Expression, pattern: Pattern) -> Any:
        """Whether a text of the call matches a pattern. Exact, for the kinds of text were found for these patterns."""
        name, is_folded = self._text_of(text)
        wanted = Pattern(pattern.text, pattern.is_exact, is_folded=is_folded)
        term = self.symbols.text_is(name, f"is like {wanted}", lambda word: _answer(word, wanted))
        if any(word.is_vague for word in self.symbols.words(name)):
            self.symbols.pin_text(name, term, wanted.matches)
        return self._with_default(text, term, wanted.matches)

    def _asked_of_text(self, text: Expression, about: str, holds: Callable[[str], bool]) -> Any:
        """Whether something holds of a text that kinds of text do not tell: known of those that are one text only."""
        name, is_folded = self._text_of(text)

        def asked(found: str) -> bool:
            return holds(found.lower() if is_folded else found)

        about = f"{'in small letters ' if is_folded else ''}{about}"
        term = self.symbols.text_is(name, about, lambda word: asked(word.example) if word.is_single else None)
        self.symbols.pin_text(name, term, asked)
        return self._with_default(text, term, asked)

    def _with_default(self, text: Expression, term: Any, of_default: Callable[[str], bool]) -> Any:
        """What is asked of an input is asked of its default where it is not given."""
        name = text.argument if isinstance(text, Call) else text
        if isinstance(name, Name) and key_of(name).startswith("inputs."):
            default = self.inputs[name.path[0]].default
            if isinstance(default, Text):
                return z3.If(self.symbols.tag(key_of(name)) == MISSING, z3.BoolVal(of_default(default.value)), term)
        return term

    def _text_of(self, text: Expression) -> tuple[str, bool]:
        match text:
            case Call(argument=Name() as inner):
                return self._bound(inner), True
            case Name():
                return self._bound(text), False
            case _:
                raise AssertionError(f"{show_expression(text)} has no name")

    def _matched(self, expression: Matches) -> Any:
        if not self._has_words(expression.text):
            return self._free(expression)
        if isinstance(expression.pattern, Text):
            glob = expression.pattern.value
            return self._is_like(expression.text, Pattern.glob(glob))
        return self._asked_of_text(
            expression.text, f"matches {expression.pattern.pattern}", searcher(expression.pattern.pattern)
        )

    def _from(self, expression: From) -> Any:
        name = expression.value
        if not isinstance(name, Name):
            return self._free(expression)
        return self.symbols.said(self._bound(name, is_as_written=True), expression.sources)

    # ------------------------------------------------------------------------------------------------- membership

    def _membership(self, item: Expression, collection: Expression) -> Any:
        if isinstance(collection, ListOf | SetOf):
            return self._in_written(item, collection)
        if not isinstance(collection, Name):
            return self._free(In(item=item, collection=collection))
        name = self._bound(collection)
        held = self._held(item, name, collection)
        default = self.inputs[collection.path[0]].default if name.startswith("inputs.") else None
        if isinstance(default, ListOf | SetOf):
            return z3.If(self.symbols.tag(name) == MISSING, self._in_written(item, default), held)
        return held

    def _held(self, item: Expression, name: str, collection: Name) -> Any:
        """Whether a list or set of the call holds an item."""
        if isinstance(item, Text):
            return self.symbols.member(name, item.value)
        if self._kinds.of(item) == "text" and self._has_words(item):
            about = f"is in {name}"
            text, _ = self._text_of(item)
            term = self.symbols.boolean(f"{show_expression(item)} {about}")
            for number, word in enumerate(self.symbols.words(text)):
                is_it, held = self.symbols.text(text) == number, self.symbols.member(name, word.example)
                (self.symbols.axioms if word.is_single else self.symbols.pins).append(z3.Implies(is_it, term == held))
            return term
        return self._free(In(item=item, collection=collection))

    def _in_written(self, item: Expression, collection: ListOf | SetOf) -> Any:
        """Whether an item, or every item of a list, is in a collection that the rule writes out."""
        kind = self._kinds.of(item)
        if kind in ("texts", "scalars") and isinstance(item, Name):
            return self._all_within(self._bound(item), collection)
        if kind == "text" and isinstance(item, Text):
            return z3.BoolVal(_is_among(item.value, collection))
        if kind == "text" and self._has_words(item):
            texts = [one.value for one in collection.items if isinstance(one, Text)]
            return z3.Or(*[self._is_like(item, Pattern.glob(text)) for text in texts])
        if kind == "number":
            numbers = [self._quantity(one) for one in collection.items if isinstance(one, Number)]
            found = self._quantity(item)
            return z3.Or(*[found == number for number in numbers])
        return self._free(In(item=item, collection=collection))

    def _all_within(self, name: str, collection: ListOf | SetOf) -> Any:
        within = self.symbols.boolean(f"all of {name} in {show_expression(collection)}")
        named = {one.value for one in collection.items if isinstance(one, Text)}
        for one in sorted(named):
            self.symbols.member(name, one)
        outside = [held for one, held in self.symbols.items(name).items() if not _is_among(one, collection)] + [
            self.symbols.others(name)
        ]
        covers_all = _is_among("other", collection)
        for one in outside[: -1 if covers_all else None]:
            self.symbols.axioms.append(z3.Implies(one, z3.Not(within)))
        some = z3.Or(*outside, *[self.symbols.member(name, one) for one in sorted(named)])
        self.symbols.axioms.append(z3.Implies(self.symbols.length(name) == 0, within))
        self.symbols.pins.append(z3.Implies(z3.Not(within), some))
        self.symbols.pins.append(z3.Implies(z3.Not(z3.Or(*outside)), within))
        return within

    # -------------------------------------------------------------------------------------------------- quantities

    def _quantity(self, expression: Expression) -> Any:
        match expression:
            case Number():
                return exact(expression.value)
            case Duration():
                return exact(expression.us)
            case Money():
                return exact(expression.micro)
            case Negative():
                with self._calculation_of(expression):
                    return -self._quantity(expression.operand)
            case Arithmetic():
                return self._calculated(expression)
            case Call():
                return self._length_of(expression)
            case History():
                return self.symbols.answer(expression)
            case Name():
                return self._named_quantity(expression)
            case _:
                raise AssertionError(f"{show_expression(expression)} is no quantity")

    def _calculated(self, expression: Arithmetic) -> Any:
        left, right = self._parts_of_calculation(expression)
        match expression.operator:
            case "+":
                return left + right
            case "-":
                return left - right
            case "*":
                return left * right
            case "/":
                return left / right

    def _parts_of_calculation(self, expression: Arithmetic) -> tuple[Any, Any]:
        """Both sides, noting where they cannot be calculated with."""
        for part in parts_of(expression):
            if isinstance(part, Name) and key_of(part) in BUDGETS:
                self.errors.append(self.symbols.boolean(f"{key_of(part)} is unlimited"))
        with self._calculation_of(expression):
            left, right = self._quantity(expression.left), self._quantity(expression.right)
            if expression.operator == "/":
                self.errors.append(z3.And(right == 0, *(self._calculated_with or ())))
        return left, right

    @contextmanager
    def _calculation_of(self, expression: Arithmetic | Negative) -> Iterator[None]:
        """What lacks an argument that was asked for is not calculated at all, as in `constraint.coder`."""
        before = self._calculated_with
        if before is None:
            names = [part for part in walk(expression) if isinstance(part, Name) and part.path in self._present]
            self._calculated_with = [self.symbols.argument(name.path) != MISSING for name in names]
        yield
        self._calculated_with = before

    def _length_of(self, expression: Call) -> Any:
        argument = expression.argument
        if not isinstance(argument, Name):
            return self.symbols.number(show_expression(expression), is_whole=True, at_least=0)
        name = self._bound(argument)
        kind, items = self._kinds.of(argument), self.symbols.length(name)
        if kind not in ("text", "sized"):
            return items
        letters = self.symbols.number(f"letters of {name}", is_whole=True, at_least=0)
        for number, word in enumerate(self.symbols.words(name)):
            fits = z3.Implies(self.symbols.text(name) == number, letters == len(word.example))
            (self.symbols.axioms if word.is_single else self.symbols.pins).append(fits)
        return letters if kind == "text" else z3.If(self.symbols.tag(name) == TEXT, letters, items)

    def _named_quantity(self, name: Name) -> Any:
        key = key_of(name)
        if key == "risk_score":
            score, errors = self._risk()
            self.errors += errors
            return score
        if key in BUDGETS:
            return self.symbols.budget(key)
        if name.path in KNOWN:
            return self.symbols.number(key, is_whole=True, at_least=0, below=24 if key == "time.hour" else None)
        kind = (self._kinds.of(name) or "number").split()[0]
        return self._given(name, self.symbols.number(key if kind == "number" else f"{key} as {kind}"))

    # ------------------------------------------------------------------------------------------------------- names

    def _bound(self, name: Name, *, is_as_written: bool = False) -> str:
        """The unknown of a name, noting where it is missing or of another type than the rule takes it for."""
        key = key_of(name)
        if name.path in KNOWN:
            return key
        if not key.startswith("inputs."):
            tag, kind = self.symbols.argument(name.path), None if is_as_written else self._kinds.of(name)
            needed = z3.Not(self.symbols.fits(key, tag, kind or "any"))
            self.errors.append(z3.And(tag != MISSING, needed) if name.path in self._present else needed)
            return key
        declared = self.inputs[name.path[0]]
        tag = self.symbols.tag(key)
        fits = self.symbols.fits(key, tag, input_kind(declared))
        self.errors.append(z3.Not(z3.Or(fits, tag == MISSING) if declared.default is not None else fits))
        return key

    def _given(self, name: Name, term: Any) -> Any:
        """A quantity or a truth by its name; of an input that is not given, its default."""
        key = self._bound(name)
        default = self.inputs[name.path[0]].default if key.startswith("inputs.") else None
        match default:
            case Boolean(value=value):
                return z3.If(self.symbols.tag(key) == MISSING, z3.BoolVal(value), term)
            case Number() | Duration() | Money():
                return z3.If(self.symbols.tag(key) == MISSING, self._quantity(default), term)
            case _:
                return term

    def _free(self, expression: Expression) -> Any:
        """A question whose answer is left open, the same wherever it is asked; what it needs must still be there."""
        for part in walk(expression):
            if isinstance(part, Name) and part.path[0] != "role":
                self._bound(part)
        return self.symbols.boolean(f"free {show_expression(expression)}")


def _present(condition: Expression, *, holds: bool) -> frozenset[tuple[str, ...]]:
    """The arguments that are certainly there if a condition holds, or if it does not."""
    match condition:
        case Call(function="EXISTS", argument=Name(path=path)) if holds:
            return frozenset((path, *(path[:end] for end in range(2, len(path)))))
        case Not():
            return _present(condition.operand, holds=not holds)
        case And() | Or() if isinstance(condition, And) == holds:
            return frozenset().union(*(_present(one, holds=holds) for one in condition.operands))
        case _:
            return frozenset()


def _is_of_the_tool(expression: Expression) -> bool:
    """Whether a condition asks for nothing but the tool and what is written in the rule."""
    if isinstance(expression, Name):
        return expression.path[0] == "role" or expression.path in _OF_THE_TOOL
    collections = [part.collection for part in walk(expression) if isinstance(part, In)]
    names = [part for part in walk(expression) if isinstance(part, Name)]
    is_written = all(isinstance(one, ListOf | SetOf) for one in collections)
    return (
        is_written
        and not any(isinstance(part, History) for part in walk(expression))
        and all(_is_of_the_tool(name) for name in names)
    )


def exact(value: float) -> Any:
    """A number as it is written: 0.1 is a tenth."""
    return z3.RealVal(Fraction(repr(value)))


def _answer(word: Word, wanted: Pattern) -> bool | None:
    """Whether texts of this kind match a pattern by which kinds were told apart; None if there were too many kinds."""
    if word.is_vague:
        return None
    if wanted in word.matched:
        return True
    return word.is_single and wanted.matches(word.example)


def _is_among(text: str, collection: ListOf | SetOf) -> bool:
    return any(Pattern.glob(one.value).matches(text) for one in collection.items if isinstance(one, Text))


_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}
_TEXT_ORDER: dict[str, Callable[[str, str], bool]] = {
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}
_TURNED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
