"""What is written when something is remembered."""

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.domain.memory.check import FILE_BYTES_MAX, LATER_MAX_US, check_entity
from ostler.domain.memory.events import (
    EntityDescribed,
    MemoryContradicted,
    MemoryRemembered,
    MemoryRetracted,
    MemorySuperseded,
)
from ostler.domain.memory.memory import TEXT_BYTES_MAX, Memory, Relation, Source
from ostler.domain.memory.scope import Scope
from ostler.domain.memory.settings import Keeping
from ostler.domain.memory.strength import rank_in_strength
from ostler.domain.memory.writing import Decision, Remembered, Room, Scene, Wish, are_rivals, decide, wished
from ostler.kernel.errors import NotAllowed, QuotaExceeded, UsageError

SCOPE = Scope("acme", "coder", "ann")
SOURCE = Source("agent:coder", call="ses_a/1.1")
NOW = 1_700_000_000_000_000
DAY = 86_400_000_000
YEAR = 365 * DAY
SECRET = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5"


def wish(text: str = "Ann likes tea", **fields: Any) -> Wish:
    return Wish(fields.pop("kind", "fact"), text, fields.pop("source", SOURCE), **fields)


def memory(key: str, given_wish: Wish, *, at_us: int = NOW) -> Memory:
    return wished(SCOPE, given_wish, key=key, at_us=at_us)


def lives(place: str, *, subject: str = "Ann", single: bool = True, **fields: Any) -> Wish:
    relation = Relation(subject, "lives_in", place, is_single=single)
    return wish(f"{subject} lives in {place}", relation=relation, **fields)


def scene(memories: Iterable[Memory] = (), keeping: Keeping | None = None, **fields: Any) -> Scene:
    held = list(memories)
    room = Room()
    for one in held:
        room = room.plus(one)
    return Scene(keeping or Keeping(), ids=[one.id for one in held], memories=held, room=room, **fields)


def after(first: Wish, then: Wish) -> tuple[Memory, Memory, Decision]:
    """What the second means where the first is in force."""
    older, newer = memory("one", first), memory("two", then)
    return older, newer, decide(newer, scene([older]), at_us=NOW)


def test_what_is_new_is_remembered() -> None:
    one = memory("one", wish())
    decision = decide(one, scene(), at_us=NOW)
    assert decision.events == [MemoryRemembered(one)]
    assert decision.remembered == Remembered(one.id, "new")


def test_a_call_that_is_repeated_writes_nothing() -> None:
    one = memory("one", wish())
    decision = decide(one, scene([one]), at_us=NOW)
    assert decision == ([], Remembered(one.id, "repeated"))


def test_a_call_that_is_repeated_writes_nothing_even_when_the_memory_was_forgotten() -> None:
    one = memory("one", wish())
    assert decide(one, Scene(Keeping(), ids=[one.id]), at_us=NOW).remembered.outcome == "repeated"


def test_the_same_words_are_known_however_they_are_spaced() -> None:
    older, _, decision = after(wish("Ann likes  TEA"), wish("ann likes tea"))
    assert decision == ([], Remembered(older.id, "known"))


@pytest.mark.parametrize(
    ("one", "other"), [("10⁵ of them", "105 of them"), ("1½ litres", "11\N{FRACTION SLASH}2 litres")]
)
def test_what_only_looks_alike_is_not_known(one: str, other: str) -> None:
    assert after(wish(one), wish(other))[2].remembered.outcome == "new"


