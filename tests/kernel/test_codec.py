"""Events to bytes and back: old shapes are lifted, unknown ones refused with their name."""

from typing import Any

import pytest

from ostler.kernel.codec import Codec
from ostler.kernel.errors import UnknownEvent
from ostler.kernel.event import Event


class Moved(Event, frozen=True, tag="thing.moved"):
    """Today's shape."""

    to: str
    metres: float = 0.0


class Painted(Event, frozen=True, tag="thing.painted"):
    """Another one."""

    colour: str


Thing = Moved | Painted


def from_feet(body: dict[str, Any]) -> dict[str, Any]:
    return {"type": "thing.moved", "to": body["to"], "metres": body["feet"] * 0.3}


def from_place(body: dict[str, Any]) -> dict[str, Any]:
    return {"type": "thing.shifted", "to": body["place"], "feet": 10}


CODEC: Codec[Thing] = Codec(Thing, {"thing.shifted": from_feet, "thing.carried": from_place})


def test_an_event_is_written_with_its_tag_and_without_what_is_default() -> None:
    assert CODEC.encode(Moved("shed")) == b'{"type":"thing.moved","to":"shed"}'
    assert CODEC.decode(b'{"type":"thing.moved","to":"shed"}') == Moved("shed")
    assert CODEC.decode(CODEC.encode(Painted("red"))) == Painted("red")


def test_a_retired_shape_is_lifted_to_todays() -> None:
    assert CODEC.decode(b'{"type":"thing.shifted","to":"shed","feet":20}') == Moved("shed", 6.0)


def test_shapes_that_were_retired_twice_are_lifted_step_by_step() -> None:
    assert CODEC.decode(b'{"type":"thing.carried","place":"shed"}') == Moved("shed", 3.0)


def test_fields_of_a_newer_version_are_passed_over() -> None:
    assert CODEC.decode(b'{"type":"thing.moved","to":"shed","by":["cart"]}') == Moved("shed")


@pytest.mark.parametrize(
    ("data", "tag"),
    [
        (b'{"type":"thing.melted"}', "thing.melted"),
        (b'{"type":"thing.moved"}', "thing.moved"),
        (b'{"type":"thing.moved","to":3}', "thing.moved"),
        (b'{"to":"shed"}', "None"),
        (b'{"type":3}', "3"),
    ],
)
def test_what_no_version_here_can_read_is_refused_with_its_name(data: bytes, tag: str) -> None:
    with pytest.raises(UnknownEvent) as unknown:
        CODEC.decode(data)
    assert unknown.value.facts["tag"] == tag
    assert "upgrade" in unknown.value.hint


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff", b'"thing.moved"'])
def test_what_is_no_event_at_all_is_refused(data: bytes) -> None:
    with pytest.raises(UnknownEvent):
        CODEC.decode(data)


def test_a_lifted_shape_that_still_does_not_fit_is_refused() -> None:
    codec: Codec[Thing] = Codec(Thing, {"thing.shifted": lambda body: {"type": "thing.moved", "to": 3}})
    with pytest.raises(UnknownEvent):
        codec.decode(b'{"type":"thing.shifted"}')


def test_upcasters_that_lead_in_a_circle_end() -> None:
    codec: Codec[Thing] = Codec(Thing, {"a": lambda body: body | {"type": "b"}, "b": lambda body: body | {"type": "a"}})
    with pytest.raises(UnknownEvent):
        codec.decode(b'{"type":"a"}')


@pytest.mark.parametrize("data", [b'{"type":"\xff"}', b"[" * 100_000, b'{"type":"thing.moved","to":"\xc3\x28"}'])
def test_bytes_that_nobody_wrote_are_an_unknown_event(data):
    with pytest.raises(UnknownEvent):
        CODEC.decode(data)
