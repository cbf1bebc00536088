"""Makes the tree of a policy from what the grammar finds, one method a rule of the grammar."""

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from ostler.domain.constraint.syntax import (
    Allow,
    And,
    Arithmetic,
    Boolean,
    Bound,
    Call,
    Compare,
    Default,
    Deny,
    Duration,
    Expression,
    From,
    Has,
    History,
    In,
    Input,
    InputKind,
    Limit,
    ListOf,
    Matches,
    Money,
    Name,
    Negative,
    Node,
    Not,
    Number,
    Or,
    Parsed,
    Position,
    Redact,
    Regex,
    Require,
    Risk,
    Scope,
    SetOf,
    Space,
    Target,
    Text,
)
from ostler.domain.suggest import did_you_mean
from ostler.domain.tool import Effect

if TYPE_CHECKING:
    from lark import Token

Children = list[Any]

DURATIONS = {
    "w": 604_800_000_000,
    "d": 86_400_000_000,
    "h": 3_600_000_000,
    "m": 60_000_000,
    "s": 1_000_000,
    "ms": 1_000,
    "us": 1,
}
"""Microseconds of each unit, the longest first."""
_SIZES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZES |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_UNITS = [*DURATIONS, *_SIZES, "%"]
_SPACES: tuple[Space, ...] = get_args(Space)
_SOURCES = ("user", "system", "trusted", "untrusted")
_QUANTITY = re.compile(r"([0-9.]+(?:[eE][+-]?[0-9]+(?!\w))?)(.*)", re.DOTALL)
_DIGITS_MAX = 32
_INTEGER_MAX = 2**63


