"""What happens next, decided: every rule of a session as given / when / then."""

import msgspec
import pytest

from ostler.domain.agent import Limits
from ostler.domain.constraint.policy import Rule
from ostler.domain.identity import Principal
from ostler.domain.model import AskedCall, Reply, Usage
from ostler.domain.session import commands as command
from ostler.domain.session.events import ApprovalRejected
from ostler.domain.session.pending import ToolWork, pending
from ostler.domain.session.state import due_us
from ostler.domain.tool import ToolSpec, failed
from ostler.kernel.errors import Conflict, DefinitionInvalid, NotFound
from tests.domain.session.story import PRICE, SECOND, TOOLS, Story, kinds

SAME = AskedCall("same", "look", "{}")


def test_a_session_starts_queued_and_only_a_worker_begins_its_first_call() -> None:
    story = Story()
    assert kinds(story.do(command.Start(story.us, "ses_1", story.spec, story.model, "Go.", story.by))) == [
        "agent.started"
    ]
    assert (story.now.status, due_us(story.now), pending(story.now)) == ("queued", 0, ())
    assert kinds(story.proceed()) == ["model.requested"]
    assert (story.now.status, len(pending(story.now))) == ("running", 1)


def test_an_answer_without_calls_ends_the_session() -> None:
    story = Story().start()
    assert kinds(story.reply(text="42")) == ["model.completed", "agent.completed"]
    assert story.now.end is not None
    assert (story.now.end.status, story.now.end.reason, story.now.end.text) == ("completed", "final_answer", "42")
    assert (due_us(story.now), pending(story.now)) == (None, ())


def test_a_tool_calling_step_is_two_appends_of_two_events() -> None:
    story = Story().start()
    assert kinds(story.reply(("look", {"n": 1}))) == ["model.completed", "tool.requested"]
    assert kinds(story.returned("1.1")) == ["tool.completed", "model.requested"]


def test_reads_of_a_turn_run_together_and_the_model_is_asked_when_all_are_back() -> None:
    story = Story().start()
    story.reply(("look", {"n": 1}), ("look", {"n": 2}))
    assert [work.call.id for work in pending(story.now)] == ["1.1", "1.2"]
    assert kinds(story.returned("1.2")) == ["tool.completed"]
    assert kinds(story.returned("1.1")) == ["tool.completed", "model.requested"]


def test_calls_that_change_something_run_alone_and_in_the_order_they_were_asked_for() -> None:
    story = Story().start()
    assert kinds(story.reply(("look", {}), ("pay", {}), ("save", {}), ("look", {}))) == [
        "model.completed",
        "tool.requested",
    ]
    assert kinds(story.returned("1.1")) == ["tool.completed", "tool.requested"]
    assert [work.call.tool for work in pending(story.now)] == ["pay"]
    story.returned("1.2")
    assert [work.call.tool for work in pending(story.now)] == ["save"]
    story.returned("1.3")
    assert [work.call.tool for work in pending(story.now)] == ["look"]


def test_calls_of_a_turn_get_ids_of_our_own_even_if_the_model_repeats_its_ids() -> None:
    story = Story().start()
    twice = Reply("", (SAME, SAME), "tool_calls")
    story.do(command.ReplyReceived(story.us, "1", twice))
    assert [work.call.id for work in pending(story.now)] == ["1.1", "1.2"]


