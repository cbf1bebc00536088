"""Makes one check of a well-formed schema and everything that it refers to."""

import re
from typing import Any, TypeAlias

from ostler.domain.schema.assertions import ASSERTIONS, canonical
from ostler.domain.schema.checks import (
    Alternative,
    all_of,
    anything,
    items_of,
    names_of,
    none_of,
    nothing,
    properties_of,
    some_of,
    typed,
)
from ostler.domain.schema.run import Check, Path, Problem, dotted, make_validator
from ostler.domain.schema.words import KINDS, type_of

Schema: TypeAlias = dict[str, Any] | bool

_OF_OBJECTS = frozenset(("properties", "required", "additionalProperties"))
_OF_ARRAYS = frozenset(("items", "prefixItems"))


class Builder:
    """Builds the checks of one schema, each `$ref` once."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._targets: dict[str, Check] = {}
        self._defaults: list[tuple[Path, dict[str, Any], str, Any, Check]] = []

    def build(self, schema: Schema, at: Path) -> Check:
        """The check of `schema`, which stands at this path within the whole."""
        if isinstance(schema, bool):
            return anything if schema else nothing
        parts = [make(schema[keyword]) for keyword, make in ASSERTIONS.items() if keyword in schema]
        if not _OF_OBJECTS.isdisjoint(schema):
            parts.append(self._properties(schema, at))
        if "propertyNames" in schema:
            parts.append(names_of(self.build(schema["propertyNames"], (at, "propertyNames"))))
        if not _OF_ARRAYS.isdisjoint(schema):
            first = [self.build(each, ((at, "prefixItems"), n)) for n, each in enumerate(schema.get("prefixItems", ()))]
            parts.append(items_of(first, self.build(schema.get("items", True), (at, "items"))))
        parts += self._combinations(schema, at)
        check = all_of(parts) if len(parts) > 1 else parts[0] if parts else None
        return typed(_names(schema["type"]), check) if "type" in schema else check or anything

    def settle_defaults(self) -> list[Problem]:
        """Every default is judged as the value that it stands for, and filled in with the defaults within it."""
        problems = []
        for at, defaults, name, default, check in self._defaults:
            defaults[name], found = make_validator(check)(default)
            where = dotted(at)
            problems += [Problem(f"{where}.{path}" if path else where, message) for path, message in found]
        return problems

    def _properties(self, schema: dict[str, Any], at: Path) -> Check:
        checks: dict[str, Check] = {}
        defaults: dict[str, Any] = {}
        for name, each in schema.get("properties", {}).items():
            where = ((at, "properties"), name)
            checks[name] = self.build(each, where)
            if isinstance(each, dict) and "default" in each:
                self._defaults.append(((where, "default"), defaults, name, each["default"], checks[name]))
        extra = schema.get("additionalProperties", True)
        others = None if extra is False else self.build(extra, (at, "additionalProperties"))
        return properties_of(checks, tuple(schema.get("required", ())), others, defaults)

    def _combinations(self, schema: dict[str, Any], at: Path) -> list[Check]:
        parts = [self._reference(schema["$ref"])] if "$ref" in schema else []
        parts += [self.build(each, ((at, "allOf"), n)) for n, each in enumerate(schema.get("allOf", ()))]
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                alternatives = [
                    Alternative(self.build(each, ((at, keyword), n)), *self._likeness(each))
                    for n, each in enumerate(schema[keyword])
                ]
                parts.append(some_of(alternatives, exactly_one=keyword == "oneOf"))
        if "not" in schema:
            parts.append(none_of(self.build(schema["not"], (at, "not"))))
        return parts

    def _reference(self, pointer: str) -> Check:
        """Looked up when it is used, because what it refers to may just be under construction."""
        if pointer not in self._targets:
            self._targets[pointer] = nothing
            target = resolve(self._root, pointer)
            assert target is not None, "references were seen to lead somewhere"
            self._targets[pointer] = self.build(target, None if pointer == "#" else (None, pointer))
        targets = self._targets
        return lambda value, path, run: targets[pointer](value, path, run)

    def _likeness(self, schema: Schema | None) -> tuple[tuple[str, ...], dict[str, dict[Any, Any]]]:
        """The types, and the properties with fixed values, without which a value cannot fit `schema`."""
        types: tuple[str, ...] = tuple(KINDS)
        tags: dict[str, dict[Any, Any]] = {}
        if not isinstance(schema, dict):
            return (types if schema else ()), tags
        if "$ref" in schema:
            types, tags = self._likeness(resolve(self._root, schema["$ref"]))
        for name, each in schema.get("properties", {}).items():
            if (values := _fixed(each)) is not None:
                tags[name] = {canonical(value): value for value in values}
        if "type" in schema:
            types = _names(schema["type"])
        elif (values := _fixed(schema)) is not None:
            types = tuple(dict.fromkeys(map(type_of, values)))
        return types, tags


def resolve(root: Schema, pointer: str) -> Schema | None:
    """What `#`, `#/$defs/NAME` or `#/definitions/NAME` refers to; None if nothing."""
    if pointer == "#":
        return root
    found = re.fullmatch(r"#/(\$defs|definitions)/([^/]+)", pointer)
    if found is None or isinstance(root, bool):
        return None
    target: Schema | None = root.get(found[1], {}).get(found[2].replace("~1", "/").replace("~0", "~"))
    return target


def _fixed(schema: Schema) -> list[Any] | None:
    if isinstance(schema, bool) or ("const" not in schema and "enum" not in schema):
        return None
    values: list[Any] = [schema["const"]] if "const" in schema else schema["enum"]
    return values


def _names(types: str | list[str]) -> tuple[str, ...]:
    return (types,) if isinstance(types, str) else tuple(types)
