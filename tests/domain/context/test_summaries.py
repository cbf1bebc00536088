"""A summary by the model itself takes the place of old turns; where it cannot be had, they go without."""

import pytest

from ostler.domain import context
from ostler.domain.agent import ContextSettings, Limits
from ostler.domain.context.plan import SUMMARY_PROMPT
from ostler.domain.model import AssistantMessage, Reply, StopReason, Usage, UserMessage
from ostler.domain.session import commands as command
from ostler.domain.session.events import AgentPaused, ModelCompleted, ModelRequested
from ostler.kernel.errors import ConfigurationError
from ostler.runtime.replay import replay, snapshot
from tests.domain.context import crowded
from tests.domain.context.crowded import compactions, recorded, text_of
from tests.domain.session.story import PRICE, Story, kinds

SUMMARISE = ContextSettings(("summarise",), window_tokens=4_000)


def until_asked_for_a_summary(settings: ContextSettings = SUMMARISE, **agent: object) -> Story:
    """A session that looks at things until the model is asked for a summary."""
    story = crowded.crowded(settings, **agent).start(crowded.GOAL)
    for turn in range(1, 100):
        story.reply(("look", {}))
        story.returned(f"{turn}.1", text_of(200))
        if story.now.open[0].purpose == "summary":
            return story
    raise AssertionError("nobody asked for a summary")


@pytest.mark.parametrize("tools", ["native", "text"])
def test_the_model_is_shown_the_oldest_turns_once_more_and_asked_for_a_summary(tools: str) -> None:
    story = until_asked_for_a_summary(tools=tools)
    (call,) = story.now.open
    request = context.request(story.now, call)
    *shown, asked = request.messages
    assert asked == UserMessage(SUMMARY_PROMPT)
    assert shown == story.now.transcript[: call.covers]
    assert 1 < call.covers < len(story.now.transcript)
    assert request.settings.max_tokens == 500
    assert compactions(story) == []


def test_its_summary_takes_the_place_of_the_oldest_turns_and_the_next_turn_is_asked_for_at_once() -> None:
    story = until_asked_for_a_summary()
    steps, before = story.now.steps, len(story.now.transcript)
    assert kinds(story.reply(text="All is well so far.")) == [
        "model.completed",
        "context.compacted",
        "model.requested",
    ]
    (event,) = compactions(story)
    assert (event.by, event.summary) == ("summarise", "All is well so far.")
    assert event.tokens_after <= 2_000
    assert story.now.steps == steps + 1
    goal, summary, *rest = story.now.transcript
    assert goal == UserMessage(crowded.GOAL)
    assert isinstance(summary, UserMessage)
    assert summary.text.endswith("\n\nAll is well so far.")
    assert 0 < len(rest) < before
    assert story.now.open[0].purpose == "turn"
    assert story.now.answer is None


def test_a_second_summary_takes_the_place_of_the_first() -> None:
    story = until_asked_for_a_summary()
    story.reply(text="First.")
    while story.now.open[0].purpose == "turn":
        turn = story.now.steps
        story.reply(("look", {}))
        story.returned(f"{turn}.1", text_of(200))
    asked = context.request(story.now, story.now.open[0])
    assert any(isinstance(message, UserMessage) and "First." in message.text for message in asked.messages)
    story.reply(text="Second.")
    texts = [message.text for message in story.now.transcript if isinstance(message, UserMessage)]
    assert not any("First." in text for text in texts)
    assert sum("Second." in text for text in texts) == 1


def test_a_summary_costs_a_step_and_what_it_used() -> None:
    story = until_asked_for_a_summary(price=PRICE, limits=Limits(cost_microusd=10_000_000))
    requested = next(event for _, event in reversed(story.log) if isinstance(event, ModelRequested))
    assert (requested.purpose, requested.max_tokens) == ("summary", 500)
    assert requested.reserved_microusd > 0
    cost, used = story.now.cost_microusd, story.now.usage.total_tokens
    story.reply(text="Short.", usage=Usage(3_000, 100))
    assert story.now.usage.total_tokens == used + 3_100
    assert story.now.cost_microusd == cost + 3_000 * 3 + 100 * 15


@pytest.mark.parametrize(
    ("text", "stop", "asks"),
    [("", "end", False), ("Half a summ", "length", False), ("I cannot.", "refusal", False), ("I look.", "end", True)],
)
def test_a_reply_that_is_no_summary_is_done_without(text: str, stop: StopReason, asks: bool) -> None:
    story = until_asked_for_a_summary()
    call = story.now.open[0].id
    reply = Reply(text, crowded.asking("look") if asks else (), stop)
    happened = story.do(command.ReplyReceived(story.us, call, reply))
    assert kinds(happened) == ["model.completed", "context.compacted", "model.requested"]
    completed = happened[0]
    assert isinstance(completed, ModelCompleted)
    assert (completed.text, completed.calls, completed.defect) == ("", (), "The reply is no summary.")
    (event,) = compactions(story)
    assert (event.by, event.summary) == ("trim", "")
    assert (story.now.end, story.now.defects, story.now.open[0].purpose) == (None, 0, "turn")
    assert snapshot(replay(recorded(story)).state) == snapshot(story.now)


def test_a_request_for_a_summary_that_fails_is_done_without() -> None:
    story = until_asked_for_a_summary()
    failed = command.ReplyFailed(story.us, story.now.open[0].id, "provider_rejected", "no", 400)
    assert kinds(story.do(failed)) == ["model.failed", "context.compacted", "model.requested"]
    assert compactions(story)[0].by == "trim"
    assert snapshot(replay(recorded(story)).state) == snapshot(story.now)


def test_a_worker_that_stops_after_the_summary_leaves_it_to_the_next() -> None:
    story = until_asked_for_a_summary()
    call = story.now.open[0].id
    assert kinds(story.do(command.ReplyReceived(story.us, call, Reply("Short.")), may_begin=False)) == [
        "model.completed"
    ]
    assert kinds(story.proceed()) == ["context.compacted", "model.requested"]
    assert compactions(story)[0].summary == "Short."


def test_a_session_that_is_paused_while_its_summary_is_written_goes_on_with_it() -> None:
    story = until_asked_for_a_summary()
    story.do(command.Pause(story.us, story.by))
    assert kinds(story.reply(text="Short.")) == ["model.completed"]
    story.do(command.Resume(story.us, story.by))
    assert kinds(story.proceed()) == ["context.compacted", "model.requested"]


def test_what_people_can_mend_pauses_a_summary_too() -> None:
    story = until_asked_for_a_summary()
    failed = command.ReplyFailed(story.us, story.now.open[0].id, ConfigurationError.code, "no key")
    happened = story.do(failed)
    assert isinstance(happened[-1], AgentPaused)
    story.do(command.Resume(story.us, story.by))
    assert kinds(story.proceed()) == ["context.compacted", "model.requested"]


def test_references_first_and_then_a_summary() -> None:
    story = until_asked_for_a_summary(ContextSettings(("references", "summarise"), window_tokens=2_000))
    assert {event.by for event in compactions(story)} <= {"references"}
    story.reply(text="Short.")
    assert compactions(story)[-1].by == "summarise"


def test_what_a_person_says_meanwhile_is_not_lost() -> None:
    story = until_asked_for_a_summary()
    story.do(command.Send(story.us, "Look at the second file, too.", story.by))
    story.reply(text="Short.")
    assert story.now.transcript[-1] == UserMessage("Look at the second file, too.")
    assert isinstance(story.now.transcript[2], AssistantMessage)
