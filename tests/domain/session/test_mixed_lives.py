"""Failing providers, several models, small windows, structured answers, hooks and people, all in one random life."""

from collections import Counter
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import settings as options
from hypothesis import strategies as st

from ostler.domain import context
from ostler.domain.agent import ContextSettings, Limits
from ostler.domain.constraint.compile import policy_of
from ostler.domain.context.estimate import estimated_input_tokens
from ostler.domain.fitness.target import Measured, OnFail
from ostler.domain.hook import Deny, HookPoint, Rewrite, Ruling
from ostler.domain.model import (
    AskedCall,
    AssistantMessage,
    Image,
    ModelRef,
    Price,
    Reply,
    ToolMessage,
    Usage,
    UserMessage,
    cost_microusd,
)
from ostler.domain.resilience.retry import UNBEGUN
from ostler.domain.session import commands as command
from ostler.domain.session import events as event
from ostler.domain.session.decide import decide
from ostler.domain.session.evolve import evolve
from ostler.domain.session.fork import fork
from ostler.domain.session.interventions import is_undoing
from ostler.domain.session.pending import ExamineWork, MeasureWork, ModelWork, pending
from ostler.domain.session.state import OpenCall, State, as_asked, due_us
from ostler.domain.strategy.card import Card
from ostler.domain.strategy.choice import Routing, StrategySpec, Unavailable
from ostler.domain.tool import CODE, Suspension, ToolOutcome, failed, succeeded
from ostler.kernel.errors import Conflict
from ostler.runtime.replay import replay, snapshot
from tests.domain.context.crowded import text_of
from tests.domain.session.story import SECOND, TOOLS, Story, spec
from tests.domain.session.test_interventions import assert_undone_once
from tests.domain.session.test_replay_properties import recorded

NAMES = ("live:gpt-a", "live:claude-b", "live:gpt-c")
PRICES = (Price(3_000_000, 15_000_000), Price(100_000, 400_000), Price(20_000_000, 60_000_000))
POLICIES = tuple(
    policy_of(text)
    for text in (
        "default allow",
        'default allow\nrequire approval for tool.pay as "look"',
        'default allow\nrequire approval for model.claude-b as "look"',
        'default allow\nrequire approval for model.* as "look"\ndeny tool.save as "no"',
        'default allow\ndeny model.gpt-a as "not-a"',
        'default allow\ndeny model.* if count(tool.pay) within 1h > 2 as "much"',
        'default allow\ndeny model.gpt-c if count(tool.look) within 1h per tenant > 2 as "busy"',
    )
)
SPECS = (*TOOLS, spec(CODE, code={"type": "string"}))
UNDONE = {"look": "save", "edit": "pay", "pay": "save", CODE: "look"}
FITTED = tuple(msgspec.structs.replace(one, fitness=("up",), compensate=UNDONE.get(one.name, "")) for one in SPECS)
"""The same tools, around which a target is measured, and most of which can be undone."""
STEPS = (("references", "trim"), ("summarise",), ("summarise", "trim"), ("references", "summarise"))
RETURNS = {"type": "object", "properties": {"n": {"type": "integer", "default": 3}}, "additionalProperties": False}
PICTURE = Image("ab" * 32, 40_000, "image/png")
TEXTS = (
    "",
    "I look.",
    '{"n": 1}',
    "```json\n{}\n```",
    '{"n": "x"}',
    "Final Answer: {}",
    "Action: look {}",
    text_of(80),
)
CODES = (
    "rate_limited",
    "provider_timeout",
    "incomplete_reply",
    "circuit_open",
    "shed",
    "provider_rejected",
    "configuration",
)


def stories() -> st.SearchStrategy[Story]:
    return st.builds(story_of, st.data())


