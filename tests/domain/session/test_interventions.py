"""Interventions in any session: undone at most once, measured whatever came of it, told in a valid order."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal, TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.domain.agent import AgentSpec
from ostler.domain.constraint.policy import Policy, Rule
from ostler.domain.fitness.events import FitnessLowered
from ostler.domain.fitness.target import Measured, OnFail
from ostler.domain.identity import LOCAL_USER
from ostler.domain.model import AskedCall, AssistantMessage, ModelRef, Reply, ToolMessage
from ostler.domain.session import commands as command
from ostler.domain.session.decide import decide
from ostler.domain.session.events import (
    CallExamined,
    CompensationRequested,
    FitnessCompared,
    SessionEvent,
    ToolCompleted,
    ToolRequested,
)
from ostler.domain.session.fork import Fact, fork, places_of
from ostler.domain.session.pending import ExamineWork, MeasureWork, ModelWork, ToolWork, Work, pending
from ostler.domain.session.state import State
from ostler.domain.tool import Effect, ToolSpec, failed, succeeded
from ostler.kernel.errors import Conflict
from ostler.runtime.replay import replay, snapshot
from tests.domain.session.test_replay_properties import recorded

NOTHING = {"type": "object", "properties": {}}
EFFECTS: tuple[Effect, ...] = ("read", "idempotent", "once")
CALLED = ("change", "change", "change", "look", "undo", "nothing")
RULES: list[tuple[Rule, ...]] = [(), (Rule("deny", "undo", name="no"),), (Rule("require", "undo", name="ask"),)]

TOLD: tuple[Literal["tell", "end"], ...] = ("tell", "end")
UNKNOWN: tuple[Literal["tell", "pause"], ...] = ("tell", "pause")
ON_FAIL: tuple[OnFail, ...] = ("record", "ask", "halt")

T = TypeVar("T")


class Life:
    """One session, decided step by step, with everything that it recorded."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.facts: list[Fact] = []
        self.at_us = 0
        tools = (
            ToolSpec("change", "", NOTHING, self.one_of(EFFECTS), fitness=("up",), compensate="undo"),
            ToolSpec(
                "undo", "", {"type": "object", "properties": {"output": {}}}, self.one_of(EFFECTS), fitness=("up",)
            ),
            ToolSpec("look", "", NOTHING, "read"),
        )
        agent = AgentSpec(
            "clerk",
            tools=tools,
            policy=Policy(rules=self.one_of(RULES)),
            on_refusal=self.one_of(TOLD),
            on_unknown=self.one_of(UNKNOWN),
        )
        self.on_fail = self.one_of(ON_FAIL)
        self.state: State | None = None
        self.tell(command.Start(0, "ses_1", agent, ModelRef("scripted", "s", "s"), "Go.", LOCAL_USER))

    def one_of(self, choices: Sequence[T]) -> T:
        return self.data.draw(st.sampled_from(choices))

    @property
    def now(self) -> State:
        assert self.state is not None
        return self.state

    def tell(self, asked: command.SessionCommand, *, may_begin: bool = True) -> None:
        decided = decide(asked, self.state, may_begin=may_begin)
        self.facts += [(asked.at_us, event) for event in decided.events]
        self.state = decided.state

    def measured(self) -> Measured:
        value = self.one_of([0.0, 0.0, 1.0, 2.0, None])
        passed = None if value is None else value == 0
        return Measured("up", "== 0", value, passed, is_fault=value is None, on_fail=self.on_fail)

    def step(self) -> None:
        self.at_us += 1
        works, is_at_work = pending(self.now), self.data.draw(st.integers(0, 19)) > 0
        if works and is_at_work:
            self.perform(self.one_of(works))
            return
        people: list[command.SessionCommand] = [
            command.TakeOver(self.at_us),
            command.Proceed(self.at_us),
            command.Pause(self.at_us, LOCAL_USER),
            command.Resume(self.at_us, LOCAL_USER),
            command.Send(self.at_us, "Hm.", LOCAL_USER),
            command.Cancel(self.at_us, LOCAL_USER),
        ]
        if self.now.question is not None:
            call = self.now.question.call
            people += [command.Approve(self.at_us, call, LOCAL_USER), command.Deny(self.at_us, call, LOCAL_USER)] * 3
        asked = self.one_of(people)
        try:
            self.tell(asked)
        except Conflict:
            return
        if self.data.draw(st.booleans()):
            self.tell(command.Proceed(self.at_us))

    def perform(self, work: Work) -> None:
        at_us, may_begin = self.at_us, bool(self.data.draw(st.integers(0, 5)))
        asked: command.SessionCommand
        match work:
            case ModelWork(call):
                names = self.data.draw(st.lists(st.sampled_from(CALLED), max_size=3))
                calls = tuple([AskedCall(f"c{n}", name, "{}") for n, name in enumerate(names)])
                asked = command.ReplyReceived(at_us, call.id, Reply("" if calls else "done", calls))
            case ToolWork(call):
                outcome = succeeded("ok") if self.data.draw(st.booleans()) else failed("permanent", "no")
                asked = command.ToolReturned(at_us, call.id, outcome)
            case ExamineWork(_, name, wanted):
                is_undo = wanted is not None and any(one.call == name for one in self.now.undoing)
                fitness = () if is_undo else (self.measured(),)
                asked = command.Examined(at_us, CallExamined(name, fitness=fitness), self.now)
            case MeasureWork(_, after):
                asked = command.Compared(at_us, after.call, (self.measured(),))
        self.tell(asked, may_begin=may_begin)

    @property
    def events(self) -> list[SessionEvent]:
        return [event for _, event in self.facts]


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_interventions_of_any_session_are_undone_once_measured_and_replayed(data: st.DataObject) -> None:
    life = Life(data)
    for _ in range(data.draw(st.integers(5, 60))):
        if life.now.end is not None:
            break
        life.step()
    assert_undone_once(life.events)
    assert_told_in_order(life.now)
    records = recorded(life.facts)
    assert snapshot(replay(records).state) == snapshot(life.now)
    for place in places_of(life.facts):
        state = replay(records[:place]).state
        assert not state.measuring
        assert not state.undoing


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_forks_of_sessions_in_which_something_was_lowered_are_replayed(data: st.DataObject) -> None:
    life = Life(data)
    for _ in range(40):
        if life.now.end is not None:
            break
        life.step()
    for place in places_of(life.facts)[-3:]:
        facts = fork(life.facts, session="ses_2", by="anna", at_us=life.at_us, seq=place)
        assert replay(recorded(facts, "ses_2")).state.session == "ses_2"


