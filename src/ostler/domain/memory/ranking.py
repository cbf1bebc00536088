"""In what order memories are told: how well they fit the question, and how new, important and often used they are.

    score = relevance · w + recency · w + importance · w + frequency · w

Each lane is in [0, 1], and the weights make 1 together, so that the score is, too. There is one decay by time.

What fits is found in several ways. How well it fits by words and by vectors is scaled to [0, 1] and averaged, with
weights. What fits nearly alike stays near to one another, so that what is new or important decides between the two. A
fact about something that the question names has a fixed amount more, and what it leads to has a share of what it has.
Ranks fused instead of scores (reciprocal rank fusion, Cormack, Clarke and Büttcher 2009) were measured, and are worse:
facts that share but a name with the question came before what answers it.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from ostler.domain.memory.strength import fading

RECALLS_ENOUGH = 50
"""Recalls from which on a memory counts as used as often as can be."""


class Weights(msgspec.Struct, frozen=True):
    """How much each lane counts.

    The first four make the score; they need not make 1 together. Then how much the ways of finding count for the
    relevance beside one another: `words`, and `vector` for embedders that know of meaning, `lexical` for those that
    only know words. `neighbours` is the share of the score of an episode's words that the episodes just before and
    after it are given. `graph` is what a fact about something that the question names is given, beside 1 for what the
    text fits, and `onward` the share of a fact's relevance that those it leads to are given.
    """

    relevance: float = 0.85
    recency: float = 0.06
    importance: float = 0.06
    frequency: float = 0.03
    words: float = 0.7
    vector: float = 0.3
    lexical: float = 0.0
    neighbours: float = 0.35
    graph: float = 0.3
    onward: float = 0.8


DEFAULT_WEIGHTS = Weights()


class Lanes(msgspec.Struct, frozen=True, gc=False):
    """What the score of a memory is made of, each in [0, 1]."""

    relevance: float
    recency: float
    importance: float
    frequency: float


def score(lanes: Lanes, weights: Weights = DEFAULT_WEIGHTS) -> float:
    """The weighted mean of the lanes, in [0, 1]; 0 without weights."""
    whole = weights.relevance + weights.recency + weights.importance + weights.frequency
    if not whole:
        return 0.0
    total = (
        weights.relevance * lanes.relevance
        + weights.recency * lanes.recency
        + weights.importance * lanes.importance
        + weights.frequency * lanes.frequency
    )
    return min(total / whole, 1.0)


def recency(happened_us: int, *, now_us: int, half_life_us: int) -> float:
    """1 for what happens now, and half as much with every half-life since it happened. Recalling renews nothing."""
    return fading(now_us - happened_us, half_life_us=half_life_us)


def frequency(recalls: int) -> float:
    """`ln(1+n) / ln(1+50)`, at most 1: the first recalls count most."""
    return min(math.log1p(recalls) / math.log1p(RECALLS_ENOUGH), 1.0)


def blended(ways: Iterable[tuple[float, Mapping[str, float]]]) -> dict[str, float]:
    """How well each fits that was found in one of these ways, each with its weight and its scores in [0, 1].

    The weighted mean, in [0, 1]; a way that did not find it counts as 0, and one that found nothing at all not at all.
    """
    found: dict[str, float] = {}
    counting = [(weight, scores) for weight, scores in ways if weight > 0 and scores]
    whole = sum(weight for weight, _ in counting)
    for weight, scores in counting:
        for name, value in scores.items():
            found[name] = found.get(name, 0.0) + weight / whole * value
    return {name: min(value, 1.0) for name, value in found.items()}


def with_named(text: Mapping[str, float], named: Collection[str], *, graph: float) -> dict[str, float]:
    """How relevant each is, in [0, 1], by how well its text fits and whether it is a fact about something `named`."""
    if not named or graph <= 0:
        return dict(text)
    whole = graph + (1.0 if text else 0.0)
    found = {name: value / whole for name, value in text.items()}
    for name in named:
        found[name] = min(found.get(name, 0.0) + graph / whole, 1.0)
    return found


def hopeful(relevance: Mapping[str, float], wanted: int, weights: Weights = DEFAULT_WEIGHTS) -> list[str]:
    """Those that may come among the first `wanted` once their other lanes are known, the most relevant first.

    Whoever would not even if it had all of the other lanes, and the last of those before it nothing, is left out.
    """
    order = sorted(relevance, key=lambda name: (-relevance[name], name))
    if wanted >= len(order):
        return order
    rest = weights.recency + weights.importance + weights.frequency
    least = weights.relevance * relevance[order[wanted - 1]] if wanted else 0.0
    return [
        name
        for number, name in enumerate(order)
        if number < wanted or weights.relevance * relevance[name] + rest >= least
    ]


def with_neighbours(
    own: Mapping[str, float], beside: Mapping[str, Sequence[str]], *, share: float
) -> tuple[dict[str, float], dict[str, float]]:
    """The scores of words together with a share of those of each neighbour in time; and that share by itself.

    What an episode says is often said in full only by the one before it or after it. `beside` names the neighbours of
    those that were found.
    """
    given: dict[str, float] = {}
    for name, others in beside.items():
        for other in others:
            given[other] = given.get(other, 0.0) + share * max(own.get(name, 0.0), 0.0)
    together = {name: max(own.get(name, 0.0), 0.0) + given.get(name, 0.0) for name in (*own, *given)}
    return together, given


def with_onward(
    relevance: Mapping[str, float], ways: Mapping[str, Mapping[str, float]]
) -> tuple[dict[str, float], dict[str, float]]:
    """How relevant each is once facts share what they have with those that they lead to; and the share of each.

    `ways` says for each fact to which others it leads, and with what share. Who is given something by several, or fits
    by itself, has the most of it; what was given is not given on.
    """
    found, given = dict(relevance), dict[str, float]()
    for name, others in ways.items():
        for other, share in others.items():
            value = share * relevance.get(name, 0.0)
            if value > 0:
                given[other] = max(given.get(other, 0.0), share)
                found[other] = max(found.get(other, 0.0), value)
    return found, given


def spread(scores: Mapping[str, float]) -> dict[str, float]:
    """The scores of one way, with 1 for the greatest and 0 for the least of them: for vectors, of which only the model
    knows how similar they are that have nothing to do with one another.
    """
    if not scores:
        return {}
    least, greatest = min(scores.values()), max(scores.values())
    if greatest <= least:
        return dict.fromkeys(scores, 1.0)
    return {name: (value - least) / (greatest - least) for name, value in scores.items()}


def shares(scores: Mapping[str, float]) -> dict[str, float]:
    """The scores of one way as shares of the greatest of them, in [0, 1]."""
    greatest = max(scores.values(), default=0.0)
    if greatest <= 0:
        return dict.fromkeys(scores, 0.0)
    return {name: max(value, 0.0) / greatest for name, value in scores.items()}


def within(sizes: Sequence[int], *, tokens: int | None, limit: int) -> tuple[list[int], int]:
    """Which of these, in order of rank, are told: `limit` of them, and `tokens` together (None: however many).

    What does not fit any more is passed over, and what is behind it is tried; how many were passed over is told, too.
    """
    kept: list[int] = []
    left = math.inf if tokens is None else tokens
    for number, size in enumerate(sizes):
        if len(kept) == limit:
            return kept, number - len(kept)
        if size <= left:
            kept.append(number)
            left -= size
    return kept, len(sizes) - len(kept)
