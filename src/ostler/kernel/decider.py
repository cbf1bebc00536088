"""The decider pattern: what happens now, and what is true after it, as pure functions over frozen values.

`decide(command, state) -> events` and `evolve(state, event, at) -> state`; the state is nothing but the fold of the
events (J. Chassaing, "Functional Event Sourcing Decider", 2021).
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

S = TypeVar("S")
E = TypeVar("E")


def fold(evolve: Callable[[S | None, E, int], S], facts: Iterable[tuple[int, E]], state: S | None = None) -> S | None:
    """The state after `facts`, each a moment (microseconds since 1970) and an event; None if there were none.

    Folding the same facts again gives an equal state.
    """
    for at_us, event in facts:
        state = evolve(state, event, at_us)
    return state
