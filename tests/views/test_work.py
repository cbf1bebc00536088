"""The record of an agent: everything it did, under the version that did it, each thing once."""

from collections.abc import Sequence
from functools import reduce

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.domain.agent import AgentSpec
from ostler.domain.identity import LOCAL_USER
from ostler.domain.model import ModelRef, Usage
from ostler.domain.session.events import (
    SESSION_CODEC,
    AgentCancelled,
    AgentCompleted,
    AgentFailed,
    AgentForked,
    AgentPaused,
    AgentResumed,
    AgentStarted,
    ApprovalDenied,
    ApprovalExpired,
    ApprovalGranted,
    ApprovalRequested,
    ApprovalReturned,
    ConstraintFailed,
    ModelCompleted,
    ModelRequested,
    SessionEvent,
    ToolCompleted,
    ToolRequested,
)
from ostler.kernel.event import GENESIS, Record, StreamId, link
from ostler.views.catalogue import VIEWS
from ostler.views.work import WORK, Doer, Work, add, agent_of, evolve
from tests.domain.session.story import Story
from tests.domain.session.test_replay_properties import live, stories
from tests.domain.session.test_replay_properties import recorded as chained

MODEL = ModelRef("scripted", "scripted", "m")
LIFE: list[SessionEvent] = [
    ModelRequested("1"),
    ModelCompleted("1", usage=Usage(100, 10), cost_microusd=7),
    ToolRequested("1.1", "look", {}),
    ToolCompleted("1.1"),
    ToolRequested("1.2", "pay", {}),
    ToolCompleted("1.2", ok=False, kind="unknown"),
    ToolRequested("1.3", "pay", {}),
    ToolCompleted("1.3", ok=False, kind="permanent"),
    ConstraintFailed("1.4", "rob", "blocked", "it is not ours"),
    AgentPaused("ada"),
    AgentResumed("ada"),
    *(ApprovalRequested(f"1.{n}", "pay", {}, "d", "r") for n in range(5, 9)),
    ApprovalGranted("1.5", "ada", "d", is_enough=False),
    ApprovalGranted("1.5", "bob", "d"),
    ApprovalDenied("1.6", "ada"),
    ApprovalReturned("1.7", "ada", "why?"),
    ApprovalExpired("1.8"),
]
DONE = Work(
    sessions=1,
    endings={"completed (final_answer)": 1},
    model_calls=1,
    tool_calls=3,
    tool_failures=2,
    unknown=1,
    refused=1,
    asked=4,
    granted=1,
    denied=1,
    returned=1,
    expired=1,
    tokens=110,
    cost_microusd=7,
    first_us=1,
    last_us=len(LIFE) + 2,
)


def started(version: int = 1, *, origin: str | None = None, name: str = "clerk") -> AgentStarted:
    return AgentStarted("ses_1", AgentSpec(name, version), MODEL, "Do it.", LOCAL_USER, origin=origin)


def recorded(*events: SessionEvent, session: str = "ses_1", at_us: int = 1) -> list[Record]:
    stream, previous, records = StreamId("default", session), GENESIS, []
    for seq, event in enumerate(events, 1):
        data = SESSION_CODEC.encode(event)
        previous = link(previous, stream, seq, at_us + seq - 1, data)
        records.append(Record(stream, seq, at_us + seq - 1, data, previous))
    return records


def worked(*sessions: Sequence[Record]) -> dict[str, Work]:
    """The sums over these sessions, as they are kept."""
    sums: dict[str, Work] = {}
    for records in sessions:
        row: Doer | None = None
        for record in records:
            if WORK.wants(record):
                row, more = evolve(row, record)
                row = None if row is None else WORK.rows.unpack(WORK.rows.pack(row))
                for key, work in more:
                    sums[key] = WORK.sums.unpack(WORK.sums.pack(add(sums.get(key, Work()), work)))
    return {agent_of(key): work for key, work in sums.items()}


def test_everything_that_an_agent_did_is_counted_under_its_identity() -> None:
    assert worked(recorded(started(), *LIFE, AgentCompleted("done"))) == {"agent:clerk@1": DONE}


def test_each_version_has_a_record_of_its_own() -> None:
    failed = recorded(started(2), AgentFailed("step_limit"), session="ses_2", at_us=50)
    killed = recorded(started(2), AgentCancelled("ada", "killed"), session="ses_3", at_us=40)
    found = worked(recorded(started(), *LIFE, AgentCompleted("done")), failed, killed)
    assert found["agent:clerk@1"] == DONE
    endings = {"failed (step_limit)": 1, "cancelled (killed)": 1}
    assert found["agent:clerk@2"] == Work(sessions=2, endings=endings, first_us=40, last_us=51)


def test_what_a_fork_shares_with_its_origin_is_the_origins_work() -> None:
    origin = recorded(started(), *LIFE)
    fork = recorded(
        started(2, origin="ses_1"), *LIFE, AgentForked("ses_1", 3, "ada"), ModelRequested("2"), session="ses_2"
    )
    found = worked(origin, fork)
    assert found["agent:clerk@1"].model_calls == 1
    assert (found["agent:clerk@2"].sessions, found["agent:clerk@2"].model_calls) == (1, 1)
    assert found["agent:clerk@2"].tool_calls == 0


def test_an_event_that_cannot_be_read_is_counted_as_such_and_the_rest_goes_on() -> None:
    records = recorded(started(), *LIFE, AgentCompleted("done"))
    records[4] = msgspec.structs.replace(records[4], data=b'{"type":"agent.promoted"}')
    work = worked(records)["agent:clerk@1"]
    assert (work.unreadable, work.endings, work.tool_failures) == (1, DONE.endings, 2)


def test_events_without_a_beginning_are_nobodys_work() -> None:
    assert list(worked(recorded(*LIFE))) == ["?"]


def test_nothing_is_kept_of_a_session_that_has_ended() -> None:
    row: Doer | None = None
    for record in recorded(started(), *LIFE, AgentCompleted("done")):
        assert (row is None) == (record.seq == 1)
        row = evolve(row, record).row if WORK.wants(record) else row
    assert row is None


@settings(max_examples=60)
@given(stories(), st.data())
def test_what_any_session_used_is_what_its_state_says_failed_attempts_included(
    story: Story, data: st.DataObject
) -> None:
    state = live(story, data).now
    (work,) = worked(chained(story.log)).values()
    assert (work.tokens, work.cost_microusd) == (state.usage.total_tokens, state.cost_microusd)


WORKS = st.builds(
    Work,
    sessions=st.integers(0, 9),
    endings=st.dictionaries(st.sampled_from(["completed (final_answer)", "failed (error)"]), st.integers(1, 9)),
    cost_microusd=st.integers(0, 9),
    first_us=st.integers(0, 9),
    last_us=st.integers(0, 9),
)


@given(st.lists(WORKS, max_size=5))
def test_the_order_of_adding_up_does_not_matter(works: list[Work]) -> None:
    backwards = reduce(add, reversed(works), Work())
    assert reduce(add, works, Work()) == backwards
    half = len(works) // 2
    assert add(reduce(add, works[:half], Work()), reduce(add, works[half:], Work())) == backwards


@pytest.mark.parametrize("name", ['a"b', "[", "é", "a@b"])
def test_any_name_can_be_part_of_a_key(name: str) -> None:
    ((agent, _),) = worked(recorded(started(name=name))).items()
    assert agent == f"agent:{name}@1"


def test_the_view_is_kept_up_to_date_with_the_others() -> None:
    assert WORK in VIEWS
    (key,) = (key for key, _ in evolve(None, recorded(started())[0]).more)
    assert not key[0].isalpha()