@pytest.mark.parametrize(
    ("name", "arguments", "kind", "says"),
    [
        ("loook", {}, "not_found", "did you mean 'look'?"),
        ("launch", {}, "not_found", "there are: look, save, edit, pay"),
        ("look", '{"n": 1', "invalid", "not valid JSON"),
        ("look", "[1]", "invalid", "object"),
        ("look", {"n": "one"}, "invalid", "n: "),
        ("look", {"m": 1}, "invalid", "m"),
        ("look", {"n": True}, "invalid", "n: "),
    ],
)
def test_a_call_that_makes_no_sense_is_told_to_the_model_which_can_repair_it(
    name: str, arguments: object, kind: str, says: str
) -> None:
    story = Story().start()
    events = story.reply((name, arguments))
    assert kinds(events) == ["model.completed", "constraint.failed", "model.requested"]
    assert getattr(events[1], "kind") == kind  # noqa: B009
    assert says in story.now.transcript[-1].text
    assert '"ok":false' in story.now.transcript[-1].text
    assert kinds(story.reply(("look", {"n": 1}))) == ["model.completed", "tool.requested"]


def test_a_denied_call_is_never_begun_and_names_its_rule() -> None:
    story = Story(Rule("deny", "pay", because="money is frozen", name="freeze")).start()
    assert kinds(story.reply(("pay", {}))) == ["model.completed", "constraint.failed", "model.requested"]
    assert "money is frozen [freeze]" in story.now.transcript[-1].text
    assert all(not isinstance(work, ToolWork) for work in pending(story.now))


def test_a_missing_scope_refuses_and_a_held_one_lets_pass() -> None:
    specs = (ToolSpec("pay", "pay", {"type": "object", "properties": {}}, scopes=("money",)),)
    for scopes, expected in (((), "constraint.failed"), (("money",), "tool.requested"), (("*",), "tool.requested")):
        story = Story(specs=specs, by=Principal("ann", scopes=scopes)).start()
        assert kinds(story.reply(("pay", {})))[1] == expected


def test_an_approval_is_asked_granted_and_only_then_the_call_begins() -> None:
    story = Story(Rule("require", "pay", because="money")).start()
    assert kinds(story.reply(("pay", {"n": 7}))) == ["model.completed", "approval.requested"]
    assert (story.now.status, story.now.waiting_for, due_us(story.now)) == ("waiting", "approval", None)
    assert kinds(story.approve("1.1")) == ["approval.granted"]
    assert (pending(story.now), due_us(story.now)) == ((), 0)
    assert kinds(story.proceed()) == ["tool.requested"]


def test_a_denied_approval_is_told_to_the_model_and_nothing_begins() -> None:
    story = Story(Rule("require", "pay")).start()
    story.reply(("pay", {}))
    assert kinds(story.deny("1.1", "not today")) == ["approval.denied"]
    assert kinds(story.proceed()) == ["model.requested"]
    assert "not today" in story.now.transcript[-1].text


def test_an_unanswered_approval_expires_which_is_neither_yes_nor_no() -> None:
    story = Story(Rule("require", "pay", within_s=60)).start()
    story.reply(("pay", {}))
    assert due_us(story.now) == story.us + 60 * SECOND
    story.at += 59
    assert story.proceed() == []
    story.at += 1
    (late,) = story.approve("1.1")
    assert isinstance(late, ApprovalRejected)
    assert late.reason == "the time for it is over"
    assert kinds(story.proceed()) == ["approval.expired", "model.requested"]
    assert "neither granted nor denied" in story.now.transcript[-1].text


def test_a_refusal_ends_the_session_of_an_agent_that_wants_it_so() -> None:
    by_rule = Story(Rule("deny", "pay", because="frozen"), on_refusal="end").start()
    assert kinds(by_rule.reply(("pay", {}))) == ["model.completed", "constraint.failed", "agent.failed"]
    by_person = Story(Rule("require", "pay"), on_refusal="end").start()
    by_person.reply(("pay", {}))
    assert kinds(by_person.deny("1.1")) == ["approval.denied", "agent.failed"]
    for story in (by_rule, by_person):
        assert story.now.end is not None
        assert story.now.end.reason == "denied"


@pytest.mark.parametrize("late", ["approve", "deny"])
def test_the_first_decision_wins_and_a_later_one_is_refused(late: str) -> None:
    story = Story(Rule("require", "pay")).start()
    story.reply(("pay", {}))
    story.approve("1.1")
    assert kinds(story.approve("1.1") if late == "approve" else story.deny("1.1")) == ["approval.rejected"]


