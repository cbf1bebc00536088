"""What models are told of a function: golden schemas, docstrings, and problems at definition."""

import dataclasses
import datetime
import enum
from typing import Annotated, Any, Literal, NotRequired, Optional, TypedDict

import jsonschema
import msgspec
import pydantic
import pytest

from ostler.adapters.tools.functions import tool
from ostler.adapters.tools.signature import read_docstring
from ostler.kernel.errors import DefinitionInvalid


class Lock:
    """Nothing that JSON could hold."""


LOCK = Lock()


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Place(msgspec.Struct):
    """Somewhere."""

    at: Point
    title: str | None = None


class Options(TypedDict):
    deep: bool
    name: NotRequired[str]


class Node(msgspec.Struct):
    children: list["Node"] = []


class Line(pydantic.BaseModel):
    street: str


class Address(pydantic.BaseModel):
    line: Line
    zip: int = pydantic.Field(ge=0, description="Five digits.")


POINT = {
    "type": "object",
    "properties": {"x": {"type": "integer"}, "y": {"type": "integer", "default": 0}},
    "required": ["x"],
    "additionalProperties": False,
}
NULL = {"type": "null"}

GOLDEN: list[tuple[Any, dict[str, Any]]] = [
    (str, {"type": "string"}),
    (int, {"type": "integer"}),
    (float, {"type": "number"}),
    (bool, {"type": "boolean"}),
    (Any, {}),
    (Optional[int], {"anyOf": [{"type": "integer"}, NULL]}),  # noqa: UP045
    (int | str, {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
    (Literal["a", "b"], {"enum": ["a", "b"]}),
    (Colour, {"enum": ["blue", "red"]}),
    (list[int], {"type": "array", "items": {"type": "integer"}}),
    (dict[str, float], {"type": "object", "additionalProperties": {"type": "number"}}),
    (datetime.date, {"type": "string", "format": "date"}),
    (Annotated[int, msgspec.Meta(ge=1, le=9, description="One to nine.")],
     {"type": "integer", "minimum": 1, "maximum": 9, "description": "One to nine."}),
    (Point, POINT),
    (list[Point], {"type": "array", "items": POINT}),
    (Place, {
        "description": "Somewhere.",
        "type": "object",
        "properties": {"at": POINT, "title": {"anyOf": [{"type": "string"}, NULL], "default": None}},
        "required": ["at"],
        "additionalProperties": False,
    }),
    (Options, {
        "type": "object",
        "properties": {"deep": {"type": "boolean"}, "name": {"type": "string"}},
        "required": ["deep"],
        "additionalProperties": False,
    }),
    (Address, {
        "type": "object",
        "properties": {
            "line": {
                "type": "object",
                "properties": {"street": {"type": "string"}},
                "required": ["street"],
                "additionalProperties": False,
            },
            "zip": {"type": "integer", "minimum": 0, "description": "Five digits."},
        },
        "required": ["line", "zip"],
        "additionalProperties": False,
    }),
]  # fmt: skip


@pytest.mark.parametrize(("hint", "schema"), GOLDEN, ids=lambda value: str(value)[:40])
def test_a_type_hint_becomes_this_schema(hint, schema):
    def take(value):
        """Take it."""

    take.__annotations__["value"] = hint
    assert tool(take).spec.parameters == {
        "type": "object",
        "properties": {"value": schema},
        "required": ["value"],
        "additionalProperties": False,
    }


def test_a_type_that_contains_itself_keeps_its_reference():
    @tool
    def plant(tree: Node) -> None: ...

    schema = plant.spec.parameters
    assert schema["properties"] == {"tree": {"$ref": "#/$defs/Node"}}
    jsonschema.validate({"tree": {"children": [{"children": []}]}}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"tree": {"children": [{"leaf": 1}]}}, schema)


def test_defaults_are_in_the_schema_as_json_values():
    @tool
    def take(
        a: int = 1,
        b: Colour = Colour.RED,
        c: Point = Point(1, 2),  # noqa: B008
        d: Line = Line(street="Main"),  # noqa: B008
        e: str | None = None,
    ) -> None: ...

    defaults = {name: schema["default"] for name, schema in take.spec.parameters["properties"].items()}
    assert defaults == {"a": 1, "b": "red", "c": {"x": 1, "y": 2}, "d": {"street": "Main"}, "e": None}
    assert "required" not in take.spec.parameters


def test_every_problem_of_a_definition_is_listed_at_once():
    with pytest.raises(DefinitionInvalid) as caught:

        @tool
        def bad(first, /, plain, lock: Lock, *rest: int, late: Any = LOCK, **more: int): ...

    assert [path for path, _ in caught.value.problems] == ["first", "plain", "lock", "rest", "late", "more"]


def test_a_default_that_its_own_type_does_not_allow_is_a_problem():
    with pytest.raises(DefinitionInvalid, match="not of its type"):

        @tool
        def bad(name: str = None) -> None: ...  # type: ignore[assignment] # noqa: RUF013


def test_an_annotation_that_means_nothing_is_a_problem_and_not_a_crash():
    with pytest.raises(DefinitionInvalid, match="Nowhere"):

        @tool
        def bad(value: "Nowhere") -> None: ...  # type: ignore[name-defined] # noqa: F821


GOOGLE = """Google.

Args:
    sku: The article,
        in full.
    n (int, optional): How many.

    last: Z.

Returns:
    left: What is left.
"""


@pytest.mark.parametrize(
    ("text", "description", "parameters"),
    [
        ("", "", {}),
        ("One line.", "One line.", {}),
        ("First.\n\nMore of it,\nand more.", "First.\n\nMore of it,\nand more.", {}),
        (
            GOOGLE,
            "Google.",
            {"sku": "The article, in full.", "n": "How many.", "last": "Z."},
        ),
        (
            "reST.\n\n:param sku: The article,\n    in full.\n:param int n: How many.\n:returns: What is left.\n",
            "reST.",
            {"sku": "The article, in full.", "n": "How many."},
        ),
        ("Note: this is no section.", "Note: this is no section.", {}),
        ("Do.\n\nRaises:\n    KeyError: never.\n\nArgs:\n    a: A.", "Do.", {"a": "A."}),
    ],
)
def test_a_docstring_says_what_a_tool_and_its_parameters_are(text, description, parameters):
    assert read_docstring(text) == (description, parameters)


def test_the_docstring_describes_the_parameters_unless_their_types_do():
    @tool
    def take(a: int, b: Annotated[int, msgspec.Meta(description="By type.")]) -> None:
        """Take two.

        Args:
            a: By docstring.
            b: By docstring.
        """

    properties = take.spec.parameters["properties"]
    assert take.spec.description == "Take two."
    assert [properties[name]["description"] for name in "ab"] == ["By docstring.", "By type."]
