"""The decider pattern: what happens now, and what is true after it, as two pure functions over frozen values.

J. Chassaing, "Functional Event Sourcing Decider", 2021.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

State = TypeVar("State")
E = TypeVar("E")


def fold(evolve: Callable[[State, E], State], state: State, events: Iterable[E]) -> State:
    """The state after `events`. Folding the same events always gives an equal state."""
    for event in events:
        state = evolve(state, event)
    return state
