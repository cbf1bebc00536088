"""What rules say, as a tree: the same for the printer, the checker, the compiler and the prover.

Positions are kept for messages and never tell two trees apart: `parse(show(parsed)) == parsed`.
"""

from collections.abc import Iterator
from typing import Literal, TypeAlias

import msgspec

Comparison = Literal["==", "!=", "<", "<=", ">", ">="]
Operator = Literal["+", "-", "*", "/"]
Function = Literal["LOWER", "LENGTH", "EXISTS"]
Asks = Literal["HAPPENED", "SUCCEEDED", "COUNT", "SUM"]
Scope = Literal["session", "agent", "principal", "tenant"]
Space = Literal["tool", "role", "effect", "model", "memory", "session", "operation"]
InputKind = Literal["boolean", "number", "text", "set", "list", "duration", "money"]
Default = Literal["allow", "deny"]


class Position(msgspec.Struct, frozen=True, gc=False, eq=False):
    """Where something is written, from 1. Every position equals every other: it is not part of what is said."""

    line: int = 0
    column: int = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Position)

    def __hash__(self) -> int:
        return 0


NOWHERE = Position()


class Node(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Anything that stands somewhere in a text."""

    at: Position = NOWHERE


# ------------------------------------------------------------------------------------------------------ literals


class Number(Node, frozen=True, tag=True):
    """A finite number; sizes (`10KB`) and percentages (`70%`) are numbers by the time they are here."""

    value: int | float


class Text(Node, frozen=True, tag=True):
    """A text."""

    value: str


class Boolean(Node, frozen=True, tag=True):
    """True or false."""

    value: bool


class Duration(Node, frozen=True, tag=True):
    """A duration in microseconds."""

    us: int


class Money(Node, frozen=True, tag=True):
    """An amount in millionths of a currency, which three capital letters name."""

    currency: str
    micro: int


Literal_: TypeAlias = Number | Text | Boolean | Duration | Money


class ListOf(Node, frozen=True, tag=True):
    """A list of literals."""

    items: tuple[Literal_, ...]


class SetOf(Node, frozen=True, tag=True):
    """A set of literals, in the order in which they are written."""

    items: tuple[Literal_, ...]


class Regex(Node, frozen=True, tag=True):
    """A regular expression in the syntax of RE2, without its slashes."""

    pattern: str


# --------------------------------------------------------------------------------------------------- expressions


class Name(Node, frozen=True, tag=True):
    """A fact, an argument (`args.…`), a role (`role.…`) or a declared input, by its dotted path."""

    path: tuple[str, ...]


class Not(Node, frozen=True, tag=True):
    """The opposite."""

    operand: "Expression"


class And(Node, frozen=True, tag=True):
    """All of at least two."""

    operands: "tuple[Expression, ...]"


class Or(Node, frozen=True, tag=True):
    """Any of at least two."""

    operands: "tuple[Expression, ...]"


class Compare(Node, frozen=True, tag=True):
    """Two values of one type, compared."""

    operator: Comparison
    left: "Expression"
    right: "Expression"


class In(Node, frozen=True, tag=True):
    """Whether an item is in a collection; of a collection on the left, every item of it."""

    item: "Expression"
    collection: "Expression"


class Has(Node, frozen=True, tag=True):
    """Whether a collection has an item."""

    collection: "Expression"
    item: "Expression"


class Matches(Node, frozen=True, tag=True):
    """Whether a whole text matches a glob, or some part of it a regular expression."""

    text: "Expression"
    pattern: Text | Regex


class From(Node, frozen=True, tag=True):
    """Whether a value occurs in what one of these sources said."""

    value: "Expression"
    sources: tuple[str, ...]


class Arithmetic(Node, frozen=True, tag=True):
    """Two quantities, calculated."""

    operator: Operator
    left: "Expression"
    right: "Expression"


class Negative(Node, frozen=True, tag=True):
    """A quantity with the other sign."""

    operand: "Expression"


class Call(Node, frozen=True, tag=True):
    """A function of one value."""

    function: Function
    argument: "Expression"


class Target(Node, frozen=True, tag=True):
    """Which calls: of tools, of tools with a role or an effect class, of models, memories, sessions, or all of them.

    `glob` is a role's or effect's name for those spaces, and `*` for `operation`. In globs only the star is special.
    """

    space: Space
    glob: str = "*"


class Bound(Node, frozen=True, tag=True):
    """Only the calls after the first (`AFTER`) or the last (`SINCE`) call of the target in the window."""

    kind: Literal["since", "after"]
    target: Target


class History(Node, frozen=True, tag=True):
    """A question about calls that were made before. `argument` is the dotted path that a `SUM` adds up."""

    asks: Asks
    targets: tuple[Target, ...]
    within_us: int
    argument: tuple[str, ...] = ()
    bound: Bound | None = None
    per: Scope = "session"


Expression: TypeAlias = (
    Number
    | Text
    | Boolean
    | Duration
    | Money
    | ListOf
    | SetOf
    | Name
    | Not
    | And
    | Or
    | Compare
    | In
    | Has
    | Matches
    | From
    | Arithmetic
    | Negative
    | Call
    | History
)


# ---------------------------------------------------------------------------------------------------- statements


class Input(Node, frozen=True, tag=True):
    """A value that whoever starts a session gives; without a default it must be given."""

    name: str
    kind: InputKind
    default: Number | Text | Boolean | Duration | Money | ListOf | SetOf | None = None


class Risk(Node, frozen=True, tag=True):
    """A part of the risk score of the calls that it speaks of."""

    amount: Expression
    targets: tuple[Target, ...] = (Target(space="operation"),)
    condition: Expression | None = None
    unless: Expression | None = None
    because: str = ""


class Allow(Node, frozen=True, tag=True):
    """These calls may begin."""

    targets: tuple[Target, ...]
    condition: Expression | None = None
    unless: Expression | None = None
    because: str = ""
    name: str = ""


class Deny(Node, frozen=True, tag=True):
    """These calls must not begin."""

    targets: tuple[Target, ...]
    condition: Expression | None = None
    unless: Expression | None = None
    because: str = ""
    name: str = ""


class Require(Node, frozen=True, tag=True):
    """These calls may begin once so many people have approved; no `roles` means anybody who may decide at all."""

    targets: tuple[Target, ...]
    count: int = 1
    roles: tuple[str, ...] = ()
    within_us: int | None = None
    condition: Expression | None = None
    unless: Expression | None = None
    because: str = ""
    name: str = ""


class Limit(Node, frozen=True, tag=True):
    """At most so many calls, or so much of an argument of theirs in all, in any such window of time."""

    targets: tuple[Target, ...]
    ceiling: int | float
    window_us: int
    argument: tuple[str, ...] = ()
    per: Scope = "session"
    because: str = ""
    name: str = ""


class Redact(Node, frozen=True, tag=True):
    """What detectors find in the output of these calls is taken out."""

    targets: tuple[Target, ...]
    detectors: tuple[str, ...]
    because: str = ""
    name: str = ""


Rule: TypeAlias = Allow | Deny | Require | Limit | Redact
"""What counts in the number of an unnamed rule: `payments#3` is the third."""

Statement: TypeAlias = Input | Risk | Allow | Deny | Require | Limit | Redact


class Parsed(msgspec.Struct, frozen=True):
    """A policy, read."""

    name: str
    version: int = 1
    default: Default = "deny"
    statements: tuple[Statement, ...] = ()

    @property
    def rules(self) -> tuple[Rule, ...]:
        return tuple(one for one in self.statements if not isinstance(one, Input | Risk))

    @property
    def inputs(self) -> tuple[Input, ...]:
        return tuple(one for one in self.statements if isinstance(one, Input))

    @property
    def risks(self) -> tuple[Risk, ...]:
        return tuple(one for one in self.statements if isinstance(one, Risk))

    def named_rules(self) -> Iterator[tuple[str, Rule]]:
        """Every rule with the name by which verdicts cite it: its own, or `<policy>#<number>`."""
        for number, rule in enumerate(self.rules, 1):
            yield rule.name or f"{self.name}#{number}", rule


def parts_of(expression: Expression) -> tuple[Expression, ...]:
    """The expressions that one is directly made of."""
    match expression:
        case Number() | Text() | Boolean() | Duration() | Money() | ListOf() | SetOf() | Name() | History():
            return ()
        case Not() | Negative():
            return (expression.operand,)
        case And() | Or():
            return expression.operands
        case Compare() | Arithmetic():
            return (expression.left, expression.right)
        case In():
            return (expression.item, expression.collection)
        case Has():
            return (expression.collection, expression.item)
        case Matches():
            return (expression.text,)
        case From():
            return (expression.value,)
        case Call():
            return (expression.argument,)


def walk(expression: Expression) -> Iterator[Expression]:
    """An expression and everything that it is made of."""
    yield expression
    for part in parts_of(expression):
        yield from walk(part)


def expressions_of(statement: Statement) -> tuple[Expression, ...]:
    """The expressions that a statement is made of."""
    if isinstance(statement, Input | Limit | Redact):
        return ()
    amount = statement.amount if isinstance(statement, Risk) else None
    return tuple(one for one in (amount, statement.condition, statement.unless) if one is not None)


def condition_of(statement: Risk | Allow | Deny | Require) -> Expression | None:
    """`IF a UNLESS b` as one condition, `a AND NOT b`; None if the statement holds of every call that it names."""
    if statement.unless is None:
        return statement.condition
    exception = Not(operand=statement.unless, at=statement.unless.at)
    if statement.condition is None:
        return exception
    return And(operands=(statement.condition, exception), at=statement.condition.at)
