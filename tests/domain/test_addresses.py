"""What in a call says where it goes: what is declared, else everything, and every address that is written in it."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.domain.addresses import addresses_in, contents_of, destinations_of, leaves, links_in
from ostler.domain.tool import ToolSpec


def spec(*destinations: str) -> ToolSpec:
    return ToolSpec("t", "", {}, destinations=destinations)


def test_destinations_are_the_declared_arguments() -> None:
    arguments = {"to": ["ann", "bob"], "cc": None, "body": "hello", "tries": 3}
    assert destinations_of(spec("to", "cc"), arguments) == ("ann", "bob")
    assert contents_of(spec("to", "cc"), arguments) == ("hello", "3")


def test_of_a_tool_that_declares_none_every_argument_is_a_destination() -> None:
    assert destinations_of(spec(), {"a": 1, "b": {"c": ["x", True, None, " "]}}) == ("1", "x")
    assert contents_of(spec(), {"a": 1}) == ()


def test_a_call_without_its_declared_destination_has_none() -> None:
    assert destinations_of(spec("to"), {"amount": 5}) == ()
    assert contents_of(spec("to"), {"amount": 5}) == ("5",)


LINKS = [
    "www.evil.com",
    "https://evil.com/a?b=c#d",
    "evil.com",
    "evil.com/a",
    "evil.com:8080",
    "пример.рф",
    "ftp://host/x",
    "javascript://x",
]


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("around", ["{}", "see {}.", "[click]({})", "<{}>", 'a "{}", b', "to:\n{}\nnow"])
def test_a_web_address_is_found_wherever_it_stands(link: str, around: str) -> None:
    assert links_in({"body": [around.format(link)]}) == (link,)
    assert addresses_in({"body": [around.format(link)]}) == (link,)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("mail ann@corp.com or mailto:bob@corp.com", ("ann@corp.com", "bob@corp.com")),
        ("pay GB29NWBK60161331926819", ("GB29NWBK60161331926819",)),
        ("pay DE89 3704 0044 0532 0130 00.", ("DE89 3704 0044 0532 0130 00",)),
    ],
)
def test_mail_and_account_addresses_are_found(text: str, found: tuple[str, ...]) -> None:
    assert addresses_in(text) == found
    assert links_in(text) == ()


@pytest.mark.parametrize("text", ["e.g. this", "report.xlsx", "see notes.md", "3.50", "v1.2.3", "end.", "a/b", "x@y"])
def test_what_only_looks_like_an_address_is_none(text: str) -> None:
    assert addresses_in(text) == ()


def test_an_address_in_unusual_characters_is_found() -> None:
    assert links_in("see www\N{FULLWIDTH FULL STOP}evil\N{FULLWIDTH FULL STOP}com") == ("www.evil.com",)


def test_a_number_is_a_leaf_and_a_truth_value_is_none() -> None:
    assert list(leaves({"a": [1, 2.5, True, None, "x"], "b": ("", {"c": "y"})})) == ["1", "2.5", "x", "y"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.text() | st.floats(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_arguments_are_searched_without_an_error(arguments: object) -> None:
    assert set(links_in(arguments)) <= set(addresses_in(arguments))


@pytest.mark.parametrize("unit", ["a", "a.", "a@", "a@a.", "www.", "://", "gb29 ", "1111 ", "a-", "-."])
def test_time_is_linear_in_the_arguments(unit: str) -> None:
    def seconds(size: int) -> float:
        text = unit * (size // len(unit))
        start = time.process_time()
        addresses_in(text)
        return time.process_time() - start

    assert seconds(80_000) < 0.02 + 40 * min(seconds(10_000) for _ in range(3))
