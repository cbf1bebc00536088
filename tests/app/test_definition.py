"""Every problem of what a person wrote is named, with its path."""

from typing import Any, Literal

import msgspec
import pytest

from ostler.app.definition import problems_in, read
from ostler.kernel.errors import DefinitionInvalid


class Wheel(msgspec.Struct, frozen=True):
    inches: int
    kind: Literal["road", "mud"] = "road"


class Cart(msgspec.Struct, frozen=True):
    name: str
    wheels: tuple[Wheel, ...] = ()
    load_kg: float | None = None
    tags: tuple[str, ...] = ()
    prices: dict[str, Wheel] = {}
    spare: Wheel | None = None


@pytest.mark.parametrize(
    ("data", "problems"),
    [
        ({"name": "a", "wheels": [{"inches": 26}], "load_kg": 3, "tags": ["x"]}, []),
        ({}, [("name", "is missing")]),
        ({"name": 3}, [("name", "expected `str`, got `int`")]),
        ({"name": "a", "whels": []}, [("whels", "is unknown (did you mean 'wheels'?)")]),
        ({"name": "a", "zzz": 1}, [("zzz", "is unknown (there are: name, wheels, load_kg, tags, prices, spare)")]),
        ({"name": "a", "wheels": {}}, [("wheels", "expected `array`, got `object`")]),
        ({"name": "a", "wheels": [3]}, [("wheels[0]", "expected a table, got int")]),
        (
            {"name": "a", "tags": ["x", 1, 2]},
            [("tags[1]", "expected `str`, got `int`"), ("tags[2]", "expected `str`, got `int`")],
        ),
        ({"name": "a", "load_kg": "heavy"}, [("load_kg", "expected `float`, got `str`")]),
        (
            {"name": "a", "spare": {"kind": "snow", "inch": 2}},
            [
                ("spare.kind", "'snow' is none of 'road', 'mud'"),
                ("spare.inch", "is unknown (did you mean 'inches'?)"),
                ("spare.inches", "is missing"),
            ],
        ),
        ({"name": "a", "spare": None}, []),
        (
            {"wheels": [{"inches": 1}, {"inch": 2}, {"inches": "3", "kind": "snow"}]},
            [
                ("wheels[1].inch", "is unknown (did you mean 'inches'?)"),
                ("wheels[1].inches", "is missing"),
                ("wheels[2].inches", "expected `int`, got `str`"),
                ("wheels[2].kind", "'snow' is none of 'road', 'mud'"),
                ("name", "is missing"),
            ],
        ),
        (
            {"name": "a", "prices": {"x": {"inches": "1"}, "y": {}}},
            [("prices.x.inches", "expected `int`, got `str`"), ("prices.y.inches", "is missing")],
        ),
        ([], [("", "expected a table, got list")]),
    ],
)
def test_every_problem_is_found_with_its_path(data: Any, problems: list[tuple[str, str]]) -> None:
    assert problems_in(data, Cart) == problems


def test_what_has_no_problem_is_read_as_it_is() -> None:
    assert read({"name": "a", "wheels": [{"inches": 26}]}, Cart, source="cart.toml") == Cart("a", (Wheel(26),))


def test_the_error_lists_all_problems_for_people_and_for_machines() -> None:
    with pytest.raises(DefinitionInvalid) as invalid:
        read({"nam": "a"}, Cart, source="cart.toml")
    assert (
        str(invalid.value) == "cart.toml has 2 problems:\n  nam: is unknown (did you mean 'name'?)\n  name: is missing"
    )
    assert invalid.value.as_dict()["facts"]["problems"][1] == {"path": "name", "problem": "is missing"}
