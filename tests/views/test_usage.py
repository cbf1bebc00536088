"""Usage is what happened, each thing once, to whom it belongs."""

from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.domain.constraint.policy import Rule
from ostler.domain.model import Usage
from ostler.domain.session import commands as command
from ostler.domain.session.events import SessionEvent
from ostler.domain.session.fork import Fact, fork
from ostler.domain.session.state import State
from ostler.kernel.errors import Conflict
from ostler.kernel.event import Record
from ostler.views.usage import DAY_US, USAGE, Spender, Tally, add, day_name, evolve, first_key, place
from tests.domain.session.story import PRICE, Story
from tests.domain.session.test_choosing import A, B, Routed, card
from tests.domain.session.test_replay_properties import live, recorded, stories


def used(*sessions: Iterable[Record]) -> dict[str, Tally]:
    """The sums over these sessions, by key."""
    sums: dict[str, Tally] = {}
    for records in sessions:
        row: Spender | None = None
        for record in records:
            if USAGE.wants(record):
                row, more = evolve(row, record)
                for key, tally in more:
                    sums[key] = add(sums[key], tally) if key in sums else tally
    return sums


def total(*sessions: Iterable[Record]) -> Tally:
    whole = Tally()
    for tally in used(*sessions).values():
        whole = add(whole, tally)
    return whole


def paid_story() -> Story:
    story = Story(Rule("require", "pay"), price=PRICE).start()
    story.reply(("look", {}), ("pay", {}), ("nothing", {}), usage=Usage(1000, 100, 10, 1))
    story.returned("1.1")
    story.deny("1.2", "too dear")
    story.proceed()
    story.reply(text="done", usage=Usage(500, 50))
    return story


def test_everything_that_was_used_is_counted_under_day_agent_and_model() -> None:
    ((key, tally),) = used(recorded(paid_story().log)).items()
    assert place(key) == ("1970-01-01", "clerk@1", "scripted:m")
    assert tally == Tally(
        sessions=1,
        completed=1,
        model_calls=2,
        tool_calls=1,
        refused=2,
        input_tokens=1500,
        output_tokens=150,
        cache_read_tokens=10,
        cache_write_tokens=1,
        cost_microusd=paid_story().now.cost_microusd,
    )
    assert tally.cost_microusd > 0


def test_what_nobody_knows_the_outcome_of_is_counted() -> None:
    story = Story().start()
    story.reply(("pay", {}))
    story.do(command.TakeOver(story.us))
    story.do(command.Kill(story.us, story.by))
    tally = total(recorded(story.log))
    assert (tally.unknown, tally.cancelled, tally.completed, tally.failed) == (1, 1, 0, 0)


def test_what_an_attempt_used_is_counted_for_the_model_that_was_asked_and_not_for_the_one_that_follows() -> None:
    story = Routed(card(A, price=PRICE), card(B)).start()
    story.examine()
    story.do(
        command.ReplyFailed(story.us, "1", "incomplete_reply", "cut", retry_at_us=story.us, usage=Usage(1_000, 100))
    )
    story.reply(("look", {}), usage=Usage(20, 2))
    story.returned("1.1")
    story.examine()
    story.do(command.ReplyFailed(story.us, "2", "provider_rejected", "no", usage=Usage(300)))
    story.do(command.ReplyFailed(story.us, "2", "provider_rejected", "no", usage=Usage(4)))
    assert story.asked == [A, B, A, B]
    sums = {place(key)[2]: tally for key, tally in used(recorded(story.log)).items()}
    assert {model: (one.model_calls, one.input_tokens, one.output_tokens) for model, one in sums.items()} == {
        A: (2, 1_300, 100),
        B: (0, 24, 2),
    }
    assert sums[A].cost_microusd == story.now.cost_microusd == 5_400
    assert sums[B].failed == 1


def test_each_day_has_its_own_sums_and_they_are_found_by_their_day() -> None:
    story = Story().start()
    for day in range(1, 4):
        story.at = day * 86_400 - 1.0
        story.reply(("look", {}), usage=Usage(1))
        story.returned(f"{day}.1")
    sums = used(recorded(story.log))
    assert [place(key)[0] for key in sums] == ["1970-01-01", "1970-01-02", "1970-01-03"]
    assert [key for key in sums if key > first_key("1970-01-02")] == list(sums)[1:]
    assert sorted(sums) == list(sums)