def story_of(data: st.DataObject) -> Story:
    draw = data.draw
    if draw(st.booleans()):  # one that is left in peace, and so grows long
        settings = ContextSettings(draw(st.sampled_from(STEPS)), window_tokens=draw(st.sampled_from((1_200, 2_500))))
        tools = draw(st.sampled_from(("native", "native", "text")))
        limits = Limits(steps=None, attempts=20)
        return Story(limits=limits, tools=tools, context=settings, price=PRICES[0], specs=SPECS)
    limits = Limits(
        steps=draw(st.sampled_from((6, 50, 50))),
        seconds=draw(st.sampled_from((None, 40.0))),
        tokens=draw(st.sampled_from((None, 12_000, 90_000))),
        cost_microusd=draw(st.sampled_from((None, 120_000, 5_000_000))),
        attempts=draw(st.sampled_from((1, 4, 8))),
        repairs=draw(st.sampled_from((0, 4))),
        tool_calls=draw(st.sampled_from((None, None, 3))),
    )
    story = Story(
        limits=limits,
        tools=draw(st.sampled_from(("native", "native", "text"))),
        context=ContextSettings(
            draw(st.sampled_from(STEPS)), window_tokens=draw(st.sampled_from((None, 900, 1_500, 2_500)))
        ),
        returns=draw(st.sampled_from((None, RETURNS))),
        hooks=draw(st.sampled_from(((), (), ("polite",)))),
        on_unknown=draw(st.sampled_from(("tell", "pause"))),
        price=PRICES[0],
        specs=draw(st.sampled_from((SPECS, FITTED))),
    )
    story.spec = msgspec.structs.replace(story.spec, policy=draw(st.sampled_from(POLICIES)))
    return story


def cards_of(story: Story, data: st.DataObject) -> tuple[Card, ...]:
    count = data.draw(st.sampled_from((1, 2, 3)))
    if count == 1:
        return ()
    windows = st.sampled_from((None, 1_500, 2_000, 6_000))
    return tuple(
        Card(
            name,
            ModelRef(
                "live",
                "live",
                name.partition(":")[2],
                tools=story.model.tools,
                price=price,
                window_tokens=data.draw(windows),
            ),
            reply_tokens_max=data.draw(st.sampled_from((None, 300))),
        )
        for name, price in zip(NAMES[:count], PRICES, strict=False)
    )


