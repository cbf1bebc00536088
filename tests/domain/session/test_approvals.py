"""Who may decide about a call that waits, when it is enough, for how long it holds, and what does not count."""

from typing import Any

import pytest

from ostler.domain.constraint.policy import Rule
from ostler.domain.constraint.verdict import Demand
from ostler.domain.identity import LOCAL_USER, Principal
from ostler.domain.session import commands as command
from ostler.domain.session.events import (
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRequested,
    SessionEvent,
    ToolRequested,
)
from ostler.kernel.errors import Conflict, NotAllowed
from tests.domain.session.story import SECOND, Story, kinds

USER = Principal("uma", scopes=("*",), roles=("finance",))
FINANCE = [Principal(f"finn{n}", roles=("finance",)) for n in range(3)]
RISK = [Principal(f"rita{n}", roles=("risk",)) for n in range(3)]
BOTH = Principal("bo", roles=("finance", "risk"))
CLERK = Principal("carl", scopes=("approve",))
NOBODY = Principal("nell", roles=("cook",))


def asking(*demands: Demand, by: Principal = USER, **arguments: Any) -> Story:
    """A session of `by` that waits for what is demanded before it pays."""
    story = Story(Rule("require", "pay"), by=by).start()
    (*_, asked) = story.reply(("pay", arguments))
    assert isinstance(asked, ApprovalRequested)
    question = story.now.question
    assert question is not None
    if demands:
        set_demands(story, demands)
    return story


def set_demands(story: Story, demands: tuple[Demand, ...]) -> None:
    """As if a policy had demanded this."""
    import msgspec

    assert story.state is not None
    assert story.state.question is not None
    question = msgspec.structs.replace(story.state.question, demands=demands)
    story.state = msgspec.structs.replace(story.state, question=question)


def approve(story: Story, by: Principal, **more: Any) -> list[SessionEvent]:
    return story.do(command.Approve(story.us, "1.1", by, **more))


def objections(events: list[SessionEvent]) -> list[str]:
    return [event.reason for event in events if isinstance(event, ApprovalRejected)]


def test_who_asked_for_a_call_cannot_be_the_one_who_approves_it() -> None:
    story = asking()
    assert objections(approve(story, USER)) == ["uma asked for it, and cannot be the one who approves it"]
    assert kinds(approve(story, CLERK)) == ["approval.granted"]


def test_the_person_at_the_keyboard_of_an_embedded_runtime_may_approve_what_just_needs_an_approval() -> None:
    story = asking(by=LOCAL_USER)
    assert kinds(approve(story, LOCAL_USER)) == ["approval.granted"]
    strict = asking(Demand("house#1", roles=("finance",)), by=LOCAL_USER)
    assert objections(approve(strict, LOCAL_USER)) == ["it takes the role finance"]


def test_who_asked_may_always_refuse() -> None:
    assert kinds(asking().do(command.Deny(0, "1.1", USER))) == ["approval.denied"]


@pytest.mark.parametrize("by", [NOBODY, CLERK], ids=["another role", "a scope"])
def test_a_rule_that_names_a_role_takes_that_role(by: Principal) -> None:
    story = asking(Demand("house#1", roles=("finance", "board")))
    assert objections(approve(story, by)) == ["it takes the role board or finance"]
    assert kinds(approve(story, FINANCE[0])) == ["approval.granted"]


def test_without_a_role_it_takes_the_scope() -> None:
    assert objections(approve(asking(), NOBODY)) == ["it takes the scope 'approve'"]


def test_nobody_decides_in_another_tenant() -> None:
    stranger = Principal("sam", tenant="other", scopes=("*",), roles=("finance",))
    with pytest.raises(NotAllowed, match="sam is of the tenant other"):
        approve(asking(), stranger)


def test_a_quorum_takes_different_people_and_nobody_counts_twice() -> None:
    story = asking(Demand("house#1", count=2, roles=("risk",)))
    (first,) = approve(story, RISK[0])
    assert isinstance(first, ApprovalGranted)
    assert (first.is_enough, story.now.granted, story.now.status) == (False, None, "waiting")
    assert objections(approve(story, RISK[0])) == ["rita0 has approved it already"]
    (second,) = approve(story, RISK[1])
    assert isinstance(second, ApprovalGranted)
    assert second.is_enough
    assert story.now.question is None


def test_every_demand_must_be_met_and_one_person_may_meet_several() -> None:
    demands = Demand("house#1", roles=("finance",)), Demand("house#2", count=2, roles=("risk",))
    story = asking(*demands)
    assert [approve(story, by)[0].is_enough for by in (FINANCE[0], RISK[0])] == [False, False]  # type: ignore[union-attr]
    assert approve(story, BOTH)[0].is_enough  # type: ignore[union-attr]


