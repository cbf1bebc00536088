"""A session with several models: who is asked, who is asked after a failure, and who never is."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.domain.agent import Limits
from ostler.domain.constraint.compile import policy_of
from ostler.domain.model import ModelRef, Price, Usage
from ostler.domain.session import commands as command
from ostler.domain.session.events import (
    AgentFailed,
    AgentPaused,
    ApprovalRequested,
    CallExamined,
    CallRetried,
    ConstraintFailed,
    ModelRequested,
    SessionEvent,
)
from ostler.domain.session.pending import ExamineWork, pending
from ostler.domain.strategy.card import Card
from ostler.domain.strategy.choice import Preference, Routing, StrategySpec, Unavailable
from ostler.kernel.errors import DefinitionInvalid
from ostler.kernel.event import Record, StreamId
from ostler.runtime.journal import chain
from ostler.runtime.replay import replay
from tests.domain.session.story import SECOND, Story, kinds

A, B, C = "live:a", "live:b", "live:c"


def card(name: str, **more: Any) -> Card:
    provider, _, model = name.partition(":")
    of = {field: more.pop(field) for field in ("price", "window_tokens", "tools") if field in more}
    return Card(name, ModelRef("live", provider, model, **of), **more)


class Routed(Story):
    """A session that chooses among candidates; what is found out of them is given to `examine`."""

    def __init__(self, *cards: Card, strategy: StrategySpec | None = None, text: str = "", **more: Any) -> None:
        super().__init__(**more)
        if text:
            self.spec = msgspec.structs.replace(self.spec, policy=policy_of(text))
        self.cards, self.strategy = cards, strategy or StrategySpec()

    def start(self, goal: str = "Do it.") -> "Routed":
        self.do(
            command.Start(
                self.us,
                "ses_1",
                self.spec,
                self.cards[0].model,
                goal,
                self.by,
                strategy=self.strategy,
                candidates=self.cards,
            )
        )
        self.proceed()
        return self

    def examine(self, *away: str, until_s: float | None = None, **found: Any) -> list[SessionEvent]:
        (work,) = pending(self.now)
        assert isinstance(work, ExamineWork)
        until_us = None if until_s is None else int(until_s * SECOND)
        routing = Routing(self.us, tuple(Unavailable(name, "its breaker is open", until_us) for name in away), **found)
        return self.do(command.Examined(self.us, CallExamined(work.name, routing=routing), self.now))

    def fail(self, code: str = "provider_overloaded", *, after_s: float | None = 2.0) -> list[SessionEvent]:
        """The attempt fails; `after_s` None is for good."""
        (call,) = self.now.open
        retry = None if after_s is None else self.us + int(after_s * SECOND)
        return self.do(command.ReplyFailed(self.us, call.id, code, "so it is", None, retry))

    @property
    def asked(self) -> list[str]:
        """Who was asked, attempt by attempt."""
        events = [event for _, event in self.log if isinstance(event, ModelRequested | CallRetried)]
        return [event.choice.model for event in events if event.choice is not None]

    def decided_again(self) -> None:
        """The log is decided again as it was."""
        records: list[Record] = []
        for at_us, event in self.log:
            before = records[-1].hash if records else bytes(32)
            records += chain(StreamId("default", "ses_1"), len(records), before, at_us, [event])
        replay(records)


def test_a_session_with_one_model_is_not_examined_and_records_no_choice() -> None:
    story = Story().start()
    assert kinds([event for _, event in story.log]) == ["agent.started", "model.requested"]
    requested = story.log[-1][1]
    assert isinstance(requested, ModelRequested)
    assert requested.choice is None
    assert "candidates" not in msgspec.to_builtins(story.log[0][1])


def test_each_request_is_examined_and_its_choice_is_the_model_that_answers_from_there_on() -> None:
    story = Routed(card(A), card(B)).start()
    assert kinds(story.examine(A)) == ["call.examined", "model.requested"]
    assert story.now.model == card(B).model
    story.reply(("look", {}))
    story.returned("1.1")
    assert kinds(story.examine()) == ["call.examined", "model.requested"]
    assert story.now.model == card(A).model
    story.reply(text="done")
    assert story.asked == [B, A]
    story.decided_again()


def test_after_a_failure_the_next_is_asked_at_once_and_after_all_have_failed_the_first_again_later() -> None:
    story = Routed(card(A), card(B)).start()
    story.examine()
    (first,) = story.fail(after_s=30)
    assert isinstance(first, CallRetried)
    assert first.choice is not None
    assert (first.choice.model, first.not_before_us, first.choice.excluded) == (
        B,
        None,
        ((A, "it has failed in this call"),),
    )
    (second,) = story.fail(after_s=5)
    assert isinstance(second, CallRetried)
    assert second.choice is not None
    assert (second.choice.model, second.not_before_us) == (A, story.us + 5 * SECOND)
    assert (second.choice.failed, second.choice.given_up) == ((), ())
    story.at += 5
    story.do(command.WaitOver(story.us, "1"))
    story.reply(text="done")
    assert story.asked == [A, B, A]
    story.decided_again()


def test_who_has_failed_for_good_is_not_asked_again_and_with_nobody_left_the_session_fails() -> None:
    story = Routed(card(A), card(B)).start()
    story.examine()
    story.fail("provider_rejected", after_s=None)
    (again,) = story.fail(after_s=5)
    assert isinstance(again, CallRetried)
    assert again.choice is not None
    assert (again.choice.model, again.choice.given_up) == (B, (A,))
    assert again.choice.excluded == ((A, "it has failed for good"),)
    story.at += 5
    story.do(command.WaitOver(story.us, "1"))
    assert kinds(story.fail("provider_rejected", after_s=None)) == ["model.failed", "agent.failed"]
    story.decided_again()


def test_a_failure_that_people_can_mend_pauses_the_session_only_if_nobody_else_can_answer() -> None:
    story = Routed(card(A), card(B)).start()
    story.examine()
    assert kinds(story.fail("configuration", after_s=None)) == ["call.retried"]
    events = story.fail("configuration", after_s=None)
    assert isinstance(events[-1], AgentPaused)
    story.decided_again()


def test_attempts_are_counted_over_all_models_together() -> None:
    story = Routed(card(A), card(B), card(C), limits=Limits(attempts=3)).start()
    story.examine()
    story.fail()
    story.fail()
    assert kinds(story.fail()) == ["model.failed", "agent.failed"]
    assert story.asked == [A, B, C]
    story.decided_again()


def test_a_request_that_no_model_fits_ends_the_session_and_explains_itself() -> None:
    story = Routed(card(A, window_tokens=5), card(B, abilities=("images",))).start()
    events = story.examine()
    assert kinds(events) == ["call.examined", "agent.failed"]
    end = events[-1]
    assert isinstance(end, AgentFailed)
    assert end.reason == "no_model"
    assert "live:a: about" in end.message
    assert "live:b: it has no tools" in end.message
    story.decided_again()


def test_who_is_away_for_a_while_is_asked_all_the_same_if_there_is_nobody_else() -> None:
    story = Routed(card(A), card(B)).start()
    story.examine(A, B, until_s=100)
    requested = story.log[-1][1]
    assert isinstance(requested, ModelRequested)
    assert requested.choice is not None
    assert requested.choice.because == "the first that can be asked, although its breaker is open"
    story.decided_again()


def test_a_breaker_whose_time_is_over_keeps_nobody_from_being_asked_after_a_failure() -> None:
    story = Routed(card(A), card(B), card(C)).start()
    story.examine(B, until_s=10)
    story.at = 11
    story.fail()
    assert story.asked == [A, B]
    story.decided_again()


DENIED = 'default allow\ndeny model.b as "not-b" because "b is not ours"'


def test_a_model_that_a_rule_forbids_is_never_asked_neither_first_nor_after_a_failure() -> None:
    story = Routed(card(B), card(A), card(C), text=DENIED).start()
    story.examine()
    requested = story.log[-1][1]
    assert isinstance(requested, ModelRequested)
    assert requested.choice is not None
    assert requested.choice.excluded == ((B, "not-b: b is not ours"),)
    story.fail()
    story.fail()
    assert story.asked == [A, C, A]
    story.decided_again()


def test_a_model_that_people_must_approve_is_not_fallen_back_to() -> None:
    story = Routed(card(A), card(B), text='default allow\nrequire approval for model.b as "look"').start()
    story.examine()
    (retried,) = story.fail()
    assert isinstance(retried, CallRetried)
    assert retried.choice is not None
    assert (retried.choice.model, retried.choice.excluded) == (A, ((B, "people would have to approve it"),))
    story.decided_again()


def test_an_approval_is_for_the_model_that_was_chosen_and_says_which() -> None:
    text = 'default allow\nrequire approval for model.* as "look"'
    story = Routed(card(A), card(B), text=text).start()
    asked = story.examine()[-1]
    assert isinstance(asked, ApprovalRequested)
    assert asked.arguments == {"model": A}
    story.approve("1")
    again = story.examine(A)[-1]
    assert isinstance(again, ApprovalRequested)
    assert again.arguments == {"model": B}
    assert again.digest != asked.digest
    story.approve("1")
    assert kinds(story.examine(A)) == ["call.examined", "model.requested"]
    assert story.asked == [B]
    story.decided_again()


def test_if_all_are_forbidden_nobody_is_asked() -> None:
    story = Routed(card(A), card(B), text="default allow\ndeny model.*").start()
    end = story.examine()[-1]
    assert isinstance(end, AgentFailed)
    assert end.reason == "no_model"
    story.decided_again()


def test_what_could_not_be_examined_is_refused_as_with_one_model() -> None:
    story = Routed(card(A), card(B)).start()
    events = story.do(command.Examined(story.us, CallExamined("1", refused="it could not be examined: x"), story.now))
    assert [type(event) for event in events] == [CallExamined, ConstraintFailed, AgentFailed]
    story.decided_again()


PRICED = (
    card(A, price=Price(10_000_000, 100_000_000), quality=0.9),
    card(B, price=Price(100_000, 1_000_000), quality=0.5),
)


def test_the_best_is_asked_while_it_can_be_paid_for_and_then_the_cheaper_one() -> None:
    story = Routed(*PRICED, strategy=StrategySpec("best"), limits=Limits(cost_microusd=300_000)).start()
    story.examine()
    story.reply(("look", {}), usage=Usage(10_000, 1_500))
    story.returned("1.1")
    story.examine()
    story.reply(text="done", usage=Usage(10_000, 1_000))
    assert story.asked == [A, B]
    assert story.now.cost_microusd == 250_000 + 2_000
    story.decided_again()


def test_rules_read_the_same_facts_as_policies() -> None:
    rules = (
        Preference("budget.tokens_left < 10", A),
        Preference("session.steps >= 1 and budget.cost_left < USD 0.20", B),
    )
    strategy = StrategySpec("rules", rules=rules)
    story = Routed(*PRICED, strategy=strategy, limits=Limits(cost_microusd=300_000)).start()
    story.examine()
    story.reply(("look", {}), usage=Usage(10_000, 100))
    story.returned("1.1")
    story.examine()
    assert story.asked == [A, B]
    story.decided_again()


def test_a_reply_is_not_longer_than_the_model_that_is_asked_can_give() -> None:
    story = Routed(card(A), card(B, reply_tokens_max=4_096)).start()
    story.examine()
    before = story.now.open[0].max_tokens
    story.fail()
    assert (before, story.now.open[0].max_tokens) == (None, 4_096)
    story.decided_again()


@pytest.mark.parametrize(
    ("cards", "limits", "problem"),
    [
        ((card(A), card(B, tools="text")), Limits(), "take one kind"),
        ((card(A), card(A)), Limits(), "two candidates of one name"),
        ((card(A, price=Price(1, 1)), card(B)), Limits(cost_microusd=1), "the price of live:b"),
    ],
)
def test_candidates_that_do_not_go_together_are_refused_at_the_start(
    cards: tuple[Card, ...], limits: Limits, problem: str
) -> None:
    with pytest.raises(DefinitionInvalid, match=problem):
        Routed(*cards, limits=limits).start()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["busy", "rejected", "reply", "lost"]), st.lists(st.sampled_from([A, B, C]), unique=True)
    ),
    max_size=12,
)
FORBIDDEN = st.sampled_from([(), ("a",), ("b",), ("a", "c")])


@given(STEPS, FORBIDDEN, st.sampled_from(["fallback", "cheapest", "adaptive"]))
def test_whatever_fails_the_log_is_decided_again_as_it_was_and_nobody_forbidden_is_asked(
    steps: list[tuple[str, list[str]]], forbidden: tuple[str, ...], kind: Any
) -> None:
    cards = [card(name, price=Price(100 + number, 100)) for number, name in enumerate((A, B, C))]
    text = "\n".join(["default allow", *(f"deny model.{name}" for name in forbidden)])
    story = Routed(*cards, strategy=StrategySpec(kind), text=text).start()
    for number, (what, away) in enumerate(steps):
        story.at += 1
        if story.now.end is not None:
            break
        if not story.now.open:
            scores = {name: (number * 7 + len(name)) % 5 / 5 for name in (A, B, C)}
            story.examine(*away, until_s=story.at + 2, scores=scores, chance="00")
        elif story.now.open[0].not_before_us:
            story.at += 100
            story.do(command.WaitOver(story.us, story.now.open[0].id))
        elif what == "reply":
            story.reply(("look", {}))
            story.returned(story.now.asked[0].id if story.now.asked else story.now.open[0].id)
        elif what == "lost":
            story.do(command.TakeOver(story.us))
        else:
            story.fail(
                "provider_rejected" if what == "rejected" else "provider_overloaded",
                after_s=None if what == "rejected" else 3,
            )
    story.decided_again()
    assert not {f"live:{name}" for name in forbidden} & set(story.asked)
    assert story.now.model == next(one.model for one in cards if one.name == (story.asked or [A])[-1])
