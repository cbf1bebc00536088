import copy
import json
import math
from typing import Any

import jsonschema
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ostler.domain.schema import compile_schema, parse_json, validator_for
from ostler.domain.schema.form import SCHEMA_OF_SCHEMAS
from ostler.domain.schema.run import DEPTH_MAX, PROBLEMS_MAX
from ostler.kernel.errors import DefinitionInvalid

LIST = {
    "type": "object",
    "properties": {
        "path": {"type": "string", "minLength": 1},
        "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 10},
        "options": {
            "type": "object",
            "properties": {"host": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}}},
            "additionalProperties": False,
        },
    },
    "required": ["path"],
    "additionalProperties": False,
}

EXPRESSION = {
    "oneOf": [
        {"type": "number"},
        {
            "type": "object",
            "properties": {"op": {"const": "negate"}, "of": {"$ref": "#"}},
            "required": ["op", "of"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {"op": {"enum": ["add", "multiply"]}, "left": {"$ref": "#"}, "right": {"$ref": "#"}},
            "required": ["op", "left", "right"],
            "additionalProperties": False,
        },
    ]
}


def problems_of(schema: Any, value: Any) -> list[tuple[str, str]]:
    return [(problem.path, problem.message) for problem in compile_schema(schema)(value)[1]]


# ------------------------------------------------------------------------------------------------------ the oracle

names = st.sampled_from(["a", "b", "c"])
scalars = (
    st.none() | st.booleans() | st.integers(-3, 4) | st.sampled_from([0.5, 1.0, -2.0, 2.5]) | st.text("ab1", max_size=3)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=8
)
types = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])
small = st.integers(0, 3)
bounds = st.integers(-2, 3) | st.sampled_from([0.5, 1.5])


def keywords(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(inner, min_size=1, max_size=3)
    table = {
        "type": types | st.lists(types, min_size=1, max_size=3, unique=True),
        "properties": st.dictionaries(names, inner, max_size=3),
        "required": st.lists(names, max_size=2, unique=True),
        "additionalProperties": inner,
        "propertyNames": st.sampled_from([{"maxLength": 1}, {"enum": ["a", "b"]}, False]),
        "items": inner,
        "prefixItems": some,
        "enum": st.lists(values, min_size=1, max_size=4),
        "const": values,
        **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), bounds),
        **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), small),
        "multipleOf": st.sampled_from([1, 2, 0.5, 1.0]),
        "pattern": st.sampled_from(["^a", "b$", "^[ab]+$", "1", "a|b", "^a?$"]),
        "uniqueItems": st.booleans(),
        **dict.fromkeys(("allOf", "anyOf", "oneOf"), some),
        "not": inner,
        "$ref": st.sampled_from(["#", "#/$defs/x", "#/$defs/y"]),
    }
    chosen = st.lists(st.sampled_from(sorted(table)), max_size=4, unique=True)
    return chosen.flatmap(lambda kept: st.fixed_dictionaries({keyword: table[keyword] for keyword in kept}))


schemas = st.recursive(
    st.booleans() | st.fixed_dictionaries({"type": types}) | keywords(st.booleans()), keywords, max_leaves=6
)


@given(schemas, schemas, schemas, values, values)
def test_the_verdict_is_that_of_the_reference_implementation(root, x, y, one, other):
    if isinstance(root, dict):
        root = {**root, "$defs": {"x": x, "y": y}}
    try:
        validate = compile_schema(root)
    except DefinitionInvalid:
        assume(False)
    oracle = jsonschema.Draft202012Validator(root)
    for value in (one, other):
        before = copy.deepcopy(value)
        filled, problems = validate(value)
        assert (not problems) == oracle.is_valid(value), (root, value, problems)
        assert filled is value
        assert value == before


def test_the_schema_of_schemas_describes_itself_and_is_a_schema_to_others():
    assert problems_of(SCHEMA_OF_SCHEMAS, SCHEMA_OF_SCHEMAS) == []
    jsonschema.Draft202012Validator.check_schema(SCHEMA_OF_SCHEMAS)


@given(schemas)
def test_what_compiles_is_a_schema_to_the_reference_implementation(schema):
    try:
        compile_schema(schema)
    except DefinitionInvalid:
        assume(False)
    jsonschema.Draft202012Validator.check_schema(schema)


