"""The choice among candidates: pure, and the same for the same request and the same knowledge."""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from ostler.domain.strategy.card import DATA_CLASSES, Ability, Card, DataClass

Kind = Literal["fallback", "cheapest", "best", "fastest", "rules", "adaptive", "function"]
"""What counts among the candidates that can answer: their order, the price, the quality, how long they take, rules,
what came of earlier calls, or what the user's own function says.
"""

HALF_LIFE_S = 86_400.0


class Preference(msgspec.Struct, frozen=True):
    """Candidate `use` answers if a condition holds, which is written in the language of rules."""

    condition: str = msgspec.field(name="if")
    use: str


class StrategySpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """How one of several models is chosen, call by call.

    Only candidates with at least this `quality`, in one of these `regions`, that may be shown data of this class are
    chosen; what is not known of a candidate is no fit. `rules` are asked in their order, `function` is the name of the
    user's own. Of what came of earlier calls, that counts half which is older by `half_life_s`.
    """

    kind: Kind = "fallback"
    quality: float | None = None
    regions: tuple[str, ...] = ()
    data_class: DataClass | None = None
    rules: tuple[Preference, ...] = ()
    function: str = ""
    half_life_s: float = HALF_LIFE_S


class Unavailable(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A candidate that is not to be asked now; `until_us` says until when, if that is known."""

    model: str
    reason: str
    until_us: int | None = None


class Routing(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was found out about the candidates for one call.

    `scores` are those of an adaptive strategy, drawn with `chance`, or the seconds that replies took lately. `answer`
    is what the user's function says; `fault` is why it says nothing.
    """

    at_us: int
    unavailable: tuple[Unavailable, ...] = ()
    scores: dict[str, float] = {}
    chance: str = ""
    answer: str | None = None
    fault: str = ""


class Choice(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Which candidate is asked, in a few words why, and why each of the others is not that cannot be.

    `cost_microusd` is what the call will cost, if its reply is as long as the others of the session. Of the candidates
    that have `failed` in this call, those that were `given_up` are not asked again.
    """

    model: str
    because: str
    excluded: tuple[tuple[str, str], ...] = ()
    cost_microusd: int | None = None
    failed: tuple[str, ...] = ()
    given_up: tuple[str, ...] = ()


class NoModel(msgspec.Struct, frozen=True):
    """No candidate can answer, and why each cannot."""

    excluded: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return "no model can be asked: " + "; ".join(f"{name}: {reason}" for name, reason in self.excluded)


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """What a request asks of a model. `reply_tokens` are expected; `*_left` is what limits and budgets leave."""

    input_tokens: int = 0
    reply_tokens: int = 0
    abilities: tuple[Ability, ...] = ()
    microusd_left: int | None = None


class ModelWanted(msgspec.Struct, frozen=True, kw_only=True):
    """What the user's own function is shown: the request, and who may answer it.

    `step` is the number of the request in its session, which has cost `cost_microusd` so far.
    """

    tenant: str
    session: str
    agent: str
    goal: str
    step: int
    candidates: tuple[Card, ...]
    unavailable: tuple[Unavailable, ...]
    needs: Needs
    cost_microusd: int


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the candidates beyond their cards.

    `excluded` are those that cannot be asked for other reasons than what a request needs. `holds` says of each rule
    whether its condition does. `scores`, `answer` and `fault` as in `Routing`.
    """

    excluded: Mapping[str, str] = {}
    holds: tuple[bool, ...] = ()
    scores: Mapping[str, float] = {}
    answer: str | None = None
    fault: str = ""


def choose(strategy: StrategySpec, candidates: Sequence[Card], needs: Needs, known: Known) -> Choice | NoModel:
    """The candidate that is to answer. Of equals, the first in the order of the candidates."""
    reasons = {card.name: known.excluded.get(card.name) or misfit(strategy, card, needs) for card in candidates}
    fitting = [card for card in candidates if reasons[card.name] is None]
    excluded = tuple((name, reason) for name, reason in reasons.items() if reason is not None)
    if not fitting:
        return NoModel(excluded)
    card, because = _preferred(strategy, fitting, needs, known)
    return Choice(card.name, because, excluded, card.cost_microusd(needs.input_tokens, needs.reply_tokens))


def misfit(strategy: StrategySpec, card: Card, needs: Needs) -> str | None:
    """Why a candidate cannot answer, as far as its card says; None if it can."""
    if card.abilities is not None and (missing := [one for one in needs.abilities if one not in card.abilities]):
        return f"it has no {', no '.join(_LACKS.get(one, one) for one in missing)}"
    size, window = needs.input_tokens + needs.reply_tokens, card.window_tokens
    if window is not None and size > window:
        return f"about {size} tokens do not fit into its window of {window}"
    if strategy.regions and card.region not in strategy.regions:
        where = f"is {card.region}" if card.region else "is not known"
        return f"its region {where}, not {' or '.join(strategy.regions)}"
    if strategy.data_class is not None and not _may_see(card, strategy.data_class):
        if card.data_class is None:
            return f"whether it may be shown {strategy.data_class} data is not known"
        return f"it may be shown at most {card.data_class} data, not {strategy.data_class}"
    if strategy.kind == "best" and card.quality is None:
        return "its quality is not known"
    if strategy.quality is not None and (card.quality is None or card.quality < strategy.quality):
        return f"its quality {_shown(card.quality)}, below {strategy.quality:g}"
    return _unaffordable(strategy, card, needs)


_LACKS: dict[Ability, str] = {"structured": "structured answers"}


def _unaffordable(strategy: StrategySpec, card: Card, needs: Needs) -> str | None:
    cost = card.cost_microusd(needs.input_tokens, needs.reply_tokens)
    if cost is None:
        is_asked = needs.microusd_left is not None or strategy.kind == "cheapest"
        return "its price is not known" if is_asked else None
    if needs.microusd_left is not None and cost > needs.microusd_left:
        return f"it would cost about {cost / 1e6:g} USD, and {max(0, needs.microusd_left) / 1e6:g} are left"
    return None


def _may_see(card: Card, wanted: DataClass) -> bool:
    return card.data_class is not None and DATA_CLASSES.index(card.data_class) >= DATA_CLASSES.index(wanted)


def _shown(quality: float | None) -> str:
    return "is not known" if quality is None else f"is {quality:g}"


def _preferred(strategy: StrategySpec, fitting: Sequence[Card], needs: Needs, known: Known) -> tuple[Card, str]:
    """One of those that fit, and why."""
    first = fitting[0]
    match strategy.kind:
        case "fallback":
            return first, "the first that can be asked"
        case "cheapest":
            card = min(fitting, key=lambda card: _cost(card, needs))
            return card, f"the cheapest: about {_cost(card, needs) / 1e6:g} USD"
        case "best":
            card = min(fitting, key=lambda card: (-(card.quality or 0.0), _cost(card, needs)))
            return card, f"the best that can be paid for: quality {card.quality:g}"
        case "fastest":
            return _fastest(fitting, known)
        case "adaptive":
            if not known.scores:
                return first, "nothing is known of earlier calls: the first that can be asked"
            card = max(fitting, key=lambda card: known.scores.get(card.name, 0.0))
            return card, f"the best draw by earlier calls: {known.scores.get(card.name, 0.0):.3f}"
        case "rules":
            return _by_rules(strategy, fitting, known)
        case "function":
            return _by_function(strategy, fitting, known)


def _cost(card: Card, needs: Needs) -> int:
    return card.cost_microusd(needs.input_tokens, needs.reply_tokens) or 0


def _fastest(fitting: Sequence[Card], known: Known) -> tuple[Card, str]:
    """By what was measured lately, else by the cards; of whom neither is known comes last."""
    times = {card.name: known.scores.get(card.name, card.latency_s) for card in fitting}
    card = min(fitting, key=lambda card: (times[card.name] is None, times[card.name] or 0.0))
    seconds = times[card.name]
    if seconds is None:
        return card, "nobody knows how long any takes: the first that can be asked"
    return card, f"the fastest: {seconds:.3g} s {'lately' if card.name in known.scores else 'usually'}"


def _by_rules(strategy: StrategySpec, fitting: Sequence[Card], known: Known) -> tuple[Card, str]:
    cards = {card.name: card for card in fitting}
    for rule, holds in zip(strategy.rules, known.holds, strict=True):
        if holds and rule.use in cards:
            return cards[rule.use], f"rule: {rule.condition}"
    return fitting[0], "no rule names one that can be asked: the first of them"


def _by_function(strategy: StrategySpec, fitting: Sequence[Card], known: Known) -> tuple[Card, str]:
    name, answer = strategy.function, known.answer
    for card in fitting:
        if card.name == answer:
            return card, f"the function {name} says so"
    if answer is None:
        return fitting[0], f"the function {name} {known.fault or 'was not asked'}: the first that can be asked"
    return fitting[0], f"the function {name} says {answer!r}, which cannot be asked: the first that can"
