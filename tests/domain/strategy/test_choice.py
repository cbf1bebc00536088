"""Which candidate is chosen, why the others are not, and that nobody is chosen who cannot answer."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.domain.model import ModelRef, Price
from ostler.domain.strategy.card import Ability, Card
from ostler.domain.strategy.choice import (
    Choice,
    Kind,
    Known,
    Needs,
    NoModel,
    Preference,
    StrategySpec,
    choose,
    misfit,
)


def card(name: str, *, price: Price | None = None, window: int | None = None, kind: Any = "live", **more: Any) -> Card:
    provider, _, model = name.partition(":")
    return Card(name, ModelRef(kind, provider, model, price=price, window_tokens=window), **more)


BIG = card("a:big", price=Price(5_000_000, 25_000_000), window=200_000, quality=0.9, latency_s=4.0)
SMALL = card("b:small", price=Price(250_000, 1_000_000), window=8_000, quality=0.5, latency_s=1.0)
BOTH = (BIG, SMALL)
LITTLE = Needs(input_tokens=1_000, reply_tokens=500)


@pytest.mark.parametrize(
    ("strategy", "needs", "known", "chosen", "because"),
    [
        (StrategySpec(), LITTLE, Known(), "a:big", "the first that can be asked"),
        (StrategySpec(), LITTLE, Known(excluded={"a:big": "away"}), "b:small", "the first that can be asked"),
        (StrategySpec("cheapest"), LITTLE, Known(), "b:small", "the cheapest: about 0.00075 USD"),
        (StrategySpec("cheapest"), Needs(input_tokens=9_000), Known(), "a:big", "the cheapest: about 0.045 USD"),
        (StrategySpec("cheapest", quality=0.8), LITTLE, Known(), "a:big", "the cheapest: about 0.0175 USD"),
        (StrategySpec("best"), LITTLE, Known(), "a:big", "the best that can be paid for: quality 0.9"),
        (
            StrategySpec("best"),
            msgspec.structs.replace(LITTLE, microusd_left=10_000),
            Known(),
            "b:small",
            "the best that can be paid for: quality 0.5",
        ),
        (StrategySpec("fastest"), LITTLE, Known(), "b:small", "the fastest: 1 s usually"),
        (StrategySpec("fastest"), LITTLE, Known(scores={"b:small": 9.0}), "a:big", "the fastest: 4 s usually"),
        (StrategySpec("fastest"), LITTLE, Known(scores={"a:big": 0.5}), "a:big", "the fastest: 0.5 s lately"),
        (
            StrategySpec("adaptive"),
            LITTLE,
            Known(),
            "a:big",
            "nothing is known of earlier calls: the first that can be asked",
        ),
        (
            StrategySpec("adaptive"),
            LITTLE,
            Known(scores={"a:big": 0.2, "b:small": 0.7}),
            "b:small",
            "the best draw by earlier calls: 0.700",
        ),
        (
            StrategySpec("function", function="pick"),
            LITTLE,
            Known(answer="b:small"),
            "b:small",
            "the function pick says so",
        ),
        (
            StrategySpec("function", function="pick"),
            LITTLE,
            Known(answer="c:else"),
            "a:big",
            "the function pick says 'c:else', which cannot be asked: the first that can",
        ),
        (
            StrategySpec("function", function="pick"),
            LITTLE,
            Known(fault="failed (ValueError)"),
            "a:big",
            "the function pick failed (ValueError): the first that can be asked",
        ),
    ],
)
def test_each_kind_of_strategy_chooses_by_what_counts_for_it(
    strategy: StrategySpec, needs: Needs, known: Known, chosen: str, because: str
) -> None:
    choice = choose(strategy, BOTH, needs, known)
    assert isinstance(choice, Choice)
    assert (choice.model, choice.because) == (chosen, because)


RULES = StrategySpec("rules", rules=(Preference("first", "b:small"), Preference("second", "a:big")))


@pytest.mark.parametrize(
    ("holds", "excluded", "chosen", "because"),
    [
        ((True, True), {}, "b:small", "rule: first"),
        ((False, True), {}, "a:big", "rule: second"),
        ((True, True), {"b:small": "away"}, "a:big", "rule: second"),
        ((False, False), {}, "a:big", "no rule names one that can be asked: the first of them"),
    ],
)
def test_the_first_rule_that_holds_and_whose_model_can_be_asked_decides(
    holds: tuple[bool, ...], excluded: dict[str, str], chosen: str, because: str
) -> None:
    choice = choose(RULES, BOTH, LITTLE, Known(holds=holds, excluded=excluded))
    assert isinstance(choice, Choice)
    assert (choice.model, choice.because) == (chosen, because)


UNPRICED = card("c:unpriced")


@pytest.mark.parametrize(
    ("strategy", "one", "needs", "reason"),
    [
        (StrategySpec(), SMALL, Needs(input_tokens=8_001), "about 8001 tokens do not fit into its window of 8000"),
        (StrategySpec(), card("x:y", abilities=("tools",)), Needs(abilities=("tools", "images")), "it has no images"),
        (StrategySpec(), card("x:y", abilities=()), Needs(abilities=("structured",)), "it has no structured answers"),
        (StrategySpec(), card("x:y"), Needs(abilities=("tools", "images")), None),
        (StrategySpec(regions=("eu",)), card("x:y", region="us"), Needs(), "its region is us, not eu"),
        (StrategySpec(regions=("eu", "ch")), card("x:y"), Needs(), "its region is not known, not eu or ch"),
        (StrategySpec(regions=("eu",)), card("x:y", region="eu"), Needs(), None),
        (
            StrategySpec(data_class="confidential"),
            card("x:y", data_class="internal"),
            Needs(),
            "it may be shown at most internal data, not confidential",
        ),
        (StrategySpec(data_class="confidential"), card("x:y", data_class="restricted"), Needs(), None),
        (StrategySpec(data_class="public"), card("x:y"), Needs(), "whether it may be shown public data is not known"),
        (StrategySpec(quality=0.5), card("x:y"), Needs(), "its quality is not known, below 0.5"),
        (StrategySpec("best"), card("x:y"), Needs(), "its quality is not known"),
        (StrategySpec("cheapest"), UNPRICED, Needs(), "its price is not known"),
        (StrategySpec(), UNPRICED, Needs(microusd_left=1), "its price is not known"),
        (StrategySpec(), UNPRICED, Needs(), None),
        (StrategySpec(), card("x:y", kind="scripted"), Needs(microusd_left=0), None),
        (
            StrategySpec(),
            BIG,
            Needs(input_tokens=1_000, microusd_left=4_999),
            "it would cost about 0.005 USD, and 0.004999 are left",
        ),
    ],
)
def test_what_is_known_of_a_candidate_and_does_not_fit_excludes_it_and_says_so(
    strategy: StrategySpec, one: Card, needs: Needs, reason: str | None
) -> None:
    assert misfit(strategy, one, needs) == reason


def test_where_nobody_fits_every_candidate_is_listed_with_its_reason() -> None:
    none = choose(StrategySpec(), BOTH, Needs(input_tokens=300_000), Known(excluded={"b:small": "its breaker is open"}))
    assert isinstance(none, NoModel)
    assert str(none) == (
        "no model can be asked: a:big: about 300000 tokens do not fit into its window of 200000; "
        "b:small: its breaker is open"
    )


KINDS: tuple[Kind, ...] = ("fallback", "cheapest", "best", "fastest", "adaptive", "rules", "function")
ABILITIES: tuple[Ability, ...] = ("tools", "images", "structured", "reasoning")
PRICES = st.none() | st.builds(Price, st.integers(0, 10**8), st.integers(0, 10**8))


@st.composite
def situations(draw: st.DrawFn) -> tuple[StrategySpec, tuple[Card, ...], Needs, Known]:
    names = draw(st.lists(st.sampled_from(["a:1", "b:2", "c:3", "d:4"]), min_size=1, unique=True))
    cards = tuple(
        card(
            name,
            price=draw(PRICES),
            window=draw(st.none() | st.integers(1, 20_000)),
            abilities=draw(st.none() | st.lists(st.sampled_from(ABILITIES), unique=True).map(tuple)),
            quality=draw(st.none() | st.floats(0, 1)),
            latency_s=draw(st.none() | st.floats(0.01, 60)),
            region=draw(st.sampled_from([None, "eu", "us"])),
        )
        for name in names
    )
    spec = StrategySpec(
        draw(st.sampled_from(KINDS)),
        quality=draw(st.none() | st.floats(0, 1)),
        regions=draw(st.sampled_from([(), ("eu",)])),
        rules=(Preference("x", draw(st.sampled_from(names))),),
        function="pick",
    )
    needs = Needs(
        input_tokens=draw(st.integers(0, 20_000)),
        reply_tokens=draw(st.integers(0, 5_000)),
        abilities=draw(st.lists(st.sampled_from(ABILITIES), unique=True, max_size=2).map(tuple)),
        microusd_left=draw(st.none() | st.integers(-5, 10**6)),
    )
    known = Known(
        excluded=draw(st.dictionaries(st.sampled_from(names), st.just("away"))),
        holds=(draw(st.booleans()),),
        scores=draw(st.dictionaries(st.sampled_from(names), st.floats(0, 1))),
        answer=draw(st.none() | st.sampled_from([*names, "else"])),
    )
    return spec, cards, needs, known


@given(situations())
def test_who_is_chosen_fits_and_everybody_else_that_does_not_is_named(
    situation: tuple[StrategySpec, tuple[Card, ...], Needs, Known],
) -> None:
    spec, cards, needs, known = situation
    choice = choose(spec, cards, needs, known)
    unfit = {one.name for one in cards if one.name in known.excluded or misfit(spec, one, needs) is not None}
    assert {name for name, _ in choice.excluded} == unfit
    if isinstance(choice, Choice):
        assert choice.model in {one.name for one in cards} - unfit
        assert choice == choose(spec, cards, needs, known)
    else:
        assert unfit == {one.name for one in cards}