# --------------------------------------------------------------------------------------------------------- messages


@pytest.mark.parametrize(
    ("schema", "value", "problems"),
    [
        ({"type": "integer"}, "x", [("", 'expected integer, got string "x"')]),
        ({"type": "integer"}, "3", [("", 'expected integer, got string "3" (write it without the quotes)')]),
        ({"type": "array"}, "[1]", [("", 'expected array, got string "[1]" (write it without the quotes)')]),
        ({"type": "integer"}, True, [("", "expected integer, got boolean true")]),
        ({"type": "number"}, False, [("", "expected number, got boolean false")]),
        ({"type": "integer"}, 1.5, [("", "expected integer, got number 1.5")]),
        ({"type": "integer"}, 1.0, []),
        ({"type": ["string", "null"]}, 3, [("", "expected string or null, got integer 3")]),
        ({"type": "string"}, [1, 2], [("", "expected string, got array of 2 items")]),
        ({"type": "string"}, {}, [("", "expected string, got object of 0 properties")]),
        ({"type": "boolean"}, None, [("", "expected boolean, got null")]),
        ({"enum": ["asc", "desc"]}, "dsec", [("", 'expected one of "asc", "desc", got "dsec" (did you mean "desc"?)')]),
        ({"const": 1}, True, [("", "expected 1, got true")]),
        ({"const": 1}, 1.0, []),
        ({"const": [{"a": 1}]}, [{"a": 1.0}], []),
        ({"minimum": 3}, 2, [("", "expected at least 3, got 2")]),
        ({"exclusiveMinimum": 3}, 3, [("", "expected more than 3, got 3")]),
        ({"maximum": 3}, 3.5, [("", "expected at most 3, got 3.5")]),
        ({"exclusiveMaximum": 3}, 3, [("", "expected less than 3, got 3")]),
        ({"multipleOf": 0.1}, 0.3, []),
        ({"multipleOf": 5}, 7, [("", "expected a multiple of 5, got 7")]),
        ({"minLength": 2}, "ü", [("", "expected at least 2 characters, got 1")]),
        ({"maxLength": 2}, "abc", [("", "expected at most 2 characters, got 3")]),
        ({"minItems": 1}, [], [("", "expected at least 1 items, got 0")]),
        ({"maxProperties": 1}, {"a": 1, "b": 2}, [("", "expected at most 1 properties, got 2")]),
        ({"uniqueItems": True}, [1, True, 1.0], [("", "expected no item twice, but items 0 and 2 are equal")]),
        ({"pattern": "^a+$"}, "b", [("", 'expected text that matches ^a+$, got "b"')]),
        ({"not": {"type": "null"}}, None, [("", "null is not allowed here")]),
        ({"properties": {"a": False}}, {"a": 1}, [("a", "is not allowed here")]),
        ({"prefixItems": [True], "items": {"type": "null"}}, [1, 2], [("1", "expected null, got integer 2")]),
        ({"propertyNames": {"maxLength": 1}}, {"ab": 1}, [("ab", "as a name: expected at most 1 characters, got 2")]),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, 1, [("", "expected string or null, got integer 1")]),
        ({"anyOf": [{"minimum": 3, "type": "number"}, {"type": "null"}]}, 1, [("", "expected at least 3, got 1")]),
        ({"anyOf": [{"minimum": 3}, {"minimum": 2}]}, 1,
         [("", "fits none of 2 alternatives: expected at least 3, got 1; or expected at least 2, got 1")]),
        ({"oneOf": [{"minimum": 1}, True]}, 3, [("", "fits 2 alternatives, of which it must fit exactly one")]),
        (LIST, {"path": "x", "limt": 3}, [("limt", 'unknown property (did you mean "limit"?)')]),
        (LIST, {"path": "x", "zzzz": 3}, [("zzzz", "unknown property; known are: path, limit, options")]),
        ({"additionalProperties": False}, {"a": 1}, [("a", "unknown property; known are: none")]),
        (LIST, {}, [("path", "required, but missing")]),
        (LIST, [], [("", "expected object, got array of 0 items")]),
    ],
)  # fmt: skip
def test_problems_are_said_in_words_that_a_model_can_act_upon(schema, value, problems):
    assert problems_of(schema, value) == problems


