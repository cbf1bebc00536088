"""Reads the facts of a call as the types that rules expect, and refuses everything else."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from ostler.domain.constraint.builder import DURATIONS
from ostler.domain.constraint.facts import Facts
from ostler.domain.constraint.globs import matcher
from ostler.domain.constraint.kinds import Kind, Path

MISSING: Final = type("Missing", (), {"__slots__": (), "__repr__": lambda self: "MISSING"})()
"""The value of an argument that is not there, where a rule has asked whether it is."""

ENDLESS: Final = 10**30
"""What a budget without a limit leaves."""

_DURATION = re.compile(r"([0-9]{1,18})(ms|us|[smhdw])")
_AMOUNT = r"(-?[0-9]{1,18}(?:\.[0-9]{1,9})?)"
_MONEY = re.compile(rf"([A-Z]{{3}})[ \t]*{_AMOUNT}|{_AMOUNT}[ \t]*([A-Z]{{3}})")
_DAY_US = 86_400_000_000
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_WEEKDAYS = ("thu", "fri", "sat", "sun", "mon", "tue", "wed")
_NUMBERS = frozenset((int, float))
_SCALARS = frozenset((int, float, str))
_SIZED = frozenset((str, list, tuple, dict, set, frozenset))
_SEQUENCES = frozenset((list, tuple, set, frozenset))


class Fault(Exception):
    """Something that a rule needs cannot be had. `code` is stable, `attribute` as it is written in rules."""

    def __init__(self, code: str, attribute: str, what: str) -> None:
        super().__init__(what)
        self.code = code
        self.attribute = attribute
        self.what = what


class Collection:
    """A list or set that a policy or its inputs name. Texts with a star in them are globs."""

    __slots__ = ("exact", "globs", "holds", "items")

    def __init__(self, items: tuple[Any, ...]) -> None:
        self.items = items
        self.exact = frozenset(item for item in items if not (type(item) is str and "*" in item))
        self.globs = tuple(matcher(item) for item in items if type(item) is str and "*" in item)
        self.holds: Callable[[Any], bool] = self._holds if self.globs else self.exact.__contains__

    def _holds(self, item: Any) -> bool:
        return item in self.exact or any(matches(item) for matches in self.globs)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


def argument_at(args: Any, path: Path, shown: str) -> Any:
    """The value at a path below the arguments; null is missing. Raises `Fault`."""
    value = args
    for part in path:
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif type(value) in (list, tuple) and part.isdecimal() and len(part) < 10 and int(part) < len(value):
            value = value[int(part)]
        else:
            value = None
        if value is None:
            raise Fault("missing_attribute", shown, "the call does not have it")
    return value


def typed(value: Any, kind: Kind, shown: str) -> Any:
    """A value given from outside, as rules compare it. Raises `Fault` unless it is of the type."""
    if kind.startswith("money"):
        return _money(value, kind[-3:], shown)
    if kind == "any" or (kind == "boolean" and type(value) is bool) or (kind == "text" and type(value) is str):
        return value
    if kind in ("number", "scalar"):
        if type(value) is str and kind == "scalar":
            return value
        return _number(value, shown)
    if kind == "duration":
        return _duration(value, shown)
    if kind == "sized" and type(value) in _SIZED:
        return value
    if kind in ("texts", "numbers", "scalars") and type(value) in _SEQUENCES:
        return _items(value, kind, shown)
    raise Fault("wrong_type", shown, f"expected {_article(kind)}, found {_article(_name(value))}")


def _number(value: Any, shown: str) -> Any:
    if type(value) not in _NUMBERS:
        raise Fault("wrong_type", shown, f"expected a number, found {_article(_name(value))}")
    if type(value) is float and not math.isfinite(value):
        raise Fault("not_finite", shown, f"{value} is no number to compare with")
    return value


def _items(value: Any, kind: Kind, shown: str) -> tuple[Any, ...]:
    wanted = {"texts": frozenset((str,)), "numbers": _NUMBERS, "scalars": _SCALARS}[kind]
    for item in value:
        if type(item) not in wanted or (type(item) is float and not math.isfinite(item)):
            raise Fault("wrong_type", shown, f"expected {_article(kind)}, found {_article(_name(item))} in it")
    return tuple(value)


def _duration(value: Any, shown: str) -> int:
    found = _DURATION.fullmatch(value) if type(value) is str else None
    if found is None:
        raise Fault("wrong_type", shown, f"expected a duration such as '10m', found {_article(_name(value))}")
    return int(found[1]) * DURATIONS[found[2]]


def _money(value: Any, currency: str, shown: str) -> int:
    """In millionths: of a text (`USD 20`, `20 USD`) or an object `{amount, currency}`."""
    if type(value) is dict and value.keys() == {"amount", "currency"}:
        amount = value["amount"]
        digits = amount if type(amount) is str else str(_number(amount, shown))
        found, named = digits, value["currency"]
    else:
        parts = _MONEY.fullmatch(value) if type(value) is str else None
        if parts is None:
            raise Fault("wrong_type", shown, f"expected money such as '{currency} 20', found {_article(_name(value))}")
        found, named = parts[2] or parts[3], parts[1] or parts[4]
    if named != currency:
        raise Fault("wrong_type", shown, f"expected {currency}, found another currency")
    try:
        return int((Decimal(found) * 1_000_000).to_integral_value())
    except (InvalidOperation, ValueError, OverflowError):
        raise Fault("not_finite", shown, "that is no amount") from None


def finite(value: Any, shown: str) -> Any:
    """What was calculated, if it is a number still. Raises `Fault`."""
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        return value
    raise Fault("arithmetic", shown, "what is calculated is no number")


def fact_at(facts: Facts, path: Path) -> Any:
    """A fact of the vocabulary, as rules compare it. Raises `Fault` for one of another type."""
    name = ".".join(path)
    read, types = FACTS[path]
    value = read(facts)
    if type(value) not in types:
        raise Fault("wrong_type", name, f"the runtime gave {_article(_name(value))}")
    return value


def _or_endless(value: Any) -> Any:
    """A budget without a limit leaves more than anybody can use."""
    return ENDLESS if value is None else value


def weekday(at_us: int) -> str:
    """The day of the week in UTC."""
    return _WEEKDAYS[at_us // _DAY_US % 7]


def day(at_us: int) -> str:
    """The day in UTC, as 2026-01-31."""
    return date.fromordinal(_EPOCH_DAY + at_us // _DAY_US).isoformat()


_INTEGER = (int,)
_TEXT = (str,)
_WORDS = (frozenset, set)
_LIST = (tuple, list)

FACTS: dict[Path, tuple[Callable[[Facts], Any], tuple[type, ...]]] = {
    ("operation",): (lambda facts: facts.operation, _TEXT),
    ("tool", "name"): (lambda facts: facts.tool, _TEXT),
    ("effect",): (lambda facts: facts.effect, _TEXT),
    ("destinations",): (lambda facts: facts.destinations, _LIST),
    ("contents",): (lambda facts: facts.contents, _LIST),
    ("dictated",): (lambda facts: facts.dictated, _LIST),
    ("addresses",): (lambda facts: facts.addresses, _LIST),
    ("links",): (lambda facts: facts.links, _LIST),
    ("agent", "name"): (lambda facts: facts.agent, _TEXT),
    ("agent", "version"): (lambda facts: facts.agent_version, _INTEGER),
    ("principal", "id"): (lambda facts: facts.principal, _TEXT),
    ("principal", "kind"): (lambda facts: facts.principal_kind, _TEXT),
    ("principal", "roles"): (lambda facts: facts.principal_roles, _WORDS),
    ("principal", "scopes"): (lambda facts: facts.principal_scopes, _WORDS),
    ("tenant", "id"): (lambda facts: facts.tenant, _TEXT),
    ("session", "id"): (lambda facts: facts.session, _TEXT),
    ("session", "steps"): (lambda facts: facts.steps, _INTEGER),
    ("session", "tool_calls"): (lambda facts: facts.tool_calls, _INTEGER),
    ("session", "tokens"): (lambda facts: facts.tokens, _INTEGER),
    ("session", "cost"): (lambda facts: facts.cost_microusd, _INTEGER),
    ("session", "elapsed"): (lambda facts: facts.elapsed_us, _INTEGER),
    ("budget", "tokens_left"): (lambda facts: _or_endless(facts.tokens_left), _INTEGER),
    ("budget", "cost_left"): (lambda facts: _or_endless(facts.cost_left_microusd), _INTEGER),
    ("budget", "calls_left"): (lambda facts: _or_endless(facts.calls_left), _INTEGER),
    ("time", "hour"): (lambda facts: facts.at_us // 3_600_000_000 % 24, _INTEGER),
    ("time", "weekday"): (lambda facts: weekday(facts.at_us), _TEXT),
    ("time", "date"): (lambda facts: day(facts.at_us), _TEXT),
    ("context", "labels"): (lambda facts: facts.labels, _WORDS),
    ("context", "untrusted"): (lambda facts: "untrusted" in facts.labels, (bool,)),
    ("context", "private"): (lambda facts: "private" in facts.labels, (bool,)),
}
"""How each fact of the vocabulary is read, and the types that it may have. The risk score is calculated."""


def _name(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "boolean", int: "number", float: "number", str: "text", list: "list", tuple: "list", dict: "object"}
    return names.get(type(value), type(value).__name__)


def _article(kind: str) -> str:
    words = {"texts": "a list of texts", "numbers": "a list of numbers", "scalars": "a list of texts or numbers"}
    words |= {"scalar": "a text or a number", "sized": "a text or a list", "null": "null", "object": "an object"}
    return words.get(kind, f"a {kind}")
