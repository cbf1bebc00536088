"""Forking: a new session that shares the past of another up to one of its events."""

from collections.abc import Sequence

import msgspec

from ostler.domain.fitness.events import FitnessLowered
from ostler.domain.model import ModelRef
from ostler.domain.session.events import AgentForked, AgentStarted, SessionEvent
from ostler.domain.session.evolve import evolve
from ostler.domain.session.state import State
from ostler.kernel.errors import Conflict

Fact = tuple[int, SessionEvent]
"""An event and when it happened, in microseconds since 1970."""


def fork(
    facts: Sequence[Fact], *, session: str, by: str, at_us: int, seq: int | None = None, trial: ModelRef | None = None
) -> list[Fact]:
    """The events of the new session `session`: those up to `seq` and `agent.forked`, which may begin a `trial`.

    None forks at the last event before the end at which no call was under way; an effect in the world belongs to one
    history only, and so does an approval that is not used yet. Raises `Conflict` for a `seq` at which there was one, or
    which is at or after the end.
    """
    places = places_of(facts)
    if not places:
        raise Conflict("This session has no point at which it can be forked.")
    chosen = places[-1] if seq is None else seq
    if chosen not in places:
        earlier = [place for place in places if place < chosen]
        raise Conflict(
            f"The session cannot be forked at event {chosen}: a call is under way or approved there, or it has ended.",
            hint=f"The nearest earlier event at which it can is {earlier[-1]}." if earlier else "",
        )
    at_first, first = facts[0]
    assert isinstance(first, AgentStarted)
    started = msgspec.structs.replace(first, session=session, origin=first.session)
    idle_us = max(0, at_us - facts[chosen - 1][0])
    forked = AgentForked(first.session, chosen, by, idle_us, trial)
    past = [(at, _taken_over(event, session)) for at, event in facts[1:chosen]]
    return [(at_first, started), *past, (at_us, forked)]


def _taken_over(event: SessionEvent, session: str) -> SessionEvent:
    """The event as the fork has it: what was decided under the name of the session is decided again under its own."""
    return msgspec.structs.replace(event, session=session) if isinstance(event, FitnessLowered) else event


def places_of(facts: Sequence[Fact]) -> list[int]:
    """Every `seq` after which no call is open or free to begin, by approval or by what was found out about it, and the
    session has not ended.
    """
    state: State | None = None
    places = []
    for seq, (at_us, event) in enumerate(facts, 1):
        state = evolve(state, event, at_us)
        is_over = state.end is not None or state.ending is not None or state.cancelling_by is not None
        is_intervening = bool(state.measuring or state.undoing)
        is_free = state.granted is not None or (state.examined is not None and state.question is None)
        if not state.open and not is_free and not is_over and not is_intervening:
            places.append(seq)
    return places
