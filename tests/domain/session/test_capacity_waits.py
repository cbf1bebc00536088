"""A call that waits for capacity: it has not begun, it costs no attempt, and nobody begins it who may not."""

import pytest

from ostler.domain.agent import Limits
from ostler.domain.session import commands as command
from ostler.domain.session.events import CallRetried, ModelFailed
from ostler.domain.session.pending import pending
from ostler.domain.session.state import due_us, is_under_way
from ostler.kernel.event import Record, StreamId
from ostler.runtime.journal import chain
from ostler.runtime.replay import replay
from ostler.views.calls import calls
from ostler.views.session_rows import SESSIONS, evolve
from ostler.views.sessions import view
from ostler.views.why import why_state
from tests.domain.session.story import Story, kinds

LIMIT = "tenants.acme.model_calls"


def waiting() -> Story:
    story = Story(limits=Limits(attempts=2)).start()
    missed = story.do(command.CapacityMissed(story.us, "1", LIMIT))
    assert missed == [CallRetried("1", 1, f"waits for capacity: {LIMIT}", story.us, LIMIT)]
    return story


def found(story: Story, **options: bool) -> list[object]:
    return [*story.do(command.CapacityFound(story.us, "1"), **options)]


def records(story: Story) -> list[Record]:
    made: list[Record] = []
    for at_us, event in story.log:
        made += chain(StreamId("acme", "ses_1"), len(made), made[-1].hash if made else bytes(32), at_us, [event])
    return made


def test_it_waits_for_capacity_and_is_due_all_the_time() -> None:
    story = waiting()
    assert (story.now.status, story.now.waiting_for, is_under_way(story.now)) == ("waiting", "capacity", False)
    assert due_us(story.now) == story.us
    assert len(pending(story.now)) == 1


def test_when_there_is_capacity_it_runs_and_the_attempt_is_the_same() -> None:
    story = waiting()
    story.at += 100
    assert found(story) == [CallRetried("1", 1, "there is capacity")]
    assert (story.now.status, story.now.waiting_for, due_us(story.now)) == ("running", None, 0)
    assert kinds(story.reply(text="done")) == ["model.completed", "agent.completed"]
    replay(records(story))


def test_a_worker_that_is_gone_while_it_waited_was_not_lost() -> None:
    story = waiting()
    for _ in range(5):
        assert kinds(story.do(command.TakeOver(story.us))) == ["call.retried"]
        assert (story.now.open[0].attempt, story.now.open[0].limit, story.now.losses) == (1, None, 0)
        story.do(command.CapacityMissed(story.us, "1", LIMIT))
    replay(records(story))


def test_nothing_begins_while_the_session_is_paused() -> None:
    story = waiting()
    story.do(command.Pause(story.us, story.by))
    assert (story.now.status, due_us(story.now)) == ("paused", None)
    assert found(story) == []
    story.do(command.Resume(story.us, story.by))
    assert (story.now.status, due_us(story.now)) == ("waiting", story.us)
    assert len(found(story)) == 1
    replay(records(story))


def test_nothing_begins_when_the_worker_is_about_to_stop() -> None:
    assert found(waiting(), may_begin=False) == []


@pytest.mark.parametrize(
    "kind", [command.CapacityFound, lambda at_us, call: command.CapacityMissed(at_us, call, LIMIT)]
)
def test_a_cancellation_that_crosses_it_ends_the_session_without_a_call(kind) -> None:
    story = waiting()
    story.do(command.Cancel(story.us, story.by))
    ended = story.do(kind(story.us, "1"))
    assert kinds(ended) == ["model.failed", "agent.cancelled"]
    assert isinstance(ended[0], ModelFailed)
    assert story.do(kind(story.us, "1")) == []
    replay(records(story))


def test_what_comes_too_late_changes_nothing() -> None:
    story = Story().start()
    story.reply(text="done")
    assert found(story) == []
    assert story.do(command.CapacityMissed(story.us, "1", LIMIT)) == []


def test_it_is_seen_in_lists_and_explained() -> None:
    story = waiting()
    shown = view(story.now)
    assert (shown.status, shown.waiting_for) == ("waiting", "capacity")
    row = None
    for record in records(story):
        row = evolve(row, record).row or row
    assert row is not None
    kept = SESSIONS.rows.unpack(SESSIONS.rows.pack(row)).state
    assert kept is not None
    assert (kept.status, kept.waiting_for) == ("waiting", "capacity")
    assert why_state(story.now, story.log).answer["under way"].endswith(f"waits for capacity: {LIMIT}")
    found(story)
    (call,) = calls(story.log)
    assert (call.attempts, call.retries, call.waits_for) == (1, [], "")


def test_a_session_with_a_priority_is_decided_again_as_it_was() -> None:
    story = Story()
    story.do(command.Start(story.us, "ses_1", story.spec, story.model, "Go.", story.by, priority=4))
    story.proceed()
    assert replay(records(story)).state.priority == 4
