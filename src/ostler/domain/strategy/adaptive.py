"""What earlier calls teach about models: Thompson sampling over outcomes that count less the older they are.

Each model is given a draw of how likely it succeeds, by what is known of it; who draws best is asked. Who did well is
asked often, and who is not known well still has a chance (Thompson 1933; Russo et al., "A Tutorial on Thompson
Sampling", 2018). Old outcomes are discounted, so that a model that changed is found out (Raj and Kalyani, "Taming
Non-stationary Bandits", 2017).
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

COST_WEIGHT = 0.1
"""What of a draw the dearest model loses, and the others in proportion."""
LATENCY_WEIGHT = 0.05
"""As `COST_WEIGHT`, of the slowest."""
REACH = 7.0
"""Outcomes older than so many half-lives are not looked at: they would count less than 1 %."""


class Outcomes(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What came of calls of one model: usable `replies` and `failures`, and sessions that it ended well or badly.

    `microseconds` are those of all replies, `timed`, together; `cost_microusd` is what they and the failures cost.
    Discounted, all are fractions.
    """

    replies: float = 0.0
    failures: float = 0.0
    won: float = 0.0
    lost: float = 0.0
    timed: float = 0.0
    microseconds: float = 0.0
    cost_microusd: float = 0.0

    def plus(self, more: "Outcomes", weight: float = 1.0) -> "Outcomes":
        """Both together, `more` with this weight."""
        mine, others = msgspec.structs.astuple(self), msgspec.structs.astuple(more)
        return Outcomes(*(one + weight * other for one, other in zip(mine, others, strict=True)))

    @property
    def latency_s(self) -> float | None:
        """How long a reply took on average; None if there was none."""
        return self.microseconds / self.timed / 1e6 if self.timed else None


NOTHING = Outcomes()


def discounted(aged: Iterable[tuple[float, Outcomes]], half_life_s: float) -> Outcomes:
    """All of them together; what is older by a half-life counts half. Ages are in seconds."""
    total = NOTHING
    for age_s, outcomes in aged:
        total = total.plus(outcomes, 0.5 ** (max(0.0, age_s) / half_life_s))
    return total


def draws(known: Mapping[str, Outcomes], models: Sequence[str], chance: bytes) -> dict[str, float]:
    """A draw for each of these models, 0 to 1; the same for the same outcomes and the same chance."""
    uniform = _uniforms(int.from_bytes(chance, "big"))
    found = {}
    for model in models:
        one = known.get(model, NOTHING)
        answers = _beta(1 + one.replies, 1 + one.failures, uniform)
        found[model] = answers * _beta(1 + one.won, 1 + one.lost, uniform)
    costs = {name: one.cost_microusd / one.timed for name, one in known.items() if one.timed}
    times = {name: one.latency_s or 0.0 for name, one in known.items() if one.timed}
    for share, weight in ((costs, COST_WEIGHT), (times, LATENCY_WEIGHT)):
        most = max(share.values(), default=0.0)
        for model in models:
            if most > 0:
                found[model] *= 1 - weight * share.get(model, 0.0) / most
    return {model: round(value, 6) for model, value in found.items()}


def _uniforms(seed: int) -> Iterator[float]:
    """Numbers in (0, 1) from a seed: SplitMix64 (Steele, Lea and Flood 2014)."""
    mask = (1 << 64) - 1
    while True:
        seed = (seed + 0x9E3779B97F4A7C15) & mask
        mixed = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & mask
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & mask
        yield ((mixed ^ (mixed >> 31)) + 0.5) / (1 << 64)


def _beta(alpha: float, beta: float, uniform: Iterator[float]) -> float:
    """A draw from the beta distribution, as a share of two gamma draws."""
    one, other = _gamma(alpha, uniform), _gamma(beta, uniform)
    return one / (one + other)


def _gamma(shape: float, uniform: Iterator[float]) -> float:
    """A draw from the gamma distribution for a shape of at least 1 (Marsaglia and Tsang 2000)."""
    part = shape - 1 / 3
    scale = 1 / math.sqrt(9 * part)
    while True:
        normal = math.sqrt(-2 * math.log(next(uniform))) * math.cos(2 * math.pi * next(uniform))
        cube = (1 + scale * normal) ** 3
        if cube > 0 and math.log(next(uniform)) < normal * normal / 2 + part - part * cube + part * math.log(cube):
            return part * cube
