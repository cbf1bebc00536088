"""Forking: which pasts may be shared, and what the new session does not inherit."""

import pytest

from ostler.domain.agent import Limits
from ostler.domain.constraint.policy import Rule
from ostler.domain.session import commands as command
from ostler.domain.session.events import AgentForked, AgentStarted
from ostler.domain.session.evolve import evolve
from ostler.domain.session.fork import Fact, fork
from ostler.domain.session.state import State, deadline_us, due_us
from ostler.kernel.errors import Conflict
from tests.domain.session.story import SECOND, Story, kinds


def folded(facts: list[Fact]) -> State:
    state: State | None = None
    for at_us, event in facts:
        state = evolve(state, event, at_us)
    assert state is not None
    return state


def forked(story: Story, *, seq: int | None = None, at: float = 100.0) -> list[Fact]:
    return fork(story.log, session="ses_2", by="anna", at_us=int(at * SECOND), seq=seq)


def two_turns() -> Story:
    """1 started · 2 asked · 3 reply · 4 look · 5 looked · 6 asked · 7 answer · 8 end."""
    story = Story().start()
    story.reply(("look", {}))
    story.returned("1.1")
    story.reply(text="three")
    assert len(story.log) == 8
    return story


def test_a_fork_shares_the_past_and_says_where_it_comes_from() -> None:
    story = two_turns()
    facts = forked(story)
    assert facts[1:-1] == story.log[1:7]
    assert isinstance(facts[0][1], AgentStarted)
    assert (facts[0][1].session, facts[0][1].origin) == ("ses_2", "ses_1")
    assert facts[-1] == (100 * SECOND, AgentForked("ses_1", 7, "anna", idle_us=99 * SECOND))
    state = folded(facts)
    assert (state.session, state.origin, state.end) == ("ses_2", "ses_1", None)
    assert list(state.transcript) == list(story.now.transcript)


def test_a_fork_of_an_answer_can_be_talked_out_of_it() -> None:
    story = two_turns()
    story.state = folded(forked(story))
    story.at = 101
    story.do(command.Send(story.us, "Count again.", story.by))
    assert kinds(story.proceed()) == ["model.requested"]


@pytest.mark.parametrize(("seq", "earlier"), [(2, "1"), (4, "3"), (6, "5"), (8, "7"), (99, "7")])
def test_a_fork_in_the_middle_of_a_call_or_after_the_end_is_refused_with_the_nearest_place(
    seq: int, earlier: str
) -> None:
    with pytest.raises(Conflict, match=f"forked at event {seq}") as refused:
        forked(two_turns(), seq=seq)
    assert f"is {earlier}." in refused.value.hint


def test_a_fork_before_the_first_event_is_refused() -> None:
    with pytest.raises(Conflict) as refused:
        forked(two_turns(), seq=0)
    assert refused.value.hint == ""


def test_a_fork_of_a_fork_names_its_own_origin() -> None:
    once = forked(two_turns())
    twice = fork(once, session="ses_3", by="anna", at_us=200 * SECOND)
    assert isinstance(twice[0][1], AgentStarted)
    assert twice[0][1].origin == "ses_2"
    assert [type(event) for _, event in twice[-2:]] == [AgentForked, AgentForked]


def test_a_question_is_asked_again_in_the_fork() -> None:
    story = Story(Rule("require", "pay")).start()
    story.reply(("pay", {}))
    state = folded(forked(story))
    assert state.question is not None
    assert (state.status, due_us(state)) == ("waiting", None)


def test_an_approval_that_was_not_used_yet_belongs_to_one_history_only() -> None:
    story = Story(Rule("require", "pay")).start()
    story.reply(("pay", {}))
    story.approve("1.1")
    granted = len(story.log)
    with pytest.raises(Conflict):
        forked(story, seq=granted)
    state = folded(forked(story))
    assert (state.granted, state.question is not None) == (None, True)


def test_the_time_between_the_past_and_the_fork_is_not_counted_as_time_used() -> None:
    story = Story(limits=Limits(seconds=60)).start()
    story.at = 11
    story.reply(("look", {}))
    state = folded(forked(story, seq=3, at=10_000))
    assert deadline_us(state) == (10_000 + 50) * SECOND


def test_the_time_that_a_question_was_open_is_not_counted_twice_in_the_fork() -> None:
    story = Story(Rule("require", "pay"), limits=Limits(seconds=60)).start()
    story.at = 11
    story.reply(("pay", {}))
    story.state = folded(forked(story, at=10_000))
    story.at = 20_000
    story.approve("1.1")
    assert deadline_us(story.now) == (20_000 + 50) * SECOND
