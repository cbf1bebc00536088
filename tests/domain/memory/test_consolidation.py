"""What should become of memories: what is one and the same, what is a fact by now, and what nobody needs."""

import random
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.domain.memory.consolidation import Step, again, alike, marks_of, may_be_worded, plan, worded
from ostler.domain.memory.events import MemoryConsolidated, MemoryRemembered, MemoryRetracted
from ostler.domain.memory.memory import Memory, Relation, Source
from ostler.domain.memory.scope import Scope
from ostler.domain.memory.settings import Consolidating
from ostler.ports.memory import Entry

HERE = Scope("acme", "clerk", "ann")
DAY_US = 86_400_000_000
NOW_US = 1_000 * DAY_US
HALF_LIFE_US = 30 * DAY_US
RULES = Consolidating()
LONG = (
    "the quarterly report goes to the board by mail every first monday and a copy is kept in the archive of the house"
)


def entry(name: str, text: str, **fields: Any) -> Entry:
    """A memory that is in force, of a session of its own unless one is named."""
    session = fields.pop("session", f"ses_{name}")
    outside: dict[str, Any] = {
        key: fields.pop(key) for key in ("until", "recalls", "contradicts", "position") if key in fields
    }
    source = Source("agent:clerk", f"{session}/1.1", sources=fields.pop("sources", ("user",)), of=fields.pop("of", ()))
    given: dict[str, Any] = {"kind": "fact", "happened_us": NOW_US} | fields
    memory = Memory(id=f"mem_{name}", text=text, source=source, **given)
    return Entry(HERE, memory, at_us=NOW_US, **({"position": 1} | outside))


def planned(*entries: Entry, rules: Consolidating = RULES, **options: Any) -> list[Step]:
    return plan(entries, rules, now_us=NOW_US, half_life_us=HALF_LIFE_US, **options)


def merged(*entries: Entry, **options: Any) -> list[tuple[str, ...]]:
    return [step.of for step in planned(*entries, **options) if step.how == "merged"]


def decided(step: Step, *entries: Entry) -> tuple[Any, ...]:
    return again(step, entries, RULES, now_us=NOW_US, half_life_us=HALF_LIFE_US)


# Merging


def test_facts_of_the_same_words_become_one_with_what_each_adds() -> None:
    older = entry("a", f"{LONG}.", importance=0.9, tags=("board",), labels=("private",), happened_us=NOW_US - 1)
    newer = entry("b", LONG, importance=0.2, tags=("mail",), sources=("tool.files.read",))
    (step,) = planned(older, newer)
    assert (step.how, step.of) == ("merged", ("mem_b", "mem_a"))
    assert step.into is not None
    assert step.into.text == LONG
    assert step.into.tags == ("mail", "board")
    assert (step.into.importance, step.into.labels, step.into.happened_us) == (0.9, ("private",), NOW_US)
    assert step.into.source == Source("consolidation", sources=("tool.files.read", "user"), of=("mem_b", "mem_a"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (LONG, f"{LONG} of 2026"),
        (LONG, LONG.replace("goes to", "goes not to")),
        (LONG + LONG, LONG + LONG.replace("the board", "the committee")),
        (LONG + LONG, LONG + LONG.replace("is kept", "was kept")),
        (f"Ann told Bob: {LONG}", f"Bob told Ann: {LONG}"),
        (LONG, LONG.replace("goes", "does not go")),
        (LONG + " and isn't sent", LONG + " and is sent"),
        (LONG, " ".join(reversed(LONG.split()))),
        ("likes tea", "likes green tea"),
        ("\N{THUMBS UP SIGN}", "\N{THUMBS DOWN SIGN}"),
        ("keep it at -5", "keep it at 5"),
        ("she writes C#", "she writes C++"),
        ("it takes 10⁵ of them", "it takes 105 of them"),
        ("is it done?", "is it done"),
    ],
    ids=[
        "number",
        "negation",
        "word",
        "tense",
        "who to whom",
        "negation in the middle",
        "isn't",
        "order",
        "short",
        "thumb",
        "sign",
        "language",
        "power",
        "question",
    ],
)
def test_what_says_something_else_stays_by_itself(one: str, other: str) -> None:
    assert merged(entry("a", one), entry("b", other)) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (LONG, f"  {LONG.upper()}!"),
        (LONG, LONG.replace("the board", "board")),
        ("User prefers dark mode in the editor", "The user prefers dark mode in the editor."),
    ],
)
def test_words_that_say_nothing_do_not_matter(one: str, other: str) -> None:
    assert merged(entry("a", one.lower()), entry("b", other.lower())) != []


