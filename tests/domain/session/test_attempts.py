"""Attempts that fail: what is made of them, what they are counted with, and when a call is not made once more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.domain.agent import Limits
from ostler.domain.model import ModelRef, Reply, Usage, cost_microusd
from ostler.domain.resilience.retry import Backoff, Retries
from ostler.domain.session import commands as command
from ostler.domain.session.events import CallRetried, ModelCompleted, ModelFailed, SessionEvent, ToolCompleted
from ostler.domain.session.pending import pending
from ostler.domain.session.state import due_us
from ostler.domain.tool import FailureKind, failed
from ostler.runtime.replay import replay, snapshot
from tests.domain.session.story import PRICE, SECOND, Story, kinds
from tests.domain.session.test_replay_properties import recorded

LIVE = ModelRef("live", "anthropic", "m", price=PRICE)


def fails(story: Story, code: str, *, after_s: float | None = 1, **more: object) -> list[SessionEvent]:
    """The attempt that is under way fails."""
    again_us = None if after_s is None else story.us + int(after_s * SECOND)
    return story.do(command.ReplyFailed(story.us, story.now.open[0].id, code, "no", 500, again_us, **more))  # type: ignore[arg-type]


def waited(story: Story, call: str = "1") -> list[SessionEvent]:
    story.at += 1
    return story.do(command.WaitOver(story.us, call))


def broke_off(story: Story, call: str, code: str = "transient", kind: FailureKind = "transient") -> list[SessionEvent]:
    outcome = failed(kind, "the other side hung up")
    return story.do(command.ToolReturned(story.us, call, outcome, retry_at_us=story.us + SECOND, code=code))


def replays(story: Story) -> bool:
    return snapshot(replay(recorded(story.log)).state) == snapshot(story.now)


def test_a_failed_attempt_says_how_it_failed_and_how_the_reply_began() -> None:
    story = Story().start()
    (retried,) = fails(story, "incomplete_reply", partial="Let me lo")
    assert isinstance(retried, CallRetried)
    assert (retried.attempt, retried.code, retried.status, retried.partial) == (2, "incomplete_reply", 500, "Let me lo")
    assert retried.because == "incomplete_reply: no"
    assert retried.usage.input_tokens > 0
    assert retried.usage.output_tokens == 3
    assert replays(story)


def test_what_waits_begins_only_after_the_log_says_so() -> None:
    story = Story().start()
    fails(story, "rate_limited")
    assert (story.now.status, due_us(story.now)) == ("waiting", story.us + SECOND)
    assert waited(story) == [CallRetried("1", 2, "its time has come")]
    assert (story.now.status, story.now.open[0].not_before_us) == ("running", 0)
    assert waited(story) == []
    assert replays(story)


def test_an_attempt_that_is_made_at_once_needs_no_other_word() -> None:
    story = Story().start()
    fails(story, "rate_limited", after_s=0)
    assert (story.now.status, due_us(story.now)) == ("running", 0)
    assert kinds(story.do(command.TakeOver(story.us))) == ["call.retried"]
    assert story.now.open[0].attempt == 3
    assert replays(story)


def test_a_worker_that_is_lost_while_a_call_waits_costs_no_attempt_and_nothing_else() -> None:
    story = Story(limits=Limits(tokens=100_000), price=PRICE).start()
    fails(story, "rate_limited", after_s=60)
    story.at += 61
    assert story.do(command.TakeOver(story.us)) == [CallRetried("1", 2, "its time has come")]
    assert (story.now.usage, story.now.losses) == (Usage(), 0)


def test_what_waits_does_not_begin_while_the_session_is_paused() -> None:
    story = Story().start()
    fails(story, "rate_limited", after_s=5)
    story.do(command.Pause(story.us, story.by))
    story.at += 6
    assert due_us(story.now) is None
    assert story.do(command.WaitOver(story.us, "1")) == []
    assert story.do(command.TakeOver(story.us)) == []
    story.do(command.Resume(story.us, story.by))
    assert due_us(story.now) == story.us - SECOND
    assert story.do(command.WaitOver(story.us, "1")) == [CallRetried("1", 2, "its time has come")]
    assert replays(story)


@pytest.mark.parametrize("code", ["shed", "circuit_open"])
def test_what_could_not_even_begin_is_no_attempt_and_waits_longer_each_time(code: str) -> None:
    story = Story(limits=Limits(attempts=2)).start()
    for failures in range(1, 8):
        (retried,) = fails(story, code)
        assert isinstance(retried, CallRetried)
        assert (retried.attempt, story.now.open[0].failures) == (1, failures)
        waited(story)
    assert kinds(fails(story, "rate_limited")) == ["call.retried"]
    waited(story)
    assert kinds(fails(story, "rate_limited")) == ["model.failed", "agent.failed"]
    assert replays(story)


def test_a_kind_of_failure_may_have_more_attempts_than_the_others() -> None:
    limits = Limits(attempts=1, retries=Retries(kinds=(Backoff("rate_limited", attempts=3),)))
    story = Story(limits=limits).start()
    assert [kinds(fails(story, "rate_limited", after_s=0)) for _ in range(2)] == [["call.retried"]] * 2
    assert kinds(fails(story, "rate_limited", after_s=0)) == ["model.failed", "agent.failed"]
    assert kinds(fails(Story(limits=limits).start(), "provider_timeout")) == ["model.failed", "agent.failed"]


def test_nothing_is_counted_where_the_model_never_began_to_answer() -> None:
    for code in ("provider_unreachable", "rate_limited", "provider_overloaded", "shed", "circuit_open"):
        story = Story(limits=Limits(tokens=100_000), price=PRICE).start()
        fails(story, code)
        assert (story.now.usage, story.now.cost_microusd) == (Usage(), 0)


def test_a_reply_that_broke_off_is_counted_with_the_question_and_with_what_came() -> None:
    story = Story(limits=Limits(tokens=100_000), price=PRICE).start()
    (retried,) = fails(story, "incomplete_reply", partial="x" * 400)
    assert isinstance(retried, CallRetried)
    assert retried.usage.output_tokens == 100
    assert 0 < retried.usage.input_tokens < 1000
    assert retried.cost_microusd == cost_microusd(retried.usage, PRICE)
    assert (story.now.usage, story.now.cost_microusd) == (retried.usage, retried.cost_microusd)


def test_an_attempt_of_which_nobody_knows_what_it_used_keeps_all_that_was_reserved() -> None:
    story = Story(limits=Limits(tokens=100_000, cost_microusd=1_000_000), price=PRICE).start()
    reserved, cost = story.now.open[0].reserved_tokens, story.now.open[0].reserved_microusd
    fails(story, "provider_timeout")
    assert (story.now.usage.total_tokens, story.now.cost_microusd) == (reserved, cost)
    waited(story)
    story.do(command.TakeOver(story.us))
    assert story.now.usage.total_tokens == 2 * reserved
    assert story.now.open[0].attempt == 3
    assert replays(story)


def test_what_the_provider_says_was_used_counts_more_than_any_estimate() -> None:
    story = Story(limits=Limits(tokens=100_000), price=PRICE).start()
    fails(story, "provider_timeout", usage=Usage(7, 2))
    assert story.now.usage == Usage(7, 2)


def test_a_session_without_limits_counts_no_worst_case() -> None:
    story = Story().start()
    story.do(command.TakeOver(story.us))
    assert story.now.usage == Usage()
    fails(story, "provider_timeout")
    assert story.now.usage.output_tokens == 0


def test_a_smaller_reply_is_asked_for_where_limits_leave_less_than_before() -> None:
    story = Story(limits=Limits(tokens=10_000)).start()
    before = story.now.open[0]
    fails(story, "incomplete_reply", partial="x" * 4000)
    after = story.now.open[0]
    assert before.max_tokens is not None
    assert after.max_tokens is not None
    assert before.max_tokens - after.max_tokens == story.now.usage.total_tokens
    assert story.now.usage.total_tokens + after.reserved_tokens == 10_000
    assert replays(story)


def test_no_attempt_is_made_for_which_limits_leave_no_room() -> None:
    story = Story(limits=Limits(tokens=10_000)).start()
    assert kinds(fails(story, "provider_timeout")) == ["model.failed", "agent.failed"]
    assert story.now.end is not None
    assert story.now.end.reason == "token_limit"
    assert "after provider_timeout: no" in story.now.end.text
    assert replays(story)


def test_a_lost_worker_may_have_used_up_what_there_was() -> None:
    story = Story(limits=Limits(tokens=10_000)).start()
    assert kinds(story.do(command.TakeOver(story.us))) == ["model.failed", "agent.failed"]
    assert story.now.end is not None
    assert story.now.end.reason == "token_limit"
    assert replays(story)


def test_a_live_model_that_does_not_say_what_it_used_is_counted_with_what_was_reserved() -> None:
    story = Story(limits=Limits(tokens=100_000), price=PRICE)
    story.model = LIVE
    story.start()
    reserved = story.now.open[0].reserved_tokens
    (completed, _) = story.do(command.ReplyReceived(story.us, "1", Reply("12 left")))
    assert isinstance(completed, ModelCompleted)
    assert (completed.usage.total_tokens, story.now.usage.total_tokens) == (reserved, reserved)
    assert replays(story)


def test_a_reply_that_came_from_an_equal_call_costs_nothing_and_says_so() -> None:
    story = Story(limits=Limits(tokens=100_000), price=PRICE)
    story.model = LIVE
    story.start()
    (completed, _) = story.do(command.ReplyReceived(story.us, "1", Reply("12 left"), shared_with="ses_2/1"))
    assert isinstance(completed, ModelCompleted)
    assert (completed.shared_with, completed.usage, story.now.cost_microusd) == ("ses_2/1", Usage(), 0)
    assert replays(story)


@given(
    st.lists(st.sampled_from(["incomplete_reply", "provider_timeout", "rate_limited", "lost", "shed"]), max_size=8),
    st.integers(2_000, 80_000),
)
def test_whatever_fails_what_is_spent_and_reserved_stays_within_the_limits(failures: list[str], tokens: int) -> None:
    limits = Limits(tokens=tokens, cost_microusd=tokens * 10, attempts=20)
    story = Story(limits=limits, price=PRICE).start()
    for failure in failures:
        if story.now.end is not None:
            break
        if failure == "lost":
            story.do(command.TakeOver(story.us))
        else:
            fails(story, failure, after_s=0, partial="so far")
        reserved = sum(call.reserved_tokens for call in story.now.open)
        cost = sum(call.reserved_microusd for call in story.now.open)
        assert story.now.usage.total_tokens + reserved <= tokens
        assert story.now.cost_microusd + cost <= tokens * 10 + len(failures)  # each is rounded up
    assert replays(story)


@pytest.mark.parametrize(("tool", "effect"), [("look", "read"), ("save", "idempotent"), ("edit", "reconcilable")])
def test_a_tool_that_fails_for_the_moment_is_called_again_and_the_model_hears_of_the_last_time(
    tool: str, effect: str
) -> None:
    story = Story().start()
    story.reply((tool, {}))
    said = len(story.now.transcript)
    for attempt in (2, 3):
        (retried,) = broke_off(story, "1.1")
        assert isinstance(retried, CallRetried)
        assert (retried.attempt, retried.because) == (attempt, "transient: the other side hung up")
        assert len(story.now.transcript) == said
        waited(story, "1.1")
    assert kinds(broke_off(story, "1.1")) == ["tool.completed", "model.requested"]
    assert story.spec.tool(tool).effect == effect  # type: ignore[union-attr]
    assert replays(story)


def test_a_tool_that_is_once_is_called_again_only_if_it_was_certainly_not_called() -> None:
    story = Story().start()
    story.reply(("pay", {}))
    (retried,) = broke_off(story, "1.1", "shed")
    assert isinstance(retried, CallRetried)
    assert (retried.attempt, retried.because) == (1, "shed: the other side hung up")
    waited(story, "1.1")
    assert kinds(broke_off(story, "1.1")) == ["tool.completed", "model.requested"]
    assert replays(story)


def test_a_once_call_that_waits_is_begun_by_whoever_takes_over_and_one_that_has_begun_never_again() -> None:
    story = Story().start()
    story.reply(("pay", {}))
    broke_off(story, "1.1", "circuit_open")
    assert story.do(command.TakeOver(story.us)) == [CallRetried("1.1", 1, "it still waits", story.us + SECOND)]
    story.at += 2
    assert story.do(command.TakeOver(story.us)) == [CallRetried("1.1", 1, "its time has come")]
    assert [work.call.id for work in pending(story.now)] == ["1.1"]
    (unknown, _) = story.do(command.TakeOver(story.us))
    assert isinstance(unknown, ToolCompleted)
    assert unknown.kind == "unknown"
    assert replays(story)


def test_a_cancelled_session_tries_nothing_again() -> None:
    story = Story().start()
    story.reply(("look", {}))
    story.do(command.Cancel(story.us, story.by))
    assert kinds(broke_off(story, "1.1")) == ["tool.completed", "agent.cancelled"]
    other = Story().start()
    fails(other, "rate_limited")
    other.do(command.Cancel(other.us, other.by))
    assert kinds(waited(other)) == ["model.failed", "agent.cancelled"]
    assert replays(other)


def test_sessions_that_began_before_this_go_on_as_they_began() -> None:
    """What they wrote of failures is what they still write, so that their logs are decided alike."""
    story = Story(limits=Limits(tokens=100_000), price=PRICE)
    story.do(command.Start(story.us, "ses_1", story.spec, story.model, "Do it.", story.by, gate=2))
    story.proceed()
    (retried,) = fails(story, "provider_timeout", partial="so")
    assert retried == CallRetried("1", 2, "provider_timeout: no", story.us + SECOND, partial="so")
    waited(story)
    story.do(command.TakeOver(story.us))
    assert story.now.usage == Usage()
    (failure, _) = fails(story, "provider_timeout", after_s=None)
    assert isinstance(failure, ModelFailed)
    assert replays(story)
