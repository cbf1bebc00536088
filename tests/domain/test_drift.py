"""What a session is summed up to, and what two groups of them are said to differ in."""

import random

import msgspec
import pytest

from ostler.adapters.statistics import Significance
from ostler.domain.agent import AgentSpec
from ostler.domain.changes import CHANGES_CODEC, Driver, ModelChanged, differences, driver_of, evolve
from ostler.domain.constraint.policy import Rule
from ostler.domain.drift import FAMILY, NO_TOOL, Compared, Summary, Version, compare, summarise
from ostler.domain.identity import LOCAL_USER
from ostler.domain.model import ModelRef, ModelSettings, Price, Reply, Usage
from ostler.domain.session import commands as command
from ostler.domain.session.fork import fork
from ostler.domain.strategy.card import Card
from ostler.domain.strategy.choice import StrategySpec
from tests.domain.session.story import PRICE, Story

MODEL = ModelRef("scripted", "scripted", "m")
TESTS = Significance(permutations=500)


def summary(number: int = 0, **changes: object) -> Summary:
    whole = Summary(
        f"ses_{number}", "clerk@1", number, Driver(MODEL), "completed", "final_answer", steps=2, step_us=1e6
    )
    return msgspec.structs.replace(whole, **changes)


def found(name: str, compared: tuple[Compared, ...]) -> Compared:
    (one,) = (one for one in compared if one.name == name)
    return one


def test_a_session_is_summed_up_to_what_its_model_did_and_what_became_of_it() -> None:
    story = Story(Rule("deny", "pay"), price=PRICE).start()
    story.at = 3.0
    story.reply(("look", {}), ("pay", {}), usage=Usage(1000, 100))
    story.returned("1.1")
    story.at = 4.0
    story.do(command.ReplyReceived(story.us, "2", Reply("done", model="m-2026-01", fingerprint="fp_1")))
    one = summarise(story.log)
    assert one is not None
    assert (one.status, one.reason, one.steps, one.refused, one.defects) == ("completed", "final_answer", 2, 1, 0)
    assert one.tools == {"look": 1, "pay": 1}
    assert one.cost_microusd == 4500
    assert one.step_us == pytest.approx(1_500_000)  # 2 s and 1 s
    assert one.versions == {
        Version("m", "m"): (3_000_000, 3_000_000, 1),
        Version("m", "m-2026-01", "fp_1"): (4_000_000, 4_000_000, 1),
    }
    assert one.driver == Driver(msgspec.structs.replace(story.model, price=None), story.spec.settings)


def test_the_time_of_a_reply_is_that_of_the_attempt_that_brought_it() -> None:
    story = Story().start()
    story.do(command.ReplyFailed(story.us, "1", "overloaded", "busy", retry_at_us=61_000_000))
    story.at = 61.5
    story.do(command.TakeOver(story.us))
    story.at = 62.0
    story.reply(text="done")
    one = summarise(story.log)
    assert one is not None
    assert one.step_us is not None
    assert one.step_us <= 1_000_000


def test_a_session_that_goes_on_and_one_that_shares_the_past_of_another_are_left_out() -> None:
    story = Story().start()
    assert summarise(story.log) is None
    story.reply(text="done")
    assert summarise(story.log) is not None
    past = fork(story.log, session="ses_2", by="anna", at_us=story.us)
    assert summarise(past) is None


def test_equal_groups_differ_in_nothing() -> None:
    side = [summary(n, tools={"look": 1 + n % 3}, cost_microusd=10 * n) for n in range(30)]
    comparison = compare(side, side, TESTS)
    assert (comparison.before, comparison.after, comparison.differing) == (30, 30, ())
    assert len(comparison.compared) == FAMILY
    assert all(one.p == 1.0 for one in comparison.compared if one.unit != "distance")


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("completed", {"status": "failed"}),
        ("a call was refused", {"refused": 2}),
        ("the model refused", {"has_model_refused": True}),
        ("an unusable reply", {"defects": 1}),
        ("tools", {"tools": {"shell.run": 3}}),
        ("steps", {"steps": 9}),
        ("cost", {"cost_microusd": 70}),
        ("time per step", {"step_us": 9e6}),
    ],
)
def test_whatever_is_altogether_different_is_found_and_nothing_else_is(name: str, changes: dict[str, object]) -> None:
    before = [summary(n, tools={"look": 1}) for n in range(20)]
    after = [summary(n, **{"tools": {"look": 1}, **changes}) for n in range(20)]
    comparison = compare(before, after, TESTS)
    assert [one.name for one in comparison.differing] == [name]
    assert abs(found(name, comparison.compared).effect) == 1