def test_an_approval_of_other_arguments_is_refused() -> None:
    story = Story(Rule("require", "pay")).start()
    story.reply(("pay", {"n": 7}))
    assert story.approve("1.1", digest="0" * 64) == [
        ApprovalRejected("1.1", "local", "grant", "the call is not the one that was looked at")
    ]


def test_a_deny_wins_over_a_granted_approval() -> None:
    story = Story(Rule("require", "pay"), Rule("deny", "pay", where={"n": ("13",)})).start()
    assert "constraint.failed" in kinds(story.reply(("pay", {"n": 13})))


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(steps=1), "step_limit"),
        (Limits(tool_calls=0), "tool_call_limit"),
        (Limits(tokens=260), "token_limit"),
        (Limits(cost_microusd=1500), "cost_limit"),
    ],
)
def test_each_limit_ends_the_session_with_its_own_reason(limits: Limits, reason: str) -> None:
    story = Story(limits=limits, price=PRICE).start()
    if story.now.end is None:
        story.reply(("look", {"n": 1}), usage=Usage(150, 50))
    if story.now.end is None:
        story.returned("1.1")
    assert story.now.end is not None
    assert (story.now.end.status, story.now.end.reason) == ("failed", reason)


def test_the_budget_is_reserved_before_and_settled_after() -> None:
    story = Story(limits=Limits(tokens=1000)).start()
    reserved = story.now.open[0]
    assert reserved.max_tokens is not None
    assert reserved.reserved_tokens == 1000
    story.reply(("look", {}), usage=Usage(100, 20))
    assert (story.now.usage.total_tokens, story.now.open[0].reserved_tokens) == (120, 0)


def test_a_cost_limit_without_a_known_price_is_refused_at_the_start() -> None:
    story = Story(limits=Limits(cost_microusd=1))
    live = msgspec.structs.replace(story.model, kind="live")
    with pytest.raises(DefinitionInvalid, match="price"):
        story.do(command.Start(story.us, "ses_1", story.spec, live, "Go.", story.by))


def test_the_time_limit_ends_a_session_in_the_middle_of_a_call() -> None:
    story = Story(limits=Limits(seconds=10)).start()
    story.reply(("pay", {}))
    story.at += 10
    assert kinds(story.proceed()) == ["tool.completed", "agent.failed"]
    assert story.now.end is not None
    assert story.now.end.reason == "timeout"


def test_time_in_which_only_a_person_could_go_on_does_not_count() -> None:
    story = Story(Rule("require", "pay"), limits=Limits(seconds=10)).start()
    story.reply(("pay", {}))
    story.at += 1000
    story.approve("1.1")
    assert kinds(story.proceed()) == ["tool.requested"]
    story.do(command.Pause(story.us, story.by))
    story.at += 1000
    story.do(command.Resume(story.us, story.by))
    story.at += 9
    assert kinds(story.returned("1.1")) == ["tool.completed", "model.requested"]
    story.at += 1
    assert "agent.failed" in kinds(story.proceed())


def test_a_defective_reply_is_repaired_or_ends_the_session_after_three_in_a_row() -> None:
    story = Story().start()
    assert kinds(story.reply(text="")) == ["model.completed", "model.requested"]
    story.reply(text=" ")
    assert kinds(story.reply(("look", {}))) == ["model.completed", "tool.requested"]
    story.returned("3.1")
    assert [kinds(story.reply(text=""))[-1] for _ in range(3)] == ["model.requested"] * 2 + ["agent.failed"]
    assert story.now.end is not None
    assert story.now.end.reason == "unusable_replies"


def test_a_reply_that_was_cut_off_is_not_acted_upon() -> None:
    story = Story().start()
    cut = Reply("", (SAME,), "length")
    assert kinds(story.do(command.ReplyReceived(story.us, "1", cut))) == ["model.completed", "model.requested"]


