"""Programs that an agent writes: each call of theirs is judged and recorded like one of the model."""

from ostler.domain.constraint.policy import Rule
from ostler.domain.identity import Principal
from ostler.domain.session import commands as command
from ostler.domain.session.events import SessionEvent, ToolSuspended
from ostler.domain.session.pending import ToolWork, pending
from ostler.domain.session.state import due_us
from ostler.domain.tool import CODE, Suspension, ToolOutcome
from ostler.runtime.replay import replay, snapshot
from tests.domain.session.story import TOOLS, Story, kinds, spec
from tests.domain.session.test_replay_properties import recorded

CLERK = Principal("carl", scopes=("approve",))


def programming(*rules: Rule) -> Story:
    story = Story(*rules, specs=(*TOOLS, spec(CODE, code={"type": "string"}))).start()
    story.reply((CODE, {"code": "look(1) + pay(2)"}))
    return story


def suspend(story: Story, tool: str, saved: bytes = b"saved", **arguments: object) -> list[SessionEvent]:
    waiting = ToolOutcome(True, "", suspension=Suspension(tool, arguments, saved))
    return story.do(command.ToolReturned(story.us, "1.1", waiting))


def program(story: Story) -> ToolWork:
    (work,) = pending(story.now)
    assert isinstance(work, ToolWork)
    return work


def test_a_call_of_a_program_is_judged_performed_and_answered_and_the_program_goes_on() -> None:
    story = programming()
    assert kinds(suspend(story, "look", n=1)) == ["tool.suspended", "tool.requested"]
    assert program(story).call.id == "1.1.1"
    assert kinds(story.returned("1.1.1", 41)) == ["tool.completed", "tool.resumed"]
    work = program(story)
    assert (work.call.id, work.call.snapshot) == ("1.1", b"saved")
    assert work.call.answer is not None
    assert work.call.answer.output == "41"
    assert kinds(suspend(story, "pay", b"later", n=2))[-1] == "tool.requested"
    story.returned("1.1.2")
    assert kinds(story.returned("1.1", 42)) == ["tool.completed", "model.requested"]
    assert [type(message).__name__ for message in story.now.transcript] == [
        "UserMessage",
        "AssistantMessage",
        "ToolMessage",
    ]


def test_a_refused_call_of_a_program_is_an_error_within_it() -> None:
    story = programming(Rule("deny", "pay", because="no money leaves"))
    assert kinds(suspend(story, "pay", n=1)) == ["tool.suspended", "constraint.failed", "tool.resumed"]
    answer = program(story).call.answer
    assert answer is not None
    assert (answer.ok, "no money leaves" in answer.output) == (False, True)


def test_a_program_that_waits_for_an_approval_costs_nothing_meanwhile() -> None:
    story = programming(Rule("require", "pay"))
    assert kinds(suspend(story, "pay", n=1)) == ["tool.suspended", "approval.requested"]
    assert (story.now.status, story.now.waiting_for, due_us(story.now), pending(story.now)) == (
        "waiting",
        "approval",
        None,
        (),
    )
    story.do(command.Approve(story.us, "1.1.1", CLERK))
    assert kinds(story.proceed()) == ["tool.requested"]


def test_a_program_that_waits_ends_with_its_session() -> None:
    story = programming(Rule("require", "pay"))
    suspend(story, "pay", n=1)
    assert kinds(story.do(command.Cancel(story.us, CLERK))) == ["cancel.requested", "tool.completed", "agent.cancelled"]
    assert story.now.open == ()


def test_a_lost_worker_costs_a_program_nothing_but_another_attempt() -> None:
    story = programming()
    suspend(story, "look", n=1)
    story.returned("1.1.1", 41)
    assert kinds(story.do(command.TakeOver(story.us))) == ["call.retried"]
    assert (program(story).call.snapshot, program(story).call.attempt) == (b"saved", 2)


def test_what_a_program_waits_for_may_be_lost_too_and_the_program_is_told() -> None:
    story = programming()
    suspend(story, "pay", n=1)
    assert kinds(story.do(command.TakeOver(story.us))) == ["tool.completed", "tool.resumed"]


def test_a_session_with_programs_is_decided_again_alike() -> None:
    story = programming(Rule("deny", "pay"))
    suspend(story, "look", n=1)
    story.returned("1.1.1", 41)
    suspend(story, "pay", n=2)
    story.returned("1.1", 42)
    assert any(isinstance(event, ToolSuspended) for _, event in story.log)
    assert snapshot(replay(recorded(story.log)).state) == snapshot(story.now)
