"""A trial: one reply of another model, after which the session ends and nothing is performed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.domain import gate
from ostler.domain.agent import Limits
from ostler.domain.constraint.policy import Rule
from ostler.domain.model import AskedCall, ModelRef, Reply
from ostler.domain.registers import TRIALS
from ostler.domain.session import commands as command
from ostler.domain.session.events import (
    AgentCompleted,
    AgentForked,
    ConstraintFailed,
    ModelCompleted,
    SessionEvent,
    ToolRequested,
    ToolResumed,
)
from ostler.domain.session.evolve import evolve
from ostler.domain.session.fork import fork, places_of
from ostler.domain.session.pending import ModelWork, pending
from ostler.domain.session.state import State
from ostler.domain.tool import succeeded
from ostler.runtime.journal import standing_of
from ostler.testing import calls
from tests.domain.session.story import Story, kinds

OTHER = ModelRef("scripted", "scripted", "other")


def tried(story: Story, seq: int) -> Story:
    """The fork of a session at an event, in which another model is asked."""
    facts = fork(story.log, session="ses_2", by="anna", at_us=story.us, seq=seq, trial=OTHER)
    state: State | None = None
    for at_us, event in facts:
        state = evolve(state, event, at_us)
    story.state = state
    return story


def one_turn(**more: object) -> Story:
    """1 started · 2 asked · 3 reply · 4 look · 5 looked · 6 asked."""
    story = Story(**more).start()  # type: ignore[arg-type]
    story.reply(("look", {}))
    story.returned("1.1")
    return story


def test_the_other_model_is_asked_in_place_of_the_first_and_the_session_ends_with_its_reply() -> None:
    story = tried(one_turn(), 5)
    assert story.now.model == OTHER
    assert kinds(story.proceed()) == ["model.requested"]
    done = story.do(command.ReplyReceived(story.us, "2", calls(("pay", {"n": 5}))))
    assert kinds(done) == ["model.completed", "agent.completed"]
    assert done[1] == AgentCompleted("", "trial")
    assert pending(story.now) == ()
    assert isinstance(done[0], ModelCompleted)
    assert done[0].calls == (AskedCall("2.1", "pay", '{"n":5}'),)


@pytest.mark.parametrize(
    "reply",
    [
        Reply("done"),
        Reply("no", stop="refusal"),
        calls(("look", "{not json")),
        calls(("pay", {}), ("look", {})),
        Reply(""),
    ],
    ids=["answer", "refusal", "broken", "calls", "empty"],
)
def test_whatever_it_says_the_trial_ends_and_nothing_begins(reply: Reply) -> None:
    story = tried(one_turn(), 5)
    story.proceed()
    done = story.do(command.ReplyReceived(story.us, "2", reply))
    assert kinds(done) == ["model.completed", "agent.completed"]
    assert (story.now.status, story.now.end and story.now.end.reason) == ("completed", "trial")


def test_a_call_that_was_asked_for_before_the_fork_is_refused_by_the_gate() -> None:
    story = tried(one_turn(), 3)
    (refused, *_) = events = story.proceed()
    assert kinds(events) == ["constraint.failed", "model.requested"]
    assert isinstance(refused, ConstraintFailed)
    assert (refused.rule, refused.kind) == ("trial", "blocked")
    assert isinstance(gate.judge(story.now, AskedCall("9.1", "look", "{}"), story.us), gate.Refused)


def test_the_limits_of_the_session_hold_in_a_trial() -> None:
    story = tried(one_turn(limits=Limits(steps=2)), 5)
    assert kinds(story.proceed()) == ["model.requested"]
    story = Story(limits=Limits(steps=1)).start()
    story.reply(("look", {}))
    story.do(command.ToolReturned(story.us, "1.1", succeeded("ok")), may_begin=False)
    assert kinds(tried(story, 5).proceed()) == ["agent.failed"]


def test_a_failed_reply_ends_a_trial_like_any_session() -> None:
    story = tried(one_turn(), 5)
    story.proceed()
    failed = story.do(command.ReplyFailed(story.us, "2", "bad_request", "no such model"))
    assert kinds(failed) == ["model.failed", "agent.failed"]


def test_trials_wait_in_a_queue_of_their_own() -> None:
    story = one_turn()
    assert standing_of(story.now, at_us=story.us, before=None).queue == "clerk"
    assert standing_of(tried(story, 5).now, at_us=story.us, before=None).queue == TRIALS


def test_a_fork_that_is_no_trial_keeps_its_model() -> None:
    story = one_turn()
    (*_, (_, forked)) = fork(story.log, session="ses_2", by="anna", at_us=story.us, seq=5)
    assert isinstance(forked, AgentForked)
    assert forked.trial is None


NAMES = st.sampled_from(["look", "save", "edit", "pay", "nothing"])
ASKED: st.SearchStrategy[list[tuple[str, Any]]] = st.lists(NAMES.map(lambda name: (name, {})), max_size=3)
WISHES = st.lists(st.sampled_from(["proceed", "take over", "send", "approve", "resume", "reply", "fail"]), max_size=8)


@given(ASKED, st.lists(ASKED, max_size=3), WISHES, st.data())
def test_whatever_is_asked_of_a_trial_no_call_of_a_tool_ever_begins_in_it(
    first: list[tuple[str, Any]], later: list[list[tuple[str, Any]]], wishes: list[str], data: st.DataObject
) -> None:
    story = Story(Rule("require", "pay")).start()
    for asked in (first, *later):
        if story.now.open and story.now.open[0].arguments is None:
            story.reply(*asked, text="done")
        while story.now.open and story.now.open[0].arguments is not None:
            story.returned(story.now.open[0].id)
    story = tried(story, data.draw(st.sampled_from(places_of(story.log))))
    for wish in wishes:
        story.at += 1
        begun = [] if story.now.end is not None else obeyed(story, wish, data)
        assert not any(isinstance(event, ToolRequested | ToolResumed) for event in begun)
        assert all(isinstance(work, ModelWork) for work in pending(story.now))


def obeyed(story: Story, wish: str, data: st.DataObject) -> list[SessionEvent]:
    now, question, call = story.us, story.now.question, story.now.open[0].id if story.now.open else "1"
    match wish:
        case "send":
            return story.do(command.Send(now, "Do it.", story.by))
        case "approve":
            return story.approve(question.call if question is not None else "1.1")
        case "resume":
            return story.do(command.Resume(now, story.by))
        case "take over":
            return story.do(command.TakeOver(now))
        case "reply":
            asked = data.draw(ASKED)
            return story.do(command.ReplyReceived(now, call, calls(*asked) if asked else Reply("done")))
        case "fail":
            return story.do(command.ReplyFailed(now, call, "overloaded", "busy", retry_at_us=now))
        case _:
            return story.proceed()
