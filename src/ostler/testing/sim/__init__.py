"""The whole runtime in one thread under one seed, with faults at random, and a checker of what came of it."""

from ostler.testing.sim.checker import INVARIANTS, judge
from ostler.testing.sim.run import Outcome, simulate

__all__ = ["INVARIANTS", "Outcome", "judge", "simulate"]
