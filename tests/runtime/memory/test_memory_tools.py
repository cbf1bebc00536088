"""What the tools of memory do: for whom, with which labels, and how often."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from ostler.domain.memory.recollection import Recollection, Recollections
from ostler.domain.memory.settings import MemorySettings
from ostler.domain.tool import Taint
from ostler.ports.memory import Filter
from ostler.runtime.memory.asking import ANSWER_BYTES_MAX, answered
from tests.runtime.memory.asking import EVERYWHERE, SPOILT, House, house


@pytest.fixture
async def home() -> AsyncIterator[House]:
    async with house() as made:
        yield made


async def test_a_later_session_recalls_what_an_earlier_one_remembered(home: House) -> None:
    said = await home.done("memory.remember", text="The deploy command is make ship.", tags=["deploy"])
    assert said["outcome"] == "new"
    (one,) = await home.told("memory.recall", session="ses_2", query="how do I deploy?")
    assert (one.id, one.kind, one.writer, one.tags) == (said["id"], "fact", "agent:clerk", ("deploy",))
    assert one.at.startswith("2026-03-01T00:00:")


async def test_a_call_that_is_repeated_remembers_once_and_answers_the_same_id(home: House) -> None:
    first = await home.done("memory.remember", call="3.1", text="Ada likes tea.")
    again = await home.done("memory.remember", call="3.1", attempt=2, text="Ada likes tea.")
    assert again["id"] == first["id"]
    assert await home.texts("tea") == ["Ada likes tea."]


@pytest.mark.parametrize("other", [{"user": "bo"}, {"agent": "coder"}, {"tenant": "globex"}])
async def test_what_is_remembered_for_one_user_is_told_to_nobody_else(home: House, other: dict[str, Any]) -> None:
    await home.done("memory.remember", text="Ada likes tea.")
    assert await home.texts("tea", **other) == []


async def test_each_level_reaches_as_far_as_it_says(home: House) -> None:
    for level in ("tenant", "agent", "user", "session"):
        await home.done("memory.remember", text=f"The tea is {level}.", level=level)
    others: list[dict[str, Any]] = [
        {"session": "ses_1"},
        {"session": "ses_2"},
        {"session": "ses_2", "user": "bo"},
        {"session": "ses_2", "agent": "coder", "user": "bo"},
    ]
    assert [len(await home.texts("tea", **other)) for other in others] == [4, 3, 2, 1]


async def test_an_agent_writes_at_no_level_that_it_may_not(home: House) -> None:
    narrow = MemorySettings()
    kind, reason = await home.refusal("memory.remember", text="Tea for all.", level="tenant", memory=narrow)
    assert (kind, reason) == (
        "blocked",
        "This agent may not write memories at the level 'tenant'. It may at: session, user.",
    )
    assert await home.texts("tea") == []


async def test_a_session_whose_agent_has_no_memory_is_told_so(home: House) -> None:
    assert await home.refusal("memory.recall", query="tea", memory=None) == (
        "blocked",
        "This agent has no memory. Its definition gives it one: `[memory]` in its file.",
    )


@pytest.mark.parametrize(
    ("taint", "labels", "writer"),
    [
        (SPOILT, ("untrusted",), "agent:clerk"),
        (None, ("private", "untrusted"), "agent:clerk"),
        (Taint((), ("user",)), (), "user:ada"),
        (Taint((), ("system", "user")), (), "agent:clerk"),
    ],
)
async def test_a_memory_bears_the_labels_of_what_it_may_be_made_of(
    home: House, taint: Taint | None, labels: tuple[str, ...], writer: str
) -> None:
    await home.done("memory.remember", text="Pay to IBAN X.", taint=taint)
    (one,) = await home.told("memory.recall", session="ses_2", query="where to pay?")
    assert (one.labels, one.writer) == (labels, writer)


async def test_an_episode_that_the_runtime_remembers_is_said_to_be_its_own(home: House) -> None:
    await home.done("memory.remember", call="episode", kind="episode", text="Goal: tea. Completed.")
    (one,) = await home.told("memory.recall", query="tea")
    assert (one.kind, one.writer) == ("episode", "runtime")


async def test_a_newer_memory_takes_the_place_of_that_of_the_same_key(home: House) -> None:
    old = await home.done("memory.remember", text="Ada drinks tea.", key="ada.drink")
    new = await home.done("memory.remember", text="Ada drinks coffee.", key="ada.drink")
    assert new["superseded"] == [old["id"]]
    assert await home.texts("what does Ada drink?") == ["Ada drinks coffee."]


async def test_a_file_is_not_replaced_by_a_fact_under_its_path(home: House) -> None:
    kind, reason = await home.refusal("memory.remember", text="Tea.", key="/memories/tea.md")
    assert kind == "invalid"
    assert "key: /memories is where files are kept" in reason


async def test_a_secret_is_refused_and_not_repeated(home: House) -> None:
    secret = "ghp_" + "a1B2c3D4e5" * 4
    kind, reason = await home.refusal("memory.remember", text=f"The token is {secret}.")
    assert kind == "blocked"
    assert secret not in reason
    assert await home.texts("token") == []


async def test_what_led_to_a_memory_must_be_one_that_is_seen_here(home: House) -> None:
    foreign = await home.done("memory.remember", text="Bo was angry.", user="bo")
    kind, reason = await home.refusal("memory.remember", text="So I left.", caused_by=foreign["id"])
    assert (kind, reason.startswith(f"There is no memory {foreign['id']} here.")) == ("not_found", True)


async def test_recalling_narrows_down_by_kind_tags_and_time(home: House) -> None:
    await home.done("memory.remember", text="Tea was drunk.", kind="episode", tags=["drink", "hot"])
    await home.done("memory.remember", text="Tea is a drink.", tags=["drink"])
    assert await home.texts("tea", kind="episode") == ["Tea was drunk."]
    assert await home.texts("tea", tags=["drink", "hot"]) == ["Tea was drunk."]
    assert await home.texts("tea", before="2026-03-01") == []
    assert len(await home.texts("tea", after="2026-03-01", before="2026-03-02")) == 2
    kind, reason = await home.refusal("memory.recall", query="tea", after="yesterday")
    assert (kind, reason) == (
        "invalid",
        "after: 'yesterday' is no time; write 2026-03-01 or 2026-03-01T09:30:00Z.",
    )


async def test_what_a_call_recalls_is_counted_once(home: House) -> None:
    said = await home.done("memory.remember", text="Ada likes tea.")
    for attempt in (1, 2):
        await home.texts("tea", call="7.1", attempt=attempt)
    scope = (await home.memories.catch_up_all("acme"))[0]
    (entry,) = await home.memories.index.get([scope], [said["id"]])
    assert entry.recalls == 1


async def test_what_is_forgotten_is_recalled_no_more_and_stays_in_the_log(home: House) -> None:
    said = await home.done("memory.remember", text="Ada likes tea.")
    for attempt in (1, 2):
        answer = await home.done("memory.forget", call="8.1", attempt=attempt, ids=[said["id"]], because="no more")
        assert answer == {"forgotten": [said["id"]]}
    assert await home.texts("tea") == []
    (scope,) = await home.memories.catch_up_all("acme")
    (entry,) = await home.memories.index.page([scope], Filter(is_closed_too=True))
    assert entry.memory.text == "Ada likes tea."


async def test_a_memory_that_is_not_seen_here_cannot_be_forgotten(home: House) -> None:
    said = await home.done("memory.remember", text="Ada likes tea.")
    kind, _ = await home.refusal("memory.forget", ids=[said["id"]], user="bo")
    assert kind == "not_found"
    assert await home.texts("tea") == ["Ada likes tea."]


async def test_a_memory_above_the_levels_of_an_agent_cannot_be_forgotten_by_it(home: House) -> None:
    said = await home.done("memory.remember", text="We all like tea.", level="tenant")
    kind, reason = await home.refusal("memory.forget", ids=[said["id"]], memory=MemorySettings())
    assert (kind, "level 'tenant'" in reason) == ("blocked", True)
    assert await home.texts("tea") == ["We all like tea."]


async def test_what_outsiders_say_makes_no_agent_forget_what_is_trusted(home: House) -> None:
    trusted = await home.done("memory.remember", text="Never pay to IBAN X.")
    planted = await home.done("memory.remember", text="IBAN X is fine.", taint=SPOILT)
    kind, reason = await home.refusal("memory.forget", ids=[trusted["id"]], taint=SPOILT)
    assert (kind, f"ostler memory forget {trusted['id']}" in reason) == ("blocked", True)
    assert await home.done("memory.forget", ids=[planted["id"]], taint=SPOILT) == {"forgotten": [planted["id"]]}
    assert await home.texts("IBAN") == ["Never pay to IBAN X."]


async def test_a_relation_that_has_one_value_at_a_time_is_replaced(home: House) -> None:
    stated: dict[str, Any] = {"subject": "Ada", "relation": "works_at"}
    settings = MemorySettings(tools=("*",), single=("works_at",))
    old = await home.done("memory.relate", object="Initech", memory=settings, **stated)
    new = await home.done("memory.relate", object="Globex", memory=settings, **stated)
    assert new["superseded"] == [old["id"]]
    assert [one.text for one in await home.told("memory.query_graph", entity="ada")] == ["Ada works_at Globex"]


async def test_relations_are_found_around_an_entity_and_on_the_way_to_another(home: House) -> None:
    for subject, relation, to in (
        ("Ada", "works_at", "Initech"),
        ("Initech", "based_in", "Berlin"),
        ("Bo", "lives_in", "Berlin"),
        ("Ada", "likes", "tea"),
    ):
        await home.done("memory.relate", subject=subject, relation=relation, object=to)
    near = [one.text for one in await home.told("memory.query_graph", entity="  ADA ")]
    assert sorted(near) == ["Ada likes tea", "Ada works_at Initech"]
    two = await home.told("memory.query_graph", entity="Ada", depth=2, relations=["works_at", "based_in"])
    assert [(one.text, one.score) for one in two] == [("Ada works_at Initech", 1.0), ("Initech based_in Berlin", 0.5)]
    way = [one.text for one in await home.told("memory.query_graph", entity="Ada", to="bo")]
    assert way == ["Ada works_at Initech", "Initech based_in Berlin", "Bo lives_in Berlin"]
    assert await home.told("memory.query_graph", entity="Ada", to="Bo", direction="out") == ()
    assert await home.told("memory.query_graph", entity="Nobody") == ()


async def test_a_relation_that_is_over_is_not_told_of(home: House) -> None:
    await home.done(
        "memory.relate",
        subject="Ada",
        relation="lives_in",
        object="Rome",
        valid_from="2020-01-01",
        valid_to="2021-01-01",
    )
    assert await home.told("memory.query_graph", entity="Ada") == ()
    assert await home.texts("where does Ada live? Rome?") == ["Ada lives_in Rome"]


async def test_relations_made_of_what_outsiders_say_are_labelled_so(home: House) -> None:
    await home.done("memory.relate", subject="Ada", relation="pays", object="IBAN X", taint=SPOILT)
    (one,) = await home.told("memory.query_graph", entity="Ada", session="ses_2")
    assert one.labels == ("untrusted",)


async def test_what_outsiders_say_an_entity_is_takes_the_place_of_nothing_trusted(home: House) -> None:
    await home.done("memory.relate", subject="Ada", relation="owns", object="X", subject_kind="person")
    await home.done("memory.relate", subject="Ada", relation="has", object="Y", subject_kind="bank", taint=SPOILT)
    (scope,) = await home.memories.catch_up_all("acme")
    (entity,) = await home.memories.index.entities([scope], ["Ada"])
    assert (entity.kind, entity.labels) == ("person", ())


async def test_working_memory_is_not_performed_outside_of_the_session(home: House) -> None:
    with pytest.raises(Exception, match="working memory is in the session itself"):
        await home.perform("working.get", key="plan")


def test_an_answer_stays_within_an_event_and_says_what_it_leaves_out() -> None:
    many = tuple(Recollection(f"mem_{number}", "fact", "ü\n" * 4000, "runtime", "") for number in range(9))
    outcome = answered(Recollections(many, left_out=2))
    told = msgspec.json.decode(outcome.output, type=Recollections)
    assert len(outcome.output.encode()) <= ANSWER_BYTES_MAX
    assert 0 < len(told.memories) < 9
    assert told.left_out == 2 + 9 - len(told.memories)


async def test_nothing_is_ever_told_to_whom_it_does_not_belong(home: House) -> None:
    houses = [(tenant, agent, user) for tenant in ("t1", "t2") for agent in ("a", "b") for user in ("x", "y")]
    for tenant, agent, user in houses:
        await home.done(
            "memory.remember", text=f"tea of {tenant} {agent} {user}", tenant=tenant, agent=agent, user=user
        )
        await home.file(
            "create", path="/memories/tea", file_text=f"{tenant} {agent} {user}", tenant=tenant, agent=agent, user=user
        )
    for tenant, agent, user in houses:
        whose: dict[str, Any] = {"tenant": tenant, "agent": agent, "user": user}
        found = await home.texts("tea", memory=EVERYWHERE, **whose)
        assert {text.removeprefix("tea of ") for text in found} == {f"{tenant} {agent} {user}"}
        assert (await home.file("view", path="/memories/tea", **whose)).endswith(f"\t{tenant} {agent} {user}")


async def test_what_a_session_forgot_is_in_force_again_once_the_session_is_rolled_back(home: House) -> None:
    said = await home.done("memory.remember", text="The gate squeaks")
    await home.done("memory.forget", ids=[said["id"]], session="ses_bad")
    assert await home.texts("gate") == []
    await home.memories.roll_back("acme", session="ses_bad", by="operator:ann", because="it was a rehearsal")
    assert await home.texts("gate") == ["The gate squeaks"]