@pytest.mark.parametrize(
    "other",
    [
        {"kind": "episode"},
        {"key": "drink"},
        {"relation": Relation("Ann", "likes", "tea")},
        {"valid_from_us": NOW},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_the_same_words_of_something_else_are_new(other: dict[str, Any]) -> None:
    _, _, decision = after(wish(), wish(**other))
    assert decision.remembered.outcome == "new"
    assert decision.remembered.superseded == ()


def test_what_happened_in_another_session_has_happened_again() -> None:
    second = Source("agent:coder", call="ses_b/1.1")
    _, _, again = after(wish(kind="episode"), wish(kind="episode", source=second))
    assert again.remembered.outcome == "new"
    _, _, same = after(wish(kind="episode"), wish(kind="episode"))
    assert same.remembered.outcome == "known"


def test_a_newer_value_takes_the_place_of_the_older_one() -> None:
    older, newer, decision = after(lives("Berlin"), lives("Munich"))
    assert decision.events == [MemoryRemembered(newer), MemorySuperseded(older.id, by=newer.id)]
    assert decision.remembered == Remembered(newer.id, "new", superseded=(older.id,))


@pytest.mark.parametrize(
    "then",
    [lives("Munich", subject="Bea"), lives("BERLIN", importance=0.9), wish("Ann lives in Munich")],
    ids=["another subject", "the same object", "no relation"],
)
def test_nothing_else_takes_its_place(then: Wish) -> None:
    _, _, decision = after(lives("Berlin"), then)
    assert decision.remembered.superseded == ()
    assert decision.remembered.contradicts == ()


def test_names_of_entities_are_compared_in_normal_form() -> None:
    older, _, decision = after(lives("Berlin", subject="ANN  Bell"), lives("Munich", subject="ann bell"))
    assert decision.remembered.superseded == (older.id,)


def test_a_relation_with_many_values_may_have_another() -> None:
    _, _, decision = after(lives("Berlin", single=False), lives("Munich", single=False))
    assert [type(event) for event in decision.events] == [MemoryRemembered]


def test_another_value_of_what_was_said_to_have_one_is_a_contradiction() -> None:
    older, newer, decision = after(lives("Berlin"), lives("Munich", single=False))
    assert decision.remembered.contradicts == (older.id,)
    assert isinstance(decision.events[1], MemoryContradicted)
    assert (decision.events[1].id, decision.events[1].other) == (newer.id, older.id)


def test_of_the_same_key_only_the_last_is_in_force() -> None:
    older, _, decision = after(wish("dark", key="theme"), wish("light", key="theme"))
    assert decision.remembered.superseded == (older.id,)


def test_what_is_untrusted_takes_the_place_of_nothing_that_is_trusted() -> None:
    for first, then in [
        (lives("Berlin"), lives("Munich", labels=("untrusted",))),
        (wish("dark", key="theme"), wish("light", key="theme", labels=("untrusted",))),
    ]:
        older, _, decision = after(first, then)
        assert decision.remembered.superseded == ()
        assert decision.remembered.contradicts == (older.id,)


def test_what_is_untrusted_takes_the_place_of_what_is_so_too_and_what_is_trusted_of_both() -> None:
    for labels in ((), ("untrusted",)):
        older, _, decision = after(lives("Berlin", labels=("untrusted",)), lives("Munich", labels=labels))
        assert decision.remembered.superseded == (older.id,)


def test_what_untrusted_text_said_first_is_not_known_when_somebody_trusted_says_it() -> None:
    older, newer, decision = after(wish(labels=("untrusted",)), wish())
    assert decision.remembered == Remembered(newer.id, "new", superseded=(older.id,))
    _, _, converse = after(wish(), wish(labels=("untrusted",)))
    assert converse.remembered.outcome == "known"


def test_a_file_is_what_it_was_last_written_to_be() -> None:
    older, _, decision = after(
        wish("a", kind="file", key="/memories/a"), wish("b", kind="file", key="/memories/a", labels=("untrusted",))
    )
    assert decision.remembered.superseded == (older.id,)


def test_what_held_before_is_history_and_ends_where_the_other_begins() -> None:
    older, newer, decision = after(
        lives("Berlin", valid_from_us=NOW - YEAR), lives("Paris", valid_from_us=NOW - 3 * YEAR)
    )
    (event,) = decision.events
    assert event == MemoryRemembered(msgspec.structs.replace(newer, valid_to_us=older.valid_from_us))


def test_what_begins_later_takes_the_place() -> None:
    older, _, decision = after(lives("Berlin", valid_from_us=NOW - 3 * YEAR), lives("Paris", valid_from_us=NOW - YEAR))
    assert decision.remembered.superseded == (older.id,)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ((None, None), (NOW - 9 * YEAR, NOW - 5 * YEAR)),
        ((None, None), (None, NOW - 5 * YEAR)),
        ((NOW - YEAR, None), (None, NOW - 5 * YEAR)),
        ((None, NOW - 5 * YEAR), (None, None)),
        ((NOW - 9 * YEAR, NOW - 5 * YEAR), (NOW - 5 * YEAR, None)),
    ],
)
def test_what_is_over_stays_beside_what_is_not(first: tuple[int, int], then: tuple[int, int]) -> None:
    _, _, decision = after(
        lives("Berlin", valid_from_us=first[0], valid_to_us=first[1]),
        lives("Paris", valid_from_us=then[0], valid_to_us=then[1]),
    )
    assert [type(event) for event in decision.events] == [MemoryRemembered]


