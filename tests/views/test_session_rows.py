"""Rows of sessions show exactly what the state of the session would, and stay small."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.domain.constraint.policy import Rule
from ostler.domain.memory.settings import MemorySettings
from ostler.domain.memory.tools import MEMORY_TOOLS
from ostler.domain.session import commands as command
from ostler.kernel.event import Record, StreamId, link
from ostler.runtime.replay import state_after
from ostler.views.session_rows import SESSIONS, SessionRow, evolve, view_of
from ostler.views.sessions import SessionView, view
from tests.domain.session.story import TOOLS, Story, spec
from tests.domain.session.test_replay_properties import live, recorded, stories
from tests.golden.test_histories import NAMES, imported


def row_after(records: list[Record], *, keeps: bool = True) -> SessionRow:
    """The row after these records; `keeps` says whether it is put away and taken out again after each."""
    row: SessionRow | None = None
    for record in records:
        row = evolve(row, record).row
        assert row is not None
        row = SESSIONS.rows.unpack(SESSIONS.rows.pack(row)) if keeps else row
    assert row is not None
    return row


def shown(row: SessionRow, records: list[Record]) -> SessionView | None:
    return view_of(row, {seq: records[seq - 1] for seq in row.elsewhere.values()})


def assert_agreement(records: list[Record]) -> None:
    for end in range(1, len(records) + 1):
        past = records[:end]
        state = state_after(past)
        assert state is not None
        kept, remembered = row_after(past), row_after(past, keeps=False)
        assert shown(kept, past) == shown(remembered, past) == view(state)
        assert SESSIONS.rows.pack(kept) == SESSIONS.rows.pack(remembered)
        assert (kept.seq, kept.hash, kept.problem) == (end, past[-1].hash, "")


@pytest.mark.parametrize("name", NAMES)
async def test_a_row_shows_what_the_state_shows_after_every_event_of_recorded_histories(name: str) -> None:
    _, _, sessions = await imported(name)
    for records in sessions:
        assert_agreement(records)


@settings(max_examples=60)
@given(stories(), st.data())
def test_a_row_shows_what_the_state_shows_after_every_event_of_any_session(story: Story, data: st.DataObject) -> None:
    live(story, data)
    assert_agreement(recorded(story.log))


def test_a_row_counts_the_calls_of_a_session_with_memory_as_its_state_does() -> None:
    story = Story(specs=(*TOOLS, *MEMORY_TOOLS), memory=MemorySettings()).start()
    for call in ("recall.1", "1.1", "recall.2"):
        if call == "1.1":
            story.do(command.Send(story.us, "And?", story.by))
        story.returned(call, {"memories": []})
        if call == "recall.1":
            story.reply(("look", {}))
    story.reply(("working.put", {"key": "plan", "text": "first the door"}))
    story.reply(text="done " * 1000)
    story.returned("episode")
    assert_agreement(recorded(story.log))
    assert story.now.tool_calls == 2


LONG = "much " * 10_000


def long_story() -> Story:
    """A session in which everything that is shown is long."""
    story = Story(Rule("require", "pay"), specs=(spec("pay", "once", note={"type": "string"}),))
    story.do(command.Start(story.us, "ses_1", story.spec, story.model, LONG, story.by))
    story.proceed()
    story.reply(("pay", {"note": LONG}))
    story.do(command.Pause(story.us, story.by, LONG))
    story.do(command.Resume(story.us, story.by))
    story.approve("1.1")
    story.proceed()
    story.returned("1.1", LONG)
    story.reply(text=LONG)
    return story


def test_a_row_stays_small_whatever_is_shown_of_the_session() -> None:
    records = recorded(long_story().log)
    assert_agreement(records)
    seen = shown(row_after(records), records)
    assert seen is not None
    assert (seen.goal, seen.text, seen.status) == (LONG, LONG, "completed")
    sizes = [len(SESSIONS.rows.pack(row_after(records[:end]))) for end in range(1, len(records) + 1)]
    assert max(sizes) < 500


def test_what_a_row_leaves_in_the_log_is_not_made_up_if_the_log_has_lost_it() -> None:
    records = recorded(long_story().log)
    row = row_after(records)
    assert view_of(row, {}) is None
    broken = {seq: msgspec.structs.replace(records[seq - 1], data=b"{") for seq in row.elsewhere.values()}
    assert view_of(row, broken) is None
    others = {seq: msgspec.structs.replace(records[1]) for seq in row.elsewhere.values()}
    assert view_of(row, others) is None


def other(record: Record, data: bytes, previous: bytes) -> Record:
    """The record with other data, and a hash that fits."""
    digest = link(previous, record.stream, record.seq, record.at_us, data)
    return msgspec.structs.replace(record, data=data, hash=digest)


def simple() -> list[Record]:
    story = Story().start()
    story.reply(("look", {}))
    story.returned("1.1")
    story.reply(text="three")
    return recorded(story.log)


DAMAGES = {
    "an altered event": (lambda record: msgspec.structs.replace(record, data=record.data + b" "), "does not fit"),
    "another stream": (lambda record: msgspec.structs.replace(record, stream=StreamId("rival", "ses_1")), "not fit"),
    "a moment that was changed": (lambda record: msgspec.structs.replace(record, at_us=record.at_us + 1), "not fit"),
}


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.parametrize("seq", [1, 3])
def test_a_row_says_so_when_its_log_was_altered_and_goes_no_further(name: str, seq: int) -> None:
    records = simple()
    damage, said = DAMAGES[name]
    records[seq - 1] = damage(records[seq - 1])
    row = row_after(records)
    assert (row.seq, row.state) == (len(records), None)
    assert f"Event {seq} " in row.problem
    assert said in row.problem
    assert shown(row, records) is None


def test_a_row_says_so_when_an_event_is_missing() -> None:
    records = simple()
    assert "Event 3 " in row_after([*records[:2], *records[3:]]).problem
    assert "Event 1 " in row_after(records[1:]).problem


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"type":"agent.promoted","to":"manager"}', "agent.promoted"),
        (b"\xff\xfe", "cannot"),
        (b'{"type":"agent.resumed","by":"\xff"}', "cannot read"),
        (b'{"type":"tool.completed","call":"9.9"}', "makes no sense"),
        (b'{"type":"approval.expired","call":1}', "cannot read"),
        (b"", "cannot"),
    ],
)
def test_a_row_says_so_when_an_event_cannot_be_understood(data: bytes, said: str) -> None:
    records = simple()
    records[3] = other(records[3], data, records[2].hash)
    row = row_after(records)
    assert said in row.problem
    assert len(SESSIONS.rows.pack(row)) < 1000
    assert SESSIONS.rows.unpack(SESSIONS.rows.pack(row)) == row
