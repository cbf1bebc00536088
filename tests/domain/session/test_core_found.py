"""What once went wrong where failures, waits, choices, compactions and people meet."""

from typing import Any

import pytest

from ostler.domain import context
from ostler.domain.agent import ContextSettings, Limits
from ostler.domain.constraint.compile import policy_of
from ostler.domain.constraint.policy import Rule
from ostler.domain.hook import Rewrite, Ruling
from ostler.domain.model import ToolMessage, Usage
from ostler.domain.session import commands as command
from ostler.domain.session.decide import decide
from ostler.domain.session.events import (
    AgentCompleted,
    AgentFailed,
    CallExamined,
    CallRetried,
    ModelFailed,
    ToolCompleted,
)
from ostler.domain.session.fork import fork, places_of
from ostler.domain.strategy.choice import Routing
from ostler.domain.tool import CODE, Suspension, ToolOutcome, failed
from ostler.runtime.replay import replay
from ostler.runtime.spending import Released, outcome_of
from tests.domain.context import crowded
from tests.domain.context.crowded import compactions, text_of
from tests.domain.session.story import PRICE, TOOLS, Story, kinds, spec
from tests.domain.session.test_attempts import fails, replays, waited
from tests.domain.session.test_choosing import A, B, Routed, card
from tests.domain.session.test_replay_properties import recorded

COUNTED = Limits(tokens=100_000, cost_microusd=10_000_000)


def ended_while_waiting(story: Story, how: str) -> None:
    if how == "kill":
        story.do(command.Kill(story.us, story.by))
        return
    if how == "fail":
        story.do(command.Fail(story.us, "internal_error", "a defect"))
        return
    story.do(command.Cancel(story.us, story.by))
    call = story.now.open[0]
    stopped: dict[str, Any] = {
        "take over": command.TakeOver(story.us),
        "stop": command.ReplyFailed(story.us, call.id, "cancelled", "the session was cancelled during this call"),
    }
    story.do(stopped[how])


@pytest.mark.parametrize("how", ["kill", "fail", "take over", "stop"])
@pytest.mark.parametrize("waits_for", ["timer", "capacity"])
def test_a_call_that_waits_is_nobodys_loss_and_costs_nothing_when_the_session_ends(how: str, waits_for: str) -> None:
    story = Story(limits=COUNTED, price=PRICE).start()
    if waits_for == "timer":
        fails(story, "rate_limited", after_s=60)
    else:
        story.do(command.CapacityMissed(story.us, "1", "model"))
    ended_while_waiting(story, how)
    outcome = next(event for _, event in story.log if isinstance(event, ModelFailed))
    assert (outcome.code, outcome.usage) == ("cancelled", Usage())
    assert (story.now.usage, story.now.cost_microusd) == (Usage(), 0)
    assert outcome_of("1", story.log) == Released()
    assert replays(story)


@pytest.mark.parametrize("how", ["kill", "fail", "take over"])
def test_a_once_call_that_never_began_is_not_unknown_when_the_session_ends(how: str) -> None:
    story = Story().start()
    story.reply(("pay", {}))
    story.do(command.ToolReturned(story.us, "1.1", failed("transient", "full"), retry_at_us=story.us + 9, code="shed"))
    ended_while_waiting(story, how)
    outcome = next(event for _, event in story.log if isinstance(event, ToolCompleted))
    assert outcome.kind == "cancelled"
    assert replays(story)


def test_what_was_reserved_for_a_reply_is_spent_if_time_ends_the_session_before_it_comes() -> None:
    limits = Limits(tokens=100_000, seconds=20.0)
    story = Story(limits=limits, price=PRICE).start()
    reserved = story.now.open[0].reserved_tokens
    story.at += 30
    assert kinds(story.proceed()) == ["model.failed", "agent.failed"]
    assert story.now.usage.total_tokens == reserved > 0
    assert replays(story)