def test_two_that_are_known_to_have_held_at_the_same_time_contradict_each_other() -> None:
    older, _, decision = after(
        lives("Berlin", valid_from_us=NOW - 9 * YEAR, valid_to_us=NOW - 5 * YEAR),
        lives("Paris", valid_from_us=NOW - 7 * YEAR, valid_to_us=NOW - 3 * YEAR),
    )
    assert decision.remembered.contradicts == (older.id,)


def test_a_relation_with_many_values_is_no_history() -> None:
    _, newer, decision = after(
        lives("Berlin", single=False, valid_from_us=NOW - YEAR),
        lives("Paris", single=False, valid_from_us=NOW - 3 * YEAR),
    )
    assert decision.events == [MemoryRemembered(newer)]


def test_one_decision_meets_what_the_one_before_it_has_decided() -> None:
    first, second, third = (memory(place, lives(place)) for place in ("Berlin", "Munich", "Paris"))
    room = scene()
    told = [decide(one, room, at_us=NOW).remembered for one in (first, second, second, third)]
    assert [one.outcome for one in told] == ["new", "new", "repeated", "new"]
    assert [one.superseded for one in told] == [(), (first.id,), (), (second.id,)]
    assert room.room.others == 1


def test_no_contradiction_tells_what_is_contradicted() -> None:
    _, _, decision = after(lives("Berlin"), lives("Munich", labels=("untrusted",)))
    (contradicted,) = [event for event in decision.events if isinstance(event, MemoryContradicted)]
    assert not any(word in contradicted.because for word in ("Ann", "Berlin", "Munich", "lives"))


def test_rivals_are_those_that_cannot_both_be_in_force() -> None:
    berlin, munich = memory("one", lives("Berlin")), memory("two", lives("Munich", single=False))
    assert are_rivals(berlin, munich)
    assert are_rivals(munich, berlin)
    assert not are_rivals(berlin, berlin)
    assert not are_rivals(memory("three", lives("Paris", single=False)), munich)
    assert are_rivals(memory("four", wish("a", key="k")), memory("five", wish("b", key="k")))


# --- Room -----------------------------------------------------------------------------------------------------------


def episode(key: str, importance: float, **fields: Any) -> Memory:
    return memory(key, wish(f"This happened: {key}", kind="episode", importance=importance, **fields))


def test_where_there_is_no_room_the_weakest_goes() -> None:
    weak, strong = episode("weak", 0.2), episode("strong", 0.9)
    keeping = Keeping(episodes_max=2)
    newcomer = episode("new", 0.5)
    decision = decide(newcomer, scene([weak, strong], keeping, weak=[weak], evictions=1), at_us=NOW)
    evicted = MemoryRetracted((weak.id,), "evicted", by="runtime", source=newcomer.source)
    assert decision.events == [MemoryRemembered(newcomer), evicted]
    assert decision.remembered.evicted == (weak.id,)


def test_a_newcomer_that_is_the_weakest_is_the_one_that_goes() -> None:
    kept = episode("kept", 0.5)
    newcomer = episode("new", 0.1)
    decision = decide(newcomer, scene([kept], Keeping(episodes_max=1), weak=[kept], evictions=1), at_us=NOW)
    assert decision.remembered.evicted == (newcomer.id,)


