"""Checks of a value in itself: bounds, sizes, patterns, enumerations."""

import operator
import re
from collections.abc import Callable, Sized
from fractions import Fraction
from functools import partial
from typing import Any

from ostler.domain.schema.run import Check, Path, Run
from ostler.domain.schema.words import not_among, shown


def _bound(holds: Callable[[Any, Any], bool], words: str, limit: float) -> Check:
    def check(value: Any, path: Path, run: Run) -> Any:
        if (type(value) is int or type(value) is float) and not holds(value, limit):
            run.blame(path, f"expected {words} {shown(limit)}, got {shown(value)}")
        return value

    return check


def _size(kind: type[Sized], holds: Callable[[Any, Any], bool], words: str, noun: str, limit: int) -> Check:
    def check(value: Any, path: Path, run: Run) -> Any:
        if type(value) is kind and not holds(len(value), limit):
            run.blame(path, f"expected {words} {limit} {noun}, got {len(value)}")
        return value

    return check


def _multiple(of: float) -> Check:
    """Exact in decimals, as JSON writes them: 0.3 is a multiple of 0.1."""
    unit = _exact(of)

    def check(value: Any, path: Path, run: Run) -> Any:
        if (type(value) is int or type(value) is float) and _exact(value) % unit:
            run.blame(path, f"expected a multiple of {shown(of)}, got {shown(value)}")
        return value

    return check


def _exact(number: float) -> Fraction:
    return Fraction(number) if isinstance(number, int) else Fraction(repr(number))


def _pattern(pattern: str) -> Check:
    search = ecma(pattern).search

    def check(value: Any, path: Path, run: Run) -> Any:
        if type(value) is str and search(value) is None:
            run.blame(path, f"expected text that matches {pattern}, got {shown(value)}")
        return value

    return check


def ecma(pattern: str) -> re.Pattern[str]:
    """`$` becomes the very end, and a set loses what only Python sees in it (`[` and doubled operators)."""

    def translated(found: re.Match[str]) -> str:
        if found[0].startswith("["):
            return "[" + re.sub(r"\\.|[\[&~|]", lambda each: each[0] if each[0][1:] else f"\\{each[0]}", found[0][1:])
        return r"\Z" if found[0] == "$" else found[0]

    return re.compile(re.sub(r"\\.|\[(?:\\.|[^\]\\])*\]|\$", translated, pattern, flags=re.DOTALL), re.ASCII)


def _enum(values: list[Any]) -> Check:
    allowed = frozenset(map(canonical, values))

    def check(value: Any, path: Path, run: Run) -> Any:
        if (value if type(value) is str else canonical(value)) not in allowed:
            run.blame(path, not_among(value, values))
        return value

    return check


def _unique(wanted: bool) -> Check:
    def check(value: Any, path: Path, run: Run) -> Any:
        seen: dict[Any, int] = {}
        for number, item in enumerate(value if wanted and type(value) is list else ()):
            if (before := seen.setdefault(canonical(item), number)) != number:
                run.blame(path, f"expected no item twice, but items {before} and {number} are equal")
                break
        return value

    return check


def canonical(value: Any) -> Any:
    """Hashable, and equal for what JSON calls equal: 1 is 1.0, true is not 1."""
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, list):
        return ("array", tuple(map(canonical, value)))
    if isinstance(value, dict):
        return ("object", frozenset((name, canonical(item)) for name, item in value.items()))
    return value


ASSERTIONS: dict[str, Callable[[Any], Check]] = {
    "const": lambda value: _enum([value]),
    "enum": _enum,
    "minimum": partial(_bound, operator.ge, "at least"),
    "exclusiveMinimum": partial(_bound, operator.gt, "more than"),
    "maximum": partial(_bound, operator.le, "at most"),
    "exclusiveMaximum": partial(_bound, operator.lt, "less than"),
    "multipleOf": _multiple,
    "minLength": partial(_size, str, operator.ge, "at least", "characters"),
    "maxLength": partial(_size, str, operator.le, "at most", "characters"),
    "pattern": _pattern,
    "minItems": partial(_size, list, operator.ge, "at least", "items"),
    "maxItems": partial(_size, list, operator.le, "at most", "items"),
    "uniqueItems": _unique,
    "minProperties": partial(_size, dict, operator.ge, "at least", "properties"),
    "maxProperties": partial(_size, dict, operator.le, "at most", "properties"),
}
