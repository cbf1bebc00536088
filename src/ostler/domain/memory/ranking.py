"""In what order memories are told: how well they fit the question, and how new, important and often used they are.

    score = relevance · w + recency · w + importance · w + frequency · w

Each lane is in [0, 1], and the weights make 1 together, so that the score is, too. There is one decay by time, and no
lane depends on what else is remembered. What fits is found in several ways, which are fused by rank: reciprocal rank
fusion (Cormack, Clarke and Büttcher 2009) with weights, since the ways are not equally good.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ostler.domain.memory.strength import fading

RECALLS_ENOUGH = 50
"""Recalls from which on a memory counts as used as often as can be."""


class Weights(msgspec.Struct, frozen=True):
    """How much each lane counts.

    The first four make the score; they need not make 1 together. Then how much each way of finding counts for the
    relevance: `vector` for embedders that know of meaning, `lexical` for those that only know words. `neighbours` is
    the share of the score of an episode's words that the episodes just before and after it are given, and `k` how soon
    it no longer matters at what rank something was found (the smaller, the sooner).
    """

    relevance: float = 0.85
    recency: float = 0.06
    importance: float = 0.06
    frequency: float = 0.03
    words: float = 2.0
    vector: float = 1.0
    lexical: float = 0.0
    graph: float = 0.5
    neighbours: float = 0.35
    k: float = 10.0


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


def ranks(scores: Mapping[str, float]) -> dict[str, int]:
    """The rank of each: 1 for the greatest score. What scores the same has the same rank, whatever order it came in."""
    found: dict[str, int] = {}
    last, rank = math.nan, 0
    for number, (name, value) in enumerate(sorted(scores.items(), key=lambda item: -item[1]), 1):
        if value != last:
            last, rank = value, number
        found[name] = rank
    return found


def fused(ways: Iterable[tuple[float, Mapping[str, float]]], *, k: float) -> dict[str, float]:
    """How relevant each is that was found in one of these ways, each with its weight and the scores that it gave.

    `Σ w·(k+1)/(k+rank) / Σ w`, in [0, 1]: 1 for what is first in all ways that found anything. Scores of different ways
    cannot be compared, so only ranks count.
    """
    found: dict[str, float] = {}
    counting = [(weight, scores) for weight, scores in ways if weight > 0 and scores]
    whole = sum(weight for weight, _ in counting)
    for weight, scores in counting:
        for name, rank in ranks(scores).items():
            found[name] = found.get(name, 0.0) + weight / whole * (k + 1) / (k + rank)
    return {name: min(value, 1.0) for name, value in found.items()}


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


def nearness(distance: int) -> float:
    """How much a relation on a way of so many steps from what was asked for bears on it: 1, 1/2, 1/4 …"""
    return float(2.0 ** (1 - max(distance, 1)))


def shares(scores: Mapping[str, float]) -> dict[str, float]:
    """The scores of one way as shares of the greatest of them, in [0, 1], to be shown."""
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