def assert_undone_once(events: list[SessionEvent]) -> None:
    """Each call is compared at most once, undone at most once and only if it has lowered something."""
    compared = Counter(event.call for event in events if isinstance(event, FitnessCompared))
    asked = [event for event in events if isinstance(event, CompensationRequested)]
    lowered = {event.call for event in events if isinstance(event, FitnessLowered)}
    completed = {event.call for event in events if isinstance(event, ToolCompleted)}
    begun = Counter(event.call for event in events if isinstance(event, ToolRequested))
    assert set(compared.values()) | set(begun.values()) <= {1}
    assert len({event.of for event in asked}) == len(asked)
    assert {event.of for event in asked} <= lowered <= completed
    assert not any(event.of.endswith(".undo") for event in asked)
    for event in events:
        if isinstance(event, FitnessCompared):
            assert (event.is_restored is not None) == event.call.endswith(".undo")


def assert_told_in_order(state: State) -> None:
    """Results of tools follow what asked for them, with nothing in between: that is what providers want."""
    wanted: list[str] = []
    for message in state.transcript:
        match message:
            case AssistantMessage(calls=calls):
                assert wanted == []
                wanted = [call.id for call in calls]
            case ToolMessage(call=call):
                wanted.remove(call)
            case _:
                assert wanted == [], "a result is missing before somebody says something"