def test_every_problem_is_named_with_its_path():
    value = {"limit": 0, "options": {"hots": "h", "tags": ["a", 1, None]}}
    assert problems_of(LIST, value) == [
        ("limit", "expected at least 1, got 0"),
        ("options.hots", 'unknown property (did you mean "host"?)'),
        ("options.tags.1", "expected string, got integer 1"),
        ("options.tags.2", "expected string, got null"),
        ("path", "required, but missing"),
    ]


@pytest.mark.parametrize(
    ("value", "problems"),
    [
        ({"op": "negate", "of": {"op": "add", "left": 1, "right": 2}}, []),
        ({"op": "ad"}, [("op", 'expected one of "negate", "add", "multiply", got "ad" (did you mean "add"?)')]),
        ({"op": "negate", "of": "x"}, [("of", 'expected number or object, got string "x"')]),
        ({"op": "add", "left": 1}, [("right", "required, but missing")]),
        (
            {"op": "negate", "of": {"op": "add", "left": 1, "right": 2, "rigth": 3}},
            [("of.rigth", 'unknown property (did you mean "right"?)')],
        ),
    ],
)
def test_a_value_that_names_its_alternative_is_judged_by_that_one_alone(value, problems):
    assert problems_of(EXPRESSION, value) == problems


def test_long_values_are_shortened_and_many_problems_are_counted():
    [(_, message)] = problems_of({"type": "integer"}, "x" * 100_000)
    assert len(message) < 200
    [(_, message)] = problems_of({"maximum": 1}, 10**5000)
    assert message == "expected at most 1, got of 16610 bits"
    problems = problems_of({"items": {"type": "null"}}, [1] * 1000)
    assert len(problems) == PROBLEMS_MAX + 1
    assert problems[-1] == ("", f"and {1000 - PROBLEMS_MAX} more problems")


# --------------------------------------------------------------------------------------------------------- defaults


@pytest.mark.parametrize(
    ("schema", "value", "filled"),
    [
        (LIST, {"path": "x"}, {"path": "x", "limit": 10}),
        (LIST, {"path": "x", "limit": 3}, {"path": "x", "limit": 3}),
        ({"properties": {"a": {"default": None}}}, {}, {"a": None}),
        (
            {"properties": {"a": {"default": {}, "properties": {"b": {"default": [1]}}}}},
            {},
            {"a": {"b": [1]}},
        ),
        ({"items": {"properties": {"a": {"default": 1}}}}, [{}, {"a": 2}], [{"a": 1}, {"a": 2}]),
        (
            {"allOf": [{"properties": {"a": {"default": 1}}}, {"properties": {"b": {"default": 2}}}]},
            {"c": 3},
            {"c": 3, "a": 1, "b": 2},
        ),
        (
            {"properties": {"a": {"default": 1}}, "allOf": [{"properties": {"a": {"default": 2}}}]},
            {},
            {"a": 1},
        ),
        (
            {"properties": {"a": {"default": 1}}, "allOf": [{"maxProperties": 0, "additionalProperties": False}]},
            {},
            {"a": 1},
        ),
        (
            {
                "anyOf": [
                    {"properties": {"a": {"default": 1}}, "required": ["b"]},
                    {"properties": {"a": {"default": 2}}},
                ]
            },
            {},
            {"a": 2},
        ),
        ({"oneOf": [False, {"properties": {"a": {"default": 1}}}]}, {}, {"a": 1}),
        (
            {"$ref": "#/$defs/x", "$defs": {"x": {"properties": {"next": {"$ref": "#/$defs/x"}, "a": {"default": 1}}}}},
            {"next": {}},
            {"next": {"a": 1}, "a": 1},
        ),
        ({"not": {"properties": {"a": {"default": 1}}, "required": ["b"]}}, {}, {}),
    ],
)
def test_missing_properties_are_filled_in_and_the_value_given_stays_as_it_is(schema, value, filled):
    before = copy.deepcopy(value)
    assert compile_schema(schema)(value) == (filled, [])
    assert value == before


def test_what_is_filled_in_belongs_to_the_caller():
    validate = compile_schema({"properties": {"tags": {"default": [{"a": []}]}}})
    validate({})[0]["tags"][0]["a"].append("mine")
    assert validate({})[0] == {"tags": [{"a": []}]}


def test_a_missing_required_property_is_a_problem_even_if_it_has_a_default():
    schema = {"properties": {"a": {"default": 1}}, "required": ["a"]}
    assert compile_schema(schema)({}) == ({}, [("a", "required, but missing")])


