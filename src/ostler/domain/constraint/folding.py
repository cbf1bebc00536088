"""Decides as much of a condition as is known before the call: what the tool is, its roles and its effect."""

from collections.abc import Mapping

from ostler.domain.constraint.globs import matcher
from ostler.domain.constraint.kinds import Path
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
    walk,
)
from ostler.domain.constraint.values import Collection

TRUE = Boolean(value=True)
FALSE = Boolean(value=False)

Known = Mapping[Path, Text | Boolean]


def fold(expression: Expression, known: Known) -> Expression:
    """The condition with everything decided that is `known`; `TRUE` or `FALSE` if that decides all of it.

    A false part of an AND, and a true part of an OR, decide the whole: what the other parts ask is not asked then.
    """
    match expression:
        case Name():
            return known.get(expression.path, expression)
        case Not():
            operand = fold(expression.operand, known)
            return Boolean(value=not operand.value) if isinstance(operand, Boolean) else Not(operand=operand)
        case And():
            return _joined(expression, known, decides=False)
        case Or():
            return _joined(expression, known, decides=True)
        case Compare():
            left, right = fold(expression.left, known), fold(expression.right, known)
            return _compared(Compare(operator=expression.operator, left=left, right=right, at=expression.at))
        case In():
            return _held(expression, fold(expression.item, known), expression.collection)
        case Has():
            return _held(expression, fold(expression.item, known), expression.collection)
        case Matches():
            text = fold(expression.text, known)
            if isinstance(text, Text) and isinstance(expression.pattern, Text):
                return Boolean(value=matcher(expression.pattern.value)(text.value))
            return Matches(text=text, pattern=expression.pattern, at=expression.at)
        case From():
            return From(value=fold(expression.value, known), sources=expression.sources, at=expression.at)
        case Call():
            argument = fold(expression.argument, known)
            if expression.function == "LOWER" and isinstance(argument, Text):
                return Text(value=argument.value.lower())
            return Call(function=expression.function, argument=argument, at=expression.at)
        case (
            Number()
            | Text()
            | Boolean()
            | Duration()
            | Money()
            | ListOf()
            | SetOf()
            | History()
            | Arithmetic()
            | Negative()
        ):
            return expression


class Foldings:
    """What kinds of calls leave of conditions, each made once for all kinds that the condition does not tell apart."""

    def __init__(self) -> None:
        self._asked: dict[int, tuple[Path, ...]] = {}
        self._left: dict[tuple[int | str | bool, ...], Expression] = {}

    def left_of(self, condition: Expression | None, known: Known) -> Expression:
        """The condition (None: it always holds), folded. Equal calls of this for one condition give one object."""
        if condition is None:
            return TRUE
        asked = self._asked.get(id(condition))
        if asked is None:
            named = (part.path for part in walk(condition) if isinstance(part, Name))
            asked = self._asked[id(condition)] = tuple(path for path in named if known.get(path) is not None)
        key = (id(condition), *(known[path].value for path in asked))
        if key not in self._left:
            self._left[key] = fold(condition, known)
        return self._left[key]

    def clear(self) -> None:
        """Forget what was folded."""
        self._left.clear()


def items_of(collection: ListOf | SetOf) -> tuple[str | int | float, ...]:
    """The values of a literal list or set."""
    return tuple(item.value for item in collection.items if isinstance(item, Text | Number))


def _joined(expression: And | Or, known: Known, *, decides: bool) -> Expression:
    """`decides` is the value of a part that settles the whole."""
    left: list[Expression] = []
    for operand in expression.operands:
        folded = fold(operand, known)
        if not isinstance(folded, Boolean):
            left.append(folded)
        elif folded.value == decides:
            return folded
    if not left:
        return Boolean(value=not decides)
    return left[0] if len(left) == 1 else type(expression)(operands=tuple(left), at=expression.at)


def _compared(comparison: Compare) -> Expression:
    left, right = comparison.left, comparison.right
    if not (isinstance(left, Text | Boolean) and isinstance(right, Text | Boolean)):
        return comparison
    one, other = left.value, right.value
    match comparison.operator:
        case "==":
            return Boolean(value=one == other)
        case "!=":
            return Boolean(value=one != other)
        case "<":
            return Boolean(value=one < other)  # type: ignore[operator]
        case "<=":
            return Boolean(value=one <= other)  # type: ignore[operator]
        case ">":
            return Boolean(value=one > other)  # type: ignore[operator]
        case ">=":
            return Boolean(value=one >= other)  # type: ignore[operator]


def _held(expression: In | Has, item: Expression, collection: Expression) -> Expression:
    if isinstance(item, Text) and isinstance(collection, ListOf | SetOf):
        return Boolean(value=Collection(items_of(collection)).holds(item.value))
    return type(expression)(item=item, collection=collection, at=expression.at)