class Misread(Exception):
    """A mistake in a text, where it is."""

    def __init__(self, at: Position, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.at = at
        self.message = message
        self.hint = hint


class Builder:
    """Each method is given what the parts of its rule have become: nodes, tokens, and None for what is left out."""

    def start(self, children: Children) -> Parsed:
        name, version, default = "", 1, None
        statements = []
        for child in children:
            match child:
                case ("policy", str(given), int(number)):
                    name, version = given, number
                case ("default", str(answer), Position() as at):
                    if default is not None:
                        raise Misread(at, "a second default", "leave one of them out")
                    default = answer
                case _:
                    statements.append(child)
        chosen: Default = "allow" if default == "allow" else "deny"
        return Parsed(name, version, chosen, tuple(statements))

    # ------------------------------------------------------------------------------------------------ statements

    def header(self, children: Children) -> tuple[str, str, int]:
        _, name, version = children
        return "policy", str(name), _whole(version, "version") if version else 1

    def default(self, children: Children) -> tuple[str, str, Position]:
        return "default", str(children[1]).lower(), _at(children[0])

    def input(self, children: Children) -> Input:
        _, name, kind, _, default = children
        kinds: tuple[InputKind, ...] = get_args(InputKind)
        if kind.lower() not in kinds:
            raise Misread(_at(kind), f"there is no type {str(kind)!r}", _choice(kind, kinds))
        if "." in name:
            raise Misread(_at(name), f"the input {str(name)!r} has a dot in its name", "use '_'")
        return Input(name=str(name), kind=kind.lower(), default=default, at=_at(name))

    def risk(self, children: Children) -> Risk:
        keyword, amount, targets, when, *notes = children
        where = targets or (Target(space="operation"),)
        because = _notes(notes, named=False)["because"]
        return Risk(amount=amount, targets=where, condition=when[0], unless=when[1], because=because, at=_at(keyword))

    def allow(self, children: Children) -> Allow:
        keyword, targets, when, *notes = children
        where = _where(keyword, targets, when)
        return Allow(targets=where, condition=when[0], unless=when[1], at=_at(keyword), **_notes(notes))

    def deny(self, children: Children) -> Deny:
        keyword, targets, when, *notes = children
        where = _where(keyword, targets, when)
        return Deny(targets=where, condition=when[0], unless=when[1], at=_at(keyword), **_notes(notes))

    def require(self, children: Children) -> Require:
        keyword, count, _, roles, within, targets, when, *notes = children
        number = _whole(count, "number of approvals") if count else 1
        if not 1 <= number <= 100:
            raise Misread(_at(count), f"{number} approvals", "between 1 and 100 can be asked for")
        return Require(
            targets=_where(keyword, targets, when),
            count=number,
            roles=tuple(roles or ()),
            within_us=_duration(within) if within else None,
            condition=when[0],
            unless=when[1],
            at=_at(keyword),
            **_notes(notes),
        )

    def limit(self, children: Children) -> Limit:
        keyword, (targets, argument), ceiling, window, per, *notes = children
        number = _quantity(ceiling) if ceiling.type == "QUANTITY" else None
        if not isinstance(number, Number):
            raise Misread(_at(ceiling), f"a limit is a number, not {str(ceiling)!r}")
        return Limit(
            targets=targets,
            ceiling=number.value,
            window_us=_duration(window),
            argument=argument,
            per=_scope(per),
            at=_at(keyword),
            **_notes(notes),
        )

    def redact(self, children: Children) -> Redact:
        keyword, targets, detectors, *notes = children
        return Redact(targets=targets, detectors=tuple(detectors), at=_at(keyword), **_notes(notes))

    def when(self, children: Children) -> Children:
        return children

    def because(self, children: Children) -> tuple[str, str, Position]:
        return "because", _text(children[0]), _at(children[0])

    def named(self, children: Children) -> tuple[str, str, Position]:
        return "name", _text(children[0]), _at(children[0])

    # ----------------------------------------------------------------------------------------- calls and sources

    def targets(self, children: Children) -> tuple[Target, ...]:
        return tuple(_target(child) for child in children)

    def words(self, children: Children) -> tuple[str, ...]:
        return tuple(str(child) for child in children)

    def texts(self, children: Children) -> tuple[str, ...]:
        return tuple(_text(child) for child in children)

    def counted_calls(self, children: Children) -> tuple[tuple[Target, ...], tuple[str, ...]]:
        return children[0], ()

    def counted_sum(self, children: Children) -> tuple[tuple[Target, ...], tuple[str, ...]]:
        target, argument = _summed(children[1])
        return (target,), argument

    # ---------------------------------------------------------------------------------------------- expressions

    def any_of(self, children: Children) -> Expression:
        return Or(operands=_flat(Or, children), at=children[0].at)

    def all_of(self, children: Children) -> Expression:
        return And(operands=_flat(And, children), at=children[0].at)

    def negated(self, children: Children) -> Expression:
        return Not(operand=children[1], at=_at(children[0]))

    def compared(self, children: Children) -> Expression:
        left, operator, right = children
        return Compare(operator="==" if operator == "=" else str(operator), left=left, right=right, at=left.at)  # type: ignore[arg-type]

    def is_in(self, children: Children) -> Expression:
        return In(item=children[0], collection=children[1], at=children[0].at)

    def is_not_in(self, children: Children) -> Expression:
        item, _, collection = children
        return Not(operand=In(item=item, collection=collection, at=item.at), at=item.at)

    def has(self, children: Children) -> Expression:
        return Has(collection=children[0], item=children[1], at=children[0].at)

    def matches(self, children: Children) -> Expression:
        text, pattern = children
        if pattern.type == "REGEX":
            written = str(pattern)[1:-1].replace("\\/", "/")
            return Matches(text=text, pattern=Regex(pattern=written, at=_at(pattern)), at=text.at)
        return Matches(text=text, pattern=Text(value=_text(pattern), at=_at(pattern)), at=text.at)

    def said_by(self, children: Children) -> Expression:
        return From(value=children[0], sources=children[1], at=children[0].at)

    def calculated(self, children: Children) -> Expression:
        left, operator, right = children
        return Arithmetic(operator=str(operator), left=left, right=right, at=left.at)  # type: ignore[arg-type]

    def negative(self, children: Children) -> Expression:
        minus, operand = children
        at = _at(minus)
        if not isinstance(operand, Node):
            operand = self.quantity([operand]) if operand.type == "QUANTITY" else self.money([operand])
        match operand:
            case Number():
                return Number(value=-operand.value, at=at)
            case Money():
                return Money(currency=operand.currency, micro=-operand.micro, at=at)
            case Duration():
                raise Misread(at, "a negative duration", "write it without the sign, and subtract it")
            case _:
                return Negative(operand=operand, at=at)

    def name(self, children: Children) -> Expression:
        return Name(path=tuple(children[0].split(".")), at=_at(children[0]))

    def function(self, children: Children) -> Expression:
        function, argument = children
        return Call(function=function.upper(), argument=argument, at=_at(function))

    def history(self, children: Children) -> Expression:
        asks, targets, kind, bound, within, per = children
        return History(
            asks=asks.upper(),
            targets=targets,
            within_us=_duration(within),
            bound=_bound(kind, bound),
            per=_scope(per),
            at=_at(asks),
        )

    def history_sum(self, children: Children) -> Expression:
        asks, summed, kind, bound, within, per = children
        target, argument = _summed(summed)
        return History(
            asks="SUM",
            targets=(target,),
            within_us=_duration(within),
            argument=argument,
            bound=_bound(kind, bound),
            per=_scope(per),
            at=_at(asks),
        )

    # -------------------------------------------------------------------------------------------------- literals

    def quantity(self, children: Children) -> Number | Duration:
        return _quantity(children[0])

    def money(self, children: Children) -> Money:
        token = children[0]
        one, other = str(token).split()
        currency, amount = (one, other) if one.isalpha() else (other, one)
        micro = _decimal(token, amount) * 1_000_000
        if micro != int(micro):
            raise Misread(_at(token), f"{str(token)!r} is finer than a millionth", "round it")
        return Money(currency=currency, micro=int(micro), at=_at(token))

    def text(self, children: Children) -> Text:
        return Text(value=_text(children[0]), at=_at(children[0]))

    def true(self, children: Children) -> Boolean:
        return Boolean(value=True, at=_at(children[0]))

    def false(self, children: Children) -> Boolean:
        return Boolean(value=False, at=_at(children[0]))

    def list_of(self, children: Children) -> ListOf:
        items = tuple(child for child in children if child is not None)
        return ListOf(items=items, at=items[0].at if items else Position())

    def set_of(self, children: Children) -> SetOf:
        items = tuple(child for child in children if child is not None)
        return SetOf(items=items, at=items[0].at if items else Position())


def _at(token: "Token") -> Position:
    return Position(token.line or 0, token.column or 0)


def _choice(word: str, choices: tuple[str, ...]) -> str:
    near = did_you_mean(word, choices)
    return f"did you mean {near!r}?" if near else f"there are: {', '.join(choices)}"


def _flat(kind: type[And] | type[Or], operands: Children) -> tuple[Expression, ...]:
    """`(a AND b) AND c` is `a AND b AND c`: all of three."""
    return tuple(part for one in operands for part in (one.operands if isinstance(one, kind) else (one,)))


def _notes(notes: Children, *, named: bool = True) -> dict[str, str]:
    found: dict[str, str] = {}
    for kind, value, at in notes:
        if kind in found:
            raise Misread(at, f"a second {'AS' if kind == 'name' else 'BECAUSE'}", "leave one of them out")
        if kind == "name" and not named:
            raise Misread(at, "a part of the risk score has no name", "say BECAUSE")
        if not value.strip():
            raise Misread(at, "an empty text", "say something, or leave it out")
        found[kind] = value
    return found if named else {"because": found.get("because", "")}


def _where(keyword: "Token", targets: tuple[Target, ...] | None, when: Children) -> tuple[Target, ...]:
    if targets is None and when == [None, None]:
        raise Misread(_at(keyword), f"{keyword.upper()} of what?", "name the calls, or write '*' for all of them")
    return targets or (Target(space="operation"),)


def _target(token: "Token") -> Target:
    if token == "*":
        return Target(space="operation", at=_at(token))
    space, dot, glob = str(token).partition(".")
    if space not in _SPACES:
        near = _choice(space, _SPACES) if dot else f"a tool is called tool.{space}"
        raise Misread(_at(token), f"{str(token)!r} is no kind of call", near)
    if dot and space == "operation":
        raise Misread(_at(token), "'operation' is every call, without a name", "write 'operation' alone")
    if space == "effect" and glob not in get_args(Effect):
        raise Misread(_at(token), f"there is no effect {glob!r}", _choice(glob, get_args(Effect)))
    if not dot and space == "role":
        raise Misread(_at(token), "'role' of which name?", "for example role.sends_out")
    return Target(space=space, glob=glob or "*", at=_at(token))


def _summed(token: "Token") -> tuple[Target, tuple[str, ...]]:
    """`tool.refund.args.amount`: the argument `amount` of the tool `refund`."""
    calls, dot, argument = str(token).partition(".args.")
    if not dot:
        raise Misread(_at(token), f"{str(token)!r} names no argument to add up", "for example tool.refund.args.amount")
    target = _target(type(token)(token.type, calls, line=token.line, column=token.column))
    if not re.fullmatch(r"\w+(\.\w+)*", argument):
        raise Misread(_at(token), f"{argument!r} is no argument", "a dotted path, without a star")
    return target, tuple(argument.split("."))


def _bound(kind: "Token | None", target: "Token | None") -> Bound | None:
    if kind is None or target is None:
        return None
    return Bound(kind="since" if kind.lower() == "since" else "after", target=_target(target), at=_at(kind))


def _scope(token: "Token | None") -> Scope:
    if token is None:
        return "session"
    scopes: tuple[Scope, ...] = get_args(Scope)
    for scope in scopes:
        if token.lower() == scope:
            return scope
    raise Misread(_at(token), f"there is nothing to count per {str(token)!r}", _choice(token, scopes))


def _text(token: "Token") -> str:
    try:
        return msgspec.json.decode(str(token), type=str)
    except (msgspec.DecodeError, UnicodeError):
        hint = 'escapes are those of JSON: \\" \\\\ \\n \\t \\u00e9'
        raise Misread(_at(token), "a text that cannot be read", hint) from None


def _decimal(token: "Token", digits: str) -> Decimal:
    mantissa, _, exponent = digits.lower().partition("e")
    if len(mantissa) > _DIGITS_MAX or len(exponent) > 4:
        raise Misread(_at(token), f"a number of {len(digits)} characters", f"at most {_DIGITS_MAX} are read")
    if digits.count(".") > 1:
        raise Misread(_at(token), f"{digits!r} is no number")
    return Decimal(digits)


def _whole(token: "Token", what: str) -> int:
    number = _quantity(token)
    if not isinstance(number, Number) or not isinstance(number.value, int):
        raise Misread(_at(token), f"the {what} is a whole number, not {str(token)!r}")
    return number.value


def _duration(token: "Token") -> int:
    duration = _quantity(token)
    if not isinstance(duration, Duration):
        raise Misread(_at(token), f"{str(token)!r} is no duration", "for example 10m, 24h or 7d")
    if duration.us <= 0:
        raise Misread(_at(token), "a window of no length")
    return duration.us


def _quantity(token: "Token") -> Number | Duration:
    parts = _QUANTITY.fullmatch(token)
    digits, unit = parts.groups() if parts else (str(token), "")
    amount = _decimal(token, digits)
    if unit in DURATIONS:
        us = amount * DURATIONS[unit]
        if us != int(us) or us > _INTEGER_MAX:
            raise Misread(_at(token), f"{str(token)!r} is not a number of microseconds that is kept", "round it")
        return Duration(us=int(us), at=_at(token))
    if unit == "%":
        return Number(value=float(amount / 100), at=_at(token))
    if unit not in _SIZES and unit:
        raise Misread(_at(token), f"there is no unit {unit!r}", _choice(unit, tuple(_UNITS)))
    return Number(value=_number(token, amount * _SIZES.get(unit, 1), exact=bool(unit)), at=_at(token))


def _number(token: "Token", amount: Decimal, *, exact: bool) -> int | float:
    is_whole = not set(".eE") & set(token) or (exact and amount == amount.to_integral_value())
    if is_whole and abs(amount) < _INTEGER_MAX:
        return int(amount)
    number = float(amount)
    if is_whole or number in (float("inf"), float("-inf")):
        raise Misread(_at(token), f"{str(token)!r} is too large", "numbers end at 2^63, and with a point at 1e308")
    return number
