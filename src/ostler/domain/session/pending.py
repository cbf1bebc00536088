"""What remains to be performed in a session: computed from its state, never stored."""

from typing import NamedTuple

from ostler.domain import gate
from ostler.domain.model import AskedCall
from ostler.domain.session.state import Intervention, OpenCall, State, under_way
from ostler.domain.tool import ToolSpec


class ModelWork(NamedTuple):
    """A model is to be asked."""

    call: OpenCall


class ToolWork(NamedTuple):
    """A tool is to be used."""

    call: OpenCall
    spec: ToolSpec


class ExamineWork(NamedTuple):
    """Something is to be found out about the call `name` before it can be judged; `asked` None is one of the model.

    There is no intent for it, because finding out changes nothing in the world but reservations, which know the call.
    """

    call: OpenCall
    name: str
    asked: AskedCall | None


class MeasureWork(NamedTuple):
    """The targets are to be measured again that were measured before a call. Nor is there an intent for it."""

    call: OpenCall
    after: Intervention


Work = ModelWork | ToolWork | ExamineWork | MeasureWork


def pending(state: State) -> tuple[Work, ...]:
    """Every intent without an outcome, what is to be measured, and the call that is to be examined.

    None once it has ended or is cancelled.
    """
    if state.end is not None or state.cancelling_by is not None:
        return ()
    found: list[Work] = [_work(state, call) for call in under_way(state)]
    found += [MeasureWork(OpenCall(f"{one.call}!"), one) for one in state.measuring]
    call = gate.unexamined(state)
    if call is not None:
        asked = state.asked[0] if state.asked else None
        found.append(ExamineWork(OpenCall(f"{call}?"), call, asked))
    return tuple(found)


def _work(state: State, call: OpenCall) -> Work:
    if call.arguments is None:
        return ModelWork(call)
    spec = state.agent.tool(call.tool)
    assert spec is not None, f"the gate let pass a call of the unknown tool {call.tool}"
    return ToolWork(call, spec)