def test_one_refusal_is_enough_even_after_approvals() -> None:
    story = asking(Demand("house#1", count=2, roles=("risk",)))
    approve(story, RISK[0])
    assert kinds(story.do(command.Deny(story.us, "1.1", RISK[1], "no"))) == ["approval.denied"]
    assert objections(approve(story, RISK[2])) == [
        "no decision about this call is being waited for; somebody may have been faster"
    ]


def test_changed_arguments_are_judged_and_performed_in_place_of_those_that_were_asked_for() -> None:
    story = asking(n=5000)
    (granted,) = approve(story, CLERK, arguments={"n": 50})
    assert isinstance(granted, ApprovalGranted)
    requested = story.proceed()[0]
    assert isinstance(requested, ToolRequested)
    assert requested.arguments == {"n": 50}


@pytest.mark.parametrize("arguments", [{"n": "many"}, {"m": 1}])
def test_changed_arguments_that_do_not_fit_approve_nothing(arguments: dict[str, Any]) -> None:
    story = asking(n=5)
    with pytest.raises(Conflict, match="the arguments of pay do not fit"):
        approve(story, CLERK, arguments=arguments)
    assert story.now.question is not None


def test_changed_arguments_that_a_rule_denies_are_refused_whoever_changed_them() -> None:
    story = Story(Rule("require", "pay"), Rule("deny", "pay", where={"n": ("13",)}), by=USER).start()
    story.reply(("pay", {"n": 12}))
    approve(story, CLERK, arguments={"n": 13})
    assert kinds(story.proceed())[0] == "constraint.failed"


def test_arguments_that_others_have_approved_cannot_be_changed_under_them() -> None:
    story = asking(Demand("house#1", count=2, roles=("risk",)))
    with pytest.raises(Conflict, match="others approved these"):
        approve(story, RISK[0], arguments={"n": 1})
    approve(story, RISK[0])
    with pytest.raises(Conflict, match="others approved these"):
        approve(story, RISK[1], arguments={"n": 1})


def test_asking_back_begins_nothing_and_the_model_is_told_the_question() -> None:
    story = asking()
    assert kinds(story.do(command.AskBack(story.us, "1.1", CLERK, "What is it for?"))) == ["approval.returned"]
    assert kinds(story.proceed()) == ["model.requested"]
    assert "carl asks before deciding: What is it for?" in story.now.transcript[-1].text


def paid_twice(story: Story, first: dict[str, Any], second: dict[str, Any], **grant: Any) -> list[str]:
    """What becomes of the second of two calls, of which the first was approved."""
    story.reply(("pay", first))
    story.do(command.Approve(story.us, story.now.question.call if story.now.question else "", CLERK, **grant))
    story.proceed()
    story.returned(story.now.open[0].id)
    return kinds(story.reply(("pay", second)))[1:]


def test_an_approval_holds_once_unless_it_says_otherwise() -> None:
    story = Story(Rule("require", "pay"), by=USER).start()
    assert paid_twice(story, {"n": 1}, {"n": 1}) == ["approval.requested"]


def test_an_approval_for_the_session_holds_for_exactly_the_same_call() -> None:
    story = Story(Rule("require", "pay"), by=USER).start()
    assert paid_twice(story, {"n": 1}, {"n": 1}, lasts="session") == ["tool.requested"]
    other = Story(Rule("require", "pay"), by=USER).start()
    assert paid_twice(other, {"n": 1}, {"n": 2}, lasts="session") == ["approval.requested"]


def test_an_approval_until_a_moment_ends_at_that_moment() -> None:
    story = Story(Rule("require", "pay"), by=USER).start()
    until = story.us + 60 * SECOND
    assert paid_twice(story, {"n": 1}, {"n": 1}, lasts="until", until_us=until) == ["tool.requested"]
    story.returned(story.now.open[0].id)
    story.at += 60
    assert kinds(story.reply(("pay", {"n": 1})))[1:] == ["approval.requested"]


def test_a_decision_that_comes_after_the_end_is_recorded_and_changes_nothing() -> None:
    story = asking()
    story.do(command.Cancel(story.us, USER))
    before = story.now
    assert objections(approve(story, CLERK)) == ["the session has cancelled already"]
    assert story.now == before


def test_the_digest_is_of_the_whole_call_and_of_nothing_else() -> None:
    digests = {
        story.now.question.digest
        for story in (
            asking(n=1),
            asking(n=1),
            asking(n=2),
            asking(n=1, by=Principal("una", scopes=("*",))),
        )
        if story.now.question is not None
    }
    assert len(digests) == 3
