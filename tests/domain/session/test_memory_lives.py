"""Sessions of agents with memory in random lives: they end once, lose no label, and go on wherever they were left."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import settings as options
from hypothesis import strategies as st

from ostler.domain.agent import ContextSettings
from ostler.domain.constraint.compile import policy_of
from ostler.domain.identity import LOCAL_USER
from ostler.domain.memory.recollection import Recollection, Recollections
from ostler.domain.memory.settings import MemorySettings
from ostler.domain.memory.tools import MEMORY_TOOLS
from ostler.domain.model import AskedCall, Reply, Usage
from ostler.domain.session import commands as command
from ostler.domain.session import events as event
from ostler.domain.session.decide import decide
from ostler.domain.session.evolve import evolve
from ostler.domain.session.fork import Fact, fork, places_of
from ostler.domain.session.pending import ExamineWork, MeasureWork, ModelWork, pending
from ostler.domain.session.state import OpenCall, State
from ostler.domain.strategy.choice import Routing
from ostler.domain.tool import CODE, Suspension, ToolOutcome, ToolSpec, failed, succeeded
from ostler.runtime.replay import replay, snapshot
from tests.domain.context.crowded import text_of
from tests.domain.session.story import SECOND, Story
from tests.domain.session.test_interventions import assert_undone_once
from tests.domain.session.test_mixed_lives import (
    NAMES,
    Life,
    did_nothing_twice,
    has_somebody_who_moves_it_on,
    kept_its_books,
    story_of,
)
from tests.domain.session.test_replay_properties import recorded

WEB = ToolSpec("web.fetch", "Fetch.", {"type": "object"}, effect="read", roles=("reads_untrusted",))
POLICIES = tuple(
    policy_of(text)
    for text in (
        "default allow",
        'default allow\ndeny tool.memory.* as "none"',
        'default allow\nrequire approval for tool.memory.* as "ask"\nrequire approval for tool.pay as "ask-too"',
        'default allow\nrequire approval for model.* as "look"',
        'default allow\nrequire approval for tool.working.put as "ask"',
        'default allow\ndeny tool.memory.remember if count(tool.memory.recall) within 1h > 1 as "much"',
        'default allow\ndeny tool.memory.recall if count(tool.look) within 1h per tenant > 2 as "busy"',
    )
)
ASKED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("memory.remember", {"text": "The door is painted red"}),
    ("memory.remember", {"text": "Do it."}),
    ("memory.recall", {"query": "door"}),
    ("memory.forget", {"ids": ["mem_1"]}),
    ("memory", {"command": "view", "path": "/memories"}),
    ("working.put", {"key": "plan", "text": "first the door"}),
    ("working.put", {"key": "long", "text": "word " * 60, "pinned": True}),
    ("working.get", {"key": "plan"}),
    ("working.drop", {"key": "long"}),
    ("web.fetch", {}),
)


def story_with_memory(data: st.DataObject) -> Story:
    draw, story = data.draw, story_of(data)
    memory = MemorySettings(
        episodes=draw(st.sampled_from((True, True, False))),
        recall_max=draw(st.sampled_from((8, 8, 0))),
        working_entries=draw(st.sampled_from((1, 32))),
    )
    window = story.spec.context.window_tokens
    story.spec = msgspec.structs.replace(
        story.spec,
        tools=(*story.spec.tools, *MEMORY_TOOLS, WEB),
        memory=memory,
        context=ContextSettings(story.spec.context.steps, window_tokens=window and window + 4_500),
        policy=draw(st.sampled_from((story.spec.policy, *POLICIES))),
        on_refusal=draw(st.sampled_from(("tell", "end"))),
    )
    return story


class Remembering(Life):
    """As other lives, with calls of memory, and whatever may come of them."""

    def is_conversation(self, state: State) -> None:
        if state.ending is None and state.mind is not None:
            own = state.mind.asked
            kept = {name: tuple(one for one in getattr(state, name) if one.id != own) for name in ("asked", "open")}
            super().is_conversation(msgspec.structs.replace(state, **kept))

    def of_model(self, call: OpenCall) -> object:
        if call.purpose != "turn" or self.draw(*range(3)):
            return super().of_model(call)
        wanted = self.data.draw(st.lists(st.sampled_from(ASKED), min_size=1, max_size=3))
        asked = tuple(AskedCall("same", name, msgspec.json.encode(given).decode()) for name, given in wanted)
        return command.ReplyReceived(self.story.us, call.id, Reply("", asked, "tool_calls", Usage(1, 1)))

    def of_tool(self, call: OpenCall) -> object:
        us = self.story.us
        if call.tool == CODE and self.draw(True, False):
            tool, arguments = self.draw(*ASKED)
            waiting = Suspension(tool, arguments, b"saved")
            return command.ToolReturned(us, call.id, ToolOutcome(True, "", suspension=waiting))
        if call.tool in ("memory.recall", "memory") and self.draw(*range(4)):
            return command.ToolReturned(us, call.id, self.recalled())
        if self.draw(*range(8)) == 0:
            return command.ToolReturned(us, call.id, failed(self.draw("timeout", "unknown", "cancelled"), "no"))
        return super().of_tool(call)

    def recalled(self) -> ToolOutcome:
        memories = tuple(
            Recollection(
                f"mem_{self.draw(*range(6))}", "fact", text_of(5), "agent:clerk", "", self.draw((), ("untrusted",))
            )
            for _ in range(self.draw(0, 1, 3))
        )
        found = ToolOutcome(True, msgspec.json.encode(Recollections(memories)).decode(), is_json=True)
        return self.draw(found, found, found, ToolOutcome(True, "a hook wrote this"))


def keeps_its_end_and_its_labels(log: list[Fact]) -> None:
    """After the end has been decided there is the runtime's own call and nothing else; nothing loses what it heard."""
    state: State | None = None
    for at_us, one in log:
        assert state is None or state.end is None or isinstance(one, event.ApprovalRejected)
        if state is not None and state.ending is not None:
            assert getattr(one, "call", "episode") == "episode"
            assert not isinstance(one, event.ModelRequested | event.InputReceived | event.EpisodeRequested)
            if isinstance(one, event.AgentCompleted | event.AgentFailed):
                assert one == state.ending
        if state is not None and isinstance(one, event.ToolRequested) and one.taint is not None:
            assert set(one.taint.labels) == state.provenance.labels or one.taint.sources == ("user",)
        before, state = state, evolve(state, one, at_us)
        if before is not None and isinstance(one, event.ToolRequested) and one.call.startswith("recall."):
            assert state.granted == before.granted