def test_a_difference_is_given_with_its_size_its_interval_and_the_medians() -> None:
    before = [summary(n, steps=3 + n % 3) for n in range(20)]
    after = [summary(n, steps=5 + n % 3, status="completed" if n % 2 else "failed") for n in range(20)]
    compared = compare(before, after, TESTS).compared
    steps, completed = found("steps", compared), found("completed", compared)
    assert (steps.before, steps.after, steps.differs) == (4, 6, True)
    assert steps.low is not None
    assert 0.5 < steps.low < steps.effect <= 1
    assert (completed.before, completed.after, completed.effect) == (1, 0.5, -0.5)
    assert completed.high is not None
    assert completed.high < 0


def test_calls_of_one_session_do_not_count_as_if_they_were_of_many() -> None:
    """One session that calls a tool a thousand times is one session with a taste of its own."""
    before = [summary(n, tools={"look": 3}) for n in range(10)]
    after = [*before[:9], summary(9, tools={"shell.run": 1000})]
    tools = found("tools", compare(before, after, TESTS).compared)
    assert tools.effect == pytest.approx(0.1)
    assert not tools.differs
    assert tools.raw_p > 0.3


def test_sessions_without_tools_are_a_way_to_use_tools_too() -> None:
    comparison = compare([summary(n) for n in range(8)], [summary(n, tools={"look": 1}) for n in range(8)], TESTS)
    assert {mix.tool: (mix.before, mix.after) for mix in comparison.tools} == {NO_TOOL: (1, 0), "look": (0, 1)}


def test_a_measure_that_nobody_has_is_no_difference() -> None:
    side = [summary(n, step_us=None) for n in range(6)]
    one = found("time per step", compare(side, side, TESTS).compared)
    assert (one.p, one.before, one.sessions) == (1.0, None, (0, 0))


def test_few_values_with_ties_are_tested_by_permuting_them() -> None:
    assert TESTS.ranks([1, 1, 1, 1, 1, 1], [2, 2, 2, 2, 2, 2]) == pytest.approx(2 / 924, abs=0.004)
    assert TESTS.ranks([1, 1, 2], [1, 2, 2]) > 0.9
    assert TESTS.ranks([4.0] * 12, [4.0] * 12) == 1.0


def test_the_same_sessions_are_always_judged_alike() -> None:
    chance = random.Random(3)
    rows = [[chance.random(), chance.random()] for _ in range(24)]
    assert TESTS.mixes(rows[:12], rows[12:]) == Significance(permutations=500).mixes(rows[:12], rows[12:])


def started(**changes: object) -> Driver:
    start = command.Start(0, "ses_1", AgentSpec("clerk"), MODEL, "Do it.", LOCAL_USER)
    return driver_of(msgspec.structs.replace(start, **changes))


def test_a_price_is_no_change_of_a_model_and_an_address_is_one() -> None:
    dear = msgspec.structs.replace(MODEL, price=Price(1, 2), window_tokens=8_000)
    moved = msgspec.structs.replace(MODEL, base_url="http://127.0.0.1:1")
    assert started(model=dear) == started()
    assert differences(started(), started(model=moved)) == ["base_url None to http://127.0.0.1:1"]


def test_another_strategy_and_other_candidates_are_changes() -> None:
    cards = Card("m", MODEL), Card("n", ModelRef("scripted", "scripted", "n"))
    cheapest = started(strategy=StrategySpec("cheapest"), candidates=cards)
    names = ", ".join(card.name for card in cards)
    assert differences(started(), cheapest) == [f"scripted:m to cheapest of {names}"]
    better = started(strategy=StrategySpec("cheapest", quality=0.5), candidates=cards)
    assert differences(cheapest, better) == [f"the strategy cheapest of {names}, with other terms"]
    assert differences(cheapest, cheapest) == []


def test_a_change_says_what_it_is_and_the_last_one_holds() -> None:
    old, new = Driver(MODEL), Driver(ModelRef("live", "openai", "gpt"), ModelSettings(temperature=0.5))
    change = ModelChanged("clerk", old, new, "ses_1", "ada")
    assert CHANGES_CODEC.decode(CHANGES_CODEC.encode(change)) == change
    assert evolve({"other": old}, [change]) == {"other": old, "clerk": new}
    assert differences(old, new) == ["scripted:m to openai:gpt", "kind scripted to live", "temperature None to 0.5"]