@settings(max_examples=60)
@given(stories(), st.data())
def test_the_sums_of_any_session_are_those_of_its_state(story: Story, data: st.DataObject) -> None:
    live(story, data)
    assert_counted(total(recorded(story.log)), story.now, [event for _, event in story.log])


def assert_counted(tally: Tally, state: State, events: list[SessionEvent]) -> None:
    kinds = [str(type(event).__struct_config__.tag) for event in events]
    assert (tally.sessions, tally.model_calls, tally.tool_calls) == (1, state.steps, state.tool_calls)
    assert tally.refused == sum(map(kinds.count, ("constraint.failed", "approval.denied", "approval.expired")))
    assert (tally.completed, tally.failed, tally.cancelled) == tuple(
        int(state.end is not None and state.end.status == status) for status in ("completed", "failed", "cancelled")
    )
    tokens = (tally.input_tokens, tally.output_tokens, tally.cache_read_tokens, tally.cache_write_tokens)
    assert tokens == msgspec.structs.astuple(state.usage)
    assert (tally.cost_microusd, tally.unreadable) == (state.cost_microusd, 0)


@settings(max_examples=60)
@given(stories(), st.data())
def test_what_a_fork_shares_with_its_origin_is_counted_once(story: Story, data: st.DataObject) -> None:
    live(story, data)
    origin = total(recorded(story.log))
    past: list[Fact] = story.log
    forks = []
    for number in range(2, 5):
        try:
            past = fork(past, session=f"ses_{number}", by="anna", at_us=story.us)
        except Conflict:
            break
        forks.append(recorded(past, f"ses_{number}"))
    assert total(*forks) == Tally(sessions=len(forks))
    assert total(recorded(story.log), *forks) == add(origin, Tally(sessions=len(forks)))


def test_a_fork_that_goes_on_is_counted_from_there() -> None:
    story = paid_story()
    row: Spender | None = None
    for record in recorded(fork(story.log, session="ses_2", by="anna", at_us=story.us), "ses_2"):
        row = evolve(row, record).row
    assert row == Spender("clerk@1", "scripted:m")
    (more,) = evolve(row, next(record for record in recorded(story.log) if b"model.requested" in record.data)).more
    assert more[1] == Tally(model_calls=1)


def test_an_event_that_cannot_be_read_is_counted_as_such_and_the_rest_goes_on() -> None:
    records = recorded(paid_story().log)
    whole = total(records)
    records[4] = msgspec.structs.replace(records[4], data=b'{"type":"agent.promoted"}')
    records[6] = msgspec.structs.replace(records[6], data=b"\xff")
    tally = total(records)
    assert (tally.unreadable, tally.completed) == (2, 1)
    assert tally.model_calls <= whole.model_calls
    assert [place(key)[1] for key in used(records)] == ["clerk@1"]


def test_nothing_is_kept_of_a_session_that_has_ended() -> None:
    row: Spender | None = None
    for record in recorded(paid_story().log):
        assert (row is None) == (record.seq == 1)
        row = evolve(row, record).row
    assert row is None


def test_events_without_a_beginning_are_counted_to_nobody() -> None:
    ((key, _),) = used(recorded(paid_story().log)[1:]).items()
    assert place(key) == ("1970-01-01", "?", "?")


@pytest.mark.parametrize("name", ['a"b', "a\tb", "[", "é", "a\x00b", "../x y"])
def test_any_name_can_be_part_of_a_key(name: str) -> None:
    story = Story()
    story.spec = msgspec.structs.replace(story.spec, name=name)
    ((key, _),) = used(recorded(story.start().log)).items()
    assert place(key)[1] == f"{name}@1"
    assert "\x00" not in key


def test_a_moment_in_no_year_that_can_be_written_is_counted_too() -> None:
    assert (day_name(0), day_name(-1), day_name(2**62)) == ("1970-01-01", "1969-12-31", "?")
    assert day_name(DAY_US * 20_000) == "2024-10-04"