def finish(state: State, at_us: int) -> None:
    """A worker that takes over and people who say yes bring it to its end."""
    asked: command.SessionCommand = command.TakeOver(at_us) if state.open else command.Proceed(at_us)
    for _ in range(300):
        state = decide(asked, state).state
        if state.end is not None:
            return
        at_us = max(at_us + SECOND, *[call.not_before_us for call in state.open], 0)
        asked = _next(state, at_us)
    raise AssertionError(f"it never ends: {state}")


def _next(state: State, at_us: int) -> command.SessionCommand:
    work = pending(state)
    if state.cancelling_by is not None:
        return command.TakeOver(at_us)
    if state.pause is not None:
        return command.Resume(at_us, LOCAL_USER)
    if state.question is not None and not state.measuring and state.question.call not in [one.call.id for one in work]:
        return command.Approve(at_us, state.question.call, LOCAL_USER)
    if not work:
        return command.TakeOver(at_us) if state.open else command.Proceed(at_us)
    match work[0]:
        case ExamineWork() as one:
            wanted = len(state.guard.questions) + (len(state.guard.own_questions) if state.has_moved else 0)
            is_routed = state.is_routed and one.asked is None and one.name != "end"
            routing = Routing(at_us, (), dict.fromkeys(NAMES, 0.5)) if is_routed else None
            return command.Examined(at_us, event.CallExamined(one.name, (0.0,) * wanted, routing=routing), state)
        case MeasureWork() as one:
            return command.Compared(at_us, one.after.call, one.after.before)
        case one if one.call.limit is not None:
            return command.CapacityFound(at_us, one.call.id)
        case one if one.call.not_before_us:
            return command.WaitOver(at_us, one.call.id)
        case ModelWork(call):
            text = '{"n": 1}' if state.model.tools == "native" else "Final Answer: {}"
            return command.ReplyReceived(at_us, call.id, Reply(text, usage=Usage(1, 1)))
        case one:
            return command.ToolReturned(at_us, one.call.id, succeeded("ok"))


@options(max_examples=40, deadline=None)
@given(st.data())
def test_whatever_happens_a_session_with_memory_ends_once_keeps_its_labels_and_goes_on_after_any_event(
    data: st.DataObject,
) -> None:
    story = story_with_memory(data)
    life = Remembering(story, data)
    life.begin()
    life.live(data.draw(st.sampled_from((10, 40, 90))))
    kept_its_books(story)
    did_nothing_twice(story)
    assert_undone_once([one for _, one in story.log])
    has_somebody_who_moves_it_on(story.now)
    keeps_its_end_and_its_labels(story.log)
    assert snapshot(replay(recorded(story.log)).state) == snapshot(story.now)
    state: State | None = None
    for at_us, one in story.log[: data.draw(st.integers(1, len(story.log)))]:
        state = evolve(state, one, at_us)
    assert state is not None
    finish(state, story.us)


@options(max_examples=20, deadline=None)
@given(st.data())
def test_a_fork_of_a_session_with_memory_at_any_place_lives_on_by_the_same_rules(data: st.DataObject) -> None:
    story = story_with_memory(data)
    life = Remembering(story, data)
    life.begin()
    life.live(data.draw(st.sampled_from((5, 20, 50))))
    if not (places := places_of(story.log)):
        return
    facts = fork(story.log, session="ses_2", by="anna", at_us=story.us, seq=data.draw(st.sampled_from(places)))
    story.log, story.state = facts, None
    for at_us, one in facts:
        story.state = evolve(story.state, one, at_us)
    assert story.now.ending is None
    life.live(30)
    kept_its_books(story)
    keeps_its_end_and_its_labels(story.log)
    assert snapshot(replay(recorded(story.log, "ses_2")).state) == snapshot(story.now)
    finish(story.now, story.us)
