import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.adapters.providers.dialect import (
    CallInParts,
    WireNames,
    arguments_object,
    asked_calls,
    turns,
    wire_id,
)
from ostler.domain.model import AskedCall, AssistantMessage, ToolMessage, UserMessage
from ostler.kernel.errors import ProviderGarbled


def test_a_dotted_name_reads_well_on_the_wire():
    names = WireNames(["files.read", "search"])
    assert [names.wire("files.read"), names.wire("search")] == ["files__read", "search"]
    assert [names.ours("files__read"), names.ours("search")] == ["files.read", "search"]


@pytest.mark.parametrize("order", [["a.b", "a__b", "a/b"], ["a/b", "a__b", "a.b"]])
def test_a_name_that_is_fine_keeps_itself_and_no_two_meet(order: list[str]):
    names = WireNames(order)
    assert names.wire("a__b") == "a__b"
    assert len({names.wire(name) for name in order}) == 3


@given(st.lists(st.text(max_size=80), unique=True, max_size=20))
def test_every_name_is_accepted_unique_and_comes_back(given_names: list[str]):
    names = WireNames(given_names)
    wires = [names.wire(name) for name in given_names]
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", wire) for wire in wires)
    assert [names.ours(wire) for wire in wires] == given_names


def test_a_name_that_no_tool_has_comes_back_as_the_model_wrote_it():
    assert WireNames(["files.read"]).ours("files.write") == "files.write"


def test_ids_are_ours_in_the_characters_that_providers_take():
    assert wire_id("3.1") == "call_3_1"


def test_results_are_one_turn_and_come_before_what_a_user_said_meanwhile():
    ask = AssistantMessage(text="", calls=(AskedCall("1.1", "a", "{}"), AskedCall("1.2", "b", "{}")))
    one, two = ToolMessage("1.1", "a", "1"), ToolMessage("1.2", "b", "2")
    goal, answers = turns([UserMessage("Go."), ask, one, UserMessage("Wait!"), two, UserMessage("Go on.")])[::2]
    assert (goal.text, goal.results) == ("Go.", [])
    assert (answers.text, answers.results) == ("Wait!\n\nGo on.", [one, two])


def test_empty_messages_are_left_out_and_their_neighbours_meet():
    said = turns([UserMessage("One."), AssistantMessage(" \n"), UserMessage("Two."), AssistantMessage("Three.")])
    assert [(turn.by_model, turn.text) for turn in said] == [(False, "One.\n\nTwo."), (True, "Three.")]


@pytest.mark.parametrize("written", ['{"a": 1.50}', "{}"])
def test_arguments_reach_the_provider_as_they_were_written(written: str):
    assert arguments_object(written).decode() == written


@pytest.mark.parametrize("written", ['{"a": ', "[1]", "", "null"])
def test_arguments_that_are_no_object_are_quoted_in_one(written: str):
    assert msgspec.json.decode(arguments_object(written)) == {"malformed_arguments": written}


def test_no_arguments_are_an_empty_object_only_in_a_reply_that_was_not_cut():
    call = CallInParts("1", "a")
    assert asked_calls([call], WireNames([]), "tool_calls") == (AskedCall("1", "a", "{}"),)
    assert asked_calls([call], WireNames([]), "length") == ()


def test_a_call_without_a_name_is_garbled():
    with pytest.raises(ProviderGarbled):
        asked_calls([CallInParts("1", "")], WireNames([]), "tool_calls")
