"""Inputs that rules use without declaring them: a bare name that is no fact is one that has to be given."""

from typing import Any, TypeVar

import msgspec

from ostler.domain.constraint.check import kinds_in
from ostler.domain.constraint.kinds import KNOWN
from ostler.domain.constraint.syntax import (
    Expression,
    Has,
    In,
    Input,
    InputKind,
    Name,
    Node,
    Parsed,
    Position,
    expressions_of,
    walk,
)
from ostler.domain.suggest import did_you_mean

N = TypeVar("N")

_SPACES = ("args", "role", "budget", "context", "principal", "agent", "tenant", "session", "tool", "time")
_KINDS: dict[str, InputKind] = {
    "boolean": "boolean",
    "number": "number",
    "text": "text",
    "set": "set",
    "list": "list",
    "duration": "duration",
    "money": "money",
}


def implied(parsed: Parsed) -> tuple[Input, ...]:
    """The inputs that the rules use and do not declare, of the kinds that their use says; they have no default.

    A name that is nearly that of a fact or of a declared input is a slip, and none of these.
    """
    found = _undeclared(parsed)
    return tuple(Input(name=name, kind=_kind_of(parsed, name), at=at) for name, at in found.items())


def with_implied(parsed: Parsed) -> Parsed:
    """The policy with the inputs declared that it implies."""
    more = implied(parsed)
    if not more:
        return parsed
    return Parsed(parsed.name, parsed.version, parsed.default, (*more, *parsed.statements))


def _undeclared(parsed: Parsed) -> dict[str, Position]:
    declared = [one.name for one in parsed.inputs]
    known = [*declared, *(".".join(path) for path in KNOWN)]
    found: dict[str, Position] = {}
    for statement in (*parsed.risks, *parsed.rules):
        for expression in expressions_of(statement):
            for part in walk(expression):
                if not isinstance(part, Name) or len(part.path) != 1 or part.path in KNOWN:
                    continue
                (name,) = part.path
                if name not in declared and name not in _SPACES and did_you_mean(name, known) is None:
                    found.setdefault(name, part.at)
    return found


def _kind_of(parsed: Parsed, name: str) -> InputKind:
    """What the name is used as: found out as for an argument, whose kind nobody declares either."""
    inputs = {one.name: one for one in parsed.inputs}
    for statement in (*parsed.risks, *parsed.rules):
        if any(_holds_items(part, name) for expression in expressions_of(statement) for part in walk(expression)):
            return "set"
        kind = kinds_in(_as_argument(statement, name), inputs).arguments.get(("args", name))
        if kind is not None:
            return _KINDS.get(kind.partition(" ")[0], "text")  # of money the currency is said, too
    return "text"


def _holds_items(part: Expression, name: str) -> bool:
    """Whether this asks for an item in the input of this name."""
    return isinstance(part, In | Has) and isinstance(part.collection, Name) and part.collection.path == (name,)


def _as_argument(node: N, name: str) -> N:
    """The same, with an argument in place of the input of this name."""
    value: Any = node
    if isinstance(value, Name) and value.path == (name,):
        value = Name(path=("args", name), at=value.at)
    elif isinstance(value, Node):
        fields = {field: _as_argument(getattr(value, field), name) for field in value.__struct_fields__}
        value = msgspec.structs.replace(value, **fields)
    elif isinstance(value, tuple):
        value = tuple(_as_argument(item, name) for item in value)
    return value  # type: ignore[no-any-return]
