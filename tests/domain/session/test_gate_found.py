"""What an adversarial reading of the gate has found, and must stay closed."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.domain import gate
from ostler.domain.constraint.policy import Policy, Rule
from ostler.domain.governance import Governance, PolicyApplied, PolicyProposed, apply, evolve
from ostler.domain.hook import Ask, Deny, Rewrite, Ruling
from ostler.domain.identity import Principal
from ostler.domain.model import AskedCall, Reply
from ostler.domain.session import commands as command
from ostler.domain.session.events import (
    ApprovalGranted,
    ApprovalRequested,
    CallExamined,
    ConstraintFailed,
    PolicyMoved,
    ToolRequested,
)
from ostler.domain.session.evolve import evolve as folded
from ostler.domain.session.fork import fork
from ostler.domain.session.pending import ExamineWork, Work, pending
from ostler.domain.session.state import State
from ostler.domain.tool import CODE, Suspension, ToolOutcome, failed, succeeded
from ostler.kernel.errors import Conflict
from ostler.runtime.replay import replay, snapshot
from tests.domain.session.story import TOOLS, Story, kinds, spec
from tests.domain.session.test_replay_properties import recorded

ANNA = Principal("anna", scopes=("approve",), roles=("risk",))
BERT = Principal("bert", scopes=("approve",), roles=("risk",))
OWNER = Principal("owner", scopes=("*",))
PAY = spec("pay", "once", amount={"type": "number"}, note={"type": "string", "default": "none"})


def governed(text: str) -> Story:
    """A session under this policy, whose model has been asked once."""
    story = Story(by=OWNER, specs=(*TOOLS[:2], PAY))
    story.spec = msgspec.structs.replace(story.spec, policy=Policy("house", text=text))
    return story.start()


def examine(story: Story, found: CallExamined, *, before: State | None = None, may_begin: bool = True) -> list[str]:
    asked = command.Examined(story.us, found, before=before or story.now)
    return kinds(story.do(asked, may_begin=may_begin))


def move(story: Story, text: str) -> None:
    story.do(command.MovePolicy(story.us, OWNER, Policy("house", 2, text=text)))


def examined_call(story: Story) -> str:
    (work,) = [one for one in pending(story.now) if isinstance(one, ExamineWork)]
    return work.name


# What was found out holds for what it was found out about.

OTHERS = "ALLOW tool.*\nALLOW model.*\nDENY tool.pay IF COUNT({}) WITHIN 1h PER tenant > 3"


def test_what_was_found_out_under_other_policies_is_not_used() -> None:
    story = governed(OTHERS.format("tool.look"))
    story.reply(("pay", {"amount": 1}))
    before, call = story.now, examined_call(story)
    move(story, OTHERS.format("tool.pay"))
    assert "tool.requested" not in examine(story, CallExamined(call, answers=(0.0, 0.0)), before=before)
    assert examined_call(story) == call


def test_what_hooks_said_of_one_answer_does_not_hold_for_the_next() -> None:
    story = Story(hooks=("dlp",)).start()
    examine(story, CallExamined("1"))
    story.reply(text="harmless")
    before = story.now
    assert examined_call(story) == gate.END
    story.do(command.Send(story.us, "More.", story.by))
    story.proceed()
    examine(story, CallExamined("2"))
    story.reply(text="the secret")
    assert "agent.completed" not in examine(story, CallExamined(gate.END), before=before)
    assert examined_call(story) == gate.END


def test_what_hooks_said_of_a_request_does_not_hold_once_somebody_has_said_more() -> None:
    story = Story(hooks=("dlp",)).start()
    before = story.now
    story.do(command.Send(story.us, "And now the secret.", story.by))
    assert examine(story, CallExamined("1"), before=before) == []
    assert examined_call(story) == "1"


def test_what_was_found_out_before_a_worker_stopped_is_found_out_again() -> None:
    story = Story(hooks=("dlp",)).start()
    assert examine(story, CallExamined("1"), may_begin=False) == []
    story.at += 1_000_000
    assert story.proceed() == []
    assert examined_call(story) == "1"


# Approvals are for one call.


def test_what_a_person_has_changed_stays_changed_if_it_is_asked_about_once_more() -> None:
    """The rule that asked first does not hold any more when the second approval comes."""
    story = governed("ALLOW tool.*\nALLOW model.*\nREQUIRE approval FOR tool.pay IF COUNT(tool.look) WITHIN 1m > 0")
    story.reply(("look", {}), ("pay", {"amount": 5000}))
    story.returned("1.1")
    assert story.now.question is not None
    story.do(command.Approve(story.us, "1.2", ANNA, arguments={"amount": 50}))
    move(story, "ALLOW tool.*\nALLOW model.*\nREQUIRE 2 approvals FOR tool.pay IF HAPPENED(tool.look) WITHIN 1m")
    story.proceed()
    examine(story, CallExamined("1.2", answers=(1.0,)))
    assert [event.arguments["amount"] for _, event in story.log if isinstance(event, ApprovalRequested)] == [5000, 50]
    story.do(command.Approve(story.us, "1.2", ANNA))
    story.do(command.Approve(story.us, "1.2", BERT))
    story.at += 120
    story.proceed()
    examine(story, CallExamined("1.2", answers=(0.0,)))
    (paid,) = [event for _, event in story.log if isinstance(event, ToolRequested) and event.tool == "pay"]
    assert paid.arguments["amount"] == 50
    assert snapshot(replay(recorded(story.log)).state) == snapshot(story.now)


def test_changed_arguments_are_completed_as_those_of_a_model_are() -> None:
    story = governed("ALLOW model.*\nALLOW tool.*\nREQUIRE approval FOR tool.pay")
    story.reply(("pay", {"amount": 5000}))
    story.do(command.Approve(story.us, "1.1", ANNA, arguments={"amount": 50}))
    assert kinds(story.proceed()) == ["tool.requested"]
    assert story.now.open[0].arguments == {"amount": 50, "note": "none"}
    assert snapshot(replay(recorded(story.log)).state) == snapshot(story.now)


def test_a_person_is_told_at_once_of_arguments_that_nobody_can_be_shown_exactly() -> None:
    story = governed("ALLOW model.*\nALLOW tool.*\nREQUIRE approval FOR tool.pay")
    story.reply(("pay", {"amount": 5000}))
    with pytest.raises(Conflict):
        story.do(command.Approve(story.us, "1.1", ANNA, arguments={"amount": 2**60 + 1}))
    assert story.now.question is not None


def test_of_a_quorum_no_single_person_makes_an_approval_last() -> None:
    story = governed("ALLOW model.*\nALLOW tool.*\nREQUIRE 2 approvals FOR tool.pay")
    story.reply(("pay", {"amount": 1}))
    story.do(command.Approve(story.us, "1.1", ANNA))
    with pytest.raises(Conflict, match="last"):
        story.do(command.Approve(story.us, "1.1", BERT, lasts="session"))


def test_half_an_approval_does_not_go_with_a_fork() -> None:
    story = governed("ALLOW model.*\nALLOW tool.*\nREQUIRE 2 approvals FOR tool.pay")
    story.reply(("pay", {"amount": 1}))
    story.do(command.Approve(story.us, "1.1", ANNA))
    state: State | None = None
    for at_us, event in fork(story.log, session="ses_2", by="carl", at_us=story.us):
        state = folded(state, event, at_us)
    assert state is not None
    assert state.question is not None
    assert state.question.approved_by == ()


def test_a_lasting_approval_does_not_outlive_the_policies_that_asked_for_it() -> None:
    text = "ALLOW model.*\nALLOW tool.*\nREQUIRE approval FOR tool.pay IF args.amount > {}"
    story = governed(text.format(10))
    story.reply(("pay", {"amount": 50}))
    story.do(command.Approve(story.us, "1.1", ANNA, lasts="session"))
    story.proceed()
    story.returned("1.1")
    move(story, text.format(20))
    assert kinds(story.reply(("pay", {"amount": 50})))[-1] == "approval.requested"


def test_an_approval_of_what_other_policies_asked_is_none_of_what_those_of_today_ask() -> None:
    text = "ALLOW model.*\nALLOW tool.*\nREQUIRE approval FOR tool.pay IF args.amount > {}"
    story = governed(text.format(10))
    story.reply(("pay", {"amount": 50}))
    move(story, text.format(20))
    story.do(command.Approve(story.us, "1.1", ANNA))
    assert kinds(story.proceed()) == ["approval.requested"]
    story.do(command.Approve(story.us, "1.1", ANNA))
    assert kinds(story.proceed()) == ["tool.requested"]


def test_a_call_of_a_program_does_not_take_the_approval_of_a_call_beside_it() -> None:
    story = Story(Rule("require", "look"), specs=(*TOOLS, spec(CODE, code={"type": "string"}))).start()
    story.reply((CODE, {"code": "save(1)"}), ("look", {"n": 1}))
    assert story.now.question is not None
    story.approve("1.2", arguments={"n": 7})
    waiting = ToolOutcome(True, "", suspension=Suspension("save", {"n": 1}, b"saved"))
    story.do(command.ToolReturned(story.us, "1.1", waiting))
    begun = {call.id: call.arguments for call in story.now.open}
    assert begun["1.2"] == {"n": 7}
    story.returned("1.2")
    assert [call.id for call in story.now.open] == ["1.1", "1.1.1"]
    assert sum(isinstance(event, ApprovalRequested) for _, event in story.log) == 1
    assert snapshot(replay(recorded(story.log)).state) == snapshot(story.now)


# Hooks


def test_a_hook_is_not_got_around_by_changing_arguments_in_an_approval() -> None:
    """What one hook would rewrite, the hooks after it have not seen as the person wrote it."""
    story = Story(Rule("require", "pay"), hooks=("cap", "limit"), specs=(PAY,)).start()
    examine(story, CallExamined("1"))
    story.reply(("pay", {"amount": 5}))
    examine(story, CallExamined("1.1"))
    story.approve("1.1", arguments={"amount": 5000})
    capped = Ruling("cap", "pre_tool", Rewrite(None, "too much"), "a", "b")
    tags = examine(story, CallExamined("1.1", hooks=(capped,), arguments={"amount": 100}))
    assert tags[:2] == ["call.examined", "constraint.failed"]
    refused = next(event for _, event in story.log if isinstance(event, ConstraintFailed))
    assert "cap" in refused.rule


# Budgets


def test_an_approval_beyond_one_budget_is_none_beyond_another() -> None:
    story = Story(by=OWNER, hooks=("watch",)).start()
    examine(story, CallExamined("1", refused="day is used up", asks=True, budgets=("tenants.acme.day",)))
    story.do(command.Approve(story.us, "1", ANNA, lasts="session"))
    examine(story, CallExamined("1", refused="day is used up", asks=True, budgets=("tenants.acme.day",)))
    story.reply(("look", {}))
    examine(story, CallExamined("1.1"))
    story.returned("1.1")
    assert examine(
        story, CallExamined("2", refused="both", asks=True, budgets=("tenants.acme.day", "agents.clerk.month"))
    ) == ["call.examined", "approval.requested"]


# Policies on their way


def test_a_policy_that_was_narrower_than_one_that_is_gone_needs_an_approval() -> None:
    old, wide, tight = (Policy("house", n, text=f"policy house version {n}") for n in (1, 2, 3))
    state = evolve(
        Governance(),
        [
            PolicyProposed(old, "1" * 64, "anna", "narrower"),
            PolicyApplied("1" * 64, "anna"),
            PolicyProposed(wide, "2" * 64, "anna", "narrower"),
            PolicyProposed(tight, "3" * 64, "anna", "narrower"),
            PolicyApplied("3" * 64, "anna"),
        ],
    )
    with pytest.raises(Conflict, match="approve"):
        apply(state, OWNER, "2" * 64)


# Labels


def test_what_a_program_makes_of_untrusted_text_is_untrusted() -> None:
    page = msgspec.structs.replace(spec("fetch"), roles=("reads_untrusted",))
    story = Story(specs=(page, PAY, spec(CODE, code={"type": "string"}))).start()
    story.reply(("fetch", {}), (CODE, {"code": "decode()"}))
    story.returned("1.1", "bWFsbG9yeQ==")
    story.returned("1.2", "mallory-account-1")
    assert story.now.provenance.dictated({"to": "mallory-account-1"}) == ("mallory-account-1",)


# Any session, with everything that the gate can do

POLICIES = (
    "default allow",
    "default allow\nREQUIRE approval FOR tool.pay",
    'default allow\nREQUIRE 2 approvals BY role "risk" WITHIN 5s FOR tool.pay\nREQUIRE approval FOR tool.look',
    "default allow\nDENY tool.pay IF COUNT(tool.look) WITHIN 1m > 1",
    "default allow\nREQUIRE approval FOR model.* IF COUNT(tool.look) WITHIN 1m PER tenant > 1",
    "default allow\nDENY tool.pay UNLESS args.note FROM user",
)
RULINGS: tuple[tuple[Ruling, ...], ...] = (
    (),
    (),
    (Ruling("h", "pre_tool", Deny("no")),),
    (Ruling("h", "pre_tool", Ask("sure?")),),
    (Ruling("h", "pre_tool", Rewrite(None, "less"), "a", "b"),),
)


def found_out(story: Story, work: ExamineWork, data: st.DataObject) -> CallExamined:
    is_easy = work.asked is None and data.draw(st.integers(0, 9)) > 0
    hooks = () if is_easy or not story.spec.hooks else data.draw(st.sampled_from(RULINGS))
    arguments: dict[str, object] | None = None
    if hooks and isinstance(hooks[0].answer, Rewrite):
        said: list[dict[str, object]] = [{"n": 3}, {"amount": 1}, {}]
        if work.asked is None:
            said = [{"answer": "better"} if work.name == gate.END else {"system": "Be good."}]
        arguments = data.draw(st.sampled_from(said))
    wanted = len(story.now.guard.questions) + len(story.now.guard.own_questions) * story.now.has_moved
    refused = None if is_easy else data.draw(st.sampled_from((None, None, None, "used up")))
    return CallExamined(
        work.name,
        answers=tuple(data.draw(st.sampled_from((0.0, 0.0, 5.0))) for _ in range(wanted)),
        refused=refused,
        asks=refused is not None and data.draw(st.booleans()),
        budgets=("day",),
        hooks=hooks,
        arguments=arguments,
    )


def worked(story: Story, work: Work, data: st.DataObject) -> object:
    if isinstance(work, ExamineWork):
        return command.Examined(story.us, found_out(story, work, data), before=story.now)
    if work.call.arguments is None:
        asked = data.draw(
            st.lists(
                st.sampled_from((("look", "{}"), ("pay", '{"amount":1}'), (CODE, '{"code":"x"}'), ("pay", "{"))),
                min_size=data.draw(st.integers(0, 9)) > 0,
                max_size=3,
            )
        )
        reply = Reply("done", tuple(AskedCall("same", *one) for one in asked))
        return command.ReplyReceived(story.us, work.call.id, reply)
    outcome = data.draw(st.sampled_from((succeeded("ok"), failed("permanent", "no"), failed("unknown", "lost"))))
    if work.call.tool == CODE and data.draw(st.integers(0, 3)):
        tool = data.draw(st.sampled_from(("look", "pay", "nothing")))
        outcome = ToolOutcome(True, "", suspension=Suspension(tool, {"amount": 2}, b"saved"))
    return command.ToolReturned(story.us, work.call.id, outcome)


def wished(story: Story, data: st.DataObject) -> object:
    by = data.draw(st.sampled_from((ANNA, BERT, OWNER)))
    question = story.now.question
    if question is not None and data.draw(st.integers(0, 5)):
        return data.draw(
            st.sampled_from(
                (
                    command.Approve(story.us, question.call, by),
                    command.Approve(story.us, question.call, by, lasts="session"),
                    command.Approve(story.us, question.call, by, lasts="until", until_us=story.us + 5_000_000),
                    command.Approve(story.us, question.call, by, arguments={"amount": 7}),
                    command.Deny(story.us, question.call, by),
                    command.AskBack(story.us, question.call, by, "why?"),
                )
            )
        )
    text = data.draw(st.sampled_from(POLICIES))
    return data.draw(
        st.sampled_from(
            (
                command.Proceed(story.us),
                command.Send(story.us, "More.", by),
                command.Pause(story.us, by),
                command.Resume(story.us, by),
                command.Resume(story.us, by),
                command.TakeOver(story.us),
                command.MovePolicy(story.us, by, Policy("house", 2, text=text)),
                command.Resume(story.us, by),
                data.draw(st.sampled_from((command.Proceed, command.TakeOver)))(story.us),
                data.draw(st.sampled_from((command.Cancel, command.Kill, command.Resume)))(story.us, by),
            )
        )
    )


@settings(max_examples=200)
@given(st.sampled_from(POLICIES), st.sampled_from(((), ("h",))), st.booleans(), st.data())
def test_any_session_that_uses_the_whole_gate_is_decided_again_alike(
    text: str, hooks: tuple[str, ...], is_budgeted: bool, data: st.DataObject
) -> None:
    specs = (*TOOLS[:1], PAY, spec(CODE, code={"type": "string"}))
    story = Story(by=OWNER, specs=specs, hooks=hooks)
    agent = msgspec.structs.replace(story.spec, policy=Policy("house", text=text))
    start = command.Start(story.us, "ses_1", agent, story.model, "Do it.", OWNER, is_budgeted=is_budgeted)
    story.do(start)
    for _ in range(data.draw(st.integers(1, 40))):
        if story.now.end is not None:
            break
        story.at += data.draw(st.sampled_from((0, 0, 0.5, 6)))
        works = pending(story.now)
        is_person = not works or data.draw(st.integers(0, 5)) == 0
        asked = wished(story, data) if is_person else worked(story, data.draw(st.sampled_from(works)), data)
        try:
            story.do(asked, may_begin=data.draw(st.integers(0, 9)) > 0)
        except Conflict:
            continue
    assert snapshot(replay(recorded(story.log)).state) == snapshot(story.now)
    judged_and_bound(story)


def judged_and_bound(story: Story) -> None:
    """Every call that waited for people was begun as they saw it, or was put in question once more."""
    seen: dict[str, dict[str, object]] = {}
    for _, event in story.log:
        match event:
            case PolicyMoved():
                seen.clear()
            case ApprovalRequested(tool=tool) if tool:
                seen[event.call] = event.arguments
            case ApprovalGranted(arguments=dict(changed)):
                seen[event.call] = changed
            case ToolRequested() if event.call in seen and not story.spec.hooks:
                assert event.arguments == seen[event.call]
            case _:
                pass
