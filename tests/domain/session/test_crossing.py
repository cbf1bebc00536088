"""Decisions that cross one another: whoever came first has decided, and nothing is counted that did not happen."""

from collections.abc import Callable

import pytest

from ostler.domain.agent import Limits
from ostler.domain.constraint.policy import Rule
from ostler.domain.session import commands as command
from ostler.domain.session.events import AgentCancelled, ApprovalRejected, CallRetried, SessionEvent
from ostler.domain.session.pending import pending
from ostler.domain.session.state import due_us
from tests.domain.session.story import SECOND, Story, kinds


def asking() -> Story:
    """A session that waits for approval of call 1.1."""
    story = Story(Rule("require", "pay")).start()
    story.reply(("pay", {}))
    return story


def limited(story: Story, *, for_s: float) -> list[SessionEvent]:
    """The model's provider asks to come back later."""
    retry_at = story.us + int(for_s * SECOND)
    failure = command.ReplyFailed(story.us, story.now.open[0].id, "rate_limited", "slow down", 429, retry_at)
    return story.do(failure)


ANSWERS: dict[str, Callable[[Story], list[SessionEvent]]] = {
    "approve": lambda story: story.approve("1.1"),
    "deny": lambda story: story.deny("1.1"),
}


@pytest.mark.parametrize("second", ANSWERS)
@pytest.mark.parametrize("first", ANSWERS)
def test_the_first_answer_to_a_question_is_the_answer(first: str, second: str) -> None:
    story = asking()
    assert len(ANSWERS[first](story)) == 1
    (late,) = ANSWERS[second](story)
    assert isinstance(late, ApprovalRejected)
    assert "is being waited for" in late.reason


@pytest.mark.parametrize("answer", ANSWERS)
def test_no_answer_is_taken_once_a_session_is_being_cancelled(answer: str) -> None:
    story = Story(Rule("require", "look", where={"n": ("2",)})).start()
    story.reply(("look", {"n": 1}), ("look", {"n": 2}))
    assert (len(pending(story.now)), story.now.question is not None) == (1, True)
    story.do(command.Cancel(story.us, story.by))
    assert kinds(story.approve("1.2") if answer == "approve" else story.deny("1.2")) == ["approval.rejected"]
    assert isinstance(story.returned("1.1")[-1], AgentCancelled)


def test_a_failure_that_crosses_a_cancellation_is_not_tried_again() -> None:
    story = Story().start()
    story.do(command.Cancel(story.us, story.by))
    assert kinds(limited(story, for_s=1)) == ["model.failed", "agent.cancelled"]


def test_waiting_as_long_as_the_provider_asks_costs_no_attempt() -> None:
    story = Story(limits=Limits(attempts=3)).start()
    for attempt in (2, 3):
        assert kinds(limited(story, for_s=60)) == ["call.retried"]
        assert due_us(story.now) == story.us + 60 * SECOND
        story.at += 60
        assert story.do(command.TakeOver(story.us)) == [CallRetried("1", attempt, "its time has come")]
        assert (story.now.open[0].attempt, story.now.open[0].not_before_us, due_us(story.now)) == (attempt, 0, 0)
    assert kinds(limited(story, for_s=60)) == ["model.failed", "agent.failed"]


def test_a_worker_that_is_lost_after_the_wait_is_counted() -> None:
    story = Story(limits=Limits(attempts=3)).start()
    limited(story, for_s=60)
    story.do(command.TakeOver(story.us))
    assert story.do(command.TakeOver(story.us)) == [CallRetried("1", 3, "worker lost")]
    assert kinds(story.do(command.TakeOver(story.us))) == ["model.failed", "agent.failed"]
