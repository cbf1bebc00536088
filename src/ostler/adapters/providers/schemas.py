"""JSON Schemas in the parts of the language that providers enforce while a model writes.

An answer that fits what is made here fits the schema that was given, but for keywords that became words: whoever asked
checks the answer itself.
"""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from ostler.kernel.errors import OstlerError

_STRUCTURE = frozenset(
    {"type", "properties", "required", "additionalProperties", "items", "anyOf", "$ref", "$defs", "enum", "const"}
)
_WORDS = frozenset({"title", "description"})
_SILENT = frozenset({"default", "examples", "$schema"})
"""Keywords that a schema is the same without."""
_OPENAI = (
    _STRUCTURE
    | _WORDS
    | {"pattern", "format", "minItems", "maxItems"}
    | {"multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
)
_ANTHROPIC = _STRUCTURE | _WORDS
_FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
_SHAPES = ("type", "anyOf", "$ref", "enum", "const")


class _Unfit(OstlerError):
    """The schema says what the provider cannot enforce."""


def strict(schema: dict[str, Any]) -> dict[str, Any] | None:
    """For OpenAI's strict mode: objects closed, all properties required, known keywords only. None if it is not so.

    What is left open (`additionalProperties` is absent) is closed, and what may be null is required: the answers that
    remain fit as well.
    """
    try:
        fit = _strict(_rooted(schema))
    except _Unfit:
        return None
    return fit if fit.get("type") == "object" else None


def enforceable(schema: dict[str, Any]) -> dict[str, Any] | None:
    """For Anthropic's structured outputs, which know no bounds: these become words. None if the shape is not known.

    The shapes that it does not know are maps with free keys, intersections, recursion, and values of no type at all.
    """
    try:
        rooted = _rooted(schema)
        return None if _is_recursive(rooted) else _worded(rooted)
    except _Unfit:
        return None


def _rooted(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without a reference at its root, where generators put one and providers take none."""
    if "$ref" not in schema:
        return schema
    root = {name: value for name, value in schema.items() if name not in _SILENT}
    target = root.get("$defs", {}).get(root.pop("$ref").removeprefix("#/$defs/"))
    if not isinstance(target, dict) or root.keys() - {"$defs", *_WORDS}:
        raise _Unfit
    return target | root


def _plain(schema: Any) -> dict[str, Any]:
    """One level of a schema, closed and without what says nothing. Raises `_Unfit` if its shape is not known."""
    if not isinstance(schema, dict) or not any(shape in schema for shape in _SHAPES):
        raise _Unfit
    plain = _closed({name: value for name, value in schema.items() if name not in _SILENT})
    if "$ref" not in plain:
        return plain
    if plain.keys() - {"$ref", "$defs", *_WORDS} or not plain["$ref"].startswith("#/$defs/"):
        raise _Unfit
    return {name: plain[name] for name in ("$ref", "$defs") if name in plain}


def _strict(schema: Any) -> dict[str, Any]:
    fit = _plain(schema)
    if fit.keys() - _OPENAI or fit.get("format", "date") not in _FORMATS:
        raise _Unfit
    fit |= _inner(fit, _strict)
    if "properties" in fit:
        nullable = {name for name, value in fit["properties"].items() if _may_be_null(value)}
        if nullable | set(fit.get("required", ())) != fit["properties"].keys():
            raise _Unfit
        fit["required"] = list(fit["properties"])
    return fit


def _may_be_null(schema: dict[str, Any]) -> bool:
    kinds = schema.get("type", ())
    return kinds == "null" or "null" in kinds or any(map(_may_be_null, schema.get("anyOf", ())))


def _worded(schema: Any) -> dict[str, Any]:
    plain = _plain(schema)
    if isinstance(plain.get("type"), list) or "allOf" in plain:
        raise _Unfit
    fit = {name: value for name, value in plain.items() if name in _ANTHROPIC} | _inner(plain, _worded)
    if plain.get("format") in _FORMATS:
        fit["format"] = plain["format"]
    lost = {name: value for name, value in plain.items() if name not in fit}
    if lost:
        words = [str(plain.get("description", "")), msgspec.json.encode(lost).decode()]
        fit["description"] = " ".join(filter(None, words))
    return fit


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The same schema, its object without free keys. Raises `_Unfit` if these are what it is about."""
    types = schema.get("type")
    if types != "object" and not (isinstance(types, list) and "object" in types):
        return dict(schema)
    if schema.get("additionalProperties", False) is not False or "patternProperties" in schema:
        raise _Unfit
    if "properties" not in schema:
        raise _Unfit
    return schema | {"additionalProperties": False}


def _inner(schema: dict[str, Any], made: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """The schemas within one, each made fit."""
    inner: dict[str, Any] = {
        name: {key: made(value) for key, value in schema[name].items()}
        for name in ("properties", "$defs")
        if name in schema
    }
    if "anyOf" in schema:
        inner["anyOf"] = [made(value) for value in schema["anyOf"]]
    if "items" in schema:
        inner["items"] = made(schema["items"])
    return inner


def _is_recursive(schema: dict[str, Any]) -> bool:
    definitions: dict[str, Any] = schema.get("$defs", {})
    uses = {name: set(_references(value)) for name, value in definitions.items()}
    done: set[str] = set()
    while ready := {name for name, used in uses.items() if name not in done and used <= done}:
        done |= ready
    return len(done) < len(uses) or not set(_references(schema)) <= done


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"].removeprefix("#/$defs/")
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)
