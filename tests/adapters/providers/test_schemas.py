"""Schemas as providers can enforce them: what fits there fits the schema that was asked for."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import openai.lib._pydantic as openai_schemas
import pydantic
import pytest
from anthropic.lib._parse._transform import transform_schema
from hypothesis import given
from hypothesis import strategies as st

from ostler.adapters.providers.schemas import enforceable, strict
from ostler.domain.schema import compile_schema

TEXT = {"type": "string"}
CLOSED = {"type": "object", "properties": {"a": TEXT}, "required": ["a"], "additionalProperties": False}


@dataclass
class Shelf:
    """Where it lies."""

    row: int
    names: list[str]
    note: str | None = None


class Stock(pydantic.BaseModel):
    sku: str
    kind: Literal["part", "tool"]
    shelf: Shelf
    others: list[Shelf]


class Bounded(msgspec.Struct):
    left: Annotated[int, msgspec.Meta(ge=0, description="How many.")]


@pytest.mark.parametrize(
    "schema",
    [
        TEXT,
        {"type": "object"},
        {"type": "object", "properties": {"a": TEXT}},
        {"type": "object", "properties": {}, "additionalProperties": True},
        {"type": "object", "properties": {"a": TEXT}, "required": ["a"], "additionalProperties": TEXT},
        CLOSED | {"patternProperties": {"^x": TEXT}},
        CLOSED | {"not": {"required": ["b"]}},
        {"type": "object", "properties": {"a": {}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"type": "string", "minLength": 1}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"type": "string", "format": "color"}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "object"}}}, "required": ["a"]},
        {"anyOf": [CLOSED, {"type": "null"}]},
        {"$ref": "#/$defs/missing"},
    ],
)
def test_what_strict_mode_would_refuse_is_not_strict(schema: dict[str, Any]) -> None:
    assert strict(schema) is None


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "properties": {"a": {}}},
        {"type": "object", "additionalProperties": TEXT},
        {"type": ["string", "null"]},
        {"allOf": [CLOSED]},
        {"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}}}},
        {"$ref": "#"},
        {},
    ],
)
def test_what_structured_outputs_would_refuse_is_not_enforceable(schema: dict[str, Any]) -> None:
    assert enforceable(schema) is None


def test_a_schema_of_a_type_of_the_users_is_strict_as_the_sdk_would_make_it() -> None:
    schema = Stock.model_json_schema()
    assert strict(schema) == openai_schemas.to_strict_json_schema(Stock)
    assert schema == Stock.model_json_schema()


def test_a_schema_of_a_type_of_the_users_is_enforceable_as_the_sdk_would_make_it() -> None:
    theirs = transform_schema(Stock)
    theirs["properties"]["kind"]["type"] = "string"  # which says no more than the values do
    theirs["$defs"]["Shelf"]["properties"]["note"].pop("description")  # the default, in words
    assert enforceable(Stock.model_json_schema()) == theirs


def test_a_reference_at_the_root_is_followed() -> None:
    schema = msgspec.json.schema(Bounded)
    assert "$ref" in schema
    fit = strict(schema)
    assert fit is not None
    assert (fit["type"], fit["required"], fit["additionalProperties"]) == ("object", ["left"], False)


def test_bounds_become_words() -> None:
    fit = enforceable(msgspec.json.schema(Bounded))
    assert fit is not None
    assert fit["properties"]["left"] == {"type": "integer", "description": 'How many. {"minimum":0}'}


LEAVES = st.sampled_from([TEXT, {"type": "integer"}, {"type": ["integer", "null"]}, {"enum": ["x", None]}])
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda items: {"type": "array", "items": items}, inner),
        st.builds(lambda one, two: {"anyOf": [one, two]}, inner, inner),
        st.builds(
            lambda properties, required, rest: {
                "type": "object",
                "properties": properties,
                "required": sorted(required & properties.keys()),
                **rest,
            },
            st.dictionaries(st.sampled_from("abc"), inner, min_size=1),
            st.sets(st.sampled_from("abc")),
            st.sampled_from([{}, {"additionalProperties": False}, {"additionalProperties": True}]),
        ),
    ),
    max_leaves=6,
)
VALUES = st.recursive(
    st.sampled_from([None, 1, "x"]),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("abcd"), inner, max_size=4)),
    max_leaves=6,
)


@given(schema=SCHEMAS, value=VALUES, name=st.sampled_from(["strict", "enforceable"]))
def test_what_fits_the_enforced_schema_fits_the_one_that_was_asked_for(
    schema: dict[str, Any], value: Any, name: str
) -> None:
    fit = {"strict": strict, "enforceable": enforceable}[name](schema)
    if fit is not None and not compile_schema(fit)(value)[1]:
        assert not compile_schema(schema)(value)[1]


def test_what_says_nothing_that_can_be_read_is_no_reason_to_fail() -> None:
    text = {"type": "string", "format": ["date"], "description": 5}
    schema = {"type": "object", "properties": {"a": text}, "required": ["a"]}
    assert strict(schema) is None
    enforced = enforceable(schema)
    assert enforced is not None
    assert enforced["properties"]["a"]["description"] == '5 {"format":["date"]}'