def test_of_equals_the_older_goes() -> None:
    kept, newcomer = episode("kept", 0.5), episode("new", 0.5)
    decision = decide(newcomer, scene([kept], Keeping(episodes_max=1), weak=[kept], evictions=1), at_us=NOW)
    assert decision.remembered.evicted == (kept.id,)


def test_what_is_pinned_stays_and_if_all_are_there_is_no_room() -> None:
    pinned = episode("pinned", 0.1, is_pinned=True)
    keeping = Keeping(episodes_max=1)
    passing = episode("passing", 0.9)
    decision = decide(passing, scene([pinned], keeping, evictions=1), at_us=NOW)
    assert decision.remembered.evicted == (passing.id,)
    with pytest.raises(QuotaExceeded) as caught:
        decide(episode("second", 0.9, is_pinned=True), scene([pinned], keeping, evictions=1), at_us=NOW)
    assert caught.value.facts["limit"] == "episodes_max"


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 400), st.booleans()), min_size=1, max_size=40))
def test_however_many_come_those_that_are_left_are_the_strongest(
    comings: list[tuple[int, int, bool]],
) -> None:
    keeping = Keeping(episodes_max=5)
    room = scene([], keeping, evictions=len(comings))
    held: dict[str, Memory] = {}
    gone: list[Memory] = []
    for number, (quarters, days, is_pinned) in enumerate(comings):
        is_pinned = is_pinned and sum(one.is_pinned for one in held.values()) < 5
        coming = episode(str(number), quarters / 4, happened_us=NOW - days * DAY, is_pinned=is_pinned)
        for event in decide(coming, room, at_us=NOW).events:
            match event:
                case MemoryRemembered(one):
                    held[one.id] = one
                case MemoryRetracted(ids):
                    gone += [held.pop(one) for one in ids]
                case _:
                    raise AssertionError(event)
        assert len(held) <= 5

    def rank(one: Memory) -> float:
        return rank_in_strength(one.importance, one.happened_us, half_life_us=keeping.half_life_us)

    assert room.room.episodes == len(held)
    assert not any(one.is_pinned for one in gone)
    assert all(rank(one) <= rank(other) for one in gone[-1:] for other in held.values() if not other.is_pinned)


@pytest.mark.parametrize(
    ("keeping", "limit"), [(Keeping(memories_max=1), "memories_max"), (Keeping(bytes_max=20), "bytes_max")]
)
def test_where_a_scope_is_full_no_fact_is_remembered(keeping: Keeping, limit: str) -> None:
    held = scene([memory("one", wish())], keeping)
    with pytest.raises(QuotaExceeded) as caught:
        decide(memory("two", wish("Bea likes coffee")), held, at_us=NOW)
    assert caught.value.facts["limit"] == limit
    assert held.room.others == 1


def test_where_a_scope_is_full_one_may_still_take_the_place_of_another() -> None:
    keeping = Keeping(memories_max=1, bytes_max=20)
    older = memory("one", wish("It is dark in here", key="theme"))
    decision = decide(memory("two", wish("light", key="theme")), scene([older], keeping), at_us=NOW)
    assert decision.remembered.superseded == (older.id,)


