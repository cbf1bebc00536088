"""A session in public: everything people look for, computed from its state alone."""

from ostler.domain.constraint.policy import Rule
from ostler.domain.model import Usage
from ostler.domain.session import commands as command
from ostler.views.sessions import approval, unreadable, view
from tests.domain.session.story import PRICE, Story


def test_a_running_session_shows_what_it_is_and_what_it_has_used() -> None:
    story = Story(price=PRICE).start("Count.")
    story.reply(("look", {}), usage=Usage(1000, 100, 10, 1))
    seen = view(story.now)
    assert (seen.id, seen.agent, seen.status, seen.waiting_for, seen.goal) == (
        "ses_1",
        "clerk@1",
        "running",
        None,
        "Count.",
    )
    assert (seen.model, seen.model_kind, seen.started) == ("scripted:m", "scripted", "1970-01-01T00:00:01.000000Z")
    assert (seen.steps, seen.tool_calls, seen.tokens, seen.cost_microusd) == (1, 1, 1111, 4533)
    assert (seen.reason, seen.text, seen.approval, seen.origin) == (None, None, None, None)


def test_a_waiting_session_shows_the_question_with_exactly_what_would_be_done() -> None:
    story = Story(Rule("require", "pay", because="money", within_s=60, name="ask")).start()
    story.reply(("pay", {"n": 3}))
    seen = view(story.now)
    assert (seen.status, seen.waiting_for) == ("waiting", "approval")
    assert seen.approval is not None
    assert (seen.approval.session, seen.approval.call, seen.approval.tool) == ("ses_1", "1.1", "pay")
    assert (seen.approval.arguments, seen.approval.rule, seen.approval.reason) == ({"n": 3}, "ask", "money")
    assert seen.approval.expires == "1970-01-01T00:01:01.000000Z"
    assert story.now.question is not None
    assert seen.approval.digest == story.now.question.digest


def test_a_question_without_a_limit_never_expires_and_ends_with_its_session() -> None:
    story = Story(Rule("require", "pay")).start()
    story.reply(("pay", {}))
    asked = approval(story.now)
    assert asked is not None
    assert asked.expires is None
    story.do(command.Kill(story.us, story.by))
    assert approval(story.now) is None
    assert view(story.now).approval is None


def test_a_session_that_waits_to_be_tried_again_waits_for_a_timer() -> None:
    story = Story().start()
    story.do(command.ReplyFailed(story.us, "1", "rate_limited", "slow down", 429, story.us + 60))
    assert (view(story.now).status, view(story.now).waiting_for) == ("waiting", "timer")


def test_a_paused_session_shows_why_and_an_ended_one_how() -> None:
    story = Story().start()
    story.do(command.Pause(story.us, story.by, "lunch"))
    assert (view(story.now).status, view(story.now).reason) == ("paused", "lunch")
    story.do(command.Resume(story.us, story.by))
    story.reply(text="three")
    seen = view(story.now)
    assert (seen.status, seen.reason, seen.text) == ("completed", "final_answer", "three")


def test_a_session_whose_log_cannot_be_read_is_shown_with_the_problem() -> None:
    seen = unreadable("ses_9", "clerk", "quarantined", "Event 2 was altered.")
    assert (seen.id, seen.agent, seen.status, seen.reason, seen.text) == (
        *("ses_9", "clerk", "quarantined", "unreadable"),
        "Event 2 was altered.",
    )
