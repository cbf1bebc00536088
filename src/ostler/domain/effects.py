"""How large a difference is, how sure one can be of it, and how large it would have to be to be found."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from math import inf, sqrt
from statistics import NormalDist, variance

import msgspec

CONFIDENCE = 0.95
POWER = 0.8
"""How often a difference of the size that is called detectable would be found."""
_NORMAL = NormalDist()
_Z = _NORMAL.inv_cdf((1 + CONFIDENCE) / 2)


class Interval(msgspec.Struct, frozen=True):
    """A value, and between what it lies with a confidence of 95 %."""

    value: float
    low: float
    high: float


def wilson(successes: float, count: int) -> Interval:
    """A share of `count` independent trials (Wilson 1927). Of none at all, anything is possible."""
    if count == 0:
        return Interval(0.0, 0.0, 1.0)
    share, square = successes / count, _Z * _Z
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = _Z * sqrt(share * (1 - share) / count + square / (4 * count * count)) / (1 + square / count)
    return Interval(share, max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half)))


def share_difference(before: tuple[int, int], after: tuple[int, int]) -> Interval:
    """How much larger the share (successes, of how many) is afterwards (Newcombe 1998, method 10)."""
    old, new = wilson(*before), wilson(*after)
    difference = new.value - old.value
    low = difference - sqrt((new.value - new.low) ** 2 + (old.high - old.value) ** 2)
    high = difference + sqrt((new.high - new.value) ** 2 + (old.value - old.low) ** 2)
    return Interval(difference, max(-1.0, low), min(1.0, high))


def dominance(before: Sequence[float], after: Sequence[float]) -> Interval:
    """How much more often a value afterwards is the larger one than the smaller one of a pair: Cliff's delta, -1 to 1.

    The interval is Cliff's own asymmetric one (Cliff 1996; the variance is never taken to be less than it can be).
    """
    old, new = sorted(before), sorted(after)
    later = [_dominance_of(value, old) for value in new]
    earlier = [-_dominance_of(value, new) for value in old]
    n, m = len(after), len(before)
    delta = sum(later) / n
    if n < 2 or m < 2:
        return Interval(delta, -1.0, 1.0)
    spread = variance(later) / n + variance(earlier) / m
    spread = max(spread, (1 - delta * delta) / (n * m - 1))
    half = _Z * sqrt(spread) * sqrt((1 - delta * delta) ** 2 + _Z * _Z * spread)
    scale = 1 - delta * delta + _Z * _Z * spread
    if scale == 0:  # no pair in which it is not larger
        edge = (min(n, m) - _Z * _Z) / (min(n, m) + _Z * _Z)
        return Interval(delta, edge, 1.0) if delta > 0 else Interval(delta, -1.0, -edge)
    low, high = (delta - delta**3 - half) / scale, (delta - delta**3 + half) / scale
    return Interval(delta, max(-1.0, min(delta, low)), min(1.0, max(delta, high)))


def _dominance_of(value: float, others: Sequence[float]) -> float:
    """How much more of the sorted `others` are smaller than are larger, as a share."""
    return (bisect_left(others, value) - (len(others) - bisect_right(others, value))) / len(others)


def holm(values: Sequence[float]) -> list[float]:
    """The p values of a family, adjusted so that the chance of any false finding stays below the level (Holm 1979)."""
    adjusted, highest = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        highest = max(highest, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = highest
    return adjusted


def detectable_share(share: float, before: int, after: int, level: float) -> float | None:
    """The least difference to `share` that Fisher's test at this level finds with a power of 80 %, if there is any.

    By the normal approximation with the correction for continuity (Fleiss 1981), in the direction with more room.
    """
    if not before or not after:
        return None
    room = max(share, 1 - share)
    sign = 1 if share <= 0.5 else -1
    if _shares_needed(share, share + sign * room, after / before, level) > before:
        return None
    low, high = 0.0, room
    for _ in range(40):
        middle = (low + high) / 2
        if _shares_needed(share, share + sign * middle, after / before, level) > before:
            low = middle
        else:
            high = middle
    return high


def _shares_needed(old: float, new: float, ratio: float, level: float) -> float:
    """How many trials are needed before, with `ratio` times as many afterwards."""
    gap = abs(new - old)
    if gap == 0:
        return inf
    mean = (old + ratio * new) / (1 + ratio)
    noise = _NORMAL.inv_cdf(1 - level / 2) * sqrt((ratio + 1) * mean * (1 - mean))
    noise += _NORMAL.inv_cdf(POWER) * sqrt(ratio * old * (1 - old) + new * (1 - new))
    plain = noise * noise / (ratio * gap * gap)
    if plain == 0:
        return 0.0
    return plain / 4 * (1 + sqrt(1 + 2 * (ratio + 1) / (plain * ratio * gap))) ** 2


def detectable_dominance(before: int, after: int, level: float) -> float | None:
    """The least Cliff's delta that a rank test at this level finds with a power of 80 % (Noether 1987)."""
    if not before or not after:
        return None
    reach = _NORMAL.inv_cdf(1 - level / 2) + _NORMAL.inv_cdf(POWER)
    delta = 2 * reach * sqrt((before + after) / (12 * before * after))
    return delta if delta <= 1 else None