def test_what_people_say_during_a_wait_is_no_part_of_the_request_that_is_tried_again() -> None:
    settings = ContextSettings(window_tokens=20_000)
    story = Story(context=settings, limits=COUNTED).start()
    fails(story, "rate_limited")
    story.do(command.Send(story.us, text_of(25_000), story.by))
    waited(story)
    (retried,) = fails(story, "incomplete_reply", partial="So")
    assert isinstance(retried, CallRetried)
    assert 0 < retried.usage.input_tokens < 1_000
    assert replays(story)


def test_a_fallback_is_not_held_to_the_shorter_replies_of_the_model_before() -> None:
    story = Routed(card(A, reply_tokens_max=4_096), card(B)).start()
    story.examine()
    before = story.now.open[0].max_tokens
    story.fail()
    assert story.asked == [A, B]
    assert (before, story.now.open[0].max_tokens) == (4_096, None)
    story.decided_again()


def test_answers_to_the_questions_of_other_policies_let_no_fallback_pass() -> None:
    before = 'default allow\ndeny model.b if count(model.b) within 1h per tenant > 90 as "often"'
    after = 'default allow\ndeny model.b if count(tool.pay) within 1h per tenant > 0 as "after-paying"'
    story = Routed(card(A), card(B), text=before).start()

    story.do(command.Examined(story.us, CallExamined("1", (0.0,), routing=Routing(story.us)), story.now))
    assert story.asked == [A]
    story.do(command.MovePolicy(story.us, story.by, policy_of(after)))
    story.fail()
    assert story.asked == [A, A]
    story.decided_again()


SUMMARISE = ContextSettings(("summarise",), window_tokens=6_000)


def test_a_summary_is_asked_for_although_the_next_turn_would_not_fit_any_more() -> None:
    story = crowded.crowded(SUMMARISE).start(crowded.GOAL)
    for turn in range(1, 4):
        story.reply(("look", {}))
        story.returned(f"{turn}.1", text_of(900))
    story.reply(("look", {}))
    story.returned("4.1", text_of(3_000))
    assert story.now.end is None
    (call,) = story.now.open
    assert call.purpose == "summary"
    story.reply(text="All is well so far.")
    assert story.now.open[0].purpose == "turn"
    assert compactions(story)[-1].by == "summarise"
    assert replays(story)


def until_a_summary(story: Story) -> Story:
    for turn in range(1, 100):
        story.reply(("look", {}))
        story.returned(f"{turn}.1", text_of(500))
        if story.now.open and story.now.open[0].purpose == "summary":
            return story
    raise AssertionError("nobody asked for a summary")


def test_a_summary_for_which_limits_leave_no_room_after_a_failure_is_done_without() -> None:
    story = until_a_summary(crowded.crowded(SUMMARISE, limits=Limits(tokens=20_000, attempts=3)).start(crowded.GOAL))
    used = Usage(20_000 - story.now.usage.total_tokens - 3_000, 0)
    happened = fails(story, "incomplete_reply", usage=used)
    assert kinds(happened)[:2] == ["model.failed", "context.compacted"]
    assert replays(story)


def test_a_worker_that_is_lost_again_and_again_over_a_summary_ends_the_summary_and_not_the_session() -> None:
    story = until_a_summary(crowded.crowded(SUMMARISE, limits=Limits(attempts=2)).start(crowded.GOAL))
    story.do(command.TakeOver(story.us))
    assert kinds(story.do(command.TakeOver(story.us))) == ["model.failed", "context.compacted", "model.requested"]
    assert replays(story)


def test_several_models_of_which_none_takes_the_next_turn_make_room_first() -> None:
    settings = ContextSettings(("summarise",))
    cards = card(A, window_tokens=6_000), card(B, window_tokens=5_000)
    story = Routed(*cards, specs=crowded.SPECS, context=settings).start()
    story.examine()
    for turn in range(1, 4):
        story.reply(("look", {}))
        story.returned(f"{turn}.1", text_of(900))
        story.examine()
        assert story.now.open[0].purpose == "turn"
    story.reply(("look", {}))
    story.returned("4.1", text_of(2_500))
    happened = story.examine()
    assert "agent.failed" not in kinds(happened)
    if not story.now.open:
        story.examine()
    assert story.now.open
    story.decided_again()


