"""Calls that may change how healthy the system is, and calls that undo them: what is true of them."""

import msgspec

from ostler.domain.fitness.events import FitnessLowered
from ostler.domain.model import UserMessage
from ostler.domain.session.events import CompensationRequested, FitnessCompared
from ostler.domain.session.state import Intervention, OpenCall, State
from ostler.domain.tool import ToolOutcome

_replace = msgspec.structs.replace


def is_undoing(state: State, call: str) -> bool:
    """Whether the runtime has asked for this call, to undo another one."""
    return any(one.call == call for one in state.undoing)


def ended(state: State, call: OpenCall, outcome: ToolOutcome) -> State:
    """After a call has ended: what was measured before it is to be measured again, unless it is one that undoes."""
    before = tuple([one for one in call.fitness if not one.is_known])
    if not before:
        return state
    after = Intervention(call.id, call.tool, before, call.arguments or {}, outcome.output)
    return _replace(state, measuring=(*state.measuring, after))


def undone(state: State, undo: Intervention, observation: str) -> State:
    """After a call that was to undo another one, whatever came of it: the model is told, and all is measured again."""
    told = _told(state, f"What came of undoing call {undo.of} by {undo.tool}: {observation}")
    left = tuple([one for one in state.undoing if one is not undo])
    return _replace(told, undoing=left, measuring=(*told.measuring, undo))


def evolve(state: State, event: FitnessCompared | FitnessLowered | CompensationRequested) -> State:
    """What is true after something was measured, was found to be lower, or is to be undone.

    What the model is told of it, it is told with its next request: results of tools must follow what asked for them.
    """
    match event:
        case FitnessCompared():
            left = tuple([one for one in state.measuring if one.call != event.call])
            state = _replace(state, measuring=left)
            if event.is_restored is None:
                return state
            found = ", ".join(f"{one.target!r} is {one}" for one in event.fitness)
            how = "All is as good again as before" if event.is_restored else "It is not as good again as before"
            return _told(state, f"{how}: {found}.")
        case FitnessLowered():
            before, after = event.before, event.after
            text = f"Call {event.call} of {event.tool} has lowered the fitness target {after.target!r}"
            return _told(state, f"{text} (it should be {after.goal}): {before} before it, {after} after it.")
        case CompensationRequested():
            return _asked(state, event)


def _asked(state: State, event: CompensationRequested) -> State:
    """A call that undoes another one comes before anything else, but the call that people were asked about."""
    asked = event.asked
    place = 0 if state.question is None and state.granted is None else 1
    undo = Intervention(asked.id, asked.name, event.before, of=event.of)
    state = _told(state, f"The runtime asks for {asked.name} to undo call {event.of}.")
    return _replace(
        state,
        asked=(*state.asked[:place], asked, *state.asked[place:]),
        undoing=(*state.undoing, undo),
        examined=None,
    )


def _told(state: State, text: str) -> State:
    return _replace(state, inbox=(*state.inbox, UserMessage(text)))