def test_a_value_with_problems_comes_back_as_it_was():
    value = {"limit": 0}
    filled, problems = compile_schema(LIST)(value)
    assert problems
    assert filled is value


# ------------------------------------------------------------------------------------------------- hostile values


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, (1, 2), {1: 2}, b"x", {"a": {1}}, [math.nan], {"a": [{"b": math.inf}]}, object()],
)
def test_what_json_cannot_say_is_a_problem_wherever_it_stands(value):
    assert compile_schema(True)(value)[1]
    assert compile_schema({"type": ["object", "array", "number"]})(value)[1]


def nested(levels: int, leaf: Any = None) -> Any:
    for _ in range(levels):
        leaf = {"a": leaf}
    return leaf


@pytest.mark.parametrize(
    "schema", [True, {"properties": {"a": {"$ref": "#"}}}, {"anyOf": [{"properties": {"a": {"$ref": "#"}}}]}]
)
def test_nesting_is_bounded(schema):
    assert problems_of(schema, nested(DEPTH_MAX)) == []
    assert problems_of(schema, nested(DEPTH_MAX, 0.5)) == []
    [(path, message)] = problems_of(schema, nested(DEPTH_MAX + 1))
    assert path == ".".join("a" * DEPTH_MAX)
    assert message == f"nested more than {DEPTH_MAX} levels deep"
    assert problems_of(schema, nested(100_000)) == [(path, message)]


def test_alternatives_that_multiply_end_in_a_problem_and_not_in_a_wait():
    branch = {"properties": {"a": {"$ref": "#"}}, "required": ["a"]}
    [(path, message)] = problems_of({"anyOf": [branch, {**branch, "minProperties": 1}]}, nested(40, {}))
    assert path == ""
    assert "too intricate" in message


@given(
    schemas,
    st.recursive(
        values | st.floats() | st.binary(max_size=2), lambda inner: st.tuples(inner) | st.lists(inner, max_size=2)
    ),
)
def test_no_value_raises(schema, value):
    try:
        validate = compile_schema(schema)
    except DefinitionInvalid:
        assume(False)
    filled, problems = validate(value)
    assert filled is value
    assert all(isinstance(text, str) for problem in problems for text in problem)


# ------------------------------------------------------------------------------------------------ refused schemas


@pytest.mark.parametrize(
    ("schema", "path", "words"),
    [
        ({"tpye": "string"}, "tpye", 'unknown property (did you mean "type"?)'),
        ({"properties": {"a": {"if": True}}}, "properties.a.if", "unknown property"),
        ({"patternProperties": {}}, "patternProperties", "unknown property"),
        ({"contains": True}, "contains", "unknown property"),
        ({"type": "str"}, "type", 'expected one of "null"'),
        ({"type": ["string", 5]}, "type.1", "expected one of"),
        ({"type": []}, "type", "at least 1 items"),
        ({"properties": []}, "properties", "expected object, got array"),
        ({"items": [{"type": "string"}]}, "items", "expected object or boolean, got array"),
        ({"required": "a"}, "required", 'expected array, got string "a"'),
        ({"required": ["a", "a"]}, "required", "no item twice"),
        ({"minLength": -1}, "minLength", "at least 0"),
        ({"minimum": "1"}, "minimum", "expected number"),
        ({"minimum": math.nan}, "minimum", "has no nan"),
        ({"multipleOf": 0}, "multipleOf", "more than 0"),
        ({"enum": []}, "enum", "at least 1"),
        ({"anyOf": []}, "anyOf", "at least 1"),
        ({"anyOf": [{"type": "x"}]}, "anyOf.0.type", "expected one of"),
        ({"pattern": "("}, "pattern", "not a regular expression"),
        ({"items": {"pattern": "a**"}}, "items.pattern", "not a regular expression"),
        ({"$ref": "#/$defs/no"}, "$ref", "refers to nothing"),
        ({"$ref": "https://example.com/x"}, "$ref", "refers to nothing"),
        ({"$ref": "#"}, "$ref", "refers to itself"),
        ({"anyOf": [{"not": {"$ref": "#"}}]}, "anyOf.0.not.$ref", "refers to itself"),
        ({"items": {"$id": "x"}}, "items.$id", "only the whole schema"),
        ({"properties": {"a": {"type": "integer", "default": "x"}}}, "properties.a.default", "expected integer"),
        ({"properties": {"a": {"items": {"type": "null"}, "default": [1]}}}, "properties.a.default.0", "expected null"),
        ("string", "", "expected object or boolean"),
        (None, "", "expected object or boolean"),
        ({"default": {1}}, "default", "has no set"),
    ],
)
def test_a_schema_that_cannot_be_kept_is_refused_and_its_fault_named(schema, path, words):
    with pytest.raises(DefinitionInvalid) as refusal:
        compile_schema(schema, "stock")
    assert refusal.value.source == "stock"
    assert [where for where, _ in refusal.value.problems] == [path]
    assert words in refusal.value.problems[0][1]