class Life:
    """A session that is driven at random; what must hold is looked at after every command."""

    def __init__(self, story: Story, data: st.DataObject) -> None:
        self.story, self.data = story, data

    def draw(self, *of: Any) -> Any:
        return self.data.draw(st.sampled_from(of))

    def begin(self) -> None:
        story, cards = self.story, cards_of(self.story, self.data)
        model = cards[0].model if cards else story.model
        kind = self.draw("fallback", "cheapest", "adaptive")
        story.do(
            command.Start(
                story.us,
                "ses_1",
                story.spec,
                model,
                "Do it.",
                story.by,
                images=self.draw((), (), (PICTURE,)),
                strategy=StrategySpec(kind) if cards else None,
                candidates=cards,
                is_budgeted=self.draw(False, True),
                gate=4 if cards else self.draw(4, 4, 4, 3, 2, 1),
            )
        )

    def live(self, moves: int) -> None:
        for _ in range(moves):
            if self.story.now.end is not None:
                break
            self.story.at += self.draw(0, 1, 1, 4)
            wish = self.of_people() if self.draw(*range(8)) == 0 else self.of_worker()
            try:
                self.story.do(wish, may_begin=self.draw(*range(12)) > 0)
            except Conflict:
                continue
            self.is_conversation(self.story.now)

    def is_conversation(self, state: State) -> None:
        check(state)

    def of_people(self) -> object:
        story = self.story
        us, by = story.us, story.by
        wishes: tuple[object, ...] = (
            command.Send(us, text_of(self.draw(3, 150)), by, self.draw((), (PICTURE,))),
            command.Pause(us, by, "lunch"),
            command.Resume(us, by),
            command.Resume(us, by),
            command.Cancel(us, by),
            self.draw(command.Kill(us, by), command.Fail(us, "internal_error", "a defect")),
            command.MovePolicy(us, by, self.draw(*POLICIES)),
            command.MovePolicy(us, by, self.draw(*POLICIES)),
        )
        if self.story.spec.limits.steps is None:
            return self.draw(*wishes[:4])
        return self.draw(*wishes, *wishes[:4] * 4, *wishes[6:] * 4)

    def of_worker(self) -> object:
        """What a worker does that may be lost at any moment."""
        story, state = self.story, self.story.now
        if self.draw(*range(12)) == 0:
            return command.TakeOver(story.us)
        if state.question is not None and (not state.measuring or self.draw(False, True)):
            call = state.question.call
            return self.draw(
                command.Approve(story.us, call, story.by),
                command.Approve(story.us, call, story.by),
                command.Deny(story.us, call, story.by, "no"),
                command.AskBack(story.us, call, story.by, "why?"),
                command.Proceed(story.us),
            )
        if state.pause is not None and not state.open and (not state.measuring or self.draw(False, True)):
            return command.Resume(story.us, story.by)
        work = pending(state)
        if not work:
            return command.Proceed(story.us) if state.cancelling_by is None else command.TakeOver(story.us)
        one = self.draw(*work)
        if isinstance(one, ExamineWork):
            return command.Examined(story.us, self.found(one), state)
        if isinstance(one, MeasureWork):
            return command.Compared(story.us, one.after.call, (self.measured(),))
        if one.call.limit is not None:
            return self.draw(command.CapacityFound(story.us, one.call.id), command.Proceed(story.us))
        if one.call.not_before_us:
            story.at = max(story.at, one.call.not_before_us / SECOND)
            return command.WaitOver(story.us, one.call.id)
        if isinstance(one, ModelWork):
            return self.of_model(one.call)
        return self.of_tool(one.call)

    def found(self, work: ExamineWork) -> event.CallExamined:
        state, routing = self.story.now, None
        wanted = len(state.guard.questions) + (len(state.guard.own_questions) if state.has_moved else 0)
        if state.is_routed and work.asked is None and work.name != "end":
            away = self.data.draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=2))
            until_us = self.draw(None, self.story.us + 2 * SECOND)
            scores = {name: self.draw(0.1, 0.5, 0.9) for name in NAMES}
            gone = tuple(Unavailable(name, "its breaker is open", until_us) for name in away)
            routing = Routing(self.story.us, gone, scores)
        hooks: tuple[Ruling, ...] = ()
        arguments = None
        if state.agent.hooks and self.draw(*range(9)) == 0:
            point: HookPoint = "on_end" if work.name == "end" else "pre_tool"
            answer = self.draw(Deny("not so"), Rewrite(None)) if work.name == "end" else Deny("not so")
            if work.asked is not None or work.name == "end":
                hooks = (Ruling("polite", point, answer),)
            if isinstance(answer, Rewrite):
                arguments = {"answer": self.draw(*TEXTS)}
        budget: dict[str, Any] = {}
        if state.is_budgeted and state.agent.limits.steps and self.draw(*range(8)) == 0:
            budget = {"refused": "it is used up", "asks": self.draw(True, True, False), "budgets": ("house",)}
        answers = tuple(float(self.draw(0, 5)) for _ in range(wanted))
        of_tool = None if work.asked is None else state.agent.tool(work.asked.name)
        is_measured = of_tool is not None and of_tool.fitness and not is_undoing(state, work.name)
        return event.CallExamined(
            work.name,
            answers,
            hooks=hooks,
            arguments=arguments,
            routing=routing,
            fitness=(self.measured(),) if is_measured else (),
            **budget,
        )

    def measured(self) -> Measured:
        value = self.draw(0.0, 0.0, 0.0, 1.0, 2.0, None)
        passed = None if value is None else value == 0
        on_fail: OnFail = self.draw("record", "record", "ask", "halt")
        return Measured("up", "== 0", value, passed, is_fault=value is None, on_fail=on_fail)

    def of_model(self, call: OpenCall) -> object:
        story, state = self.story, self.story.now
        what = self.draw(*range(10))
        if what == 0:
            return command.CapacityMissed(story.us, call.id, "model")
        if what < 4:
            code = self.draw(*CODES, *CODES[:5] * 4)
            later = self.draw(None, story.us, story.us + 3 * SECOND, story.us + 60 * SECOND)
            if code in ("provider_rejected", "configuration"):
                later = None
            elif self.draw(*range(4)):
                later = later or story.us
            return command.ReplyFailed(story.us, call.id, code, "no", None, later, self.draw("", "Let me"))
        asked: tuple[AskedCall, ...] = ()
        if what < 9 and (call.purpose == "turn" or what == 4):
            names = self.data.draw(
                st.lists(st.sampled_from(("look", "save", "edit", "pay", "gone", CODE)), min_size=1, max_size=3)
            )
            asked = tuple(AskedCall("same", name, "{}") for name in names)
        most = call.max_tokens or state.agent.settings.max_tokens
        used = Usage(self.draw(0, 1, 2) * estimated_input_tokens(state) // 2, min(most, self.draw(0, 20, 90)))
        stop = self.draw(
            "end", "end", "end", "end", "length", self.draw("end", "end", "refusal") if what == 9 else "end"
        )
        return command.ReplyReceived(story.us, call.id, Reply(self.draw(*TEXTS), asked, stop, used))

    def of_tool(self, call: OpenCall) -> object:
        story = self.story
        if call.tool == CODE and self.draw(*range(4)):
            waiting = Suspension(self.draw("look", "save", "pay", "gone"), {}, b"saved")
            return command.ToolReturned(story.us, call.id, ToolOutcome(True, "", suspension=waiting))
        if call.tool != CODE and self.draw(*range(3)) == 0:
            outcome, code = failed("transient", "later"), self.draw("transient", "shed", "circuit_open")
            return command.ToolReturned(story.us, call.id, outcome, retry_at_us=story.us + 2 * SECOND, code=code)
        return command.ToolReturned(story.us, call.id, succeeded(text_of(self.draw(1, 100, 400, 900))))


def check(state: State) -> None:
    """The conversation is one that providers take, and what it costs is what was counted."""
    waiting = {call.id for call in state.open if call.arguments is not None} | {call.id for call in state.asked}
    waiting = {call for call in waiting if call.count(".") == 1}  # those of programs are told to the programs
    owed: set[str] = set()
    for place, message in enumerate(state.transcript):
        match message:
            case AssistantMessage():
                assert not owed, "a reply came before all that the last one asked for was answered"
                owed = {call.id for call in message.calls}
                assert len(owed) == len(message.calls)
            case ToolMessage():
                assert message.call in owed, "a result of what nobody asked for, or a second one"
                owed.discard(message.call)
            case UserMessage():
                assert place > 0 or message.text == "Do it."
                if message.text.startswith("Observation: "):
                    owed.pop()
                else:
                    assert not owed or message in state.inbox or not state.open
    is_text = state.model.tools == "text"
    assert state.end is not None or (len(owed) == len(waiting) if is_text else owed == waiting)
    for call in state.open:
        if call.arguments is None:
            assert context.request(state, call).messages


def kept_its_books(story: Story) -> None:
    """Cost and usage are the sum of what the events say, and within the limits with what is reserved."""
    used, cost = Counter[str](), 0
    state: State | None = None
    for at_us, one in story.log:
        before, state = state, evolve(state, one, at_us)
        usage = getattr(one, "usage", Usage())
        used.update(msgspec.structs.asdict(usage))
        cost += getattr(one, "cost_microusd", 0) if not isinstance(one, event.ApprovalRequested) else 0
        if isinstance(one, event.ModelRequested | event.CallRetried):
            has_room(state, next(call for call in state.open if call.id == one.call))
        if usage.total_tokens and before is not None:
            assert getattr(one, "cost_microusd", 0) == cost_microusd(usage, before.model.price)
    now = story.now
    assert dict(used) == msgspec.structs.asdict(now.usage)
    assert cost == now.cost_microusd


def has_room(state: State, call: OpenCall) -> None:
    """An attempt of a model call fits into the window of who is asked, and what it may use into the limits."""
    if call.arguments is not None or state.has_moved:  # other policies may show it more tools than it was begun with
        return
    asked, limits = as_asked(state), state.agent.limits
    expected = context.summary_tokens(asked, call.covers) if call.covers else estimated_input_tokens(asked)
    window = context.window_of(state)
    assert window is None or expected + (call.max_tokens or state.agent.settings.max_tokens) <= window
    assert limits.tokens is None or state.usage.total_tokens + call.reserved_tokens <= limits.tokens
    assert limits.cost_microusd is None or state.cost_microusd + call.reserved_microusd <= limits.cost_microusd + 9


def did_nothing_twice(story: Story) -> None:
    """A `once` call begins once, but for attempts that certainly never did; nothing begins after a cancellation."""
    under_way: set[str] = set()
    begun: Counter[str] = Counter()
    is_cancelled = False
    state = None
    for at_us, one in story.log:
        state = evolve(state, one, at_us)
        match one:
            case event.CancelRequested():
                is_cancelled = True
            case event.ToolRequested() | event.ModelRequested():
                assert not is_cancelled
                begun[one.call] += 1
                under_way.add(one.call)
            case event.CallRetried():
                call = next(call for call in state.open if call.id == one.call)
                code = one.code or one.because.partition(": ")[0]  # where older gates wrote it
                if code in UNBEGUN or one.limit is not None:
                    begun[one.call] -= one.call in under_way
                    under_way.discard(one.call)
                if code in CODES or code == "transient":
                    under_way.discard(one.call)
                if not call.not_before_us:
                    assert not is_cancelled
                    begun[one.call] += 1
                    under_way.add(one.call)
                spec = state.agent.tool(call.tool)
                if spec is not None and spec.effect == "once":
                    assert begun[one.call] <= 1
            case _:
                pass


def has_somebody_who_moves_it_on(state: State) -> None:
    if state.end is not None:
        assert (state.open, pending(state), due_us(state)) == ((), (), None)
        return
    due = due_us(state)
    if due is None:
        assert state.pause is not None or state.question is not None
        return
    at_us = max(due, state.started_us)
    wish = command.TakeOver(at_us) if state.open else command.Proceed(at_us)
    moved = decide(wish, state)
    assert moved.events or pending(moved.state) or moved.state.open


@options(max_examples=250, deadline=None)
@given(st.data())
def test_whatever_happens_a_session_keeps_its_books_and_its_word_and_is_decided_again_alike(
    data: st.DataObject,
) -> None:
    story = story_of(data)
    life = Life(story, data)
    life.begin()
    life.live(data.draw(st.sampled_from((10, 40, 90))))
    kept_its_books(story)
    did_nothing_twice(story)
    assert_undone_once([one for _, one in story.log])
    has_somebody_who_moves_it_on(story.now)
    records = recorded(story.log)
    assert snapshot(replay(records).state) == snapshot(story.now)


@options(max_examples=100, deadline=None)
@given(st.data())
def test_a_fork_of_any_session_lives_on_by_the_same_rules(data: st.DataObject) -> None:
    story = story_of(data)
    life = Life(story, data)
    life.begin()
    life.live(data.draw(st.sampled_from((5, 20, 50))))
    other = ModelRef("live", "live", "gpt-d", tools=story.model.tools, price=PRICES[1], window_tokens=2_000)
    trial = data.draw(st.sampled_from((None, None, other)))
    try:
        facts = fork(story.log, session="ses_2", by="anna", at_us=story.us, trial=trial)
    except Conflict:
        return
    story.log, story.state = [], None
    for at_us, one in facts:
        story.state = evolve(story.state, one, at_us)
        story.log.append((at_us, one))
    begun = sum(isinstance(one, event.ToolRequested) for _, one in story.log)
    life.live(30)
    kept_its_books(story)
    did_nothing_twice(story)
    assert_undone_once([one for _, one in story.log])
    has_somebody_who_moves_it_on(story.now)
    if trial is not None:
        assert sum(isinstance(one, event.ToolRequested) for _, one in story.log) == begun
    assert snapshot(replay(recorded(story.log, "ses_2")).state) == snapshot(story.now)