def test_a_model_whose_window_is_too_small_by_its_own_count_is_passed_over() -> None:
    small, large = "live:claude-a", "live:gpt-b"
    story = Routed(card(large, window_tokens=9_000), card(small, window_tokens=1_600)).start(text_of(1_400))
    story.examine()
    story.reply(("look", {}), usage=Usage(900, 10))
    story.returned("1.1")
    assert context.window_of(story.now) == 9_000
    story.examine(large, until_s=100)
    assert story.now.end is None
    story.decided_again()


RETURNS = {"type": "object", "properties": {"n": {"type": "integer", "default": 3}}}


def test_an_answer_that_hooks_put_in_its_place_is_kept_as_the_json_that_it_is() -> None:
    story = Story(returns=RETURNS, hooks=("polite",)).start()
    story.do(command.Examined(story.us, CallExamined("1"), story.now))
    story.reply(text='{"n": 1}')
    rewritten = Ruling("polite", "on_end", Rewrite(None))
    found = CallExamined("end", hooks=(rewritten,), arguments={"answer": "```json\n{}\n```"})
    happened = story.do(command.Examined(story.us, found, story.now))
    assert happened[-1] == AgentCompleted('{"n":3}')
    assert replays(story)


def test_a_fork_does_not_take_over_what_was_found_out_for_a_call_of_the_other_session() -> None:
    story = Story(hooks=("polite",)).start()
    story.do(command.Examined(story.us, CallExamined("1"), story.now))
    assert kinds([event for _, event in story.log]) == ["agent.started", "call.examined", "model.requested"]
    assert places_of(story.log) == [1]


def test_a_fork_of_a_session_that_was_killed_during_a_call_replays_although_others_could_have_been_asked() -> None:
    story = Routed(card(A), card(B)).start()
    story.examine()
    story.do(command.Kill(story.us, story.by))
    facts = fork(story.log, session="ses_2", by="anna", at_us=story.us)
    assert isinstance(facts[-2][1], ModelFailed)
    assert replay(recorded(facts, "ses_2")).state.end is None


def test_who_is_away_and_could_not_be_asked_anyway_is_explained_by_what_lasts() -> None:
    story = Routed(card(A, window_tokens=30), card(B, abilities=("images",))).start()
    end = story.examine(A, B, until_s=100)[-1]
    assert isinstance(end, AgentFailed)
    assert end.reason == "no_model"
    assert "breaker" not in end.message
    assert "live:b: it has no tools" in end.message
    story.decided_again()


@pytest.mark.parametrize("rule", [None, Rule("require", "pay")], ids=["under way", "waits for people"])
def test_of_a_program_that_is_killed_while_it_waits_for_a_call_a_fork_inherits_neither(rule: Rule | None) -> None:
    story = Story(*filter(None, [rule]), specs=(*TOOLS, spec(CODE, code={"type": "string"}))).start()
    story.reply((CODE, {"code": "pay(n=1)"}))
    waiting = ToolOutcome(True, "", suspension=Suspension("pay", {"n": 1}, b"saved"))
    story.do(command.ToolReturned(story.us, "1.1", waiting))
    story.do(command.Kill(story.us, story.by))
    facts = fork(story.log, session="ses_2", by="anna", at_us=story.us)
    records = recorded(facts, "ses_2")
    forked = replay(records).state
    assert (forked.asked, forked.question, forked.open) == ((), None, ())
    assert [message.call for message in forked.transcript if isinstance(message, ToolMessage)] == ["1.1"]
    assert kinds(decide(command.Proceed(story.us), forked).events) == ["model.requested"]
