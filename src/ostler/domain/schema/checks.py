"""Checks that are made of checks: of types, properties, items and alternatives."""

from typing import Any, NamedTuple

from ostler.domain.schema.assertions import canonical
from ostler.domain.schema.run import Check, Path, Problem, Run
from ostler.domain.schema.words import KINDS, described, not_among, one_of, quoted_hint, type_of, unknown_property


def anything(value: Any, path: Path, run: Run) -> Any:
    """The check that every value passes."""
    return value


def nothing(value: Any, path: Path, run: Run) -> Any:
    """The check that no value passes."""
    run.blame(path, "is not allowed here")
    return value


def all_of(parts: list[Check]) -> Check:
    """Every part sees the value as it was given: what one fills in is no property to another."""

    def check(value: Any, path: Path, run: Run) -> Any:
        filled = value
        for part in parts:
            another = part(value, path, run)
            if another is not value:
                filled = another if filled is value else _merged(filled, another)
        return filled

    return check


def _merged(one: Any, other: Any) -> Any:
    """Two fillings of the same value in one; where both filled in the same property, the first wins."""
    if one is other or type(one) is not type(other):
        return one
    if isinstance(one, dict):
        return {**other, **one, **{name: _merged(one[name], other[name]) for name in one if name in other}}
    return [_merged(*items) for items in zip(one, other, strict=True)] if isinstance(one, list) else one


def typed(types: tuple[str, ...], then: Check | None) -> Check:
    """`then` is for values of the right type only: what is wrong with another is its type."""
    kinds = frozenset(kind for name in types for kind in KINDS[name])
    takes_whole = "integer" in types

    def check(value: Any, path: Path, run: Run) -> Any:
        kind = type(value)
        if kind in kinds or (takes_whole and kind is float and value.is_integer()):
            return value if then is None else then(value, path, run)
        run.blame(path, f"expected {one_of(types)}, got {described(value)}{quoted_hint(value, kinds)}")
        return value

    return check


def properties_of(
    properties: dict[str, Check], required: tuple[str, ...], others: Check | None, defaults: dict[str, Any]
) -> Check:
    """`others` checks properties that have no check of their own; None forbids them."""

    def check(value: Any, path: Path, run: Run) -> Any:
        if type(value) is not dict:
            return value
        filled = value
        for name, item in value.items():
            part = properties.get(name, others)
            if part is None:
                run.blame((path, name), unknown_property(name, properties))
                continue
            another = part(item, (path, name), run)
            if another is not item:
                filled = dict(value) if filled is value else filled
                filled[name] = another
        for name in required:
            if name not in value:
                run.blame((path, name), "required, but missing")
        if defaults:
            missing = {name: _copied(default) for name, default in defaults.items() if name not in value}
            return {**filled, **missing} if missing else filled
        return filled

    return check


def _copied(value: Any) -> Any:
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return {name: _copied(item) for name, item in value.items()} if isinstance(value, dict) else value


def names_of(each: Check) -> Check:
    """The check of `propertyNames`: every name by the same schema."""

    def check(value: Any, path: Path, run: Run) -> Any:
        for name in value if type(value) is dict else ():
            _, found = run.trial(each, name, (path, name))
            run += [Problem(where, f"as a name: {message}") for where, message in found]
        return value

    return check


def items_of(first: list[Check], rest: Check) -> Check:
    """The check of a list's items, the first ones each by its own schema."""

    def check(value: Any, path: Path, run: Run) -> Any:
        if type(value) is not list:
            return value
        filled = value
        for number, item in enumerate(value):
            another = (first[number] if number < len(first) else rest)(item, (path, number), run)
            if another is not item:
                filled = list(value) if filled is value else filled
                filled[number] = another
        return filled

    return check


def none_of(unwanted: Check) -> Check:
    """The check of `not`."""

    def check(value: Any, path: Path, run: Run) -> Any:
        if not run.trial(unwanted, value, path)[1]:
            run.blame(path, f"{described(value)} is not allowed here")
        return value

    return check


class Alternative(NamedTuple):
    """`tags` are the properties with a fixed set of values, by which a value says which alternative it means to be.

    The values are kept by their canonical form.
    """

    check: Check
    types: tuple[str, ...]
    tags: dict[str, dict[Any, Any]]

    def takes(self, type_name: str) -> bool:
        return type_name in self.types or (type_name == "integer" and "number" in self.types)

    def may_be(self, value: Any) -> bool:
        return type(value) is not dict or all(
            canonical(value[name]) in values for name, values in self.tags.items() if name in value
        )


def some_of(alternatives: list[Alternative], *, exactly_one: bool) -> Check:
    """`anyOf`, or `oneOf`. Types and tags are looked at first: it saves work, and problems name the meant one only."""

    def check(value: Any, path: Path, run: Run) -> Any:
        fits: list[Any] = []
        misfits: list[list[Problem]] = []
        for each in _candidates(alternatives, value, path, run):
            filled, found = run.trial(each.check, value, path)
            if found:
                misfits.append(found)
            elif not exactly_one:
                return filled
            else:
                fits.append(filled)
        if len(fits) > 1:
            run.blame(path, f"fits {len(fits)} alternatives, of which it must fit exactly one")
        elif not fits and len(misfits) == 1:
            run += misfits[0]
        elif not fits and misfits:
            listed = "; or ".join(": ".join(filter(None, found[0]))[:200] for found in misfits[:5])
            run.blame(path, f"fits none of {len(misfits)} alternatives: {listed}")
        return fits[0] if fits else value

    return check


def _candidates(alternatives: list[Alternative], value: Any, path: Path, run: Run) -> list[Alternative]:
    """The alternatives to be tried. None are if the type or the tag is wrong for all, which is blamed here."""
    takers = [each for each in alternatives if each.takes(type_of(value))]
    if not takers:
        types = dict.fromkeys(name for each in alternatives for name in each.types)
        run.blame(path, f"expected {one_of(types)}, got {described(value)}" if types else "is not allowed here")
        return []
    likely = [each for each in takers if each.may_be(value)]
    if likely:
        return likely
    for name in takers[0].tags:
        if name in value and all(name in each.tags for each in takers):
            meant = {key: tag for each in takers for key, tag in each.tags[name].items()}
            if canonical(value[name]) not in meant:
                run.blame((path, name), not_among(value[name], [*meant.values()]))
                return []
    return takers