# --- What can be no memory ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("text", wish("")),
        ("text", wish("  \n ")),
        ("text", wish("x" * (TEXT_BYTES_MAX + 1))),
        ("text", wish("é" * (TEXT_BYTES_MAX // 2 + 1))),
        ("text", wish("x" * (FILE_BYTES_MAX + 1), kind="file", key="/memories/x")),
        ("text", wish("a\0b")),
        ("text", wish("\ud800")),
        ("importance", wish(importance=1.0001)),
        ("importance", wish(importance=-0.1)),
        ("importance", wish(importance=float("nan"))),
        ("importance", wish(importance=float("inf"))),
        ("tags", wish(tags=tuple(f"tag{number}" for number in range(33)))),
        ("tags", wish(tags=("",))),
        ("tags", wish(tags=("x" * 513,))),
        ("key", wish("x", kind="file")),
        ("key", wish(key="x" * 513)),
        ("relation", wish(kind="episode", relation=Relation("a", "b", "c"))),
        ("relation.subject", wish(relation=Relation(" ", "b", "c"))),
        ("relation.name", wish(relation=Relation("a", "", "c"))),
        ("relation.object", wish(relation=Relation("a", "b", "x" * 513))),
        ("relation.weight", wish(relation=Relation("a", "b", "c", weight=float("nan")))),
        ("relation.properties.n", wish(relation=Relation("a", "b", "c", properties={"n": float("inf")}))),
        ("relation.properties.n", wish(relation=Relation("a", "b", "c", properties={"n": 2**63}))),
        ("relation.properties.n", wish(relation=Relation("a", "b", "c", properties={"n": "x" * 5000}))),
        ("happened_us", wish(happened_us=NOW + LATER_MAX_US + 1)),
        ("happened_us", wish(happened_us=-(10**18))),
        ("valid_from_us", wish(valid_from_us=10**18)),
        ("valid_to_us", wish(valid_from_us=NOW, valid_to_us=NOW)),
    ],
)
def test_what_can_be_no_memory_is_refused_with_its_field(field: str, wrong: Wish) -> None:
    with pytest.raises(UsageError) as caught:
        memory("one", wrong)
    assert caught.value.facts["field"] == field
    assert field in caught.value.message


@pytest.mark.parametrize(
    "right",
    [
        wish("x" * TEXT_BYTES_MAX),
        wish("x" * FILE_BYTES_MAX, kind="file", key="/memories/x"),
        wish("", kind="file", key="/memories/empty"),
        wish(importance=0.0),
        wish(importance=1.0),
        wish(tags=tuple(f"tag{number}" for number in range(32))),
        wish(happened_us=NOW + LATER_MAX_US),
        wish(relation=Relation("a", "b", "c", weight=-1.5, properties={"n": 1, "m": "x", "o": True})),
    ],
)
def test_what_is_just_within_bounds_is_remembered(right: Wish) -> None:
    assert memory("one", right).text == right.text


def test_a_call_must_have_a_key() -> None:
    with pytest.raises(UsageError):
        memory("", wish())


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("text", wish(f"The token is {SECRET}, keep it")),
        ("key", wish(key=SECRET)),
        ("tags", wish(tags=("a", SECRET))),
        ("relation.subject", wish(relation=Relation(SECRET, "b", "c"))),
        ("relation.object", wish(relation=Relation("a", "b", SECRET))),
        ("relation.properties", wish(relation=Relation("a", "b", "c", properties={"token": SECRET}))),
    ],
)
def test_a_secret_is_refused_with_its_kind_and_is_not_repeated(field: str, wrong: Wish) -> None:
    with pytest.raises(NotAllowed) as caught:
        memory("one", wrong)
    assert caught.value.facts["field"] == field
    assert caught.value.facts["kind"].startswith("secret.")
    assert SECRET not in str(caught.value.as_dict())


def test_an_entity_is_looked_through_like_a_memory() -> None:
    with pytest.raises(NotAllowed):
        check_entity(EntityDescribed("Ann", "person", SOURCE, {"token": SECRET}))
    with pytest.raises(UsageError) as caught:
        check_entity(EntityDescribed(" ", "person", SOURCE))
    assert caught.value.facts["field"] == "name"


def test_tags_and_labels_are_kept_once() -> None:
    one = memory("one", wish(tags=("b", "a", "b"), labels=("untrusted", "private", "untrusted")))
    assert one.tags == ("b", "a")
    assert one.labels == ("private", "untrusted")


def test_what_is_said_beside_the_text_takes_room_too() -> None:
    stated = Relation("a", "b", "c", properties={"note": "x" * 4000})
    for more in ({"tags": tuple(str(number) * 500 for number in range(8))}, {"relation": stated}):
        with pytest.raises(QuotaExceeded):
            decide(memory("new", wish("short", **more)), scene(keeping=Keeping(bytes_max=2000)), at_us=NOW)
