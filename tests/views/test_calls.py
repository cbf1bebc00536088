"""Calls as they are told: what was asked, what was said to it, what came of it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.domain.constraint.policy import Rule
from ostler.domain.hook import Deny, Ruling
from ostler.domain.model import AskedCall
from ostler.domain.session import commands as command
from ostler.domain.session.events import (
    ApprovalGranted,
    ApprovalRequested,
    CallExamined,
    ConstraintFailed,
    ModelCompleted,
    ToolRequested,
)
from ostler.domain.session.fork import Fact
from ostler.kernel.errors import NotFound
from ostler.kernel.event import timestamp
from ostler.views.calls import calls
from ostler.views.why import why_call, why_state
from tests.domain.session.story import Story
from tests.domain.session.test_replay_properties import live, stories

ASK = Rule("require", "pay", because="money is leaving", name="ask", within_s=60)
NEVER = Rule("deny", "save", because="read only", name="never")
DENIED = Ruling("manners", "pre_tool", Deny("too loud"))


def told(story: Story, call: str | None = None) -> dict[str, str]:
    explained = why_state(story.now, story.log) if call is None else why_call(story.now, story.log, call)
    return explained.answer


def test_a_call_that_went_well_has_its_times_and_its_outcome() -> None:
    story = Story().start()
    story.reply(("look", {"n": 1}))
    story.at += 2
    story.returned("1.1", "seen")
    model, look = calls(story.log)[:2]
    assert (model.tool, model.stage, model.seqs) == ("", "done", [2, 3])
    assert (look.stage, look.arguments, look.outcome, look.attempts) == ("done", {"n": 1}, "seen", 1)
    assert look.took_us == 2_000_000
    assert look.began < look.ended
    assert told(story, "1.1")["verdict"] == "allowed"


@settings(max_examples=60)
@given(stories(), st.data())
def test_the_calls_of_any_session_used_what_its_state_says_failed_attempts_included(
    story: Story, data: st.DataObject
) -> None:
    state, found = live(story, data).now, calls(story.log)
    assert sum(call.tokens for call in found) == state.usage.total_tokens
    assert sum(call.cost_microusd for call in found) == state.cost_microusd


def test_failures_that_are_the_same_are_told_once_and_the_moment_of_the_next_attempt_too() -> None:
    story = Story().start()
    for _ in range(2):
        story.do(command.ReplyFailed(story.us, "1", "provider_overloaded", "busy", 503, story.us + 1))
        story.at += 1
        story.do(command.WaitOver(story.us, "1"))
    story.do(command.ReplyFailed(story.us, "1", "rate_limited", "slower", 429, story.us + 5_000_000))
    answer = told(story)
    because = "2 times provider_overloaded: busy; rate_limited: slower"
    assert answer["under way"] == f"1 the model, attempt 4 (tried again: {because})"
    assert answer["next attempt"] == f"of 1 at {timestamp(story.us + 5_000_000)}"
    story.at += 5
    story.do(command.WaitOver(story.us, "1"))
    assert "next attempt" not in told(story)


def test_a_refused_call_names_rule_and_reason_and_was_not_attempted() -> None:
    story = Story(NEVER).start()
    story.reply(("save", {"n": 1}))
    save = calls(story.log)[1]
    assert (save.stage, save.kind, save.rule, save.reason, save.attempts) == (
        "refused",
        "blocked",
        "never",
        "read only",
        0,
    )
    answer = told(story, "1.1")
    assert answer["verdict"].startswith("refused")
    assert answer["asked"] == 'save {"n":1}'


def test_an_approved_call_names_who_approved() -> None:
    story = Story(ASK).start()
    story.reply(("pay", {"n": 1}), ("look", {}))
    assert [call.stage for call in calls(story.log)] == ["done", "waiting", "asked"]
    assert told(story)["verdict"] == "needs an approval, and waits for it"
    assert told(story, "1.2")["verdict"].startswith("not judged yet")
    story.approve("1.1", reason="due")
    assert told(story, "1.1")["verdict"] == "allowed after an approval"
    story.proceed()
    story.returned("1.1", "paid")
    answer = told(story, "1.1")
    assert answer["verdict"] == "allowed after an approval"
    assert answer["approved by"] == "local: due"
    assert answer["outcome"] == "paid"


def test_a_denied_call_names_who_denied() -> None:
    story = Story(ASK).start()
    story.reply(("pay", {"n": 1}))
    story.deny("1.1", "too dear")
    answer = told(story, "1.1")
    assert (answer["verdict"], answer["denied by"]) == ("needed an approval", "local: too dear")


def test_a_call_that_people_change_into_one_that_is_refused_was_approved_and_not_allowed() -> None:
    asked = ApprovalRequested("1.1", "pay", {"n": 1}, "ab", "careful", evidence=("'1': user",), policy="p@1/00")
    facts: list[Fact] = [
        (1, ModelCompleted("1", calls=(AskedCall("1.1", "pay", '{"n":1}'),))),
        (2, CallExamined("1.1", warnings=("80 % of a day's money is used",), hooks=(DENIED,), calls_left=2)),
        (3, asked),
        (4, ApprovalGranted("1.1", "ada", "cd", arguments={"n": "x"})),
        (5, ConstraintFailed("1.1", "pay", "invalid", "n: expected integer")),
    ]
    answer = why_call(Story().start().now, facts, "1.1").answer
    assert (answer["verdict"], answer["approved by"]) == ("refused: nothing was performed", "ada")
    assert "denied by" not in answer
    assert answer["evidence"] == "'1': user"
    assert answer["examined"].splitlines() == [
        "80 % of a day's money is used",
        "hook manners (pre_tool): deny: too loud",
        "the tightest budget leaves 2 calls",
    ]


def test_the_policy_that_decided_and_what_others_would_have_said_are_told() -> None:
    allowed = ToolRequested("1.1", "pay", {}, "p#1", "p@1/00", 0.25, ("deny new@2 new#1",))
    facts: list[Fact] = [(1, ModelCompleted("1", calls=(AskedCall("1.1", "pay", "{}"),))), (2, allowed)]
    answer = why_call(Story().start().now, facts, "1.1").answer
    assert [answer[name] for name in ("rule", "policy", "risk", "only tried")] == [
        "p#1",
        "p@1/00",
        "0.25",
        "deny new@2 new#1",
    ]


def test_an_expired_question_is_neither_approved_nor_denied() -> None:
    story = Story(ASK).start()
    story.reply(("pay", {"n": 1}))
    story.at += 61
    story.proceed()
    answer = told(story, "1.1")
    assert "neither a yes nor a no" in answer["approval"]
    assert "approved by" not in answer
    assert "denied by" not in answer


def test_an_event_of_a_call_leads_to_the_call_and_any_other_speaks_for_itself() -> None:
    story = Story().start()
    story.reply(("look", {"n": 1}))
    assert why_call(story.now, story.log, "4").question == "Why call 1.1"
    assert dict(why_call(story.now, story.log, "1").answer)["event"] == "agent.started"
    for name in ("0", "99", "7.7"):
        with pytest.raises(NotFound):
            why_call(story.now, story.log, name)


def test_the_state_of_a_session_is_explained_by_what_it_rests_on() -> None:
    story = Story().start()
    assert told(story)["under way"] == "1 the model, attempt 1"
    story.reply(("look", {}))
    assert told(story)["under way"] == "1.1 look, attempt 1"
    story.returned("1.1")
    story.reply(text="done")
    explained = why_state(story.now, story.log)
    assert explained.question == "Why the session ended so"
    assert explained.events == [len(story.log)]
    assert explained.answer == {"status": "completed", "reason": "final_answer", "said": "done"}
