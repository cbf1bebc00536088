"""Whatever happens to a session, its log alone gives the same state again, byte for byte, by the same decisions."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.domain.agent import Limits
from ostler.domain.constraint.policy import Rule
from ostler.domain.model import AskedCall, Reply, StopReason, Usage
from ostler.domain.session import commands as command
from ostler.domain.session.decide import decide
from ostler.domain.session.events import AgentCancelled, AgentCompleted, AgentFailed, AgentStarted, ApprovalRejected
from ostler.domain.session.fork import Fact, fork
from ostler.domain.session.pending import pending
from ostler.domain.session.state import OpenCall, due_us
from ostler.domain.tool import failed
from ostler.kernel.errors import Conflict
from ostler.kernel.event import Record, StreamId, first_broken
from ostler.runtime.journal import Folded, chain
from ostler.runtime.replay import replay, snapshot, state_after
from tests.domain.session.story import PRICE, SECOND, Story

CALLS = st.lists(
    st.tuples(
        st.sampled_from(("look", "save", "edit", "pay", "loook")), st.sampled_from(("{}", '{"n":1}', '{"n":"x"}', "{"))
    ),
    min_size=1,
    max_size=4,
)
TEXTS = st.sampled_from(
    (
        "",
        " three ",
        "Final Answer: three",
        'Thought: look\nAction: look {"n": 1}\nObservation: {"ok":true}',
        "Action: pay\nFinal Answer: no",
        "Thought: hm",
        "**Action:** save({})",
        "I'd say\nobservation: three",
    )
)
RULES = st.lists(
    st.builds(
        Rule,
        st.sampled_from(("allow", "deny", "require")),
        st.sampled_from(("look", "save", "pay", "*")),
        within_s=st.none(),
        name=st.sampled_from(("", "named")),
    )
    | st.builds(Rule, st.just("require"), st.just("pay"), within_s=st.sampled_from((1.0, 30.0))),
    max_size=2,
).map(tuple)
LIMITS = st.builds(
    Limits,
    steps=st.sampled_from((None, 3, 50)),
    seconds=st.sampled_from((None, 20.0)),
    tokens=st.sampled_from((None, 4_000, 100_000)),
    cost_microusd=st.sampled_from((None, 60_000, 10_000_000)),
    tool_calls=st.sampled_from((None, 2)),
    defects=st.sampled_from((1, 3)),
    attempts=st.sampled_from((1, 3)),
)


def reply(story: Story, call: OpenCall, data: st.DataObject) -> command.ReplyReceived:
    asked: tuple[AskedCall, ...] = ()
    if data.draw(st.booleans()):
        asked = tuple(AskedCall("same", name, arguments) for name, arguments in data.draw(CALLS))
    stops: tuple[StopReason, ...] = ("end", "end", "end", "length", "refusal")
    stop = data.draw(st.sampled_from(stops))
    usage = Usage(data.draw(st.integers(0, 2_000)), data.draw(st.integers(0, 200)))
    model = data.draw(st.sampled_from(("", "m", "m-2026")))
    return command.ReplyReceived(story.us, call.id, Reply(data.draw(TEXTS), asked, stop, usage, model))


def outcome(story: Story, call: OpenCall, data: st.DataObject) -> object:
    """What may become of an open call."""
    if call.arguments is not None:
        retry_at = data.draw(st.sampled_from((None, story.us, story.us + 5 * SECOND)))
        code = data.draw(st.sampled_from(("transient", "shed")))
        later = command.ToolReturned(story.us, call.id, failed("transient", "later"), retry_at_us=retry_at, code=code)
        return data.draw(st.sampled_from((later, command.ToolReturned(story.us, call.id, failed("permanent", "no")))))
    retry_at = data.draw(st.sampled_from((None, story.us, story.us + 5 * SECOND)))
    code = data.draw(st.sampled_from(("rate_limited", "provider_timeout", "incomplete_reply", "circuit_open")))
    partial = data.draw(st.sampled_from(("", "Let me")))
    failure = command.ReplyFailed(story.us, call.id, code, "slow: down", 429, retry_at, partial)
    return failure if data.draw(st.integers(0, 3)) == 0 else reply(story, call, data)


WISHES: tuple[Callable[[Story], object], ...] = (
    lambda story: command.Send(story.us, "Hurry.", story.by),
    lambda story: command.Pause(story.us, story.by, "lunch"),
    lambda story: command.Resume(story.us, story.by),
    lambda story: command.Resume(story.us, story.by),
    lambda story: command.Cancel(story.us, story.by, "enough"),
    lambda story: command.Kill(story.us, story.by),
    lambda story: command.Fail(story.us, "internal_error", "a defect"),
    lambda story: command.TakeOver(story.us),
    lambda story: command.TakeOver(story.us),
)


def live(story: Story, data: st.DataObject) -> Story:
    """Drive a session at random, by its worker and by people, until it ends or is left alone."""
    story.do(command.Start(story.us, "ses_1", story.spec, story.model, "Do it.", story.by))
    for _ in range(data.draw(st.integers(1, 30))):
        state = story.now
        if state.end is not None:
            break
        story.at += data.draw(st.sampled_from((0, 0.5, 3)))
        choice = data.draw(st.integers(0, 9))
        wish: object = command.Proceed(story.us)
        if choice == 0:
            wish = data.draw(st.sampled_from(WISHES))(story)
        elif state.question is not None and choice < 6:
            answer = command.Approve if data.draw(st.booleans()) else command.Deny
            wish = answer(story.us, state.question.call, story.by, "because")
        elif state.open and state.open[-1].not_before_us and choice < 5:
            wish = command.WaitOver(story.us, state.open[-1].id)
        elif state.open and choice < 9:
            wish = outcome(story, data.draw(st.sampled_from(state.open)), data)
        story.do(wish, may_begin=data.draw(st.integers(0, 9)) > 0)
    return story


def recorded(facts: list[Fact], session: str = "ses_1") -> list[Record]:
    kept, records = Folded(StreamId("default", session)), []
    for at_us, event in facts:
        records += chain(kept.stream, kept.seq, kept.hash, at_us, [event])
        kept.seq, kept.hash = records[-1].seq, records[-1].hash
    assert first_broken(records) is None
    return records


def stories() -> st.SearchStrategy[Story]:
    return st.builds(
        lambda rules, limits, tools, unknown, refusal, price: Story(
            *rules, limits=limits, tools=tools, on_unknown=unknown, on_refusal=refusal, price=price
        ),
        RULES,
        LIMITS,
        st.sampled_from(("native", "text")),
        st.sampled_from(("tell", "pause")),
        st.sampled_from(("tell", "tell", "end")),
        st.sampled_from((None, PRICE)),
    )


@settings(max_examples=300)
@given(stories(), st.data())
def test_any_session_is_decided_again_alike_and_folds_to_the_same_bytes(story: Story, data: st.DataObject) -> None:
    live(story, data)
    records = recorded(story.log)
    again = replay(records)
    assert snapshot(again.state) == snapshot(story.now) == snapshot(state_after(records) or again.state)
    assert 0 < again.decisions <= len(records)
    assert again.adopted == sum(isinstance(event, ApprovalRejected) for _, event in story.log)


@settings(max_examples=100)
@given(stories(), st.data())
def test_any_fork_of_any_session_replays_too_and_shares_no_call_under_way(story: Story, data: st.DataObject) -> None:
    live(story, data)
    try:
        facts = fork(story.log, session="ses_2", by="anna", at_us=story.us)
    except Conflict:
        return
    state = state_after(recorded(facts, "ses_2"))
    assert state is not None
    assert (state.open, state.granted, state.end, state.session) == ((), None, None, "ses_2")
    assert snapshot(replay(recorded(facts, "ses_2")).state) == snapshot(state)


@settings(max_examples=200)
@given(stories(), st.data())
def test_any_session_has_one_start_at_most_one_end_and_one_outcome_for_each_call(
    story: Story, data: st.DataObject
) -> None:
    live(story, data)
    events = [event for _, event in story.log]
    assert [isinstance(event, AgentStarted) for event in events].count(True) == 1
    ends = [n for n, event in enumerate(events) if isinstance(event, AgentCompleted | AgentFailed | AgentCancelled)]
    assert ends in ([], [len(events) - 1])
    tags = [(str(type(event).__struct_config__.tag), getattr(event, "call", "")) for event in events]
    for kind, outcomes in (
        ("model.requested", ("model.completed", "model.failed")),
        ("tool.requested", ("tool.completed",)),
    ):
        begun = [call for tag, call in tags if tag == kind]
        ended = [call for tag, call in tags if tag in outcomes]
        assert len(set(begun)) == len(begun)
        assert len(set(ended)) == len(ended)
        still_open = {call.id for call in story.now.open if (call.arguments is None) == (kind == "model.requested")}
        assert set(begun) == set(ended) | still_open
    if story.now.end is not None:
        assert (story.now.open, pending(story.now), due_us(story.now)) == ((), (), None)


@settings(max_examples=200)
@given(stories(), st.data())
def test_a_session_that_is_not_over_always_has_somebody_who_can_move_it_on(story: Story, data: st.DataObject) -> None:
    """It is due now or later, or it waits for a person; a worker that takes it moves it on or waits for a call."""
    live(story, data)
    state = story.now
    if state.end is not None:
        return
    due = due_us(state)
    if due is None:
        assert state.pause is not None or state.question is not None
        return
    story.at = max(story.at, due / SECOND)
    wish = command.TakeOver(story.us) if state.open else command.Proceed(story.us)
    moved = decide(wish, state)
    assert moved.events or state.open


@settings(max_examples=100)
@given(stories(), st.data())
def test_a_log_from_which_any_event_but_the_last_ones_is_missing_does_not_replay(
    story: Story, data: st.DataObject
) -> None:
    live(story, data)
    if len(story.log) < 3:
        return
    missing = data.draw(st.integers(0, len(story.log) - 2))
    records = recorded(story.log)
    assert first_broken(records[:missing] + records[missing + 1 :]) == missing + 1


def test_a_reply_with_more_calls_than_anybody_expects_replays() -> None:
    story = Story().start()
    story.reply(*[("loook", {})] * 100)
    story.reply(*[("look", {})] * 100)
    story.do(command.Kill(story.us, story.by))
    assert snapshot(replay(recorded(story.log)).state) == snapshot(story.now)


def test_a_pause_for_the_unknown_replays_although_a_person_had_paused_already() -> None:
    story = Story(on_unknown="pause").start()
    story.reply(("pay", {}))
    story.do(command.Pause(story.us, story.by, "lunch"))
    story.do(command.TakeOver(story.us))
    assert story.now.pause == "nobody knows whether call 1.1 (pay) happened"
    assert snapshot(replay(recorded(story.log)).state) == snapshot(story.now)


@pytest.mark.parametrize("text", ["", "Action: look {}"])
def test_native_calls_of_a_model_that_was_thought_to_have_none_replay(text: str) -> None:
    story = Story(tools="text").start()
    story.reply(("look", {}), text=text)
    story.returned("1.1")
    assert snapshot(replay(recorded(story.log)).state) == snapshot(story.now)


PIECES = (
    "Thought: ",
    "Action: ",
    "Final Answer: ",
    "Observation: ",
    "Action Input: ",
    "look",
    '{"n": 1}',
    "\n",
    " ",
    "```",
    "(",
    ")",
    "**",
    "- ",
    "x",
)


@settings(max_examples=500)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_whatever_a_model_writes_in_the_grammar_what_is_kept_of_it_is_understood_alike(text: str) -> None:
    story = Story(tools="text").start()
    story.reply(text=text)
    assert snapshot(replay(recorded(story.log)).state) == snapshot(story.now)
