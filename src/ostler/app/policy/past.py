"""The calls that were judged in the past, each with the state that it was judged in, and what other rules would ask."""

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import msgspec

from ostler.domain.constraint.compile import Compiled
from ostler.domain.constraint.facts import Facts
from ostler.domain.constraint.history import Past, Question
from ostler.domain.constraint.verdict import Decision
from ostler.domain.flow import with_flow
from ostler.domain.gate import arguments_of, digest_of, facts_of
from ostler.domain.session.events import (
    SESSION_CODEC,
    AgentForked,
    AgentStarted,
    ApprovalRequested,
    ConstraintFailed,
    ModelRequested,
    SessionEvent,
    ToolRequested,
)
from ostler.domain.session.evolve import evolve
from ostler.domain.session.judging import NOBODY_IS_ASKED
from ostler.domain.session.past import OF_CALLS, grown
from ostler.domain.session.state import State
from ostler.domain.tool import ToolSpec
from ostler.kernel.errors import UnknownEvent
from ostler.kernel.event import ERASED, Record, StreamId
from ostler.ports import EventStore

PAGE = 1_000
SESSIONS_MAX = 500
"""Sessions that are kept in memory; one that goes on after it was dropped is read again."""
_NOT_BY_RULES = ("scopes", "hook", "budget", "trial")
"""The first words of what stands in the place of a rule where none has decided; names may follow."""
_FIRST_GATE = 1
"""It judged no calls of models."""


class Judged(NamedTuple):
    """A call that was judged, by whom and how. `tool` None is a call of the model."""

    tool: ToolSpec | None
    arguments: dict[str, Any]
    decision: Decision
    rule: str
    policy: str


class PastCall(NamedTuple):
    """A call of the past, and what was known of it: the facts hold the answers to the questions of other rules."""

    record: Record
    state: State
    judged: Judged
    facts: Facts


def judged_by(state: State, event: SessionEvent) -> Judged | None:
    """The judgement that an event in this state tells of; None if no policy has judged anything."""
    match event:
        case ToolRequested():
            if state.granted is not None and state.granted.call == event.call:
                return None  # it was judged when it was asked for
            held = {lasting.digest for lasting in state.lasting}
            is_held = bool(held) and digest_of(state, event.tool, event.arguments) in held
            return _judged(state, event.tool, event.arguments, "require" if is_held else "allow", event)
        case ApprovalRequested():
            return _judged(state, event.tool, event.arguments, "require", event)
        case ConstraintFailed(kind="blocked") if _is_by_rule(event.rule):
            decision: Decision = "require" if event.reason == NOBODY_IS_ASKED else "deny"
            return _judged(state, event.tool, _arguments_of(state, event), decision, event)
        case ModelRequested() if state.gate > _FIRST_GATE:
            return Judged(None, {}, "allow", event.rule, event.policy)
        case _:
            return None


def _judged(
    state: State,
    tool: str,
    arguments: dict[str, Any] | None,
    decision: Decision,
    event: ToolRequested | ApprovalRequested | ConstraintFailed,
) -> Judged | None:
    spec = state.agent.tool(tool)
    if (spec is None and tool) or arguments is None or not _is_by_rule(event.rule):
        return None
    return Judged(spec, arguments, decision, event.rule, event.policy)


def _is_by_rule(rule: str) -> bool:
    return rule.split(" ", 1)[0] not in _NOT_BY_RULES


def _arguments_of(state: State, event: ConstraintFailed) -> dict[str, Any] | None:
    """The arguments of a refused call, which its event does not name."""
    if not event.tool:
        return {}
    if state.examined is not None and state.examined.arguments is not None:
        return state.examined.arguments
    asked = next((call for call in state.asked if call.id == event.call), None)
    return arguments_of(state, asked) if asked is not None else None


