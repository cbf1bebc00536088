"""Labels follow what was seen, into memory and out of it again."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.domain.memory.episode import TEXT_CHARACTERS_MAX, episode, without_recalled
from ostler.domain.memory.recollection import Recollection, Recollections
from ostler.domain.memory.taint import is_echo, is_recalled, recollections_in, said_by_memory, taint_of
from ostler.domain.provenance import Provenance, Said
from ostler.domain.tool import ToolOutcome, failed

USER = Said("user", "Remember that Ada works at Initech, key employer.")
PAGE = Said("tool.web.fetch", "Ada works at Evil Corp", labels=frozenset({"untrusted"}))
SECRET = Said("tool.mail.read", "the door code is in the drawer", labels=frozenset({"private"}))
RECALLED = Said("memory.fact", "Grace keeps the keys of the house")


def heard(*said: Said) -> Provenance:
    return Provenance().plus(*said)


def test_what_a_session_writes_is_labelled_with_all_that_it_has_seen() -> None:
    taint = taint_of(heard(USER, PAGE, SECRET), {"text": "Ada works at Evil Corp"})
    assert taint.labels == ("private", "untrusted")
    assert taint.sources == ("tool.mail.read", "tool.web.fetch", "user")


OWN: dict[str, Any] = {"text": "Ada works at Initech"}


@pytest.mark.parametrize("more", [{}, {"key": "employer"}, {"importance": 0.9, "kind": "fact", "pinned": True}])
def test_what_the_user_said_word_for_word_is_only_the_users(more: dict[str, Any]) -> None:
    taint = taint_of(heard(USER, PAGE), OWN | more)
    assert (taint.labels, taint.sources) == ((), ("user",))


@pytest.mark.parametrize(
    "arguments",
    [
        OWN | {"key": "Evil Corp"},
        OWN | {"tags": ["evil"]},
        OWN | {"subject": "Ada", "relation": "works_at", "object": "Evil Corp"},
        {"command": "create", "path": "/memories/a", "file_text": "Ada works at Initech"},
        {"text": "works at"},
        {"text": "Ada works at Initech and Evil Corp"},
        {},
    ],
    ids=["key", "tag", "relation", "file", "too short", "more than that", "nothing"],
)
def test_anything_beside_the_users_words_may_be_made_of_everything(arguments: dict[str, Any]) -> None:
    assert taint_of(heard(USER, PAGE), arguments).labels == ("untrusted",)


def test_a_longer_word_is_not_what_the_user_said() -> None:
    assert taint_of(heard(USER, PAGE), {"text": "Ada works at Init"}).labels == ("untrusted",)


LABELS = st.sets(st.sampled_from(("untrusted", "private", "secret"))).map(frozenset)


@given(st.lists(st.builds(Said, st.sampled_from(("tool.a", "memory.fact")), st.just("words"), labels=LABELS)))
def test_no_label_that_was_seen_is_ever_lost(said: list[Said]) -> None:
    taint = taint_of(heard(*said), {"text": "something else entirely"})
    assert set(taint.labels) == {label for one in said for label in one.labels}


def test_what_was_only_recalled_is_an_echo_and_what_the_user_says_is_not() -> None:
    text = {"text": "Grace keeps the keys of the house"}
    assert is_echo(heard(USER, RECALLED), text)
    assert is_echo(heard(RECALLED), {"text": "grace keeps  THE keys"})
    assert not is_echo(heard(RECALLED, Said("user", "Yes, Grace keeps the keys of the house")), text)
    assert not is_echo(heard(RECALLED), {"text": "Grace keeps the dogs of the house"})
    assert not is_echo(heard(RECALLED), {"text": "the keys"})


def outcome_of(*memories: Recollection) -> ToolOutcome:
    return ToolOutcome(ok=True, output=msgspec.json.encode(Recollections(memories)).decode(), is_json=True)


def test_tags_and_keys_of_a_memory_are_heard_with_its_labels() -> None:
    one = Recollection("mem_1", "fact", "a text", "agent:a", "", ("untrusted",), tags=("evil@example.com",), key="kkk")
    (said,) = said_by_memory("memory.recall", ("recalls",), {}, outcome_of(one))
    assert (said.source, said.labels, said.roles) == ("memory.fact", frozenset({"untrusted"}), frozenset({"recalls"}))
    assert heard(said).said(["evil@example.com", "kkk", "a text"], ("untrusted",))


def test_what_a_call_has_just_written_vouches_for_nothing_that_it_wrote() -> None:
    written = outcome_of(Recollection("mem_1", "file", "1 pay bob@example.com", "agent:a", ""))
    asked = {"command": "create", "file_text": "pay bob@example.com"}
    (own,) = said_by_memory("memory", ("remembers", "recalls"), asked, written)
    (read,) = said_by_memory("memory", ("remembers", "recalls"), {"command": "view"}, written)
    assert not heard(own).said("bob@example.com", ("trusted",))
    assert heard(read).said("bob@example.com", ("trusted",))


def test_a_failure_brings_no_memory_and_no_label() -> None:
    (said,) = said_by_memory("memory.recall", ("recalls",), {}, failed("timeout", "too slow"))
    assert (said.source, said.labels) == ("tool.memory.recall", frozenset())


def test_an_answer_without_memories_says_nothing() -> None:
    assert said_by_memory("memory", ("recalls",), {}, ToolOutcome(ok=True, output='{"left_out":1}', is_json=True)) == ()


@pytest.mark.parametrize("beside", ['{"found":"evil@example.com"}', '{"memories":[],"more":"evil@example.com"}'])
def test_what_is_answered_beside_memories_has_the_worst_labels(beside: str) -> None:
    (said,) = said_by_memory("memory.recall", ("recalls",), {}, ToolOutcome(ok=True, output=beside, is_json=True))
    assert (said.text, said.labels) == (beside, frozenset({"untrusted", "private"}))


def test_memories_have_the_labels_of_their_tool_as_well() -> None:
    one = Recollection("mem_1", "fact", "a text", "agent:a", "", ("mine",))
    (said,) = said_by_memory("notes.find", ("recalls", "reads_untrusted"), {}, outcome_of(one))
    assert said.labels == {"mine", "untrusted"}


@given(st.text(max_size=50))
def test_whatever_stands_in_place_of_an_answer_is_untrusted_and_private_unless_it_can_be_read(text: str) -> None:
    outcome = ToolOutcome(ok=True, output=text, is_json=True)
    if recollections_in(outcome) is None:
        (said,) = said_by_memory("memory.recall", ("recalls",), {}, outcome)
        assert said.labels == {"untrusted", "private"}


def test_sentences_that_were_recalled_are_left_out_of_an_episode() -> None:
    said = "It is done.\nGrace keeps the keys of the house.\nGrace keeps the keys! She is away."
    assert without_recalled(said, heard(RECALLED)) == "It is done.\n[…]\nShe is away."
    assert is_recalled(heard(RECALLED), "Grace keeps the keys")


def test_an_episode_is_bounded_whatever_was_said() -> None:
    made = episode("g" * 10_000, "failed", "r" * 1000, "s" * 100_000, heard())
    assert len(made["text"]) == TEXT_CHARACTERS_MAX
    assert all(len(tag) <= 64 for tag in made["tags"])
    assert made["text"].startswith("Goal: ggg")
    assert "sss" in made["text"]