def test_a_loop_of_references_is_refused_and_recursion_through_the_value_is_not():
    loop = {"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}}
    with pytest.raises(DefinitionInvalid) as refusal:
        compile_schema(loop)
    assert {path for path, _ in refusal.value.problems} == {"$ref", "$defs.a.allOf.0.$ref", "$defs.b.$ref"}
    tree = {
        "$ref": "#/definitions/a~1b",
        "definitions": {"a/b": {"items": {"$ref": "#/definitions/a~1b"}, "type": "array"}},
    }
    assert problems_of(tree, [[], [[]]]) == []
    assert problems_of(tree, [[], [[3]]]) == [("1.0.0", "expected array, got integer 3")]


def test_a_schema_nested_without_end_is_refused():
    schema: Any = {}
    for _ in range(5000):
        schema = {"items": schema}
    with pytest.raises(DefinitionInvalid):
        compile_schema(schema)


# ---------------------------------------------------------------------------------------------------------- patterns


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("^[a-z]+$", "abc", True),
        ("^[a-z]+$", "abc\n", False),
        (r"^a\$$", "a$", True),
        ("[$]", "a$b", True),
        ("^[[]$", "[", True),
        ("^[a&&b]+$", "a&b", True),
        (r"^\d+$", "٣", False),
        (r"^\w+$", "é", False),
        (r"\[[\]]$", "[]", True),
        ("b", "abc", True),
        ("a$|b", "ba", True),
    ],
)
def test_patterns_mean_what_they_mean_in_ecma_262(pattern, text, matches):
    assert (problems_of({"pattern": pattern}, text) == []) is matches


# ------------------------------------------------------------------------------------------------- tools' parameters


def test_the_parameters_of_a_tool_are_an_object_said_or_not():
    assert validator_for({})([])[1] == [("", "expected object, got array of 0 items")]
    with pytest.raises(DefinitionInvalid, match="are an object"):
        validator_for({"type": "string"})
    with pytest.raises(DefinitionInvalid, match="is not JSON"):
        validator_for({"default": object()})


def test_equal_parameters_are_compiled_once_and_changed_ones_anew():
    parameters = {"properties": {"a": {"type": "string"}}}
    first = validator_for(parameters)
    assert validator_for(copy.deepcopy(parameters)) is first
    parameters["properties"]["a"]["type"] = "integer"
    assert validator_for(parameters)({"a": 1})[1] == []
    assert first({"a": 1})[1] == [("a", "expected string, got integer 1")]


# ------------------------------------------------------------------------------------------------------------- text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": }', "Expecting value at line 1, column 7"),
        ('{"ä": "ö",\n  "b": tru}', "Expecting value at line 2, column 8"),
        ('{"a": 1} x', "Extra data at line 1, column 10"),
        ("", "Expecting value at line 1, column 1"),
        ('{"a": "b', "Unterminated string starting at line 1, column 7"),
        ('{"a": "b\nc"}', "Invalid control character at line 1, column 9 (a line break in a string is written \\n)"),
        ('{"a": NaN}', "JSON is malformed: invalid character (byte 6)"),
        ("[" * 100_000, "this JSON is nested too deeply"),
    ],
)
def test_malformed_json_is_a_problem_with_its_place(text, words):
    assert parse_json(text) == (None, ("", words))


@given(values)
def test_well_formed_json_is_its_value(value):
    assert parse_json(json.dumps(value)) == (value, None)


@given(st.text())
def test_no_text_raises(text):
    value, problem = parse_json(text)
    assert problem is None or (value is None and problem.message)
