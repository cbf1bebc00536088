"""What a schema may look like: as a schema of schemas, and what no schema can say of them."""

import re
from collections.abc import Iterator
from typing import Any

from ostler.domain.schema.assertions import ecma
from ostler.domain.schema.builder import Builder, Schema, resolve
from ostler.domain.schema.run import Path, Problem, dotted, make_validator
from ostler.domain.schema.words import KINDS

_ONE: Schema = {"$ref": "#"}
_SOME: Schema = {"type": "array", "items": _ONE, "minItems": 1}
_MANY: Schema = {"type": "object", "additionalProperties": _ONE}
_TYPE: Schema = {"enum": [*KINDS]}
_NUMBER: Schema = {"type": "number"}
_COUNT: Schema = {"type": "integer", "minimum": 0}

KEYWORDS: dict[str, Schema] = {
    "type": {"anyOf": [_TYPE, {"type": "array", "items": _TYPE, "minItems": 1, "uniqueItems": True}]},
    "enum": {"type": "array", "minItems": 1},
    "const": True,
    "multipleOf": {"type": "number", "exclusiveMinimum": 0},
    "pattern": {"type": "string"},
    "uniqueItems": {"type": "boolean"},
    "required": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
    "$ref": {"type": "string"},
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _NUMBER),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), _COUNT),
    **dict.fromkeys(("additionalProperties", "propertyNames", "items", "not"), _ONE),
    **dict.fromkeys(("prefixItems", "allOf", "anyOf", "oneOf"), _SOME),
    **dict.fromkeys(("properties", "$defs", "definitions"), _MANY),
    **dict.fromkeys(("default", "title", "description", "examples", "deprecated", "readOnly", "writeOnly"), True),
    **dict.fromkeys(("format", "discriminator", "contentEncoding", "contentMediaType"), True),
    **dict.fromkeys(("$schema", "$id", "$comment"), True),
}

SCHEMA_OF_SCHEMAS: Schema = {
    "type": ["object", "boolean"],
    "properties": KEYWORDS,
    "additionalProperties": False,
}
"""The schemas that can be compiled; compiled like any other."""

_fits = make_validator(Builder(SCHEMA_OF_SCHEMAS).build(SCHEMA_OF_SCHEMAS, None))


def form_problems(schema: Schema) -> list[Problem]:
    """Everything that is wrong with a schema but for its defaults, with the path within it."""
    return _fits(schema)[1] or [*_mistakes(schema)]


def _mistakes(root: Schema) -> Iterator[Problem]:
    """Patterns that are none, references to nothing or to themselves."""
    for at, schema in _subschemas(root, None):
        if "pattern" in schema:
            try:
                ecma(schema["pattern"])
            except (re.error, RecursionError, OverflowError) as error:
                yield Problem(dotted((at, "pattern")), f"not a regular expression: {error}")
        if "$id" in schema and at is not None:
            yield Problem(dotted((at, "$id")), "only the whole schema can have an $id")
        if "$ref" not in schema:
            continue
        if resolve(root, schema["$ref"]) is None:
            message = "refers to nothing; references are '#', '#/$defs/NAME' or '#/definitions/NAME'"
            yield Problem(dotted((at, "$ref")), message)
        elif _is_circular(root, schema["$ref"]):
            yield Problem(dotted((at, "$ref")), "refers to itself without a property or an item between")


def _subschemas(schema: Schema, at: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The schema and all within it, but for those that are true or false."""
    if isinstance(schema, bool):
        return
    yield at, schema
    for keyword, value in schema.items():
        shape = KEYWORDS[keyword]
        if shape is _ONE:
            yield from _subschemas(value, (at, keyword))
        elif shape is _SOME or shape is _MANY:
            for name, each in enumerate(value) if shape is _SOME else value.items():
                yield from _subschemas(each, ((at, keyword), name))


def _is_circular(root: Schema, pointer: str) -> bool:
    """Whether following references without going down into the value leads back."""
    seen: set[str] = set()
    ahead = [pointer]
    while ahead:
        for reference in _in_place(resolve(root, ahead.pop())):
            if reference == pointer:
                return True
            if reference not in seen:
                seen.add(reference)
                ahead.append(reference)
    return False


def _in_place(schema: Schema | None) -> Iterator[str]:
    """The references that are followed for the same value that `schema` is for."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield schema["$ref"]
        for each in (*schema.get("allOf", ()), *schema.get("anyOf", ()), *schema.get("oneOf", ()), schema.get("not")):
            yield from _in_place(each)
