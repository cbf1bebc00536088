"""How strong a memory still is. It is computed when somebody asks, and never written back: reading changes nothing."""

import math


def strength(importance: float, *, age_us: int, half_life_us: int) -> float:
    """`importance · 2^(−age/half_life)`, in [0, 1]. What has not happened yet is as strong as it is important."""
    return importance * fading(age_us, half_life_us=half_life_us)


def fading(age_us: int, *, half_life_us: int) -> float:
    """What is left of something after this time, if it halves in each half-life: 1 at first, and then towards 0."""
    return float(2.0 ** (-max(age_us, 0) / half_life_us))


def rank_in_strength(importance: float, happened_us: int, *, half_life_us: int) -> float:
    """A number that is greater of the stronger of two memories, whenever they are compared.

    It is `log2(importance) + happened/half_life`: the logarithm of the strength without the part that is the same for
    all memories at a time. So the order of memories never changes, and can be an index. Of no importance: −∞.
    """
    if importance <= 0:
        return -math.inf
    return math.log2(importance) + happened_us / half_life_us
