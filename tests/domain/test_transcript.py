"""A transcript shares its past and never changes it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.domain.model import Message, UserMessage
from ostler.domain.transcript import Transcript


def said(*texts: str) -> list[Message]:
    return [UserMessage(text) for text in texts]


def test_a_longer_transcript_leaves_the_shorter_one_as_it_was() -> None:
    short = Transcript(said("a"))
    long = short.plus(*said("b", "c"))
    assert list(short) == said("a")
    assert list(long) == said("a", "b", "c")


def test_two_futures_of_one_past_do_not_see_each_other() -> None:
    past = Transcript(said("a"))
    left, right = past.plus(*said("b")), past.plus(*said("c"))
    assert (list(left), list(right)) == (said("a", "b"), said("a", "c"))
    assert list(left.plus(*said("d"))) == said("a", "b", "d")


def test_adding_to_the_newest_version_copies_nothing() -> None:
    transcript = Transcript(said("a"))
    assert transcript.plus(*said("b"))._shared is transcript._shared


def test_a_transcript_does_not_change_with_the_list_that_it_was_made_of() -> None:
    given_list = said("a")
    transcript = Transcript(given_list)
    given_list.append(UserMessage("b"))
    assert list(transcript) == said("a")


@given(st.lists(st.text(max_size=3), max_size=8), st.lists(st.text(max_size=3), max_size=4), st.data())
def test_every_version_reads_like_the_list_it_stands_for(past: list[str], more: list[str], data: st.DataObject) -> None:
    expected = said(*past)
    transcript = Transcript(expected)
    longer = transcript.plus(*said(*more))
    for version, messages in ((transcript, expected), (longer, expected + said(*more))):
        assert len(version) == len(messages)
        assert list(reversed(version)) == list(reversed(messages))
        start, stop, step = (data.draw(st.none() | st.integers(-10, 10)) for _ in range(3))
        assert version[start : stop : step or None] == messages[start : stop : step or None]
        for index in range(-len(messages), len(messages)):
            assert version[index] == messages[index]
        for beyond in (len(messages), -len(messages) - 1):
            with pytest.raises(IndexError):
                version[beyond]
        assert version == Transcript(messages)


def test_transcripts_are_equal_by_what_was_said_and_equal_to_nothing_else() -> None:
    assert Transcript(said("a")) == Transcript().plus(*said("a"))
    assert Transcript(said("a")) != Transcript(said("b"))
    assert Transcript(said("a")) != said("a")
    assert repr(Transcript(said("a"))) == f"Transcript({said('a')!r})"
    with pytest.raises(TypeError, match="unhashable"):
        hash(Transcript())