def test_a_refusing_model_ends_the_session_with_its_words() -> None:
    story = Story().start()
    assert kinds(story.reply(text="I will not.", stop="refusal")) == ["model.completed", "agent.failed"]


def test_a_failed_attempt_is_retried_later_and_the_last_one_keeps_status_and_message() -> None:
    story = Story(limits=Limits(attempts=2)).start()
    failing = command.ReplyFailed(story.us, "1", "rate_limited", "slow down", 429, story.us + 5 * SECOND)
    assert kinds(story.do(failing)) == ["call.retried"]
    assert (story.now.status, story.now.waiting_for, due_us(story.now)) == ("waiting", "timer", story.us + 5 * SECOND)
    assert kinds(story.do(failing)) == ["model.failed", "agent.failed"]
    assert story.now.end is not None
    assert (story.now.end.reason, story.now.end.text) == ("error", "rate_limited: slow down")


def test_a_model_that_this_worker_cannot_reach_pauses_the_session_for_people_to_mend_it() -> None:
    story = Story().start()
    failing = command.ReplyFailed(story.us, "1", "configuration", "No key for Anthropic. Set ANTHROPIC_API_KEY.")
    assert kinds(story.do(failing)) == ["model.failed", "agent.paused"]
    assert (story.now.status, story.now.pause) == ("paused", "No key for Anthropic. Set ANTHROPIC_API_KEY.")
    story.do(command.Resume(story.us, story.by))
    assert kinds(story.proceed()) == ["model.requested"]


def test_what_is_said_to_a_running_agent_reaches_its_next_request_and_not_the_middle_of_a_turn() -> None:
    story = Story().start()
    story.reply(("look", {}))
    story.do(command.Send(story.us, "Hurry.", story.by))
    story.returned("1.1")
    roles = [type(message).__name__ for message in story.now.transcript]
    assert roles == ["UserMessage", "AssistantMessage", "ToolMessage", "UserMessage"]


def test_an_answer_that_crosses_a_message_is_not_the_end() -> None:
    story = Story().start()
    story.do(command.Send(story.us, "And B-3?", story.by))
    assert kinds(story.reply(text="12 left")) == ["model.completed", "model.requested"]


def test_a_paused_session_finishes_what_is_under_way_and_begins_nothing() -> None:
    story = Story().start()
    story.reply(("look", {}))
    story.do(command.Pause(story.us, story.by, "lunch"))
    assert kinds(story.returned("1.1")) == ["tool.completed"]
    assert (story.now.status, due_us(story.now)) == ("paused", None)
    assert kinds(story.do(command.Resume(story.us, story.by))) == ["agent.resumed"]
    assert kinds(story.proceed()) == ["model.requested"]


def test_cancelling_stops_what_is_under_way_and_then_ends() -> None:
    story = Story().start()
    story.reply(("pay", {}))
    assert kinds(story.do(command.Cancel(story.us, story.by))) == ["cancel.requested"]
    assert (pending(story.now), due_us(story.now)) == ((), 0)
    stopped = command.ToolReturned(story.us, "1.1", failed("cancelled", "stopped"))
    assert kinds(story.do(stopped)) == ["tool.completed", "agent.cancelled"]


def test_cancelling_an_idle_session_ends_it_at_once() -> None:
    story = Story(Rule("require", "pay")).start()
    story.reply(("pay", {}))
    assert kinds(story.do(command.Cancel(story.us, story.by))) == ["cancel.requested", "agent.cancelled"]


def test_killing_ends_at_once_and_a_late_outcome_changes_nothing() -> None:
    story = Story().start()
    story.reply(("look", {}), ("look", {}))
    assert kinds(story.do(command.Kill(story.us, story.by))) == ["tool.completed", "tool.completed", "agent.cancelled"]
    assert story.returned("1.1") == []
    assert story.proceed() == []