class Reader:
    """Reads the log from its beginning and keeps what the questions of a policy ask about: the past of each session,
    agent, principal and tenant."""

    def __init__(self, store: EventStore, compiled: Compiled) -> None:
        self.unreadable: set[str] = set()
        self._store = store
        self._compiled = compiled
        self._states: OrderedDict[StreamId, State] = OrderedDict()
        self._pasts: dict[tuple[str, ...], Past] = {}
        self._copied: set[StreamId] = set()

    async def calls(
        self, *, after_us: int = 0, until: int | None = None, progress: Callable[[int], None] = lambda position: None
    ) -> AsyncIterator[PastCall]:
        """Every call that was judged since a moment, in the order of the log, up to the position `until`."""
        position = 0
        while page := await self._store.tail(after=position, limit=PAGE):
            for record in page:
                position = record.position
                if until is not None and position > until:
                    return
                found = await self._step(record)
                if found is not None and record.at_us >= after_us:
                    yield found
            progress(position)

    async def _step(self, record: Record) -> PastCall | None:
        stream = record.stream
        if not stream.name.startswith("ses_") or stream.name in self.unreadable:
            return None
        event = _event_of(record)
        if event is None:
            self.unreadable.add(stream.name)
            self._states.pop(stream, None)
            return None
        state = await self._state_before(record)
        found = self._call(record, state, event)
        self._remember(stream, event, record.at_us, evolve(state, event, record.at_us))
        return found

    def _call(self, record: Record, state: State | None, event: SessionEvent) -> PastCall | None:
        if state is None or record.stream in self._copied:
            return None
        judged = judged_by(state, event)
        if judged is None:
            return None
        facts = facts_of(state, judged.tool, judged.arguments, record.at_us)
        answers = tuple(self._answer(state, question, record.at_us) for question in self._compiled.history)
        return PastCall(record, state, judged, facts_for(self._compiled, facts, judged.tool, state, answers))

    async def _state_before(self, record: Record) -> State | None:
        state = self._states.pop(record.stream, None)
        if state is None and record.seq > 1:
            earlier = await self._store.read(record.stream, limit=record.seq - 1)
            for one in earlier:
                state = evolve(state, SESSION_CODEC.decode(one.data), one.at_us)
        return state

    def _remember(self, stream: StreamId, event: SessionEvent, at_us: int, state: State) -> None:
        """The past of others grows by what the session did; what a fork shares with its origin was there already."""
        if isinstance(event, AgentStarted) and event.origin is not None:
            self._copied.add(stream)
        for key in _keys(state) if isinstance(event, OF_CALLS) else ():
            if key[0] == "session" or stream not in self._copied:
                self._pasts[key] = self._grown(key, state, event, at_us)
        if isinstance(event, AgentForked):
            self._copied.discard(stream)
        if state.end is None:
            self._states[stream] = state
            if len(self._states) > SESSIONS_MAX:
                self._states.popitem(last=False)
        else:
            self._pasts.pop(("session", state.by.tenant, state.session), None)

    def _grown(self, key: tuple[str, ...], state: State, event: SessionEvent, at_us: int) -> Past:
        past = self._pasts.get(key) or Past([question for question in self._compiled.history if question.per == key[0]])
        return grown(past, event, at_us, session=state.session, tool=state.agent.tool, model=state.model.name)

    def _answer(self, state: State, question: Question, at_us: int) -> float:
        key = next(key for key in _keys(state) if key[0] == question.per)
        past = self._pasts.get(key)
        return past.answers(at_us)[past.questions.index(question)] if past is not None else 0


def _event_of(record: Record) -> SessionEvent | None:
    """The event; None if it is erased or of a version that cannot be read here."""
    try:
        return SESSION_CODEC.decode(record.data) if record.data != ERASED else None
    except UnknownEvent:
        return None


def facts_for(
    compiled: Compiled, facts: Facts, tool: ToolSpec | None, state: State, answers: tuple[float, ...]
) -> Facts:
    """The facts of a call with everything that other rules than those in force then want to know."""
    seen = facts if tool is None else with_flow(facts, tool, state.provenance, compiled.uses)
    inputs = {name: value for name, value in facts.inputs.items() if name in compiled.inputs}
    return msgspec.structs.replace(seen, inputs=inputs, history=answers)


def _keys(state: State) -> tuple[tuple[str, ...], ...]:
    """Whose past a call of the session belongs to."""
    tenant = state.by.tenant
    return (
        ("session", tenant, state.session),
        ("agent", tenant, state.agent.name),
        ("principal", tenant, state.by.id),
        ("tenant", tenant),
    )
