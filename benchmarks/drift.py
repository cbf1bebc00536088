"""How often `ostler drift` finds what is there, and how often what is not: simulated sessions of two models.

Equal models: in how many pairs of samples anything at all is found; at most 5 % are wanted. Different ones: how often
the difference that the report calls detectable is found; 80 % are wanted. `python -m benchmarks.drift`.
"""

import random
import sys
from collections import Counter

import msgspec

from ostler.adapters.statistics import Significance
from ostler.domain.changes import Driver
from ostler.domain.drift import FAMILY, LEVEL, Comparison, Summary, compare
from ostler.domain.effects import detectable_share, wilson
from ostler.domain.model import ModelRef

TOOLS = ("files.read", "files.write", "shell.run", "search")


class Nature(msgspec.Struct, frozen=True):
    """What a simulated model is like: how often it succeeds, how long it takes, and what it likes to call."""

    success: float = 0.6
    refused: float = 0.2
    defects: float = 0.1
    steps: float = 6.0
    step_s: float = 3.0
    tools: tuple[float, ...] = (4, 2, 3, 1)


def session(nature: Nature, chance: random.Random, number: int) -> Summary:
    """One session. Its calls hang together: each has a taste of its own, around that of the model."""
    steps = 1 + int(chance.expovariate(1 / nature.steps))
    taste = [chance.gammavariate(weight, 1) for weight in nature.tools]
    return Summary(
        session=f"ses_{number}",
        agent="coder@1",
        started_us=number,
        driver=Driver(ModelRef("scripted", "scripted", "simulated")),
        status="completed" if chance.random() < nature.success else "failed",
        reason="",
        steps=steps,
        cost_microusd=int(steps * chance.lognormvariate(7, 0.5)),
        refused=int(chance.random() < nature.refused),
        defects=int(chance.random() < nature.defects),
        tools=Counter(chance.choices(TOOLS, taste, k=steps - 1)),
        step_us=1e6 * nature.step_s * chance.lognormvariate(0, 0.4),
    )


def pair(before: Nature, after: Nature, sizes: tuple[int, int], seed: int, tests: Significance) -> Comparison:
    """What is said of two samples."""
    chance = random.Random(seed)
    old = [session(before, chance, number) for number in range(sizes[0])]
    return compare(old, [session(after, chance, number) for number in range(sizes[1])], tests)


def false_findings(sizes: tuple[int, int], pairs: int, seed: int, tests: Significance) -> int:
    """In how many pairs of samples of the same model something is found."""
    found = (pair(Nature(), Nature(), sizes, seed + number, tests).differing for number in range(pairs))
    return sum(map(bool, found))


def found(name: str, other: Nature, sizes: tuple[int, int], pairs: int, seed: int, tests: Significance) -> int:
    """In how many pairs of samples this difference is found."""
    said = (pair(Nature(), other, sizes, seed + number, tests).differing for number in range(pairs))
    return sum(name in [one.name for one in differing] for differing in said)


def main(pairs: int = 1_000) -> None:
    """Print both rates, for several sizes."""
    tests = Significance(permutations=1_000)
    print(f"{pairs} pairs of samples each; {FAMILY} things compared, Holm at {LEVEL:.0%} over all of them")
    for sizes in ((10, 10), (40, 35), (100, 60)):
        rate = wilson(false_findings(sizes, pairs, 1, tests), pairs)
        print(f"{sizes[0]:>4} and {sizes[1]:<4} equal: found in {rate.value:6.1%} ({rate.low:.1%} to {rate.high:.1%})")
        gap = detectable_share(Nature().success, *sizes, LEVEL / FAMILY)
        cases = {
            "tools": ("other tools (4:2:3:1 to 2:4:3:1)", Nature(tools=(2, 4, 3, 1))),
            "steps": ("twice the steps", Nature(steps=12.0)),
            "time per step": ("time per step +50 %", Nature(step_s=4.5)),
        }
        if gap is not None:
            cases["completed"] = (f"completed {-gap:.0%} (called detectable)", Nature(success=Nature().success - gap))
        for name, (what, other) in cases.items():
            power = found(name, other, sizes, pairs, 1_000_000, tests) / pairs
            print(f"{'':>14}{what}: found in {power:6.1%}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