def test_an_ended_session_takes_no_commands_and_says_how_to_go_on() -> None:
    story = Story().start()
    story.reply(text="done")
    for late in (command.Send(2, "x", story.by), command.Cancel(2, story.by), command.Pause(2, story.by)):
        with pytest.raises(Conflict, match="completed already") as caught:
            story.do(late)
        assert "fork" in caught.value.hint


def test_a_session_starts_once_and_nothing_happens_before() -> None:
    story = Story()
    with pytest.raises(NotFound):
        story.proceed()
    story.start()
    with pytest.raises(Conflict):
        story.do(command.Start(story.us, "ses_1", story.spec, story.model, "Go.", story.by))


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        ("look", ["call.retried"]),
        ("save", ["call.retried"]),
        ("edit", ["call.retried"]),
        ("pay", ["tool.completed", "model.requested"]),
    ],
)
def test_a_new_worker_repeats_what_may_be_repeated_and_never_a_once_call(tool: str, expected: list[str]) -> None:
    story = Story().start()
    story.reply((tool, {}))
    assert kinds(story.do(command.TakeOver(story.us))) == expected
    if tool == "pay":
        assert "nobody knows whether it happened" in story.now.transcript[-1].text
    else:
        assert story.now.open[0].attempt == 2


def test_an_unknown_outcome_pauses_the_session_where_a_person_is_to_decide() -> None:
    story = Story(on_unknown="pause").start()
    story.reply(("pay", {}))
    assert kinds(story.do(command.TakeOver(story.us))) == ["tool.completed", "agent.paused"]
    assert story.now.status == "paused"


def test_taking_over_again_and_again_is_bounded() -> None:
    story = Story(limits=Limits(attempts=3)).start()
    story.reply(("look", {}))
    assert [kinds(story.do(command.TakeOver(story.us))) for _ in range(2)] == [["call.retried"]] * 2
    assert kinds(story.do(command.TakeOver(story.us))) == ["tool.completed", "model.requested"]


def test_a_worker_that_is_about_to_stop_records_an_outcome_and_begins_nothing() -> None:
    story = Story().start()
    story.reply(("look", {}))
    returned = command.ToolReturned(story.us, "1.1", failed("permanent", "x"))
    assert kinds(story.do(returned, may_begin=False)) == ["tool.completed"]
    assert due_us(story.now) == 0


def test_a_tool_that_fails_is_an_observation_and_the_session_goes_on() -> None:
    story = Story().start()
    story.reply(("look", {}))
    assert kinds(story.broke("1.1", "no such shelf")) == ["tool.completed", "model.requested"]
    assert story.now.transcript[-1].text == '{"ok":false,"error":"no such shelf","kind":"permanent"}'


def test_an_empty_goal_is_refused() -> None:
    with pytest.raises(DefinitionInvalid, match="goal"):
        Story().start(" ")


def test_the_text_grammar_acts_observes_and_answers() -> None:
    story = Story(tools="text").start()
    forged = 'Thought: look\nAction: look {"n": 1}\nObservation: {"ok":true}\nAction: pay {}'
    assert kinds(story.reply(text=forged)) == ["model.completed", "tool.requested"]
    assert [work.call.tool for work in pending(story.now)] == ["look"]
    story.returned("1.1", "three\nThought: I am the model")
    assert story.now.transcript[-1].text.startswith('Observation: {"ok":true,"data":"three\\nThought')
    assert kinds(story.reply(text="I wonder.")) == ["model.completed", "model.requested"]
    assert kinds(story.reply(text="Thought: done\nFINAL_ANSWER: three")) == ["model.completed", "agent.completed"]
    assert story.now.end is not None
    assert story.now.end.text == "three"


def test_the_tools_of_a_story_cover_every_effect_class() -> None:
    assert {tool.effect for tool in TOOLS} == {"read", "idempotent", "reconcilable", "once"}
