"""A provider finds a request too long that was taken to fit: it is made shorter and asked once more, or given up."""

import pytest

from ostler.domain import context
from ostler.domain.agent import ContextSettings
from ostler.domain.context.estimate import estimated_input_tokens
from ostler.domain.model import ModelRef, Usage
from ostler.domain.session import commands as command
from ostler.domain.session.events import AgentFailed, ModelFailed, SessionEvent
from ostler.kernel.errors import ContextTooLong
from ostler.runtime.replay import replay, snapshot
from tests.domain.context import crowded
from tests.domain.context.crowded import compactions, recorded, requests, text_of
from tests.domain.session.story import Story, kinds
from tests.domain.session.test_choosing import Routed, card


def long_story(settings: ContextSettings | None = None) -> Story:
    """A session of some size, whose model's window nobody knows."""
    story = crowded.crowded(settings or ContextSettings()).start(crowded.GOAL)
    for turn in range(1, 9):
        story.reply(("look", {}))
        story.returned(f"{turn}.1", text_of(500))
    return story


def refused(story: Story, code: str = ContextTooLong.code) -> list[SessionEvent]:
    (call,) = story.now.open
    return story.do(command.ReplyFailed(story.us, call.id, code, "prompt is too long: 9 tokens > 8 maximum", 400))


def test_a_request_that_is_too_long_is_followed_by_a_shorter_one_until_it_passes() -> None:
    story = long_story()
    assert compactions(story) == []
    size = estimated_input_tokens(story.now)
    assert kinds(refused(story)) == ["model.failed", "context.compacted", "model.requested"]
    assert estimated_input_tokens(story.now) <= size // 2
    assert kinds(refused(story))[0] == "model.failed"
    assert estimated_input_tokens(story.now) <= size // 4
    story.reply(text="done")
    assert story.now.end is not None
    assert story.now.end.status == "completed"
    assert [event.code for event in crowded.events(story) if isinstance(event, ModelFailed)] == ["context_too_long"] * 2
    assert snapshot(replay(recorded(story)).state) == snapshot(story.now)


def test_what_cannot_be_any_shorter_ends_the_session_and_is_not_asked_again() -> None:
    story = long_story()
    asked = len(requests(story))
    for _ in range(20):
        if story.now.end is not None:
            break
        refused(story)
    assert story.now.end is not None
    assert story.now.end.reason == "context_overflow"
    assert len(requests(story)) - asked <= 4
    assert snapshot(replay(recorded(story)).state) == snapshot(story.now)


def test_a_session_stays_below_what_was_refused_until_as_much_has_passed() -> None:
    story = long_story()
    size = estimated_input_tokens(story.now)
    refused(story)
    assert context.window_of(story.now) == size
    story.reply(("look", {}), usage=Usage(size - 1, 10))
    assert context.window_of(story.now) == size
    story.returned("10.1", "ok")
    story.reply(("look", {}), usage=Usage(size, 10))
    assert context.window_of(story.now) is None


def test_a_summary_that_is_too_long_to_ask_for_is_done_without() -> None:
    story = long_story(ContextSettings(("summarise",)))
    refused(story)
    assert story.now.open[0].purpose == "summary"
    assert kinds(refused(story)) == ["model.failed", "context.compacted", "model.requested"]
    assert compactions(story)[-1].by == "trim"


@pytest.mark.parametrize("code", ["provider_rejected", "error"])
def test_what_is_refused_for_another_reason_ends_the_session_as_ever(code: str) -> None:
    story = long_story()
    assert kinds(refused(story, code)) == ["model.failed", "agent.failed"]


def test_sessions_of_before_and_trials_end_with_what_the_provider_says() -> None:
    story = crowded.crowded(ContextSettings())
    start = command.Start(story.us, "ses_1", story.spec, ModelRef("live", "p", "m"), "Do it.", story.by, gate=3)
    story.do(start)
    story.proceed()
    *_, end = refused(story)
    assert isinstance(end, AgentFailed)
    assert "prompt is too long" in end.message


def test_of_several_models_the_others_are_asked_before_anything_is_left_out() -> None:
    story = Routed(card("live:small"), card("live:large"), specs=crowded.SPECS).start(crowded.GOAL)
    for turn in range(1, 9):
        story.examine("live:large")
        story.reply(("look", {}))
        story.returned(f"{turn}.1", text_of(500))
    story.examine()
    assert kinds(refused(story)) == ["call.retried"]
    assert kinds(refused(story)) == ["model.failed", "context.compacted"]
    assert kinds(story.examine()) == ["call.examined", "model.requested"]
    story.decided_again()
