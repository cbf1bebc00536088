"""Sessions in small windows: random lives, and what must hold at every moment of them."""

from typing import Any

import msgspec
from hypothesis import strategies as st

from ostler.domain import context
from ostler.domain.agent import ContextSettings
from ostler.domain.context.estimate import estimated_input_tokens
from ostler.domain.context.plan import turns
from ostler.domain.model import AskedCall, AssistantMessage, Message, ModelRef, Reply, ToolMessage, Usage, UserMessage
from ostler.domain.session import commands as command
from ostler.domain.session.events import SESSION_CODEC, ContextCompacted, ModelRequested, SessionEvent
from ostler.domain.session.evolve import evolve
from ostler.domain.session.state import State
from ostler.domain.tool import succeeded
from ostler.kernel.event import Record, StreamId
from ostler.runtime.journal import Folded, chain
from tests.domain.session.story import TOOLS, Story, spec

GOAL = "Find out what the three files say."
PROSE = "The quick brown fox looked at 3 files, and (then) at the lazy dog's JSON. "
SPECS = (*TOOLS, spec("note", "read", text={"type": "string"}))


NAMES = ("look", "look", "note", "save", "pay", "gone")


def crowded(settings: ContextSettings, **agent: Any) -> Story:
    """A session whose agent has these settings, before it starts."""
    return Story(specs=SPECS, context=settings, **agent)


def text_of(tokens: int) -> str:
    """A text of about so many tokens."""
    return (PROSE * (tokens // 18 + 1))[: tokens * 4]


def settings() -> st.SearchStrategy[ContextSettings]:
    steps = st.sampled_from(
        (
            ("references", "trim"),
            ("trim",),
            ("references",),
            ("summarise",),
            ("references", "summarise"),
            ("summarise", "trim"),
            ("references", "summarise", "trim"),
        )
    )
    return st.builds(
        ContextSettings,
        steps=steps,
        above=st.sampled_from((0.6, 0.8, 0.95)),
        down_to=st.sampled_from((0.2, 0.5)),
        pinned=st.sampled_from(((), ("note",), ("n*", "look"))),
        window_tokens=st.sampled_from((1_000, 3_000, 5_000, 9_000)),
    )


def live(story: Story, data: st.DataObject, moves: int) -> Story:
    """Drive a session at random; what the model sees is checked after every command."""
    story.do(command.Start(story.us, "ses_1", story.spec, story.model, GOAL, story.by))
    for _ in range(moves):
        state = story.now
        if state.end is not None:
            break
        story.at += 1
        wish: object = command.Proceed(story.us)
        what = data.draw(st.integers(0, 19))
        if what == 0:
            wish = command.Send(story.us, text_of(data.draw(st.sampled_from((3, 200)))), story.by)
        elif what == 1:
            wish = command.TakeOver(story.us)
        elif state.question is not None and what < 15:
            answer = command.Approve if data.draw(st.booleans()) else command.Deny
            wish = answer(story.us, state.question.call, story.by, "because")
        elif state.open and what < 19:
            call = data.draw(st.sampled_from(state.open))
            wish = returned(story, call.id, data) if call.arguments is not None else replied(story, call.id, data)
        story.do(wish, may_begin=data.draw(st.integers(0, 19)) > 0)
        check(story.now)
    return story


def returned(story: Story, call: str, data: st.DataObject) -> command.ToolReturned:
    return command.ToolReturned(story.us, call, succeeded(text_of(data.draw(st.sampled_from((1, 30, 100, 300, 500))))))


def replied(story: Story, call: str, data: st.DataObject) -> command.ReplyReceived | command.ReplyFailed:
    what = data.draw(st.integers(0, 29))
    is_summary = story.now.open[0].purpose == "summary"
    if what == 1 and is_summary:
        return command.ReplyFailed(story.us, call, "provider_rejected", "no", 400)
    text = data.draw(st.sampled_from(("", "I look.", text_of(60))))
    asked: tuple[AskedCall, ...] = ()
    if what > 1 and not (is_summary and what > 5):
        names = data.draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=2))
        asked = asking(*names)
    elif what:
        text = text if is_summary else ""
    factor = data.draw(st.sampled_from((0, 0, 0, 0.4, 1, 1, 1.1, 1.3, 9)))
    usage = Usage(int(factor * estimated_input_tokens(story.now)), 20)
    return command.ReplyReceived(story.us, call, Reply(text, asked, "end", usage))


def check(state: State) -> None:
    """What the model would be shown now holds together."""
    request = context.request(state, state.open[0]) if state.open else None
    if request is not None and state.open[0].arguments is None:
        assert request.system
        assert request.tools == SPECS
    messages = list(state.transcript)
    assert messages[0] == UserMessage(GOAL)
    waiting = {call.id for call in state.open if call.arguments is not None} | {call.id for call in state.asked}
    waiting |= {state.question.call} if state.question is not None and state.question.tool else set()
    asked, answered = 0, 0
    for turn in turns(messages, 1):
        reply, *rest = messages[turn.start : turn.end]
        if not isinstance(reply, AssistantMessage):
            continue
        ids = {call.id for call in reply.calls}
        results = [message for message in rest if _is_result(message)]
        assert {message.call for message in results if isinstance(message, ToolMessage)} <= ids - waiting
        assert len(results) == len(ids - waiting)
        asked, answered = asked + len(ids), answered + len(results)
    assert answered == sum(_is_result(message) for message in messages)
    assert asked == answered + len(waiting)


def _is_result(message: Message) -> bool:
    return isinstance(message, ToolMessage) or (
        isinstance(message, UserMessage) and message.text.startswith("Observation: ")
    )


def events(story: Story) -> list[SessionEvent]:
    return [event for _, event in story.log]


def compactions(story: Story) -> list[ContextCompacted]:
    return [event for event in events(story) if isinstance(event, ContextCompacted)]


def requests(story: Story) -> list[tuple[State, ModelRequested]]:
    """Every time the model was asked, with the state right after that."""
    state: State | None = None
    found = []
    for at_us, event in story.log:
        state = evolve(state, event, at_us)
        if isinstance(event, ModelRequested):
            found.append((state, event))
    return found


def recorded(story: Story) -> list[Record]:
    kept, records = Folded(StreamId("default", "ses_1")), []
    for at_us, event in story.log:
        records += chain(kept.stream, kept.seq, kept.hash, at_us, [SESSION_CODEC.decode(SESSION_CODEC.encode(event))])
        kept.seq, kept.hash = records[-1].seq, records[-1].hash
    return records


def with_window(model: ModelRef, window: int) -> ModelRef:
    return msgspec.structs.replace(model, window_tokens=window)


def with_model(state: State, name: str) -> State:
    return msgspec.structs.replace(state, model=msgspec.structs.replace(state.model, name=name))


def asking(*names: str) -> tuple[AskedCall, ...]:
    """Calls without arguments, as a provider sends them."""
    return tuple(AskedCall(f"asked_{number}", name, "{}") for number, name in enumerate(names, 1))
