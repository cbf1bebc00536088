"""What follows from what was measured around a call: whether it has lowered anything, and what is to undo it.

Undoing is asked for in the append that says that it has to be, under an id of its own (`3.1.undo`), and so exactly
once. It goes through the gate like any call. Whatever comes of it, the targets are measured again; nothing undoes it.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from ostler.domain.fitness.events import FitnessLowered
from ostler.domain.fitness.target import Fall, are_restored, falls
from ostler.domain.model import AskedCall
from ostler.domain.schema import parse_json, validator_for
from ostler.domain.session.commands import Compared
from ostler.domain.session.decision import Decision
from ostler.domain.session.events import CompensationRequested, FitnessCompared
from ostler.domain.session.state import Intervention, State
from ostler.domain.tool import ToolSpec

OUTPUT = "output"
"""The parameter of a compensating tool that is given what came of the call."""


def compared(decision: Decision, asked: Compared) -> None:
    """Record what was measured after a call, and what follows from it."""
    state = decision.state
    one = next((one for one in state.measuring if one.call == asked.call), None)
    if one is None or state.end is not None:
        return
    if one.of:
        decision.emit(FitnessCompared(asked.call, asked.fitness, are_restored(one.before, asked.fitness)))
        return
    decision.emit(FitnessCompared(asked.call, asked.fitness))
    fallen = falls(one.before, asked.fitness)
    for before, after in fallen:
        decision.emit(FitnessLowered(one.call, one.tool, before, after, state.session))
    undo = compensation(state, one) if fallen and state.cancelling_by is None else None
    if undo is not None:
        decision.emit(CompensationRequested(undo, one.call, _because(fallen), one.before))


def compensation(state: State, done: Intervention) -> AskedCall | None:
    """The call that undoes this one; None if its tool declares none.

    It is given the arguments of the call, as far as it has parameters of these names, and what came of it.
    """
    spec = state.agent.tool(done.tool)
    by = None if spec is None or not spec.compensate else state.agent.tool(spec.compensate)
    if by is None:
        return None
    known = by.parameters.get("properties", {})
    given = {OUTPUT: _output(by, done.output), **done.arguments}
    arguments = {name: value for name, value in given.items() if name in known}
    return AskedCall(f"{done.call}.undo", by.name, msgspec.json.encode(arguments).decode())


def _output(by: ToolSpec, text: str) -> Any:
    """What came of the call: as text if the parameter takes that, or else what it says in JSON."""
    _, problems = validator_for(by.parameters)({OUTPUT: text})
    if all(problem.path != OUTPUT for problem in problems):
        return text
    value, fault = parse_json(text)
    return text if fault is not None else value


def _because(fallen: Sequence[Fall]) -> str:
    names = ", ".join(repr(after.target) for _, after in fallen)
    return f"the fitness target{'s' if len(fallen) > 1 else ''} {names} {'are' if len(fallen) > 1 else 'is'} lower"
