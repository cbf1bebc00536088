"""The tests of significance behind `ostler drift`: exact where counts are small, and by permuting whole sessions."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.stats import PermutationMethod, fisher_exact, mannwhitneyu

PERMUTATIONS = 5_000
SMALL = 10
"""With fewer values on a side, the distribution of ranks is not taken to be normal."""
SEED = 20_261_121
"""Chance is not wanted in a report: the same sessions give the same p values."""
BY_CHANCE = 0.95
ROUNDING = 1e-12
CELLS_MAX = 2_000_000
"""Numbers that are held at once to deal rows: some 50 MB."""

Matrix = npt.NDArray[np.float64]
Hands = npt.NDArray[np.bool_]


class Significance:
    """See `ostler.domain.drift.Tests`."""

    def __init__(self, permutations: int = PERMUTATIONS) -> None:
        self._permutations = permutations
        self._deals = lru_cache(maxsize=1)(self._dealt)

    def shares(self, before: tuple[int, int], after: tuple[int, int]) -> float:
        """Fisher's exact test."""
        table = [[before[0], before[1] - before[0]], [after[0], after[1] - after[0]]]
        return float(fisher_exact(table).pvalue)

    def ranks(self, before: Sequence[float], after: Sequence[float]) -> float:
        """Mann and Whitney's test, corrected for ties; by permutation where there are few values."""
        if len({*before, *after}) == 1:
            return 1.0
        if min(len(before), len(after)) >= SMALL:
            return float(mannwhitneyu(before, after, method="asymptotic").pvalue)
        chance = PermutationMethod(n_resamples=self._permutations, rng=np.random.default_rng(SEED))
        return float(mannwhitneyu(before, after, method=chance).pvalue)

    def mixes(self, before: Sequence[Sequence[float]], after: Sequence[Sequence[float]]) -> tuple[float, float]:
        """Half the sum of the absolute differences of the means, among those of as many ways to deal the rows."""
        rows, count = np.array([*before, *after], dtype=float), len(before)
        total = rows.sum(axis=0)

        def distances(of_first: Matrix) -> Matrix:
            """How far the mean of the first group is from that of all others, for sums over each first group."""
            return np.asarray(np.abs(of_first / count - (total - of_first) / (len(rows) - count)).sum(axis=-1) / 2)

        dealt = np.concatenate([distances(hands.astype(float) @ rows) for hands in self._deals(len(rows), count)])
        observed = distances(rows[:count].sum(axis=0))
        as_large = int((dealt >= observed - ROUNDING).sum())
        return (as_large + 1) / (self._permutations + 1), float(np.quantile(dealt, BY_CHANCE))

    def _dealt(self, size: int, count: int) -> list[Hands]:
        """Ways to deal `count` of `size` rows to the first group, some of them at a time."""
        chance = np.random.default_rng(SEED)
        at_once = max(1, CELLS_MAX // size)
        portions = [min(at_once, self._permutations - done) for done in range(0, self._permutations, at_once)]
        return [chance.random((portion, size)).argsort(axis=1) < count for portion in portions]