def test_how_alike_two_texts_are_is_the_share_of_words_that_they_have_in_common() -> None:
    assert alike("one two three", "One, two, three!") == 1.0
    assert alike("one two three", "one two four") == pytest.approx(1 / 2)
    assert alike("one", "one") == 1.0
    assert alike("one", "two") == 0.0
    assert alike("!", "…") == 1.0


def test_the_share_from_which_on_texts_are_alike_is_a_rule() -> None:
    entries = [entry("a", "send the report"), entry("b", "send report")]
    assert merged(*entries) == []
    assert merged(*entries, rules=msgspec.structs.replace(RULES, alike=0.0)) != []


@pytest.mark.parametrize(
    "fields",
    [
        {"labels": ("untrusted",)},
        {"key": "report"},
        {"relation": Relation("board", "gets", "report")},
        {"valid_from_us": 1},
        {"valid_to_us": 1},
        {"kind": "file"},
        {"kind": "episode"},
        {"is_pinned": True},
        {"contradicts": ("mem_c",)},
        {"until": 5},
        {"of": ("mem_a",)},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_only_likes_are_merged(fields: dict[str, Any]) -> None:
    assert merged(entry("a", LONG), entry("b", LONG, **fields)) == []


def test_files_are_never_merged() -> None:
    assert planned(entry("a", LONG, kind="file"), entry("b", LONG, kind="file")) == []


def test_episodes_are_merged_within_a_session_only() -> None:
    entries = [
        entry(name, LONG, kind="episode", session=session) for name, session in [("a", "1"), ("b", "1"), ("c", "2")]
    ]
    (step,) = planned(*entries)
    assert set(step.of) == {"mem_a", "mem_b"}
    assert step.into is not None
    assert step.into.source.session == "1"


def test_what_is_near_by_its_vector_is_merged_unless_a_mark_tells_it_apart() -> None:
    entries = [entry("a", "she enjoys tea"), entry("b", "tea is what she is fond of"), entry("c", "she enjoys 2 teas")]
    assert merged(*entries, near=[("mem_a", "mem_b"), ("mem_a", "mem_c"), ("mem_a", "mem_gone")]) == [
        ("mem_a", "mem_b")
    ]


def test_each_is_like_the_one_whose_words_are_kept_and_not_only_like_another() -> None:
    fillers = ["an", "also", "just", "please", "really", "so", "that", "very"]
    drifting = [" ".join([*fillers[:number], LONG]) for number in range(9)]
    entries = [entry(str(number), text, position=9 - number) for number, text in enumerate(drifting)]
    steps = planned(*entries)
    assert len(steps) > 1
    for step in steps:
        assert step.into is not None
        texts = [one.memory.text for one in entries if one.memory.id in step.of]
        assert min(alike(step.into.text, text) for text in texts) >= RULES.alike


# Wording


def said_twice(**fields: Any) -> tuple[Step, list[Memory]]:
    entries = [
        entry("a", "Ann likes tea with milk", **fields),
        entry("b", "tea is what Ann drinks, with milk", **fields),
    ]
    (step,) = planned(*entries, near=[("mem_a", "mem_b")])
    return step, [one.memory for one in entries]


def test_words_that_were_found_take_the_place_of_those_of_the_newest() -> None:
    step, memories = said_twice(labels=("private",))
    assert may_be_worded(step, memories)
    again = worded(step, memories, " Ann drinks tea with milk\n", session="ses_9")
    assert again.into is not None
    assert (again.into.text, again.into.source.session) == ("Ann drinks tea with milk", "ses_9")
    assert (again.of, again.into.labels) == (step.of, ("private",))


@pytest.mark.parametrize(
    "text",
    [
        "Ann drinks 3 cups",
        "Bob drinks tea",
        "Ann and Bob drink tea",
        "Ann never drinks tea",
        "tea it is",
        " ",
        "Ann " * 40,
    ],
)
def test_words_that_cannot_be_right_are_not_taken(text: str) -> None:
    step, memories = said_twice()
    assert worded(step, memories, text, session="ses_9") == step


def test_nobody_words_what_is_untrusted_or_an_episode_or_said_in_the_same_words() -> None:
    for fields in ({"labels": ("untrusted",)}, {"kind": "episode", "session": "ses_1"}):
        assert not may_be_worded(*said_twice(**fields))
    same = [entry("a", LONG), entry("b", f"{LONG}.")]
    (step,) = planned(*same)
    assert not may_be_worded(step, [one.memory for one in same])


# Promoting


def episodes(*sessions: str, text: str = "The build failed for want of memory", **fields: Any) -> list[Entry]:
    return [
        entry(f"{number}", text, kind="episode", session=session, happened_us=NOW_US - number, **fields)
        for number, session in enumerate(sessions)
    ]


def test_what_three_sessions_told_becomes_a_fact_and_they_stay() -> None:
    (step,) = planned(*episodes("1", "2", "3"))
    assert (step.how, step.of) == ("promoted", ("mem_0", "mem_1", "mem_2"))
    assert step.into is not None
    assert (step.into.kind, step.into.text) == ("fact", "The build failed for want of memory")
    events = decided(step, *episodes("1", "2", "3"))
    assert events == (MemoryRemembered(step.into), MemoryConsolidated(step.of, step.into.id, "promoted"))


@pytest.mark.parametrize("sessions", [("1", "2"), ("1", "2", "2"), ("", "", "")])
def test_two_sessions_however_often_they_tell_it_are_not_enough(sessions: Sequence[str]) -> None:
    assert [step for step in planned(*episodes(*sessions)) if step.how == "promoted"] == []


def test_the_same_relation_is_the_same_statement_whatever_the_words() -> None:
    relation = Relation("Ann", "works_at", "Acme")
    told = [
        entry(str(number), f"told {number}", kind="episode", relation=Relation("ann", "works_at", " ACME"))
        for number in range(2)
    ]
    (step,) = planned(*told, entry("x", "once more", kind="episode", relation=relation))
    assert step.how == "promoted"


def test_a_fact_that_is_known_is_not_promoted_again() -> None:
    told = episodes("1", "2", "3")
    (step,) = planned(*told)
    assert step.into is not None
    assert planned(*told, known=[step.into.id]) == []
    assert planned(*told, entry("fact", "the build failed, for want of memory.")) == []


def test_the_fact_has_the_same_id_whichever_episodes_there_are() -> None:
    (few,) = planned(*episodes("1", "2", "3"))
    (more,) = planned(*episodes("4", "5", "6", "7"))
    assert few.into is not None
    assert more.into is not None
    assert few.into.id == more.into.id


def test_untrusted_episodes_make_an_untrusted_fact_and_do_not_help_trusted_ones() -> None:
    poisoned = episodes("1", "2", "3", labels=("untrusted", "private"))
    (step,) = planned(*poisoned)
    assert step.into is not None
    assert step.into.labels == ("private", "untrusted")
    mixed = [
        *episodes("1", "2"),
        entry("x", "The build failed for want of memory", kind="episode", labels=("untrusted",)),
    ]
    assert planned(*mixed) == []


def test_an_untrusted_fact_does_not_keep_a_trusted_one_from_being_promoted() -> None:
    poison = entry("fact", "The build failed for want of memory", labels=("untrusted",))
    assert [step.how for step in planned(*episodes("1", "2", "3"), poison)] == ["promoted"]


# Going


def faded(**fields: Any) -> Entry:
    return entry("old", "Lunch was late", **({"kind": "episode", "happened_us": NOW_US - 300 * DAY_US} | fields))


def test_an_episode_that_faded_and_was_never_recalled_goes() -> None:
    (step,) = planned(faded())
    assert (step.how, step.of, step.into) == ("decayed", ("mem_old",), None)
    (event,) = decided(step, faded())
    assert isinstance(event, MemoryRetracted)
    assert (event.ids, event.why, event.by) == (("mem_old",), "decayed", "consolidation")


@pytest.mark.parametrize(
    "fields",
    [{"recalls": 1}, {"is_pinned": True}, {"kind": "fact"}, {"kind": "file"}, {"happened_us": NOW_US}, {"until": 3}],
    ids=lambda fields: next(iter(fields)),
)
def test_what_is_used_pinned_strong_or_no_episode_stays(fields: dict[str, Any]) -> None:
    assert planned(faded(**fields)) == []


def test_the_threshold_itself_stays() -> None:
    at = faded(importance=0.5, happened_us=NOW_US - HALF_LIFE_US)
    assert planned(at, rules=msgspec.structs.replace(RULES, strength_min=0.25)) == []
    assert planned(at, rules=msgspec.structs.replace(RULES, strength_min=0.2501)) != []


# Deciding again


def test_a_step_is_dropped_if_one_of_those_it_is_of_is_not_in_force_any_more() -> None:
    one, other = entry("a", LONG), entry("b", LONG)
    (step,) = planned(one, other)
    assert decided(step, one, other) != ()
    assert decided(step, one) == ()
    assert decided(step, one, msgspec.structs.replace(other, until=7)) == ()
    assert decided(step, one, msgspec.structs.replace(other, contradicts=("mem_z",))) == ()


def test_of_those_that_faded_only_the_ones_go_that_nobody_has_recalled_meanwhile() -> None:
    one, other = faded(), entry("new", "Tea was cold", kind="episode", happened_us=NOW_US - 299 * DAY_US)
    (step,) = planned(one, other)
    (event,) = decided(step, one, msgspec.structs.replace(other, recalls=1))
    assert event.ids == ("mem_old",)
    assert decided(step, msgspec.structs.replace(one, recalls=1)) == ()


# Always

TEXTS = st.lists(st.sampled_from(["a", "b", "c", "not", "7", "Ann"]), min_size=1, max_size=7).map(" ".join)
ENTRIES = st.lists(
    st.builds(
        lambda text, kind, session, labels, age, recalls, pinned: (text, kind, session, labels, age, recalls, pinned),
        TEXTS,
        st.sampled_from(["episode", "fact", "file"]),
        st.sampled_from(["1", "2", "3", ""]),
        st.sampled_from([(), ("untrusted",), ("private",), ("private", "untrusted")]),
        st.sampled_from([0, 10, 400]),
        st.integers(0, 1),
        st.booleans(),
    ),
    max_size=12,
)


def made(rows: list[Any]) -> list[Entry]:
    return [
        entry(
            str(number),
            text,
            kind=kind,
            session=session,
            labels=labels,
            happened_us=NOW_US - age * DAY_US,
            recalls=recalls,
            is_pinned=pinned,
        )
        for number, (text, kind, session, labels, age, recalls, pinned) in enumerate(rows)
    ]


@given(ENTRIES, st.randoms(use_true_random=False))
def test_the_plan_does_not_depend_on_the_order_of_the_memories(rows: list[Any], chance: random.Random) -> None:
    entries = made(rows)
    shuffled = chance.sample(entries, len(entries))
    assert planned(*entries, rules=msgspec.structs.replace(RULES, alike=0.5)) == planned(
        *shuffled, rules=msgspec.structs.replace(RULES, alike=0.5)
    )


@given(ENTRIES)
def test_nothing_loses_a_label_gains_trust_or_says_what_was_not_said(rows: list[Any]) -> None:
    entries = {one.memory.id: one.memory for one in made(rows)}
    for step in planned(*made(rows), rules=msgspec.structs.replace(RULES, alike=0.5)):
        sources = [entries[name] for name in step.of]
        if step.into is None:
            continue
        assert set(step.into.labels) == {label for memory in sources for label in memory.labels}
        assert len({"untrusted" in memory.labels for memory in sources}) == 1
        assert step.into.text in {memory.text for memory in sources}
        assert not any(memory.is_pinned for memory in sources) or step.how == "promoted"
        assert step.into.source.of == step.of


def test_marks_are_numbers_names_and_negations_in_order() -> None:
    assert marks_of("The cat of Ann didn't get 12 mice, never") == ("ann", "t", "12", "never")
