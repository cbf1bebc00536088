"""The pasts of agents, principals and tenants, folded from the whole log as far as policies ask about them."""

import asyncio
from typing import NamedTuple

import msgspec

from ostler.domain.constraint.history import Past, Question
from ostler.domain.constraint.syntax import Scope
from ostler.domain.session.events import SESSION_CODEC, AgentForked, AgentStarted, SessionEvent
from ostler.domain.session.past import OF_CALLS, grown
from ostler.domain.session.state import State
from ostler.domain.tool import ToolSpec
from ostler.kernel.event import Record, StreamId
from ostler.ports import EventStore

PAGE = 1000
_READ = tuple(
    b'{"type":"' + str(kind.__struct_config__.tag).encode() + b'"' for kind in (AgentStarted, AgentForked, *OF_CALLS)
)
"""How the events begin that are read; the others are passed over as they are."""


class _Session(msgspec.Struct):
    """Whose calls those of a session are. While `is_past` they were made by the session that it was forked from."""

    agent: str
    principal: str
    model: str
    tools: dict[str, ToolSpec]
    is_past: bool


class _Key(NamedTuple):
    tenant: str
    per: Scope
    name: str


class Pasts:
    """Answers questions about the calls of all sessions, by everything that stands in the log when it is asked.

    The log is read once from where the longest window begins, and then as it grows. Nothing is kept but what questions
    need; another process keeps its own.
    """

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._folds: dict[tuple[Question, ...], _Fold] = {}

    async def answers(self, questions: tuple[Question, ...], state: State, at_us: int) -> tuple[float, ...]:
        """The answers to the questions that the policies of a session ask about others, in their order."""
        if questions not in self._folds:
            start_us = at_us - max(question.window_us for question in questions)
            self._folds[questions] = _Fold(questions, await self._position_at(start_us))
        fold = self._folds[questions]
        await fold.catch_up(self._store)
        return fold.answers(state, at_us)

    async def own(self, questions: tuple[Question, ...], state: State, at_us: int) -> tuple[float, ...]:
        """The answers of the session's own past, by its whole log: its policies were moved, and ask something else."""
        stream, after = StreamId(state.by.tenant, state.session), 0
        fold = _Fold(questions, 0)
        while records := await self._store.read(stream, after=after, limit=PAGE):
            for record in records:
                fold.take_own(record)
            after = records[-1].seq
        return fold.answers(state, at_us)

    async def _position_at(self, at_us: int) -> int:
        """A position before which nothing began that had its outcome after `at_us`."""
        low, high = 0, await self._store.head()
        while low < high:
            middle = (low + high) // 2
            records = await self._store.tail(after=middle, limit=1)
            if records and records[0].at_us < at_us - LOOK_BACK_US:
                low = middle + 1
            else:
                high = middle
        return low


LOOK_BACK_US = 3_600_000_000
"""A call whose outcome counts may have begun so much earlier; the clocks of workers differ by much less."""


class _Fold:
    """The pasts that one set of questions asks about."""

    def __init__(self, questions: tuple[Question, ...], position: int) -> None:
        self._questions = questions
        self._by_scope = {
            per: tuple(question for question in questions if question.per == per)
            for per in dict.fromkeys(question.per for question in questions)
        }
        self._position = position
        self._reading = asyncio.Lock()
        self._sessions: dict[StreamId, _Session] = {}
        self._pasts: dict[_Key, Past] = {}

    async def catch_up(self, store: EventStore) -> None:
        """Read what was added to the log since."""
        async with self._reading:
            while records := await store.tail(after=self._position, limit=PAGE):
                for record in records:
                    if record.data.startswith(_READ):
                        await self._take(store, record)
                self._position = records[-1].position

    def take_own(self, record: Record) -> None:
        """One event of the only session that is asked about, what it shares with another one's past included."""
        if not record.data.startswith(_READ):
            return
        event = SESSION_CODEC.decode(record.data)
        if isinstance(event, AgentStarted):
            self._sessions[record.stream] = _session(event)
        elif record.stream in self._sessions:
            self._count(record.stream, self._sessions[record.stream], record.at_us, event)

    def answers(self, state: State, at_us: int) -> tuple[float, ...]:
        found: dict[Question, float] = {}
        names: dict[Scope, str] = {
            "session": state.session,
            "agent": state.agent.name,
            "principal": state.by.id,
            "tenant": state.by.tenant,
        }
        for per, questions in self._by_scope.items():
            past = self._pasts.get(_Key(state.by.tenant, per, names[per])) or Past(questions)
            found |= dict(zip(questions, past.answers(at_us), strict=True))
        return tuple(float(found[question]) for question in self._questions)

    async def _take(self, store: EventStore, record: Record) -> None:
        event = SESSION_CODEC.decode(record.data)
        stream = record.stream
        if isinstance(event, AgentStarted):
            self._sessions[stream] = _session(event)
            return
        session = self._sessions.get(stream)
        if session is None:
            (first,) = await store.read(stream, limit=1)
            if not first.data.startswith(_READ[0]):
                return
            started = SESSION_CODEC.decode(first.data)
            assert isinstance(started, AgentStarted), "its tag was looked at"
            session = self._sessions[stream] = _session(started)
            session.is_past = False  # the past of a fork is written together with its first event
        if isinstance(event, AgentForked):
            session.is_past = False
        elif not session.is_past:
            self._count(stream, session, record.at_us, event)

    def _count(self, stream: StreamId, session: _Session, at_us: int, event: SessionEvent) -> None:
        for key, past in self._of(stream, session):
            self._pasts[key] = grown(
                past, event, at_us, session=stream.name, tool=session.tools.get, model=session.model
            )

    def _of(self, stream: StreamId, session: _Session) -> list[tuple[_Key, Past]]:
        """The pasts that a call of this session is part of."""
        names: dict[Scope, str] = {
            "session": stream.name,
            "agent": session.agent,
            "principal": session.principal,
            "tenant": stream.tenant,
        }
        keys = [_Key(stream.tenant, per, names[per]) for per in self._by_scope]
        return [(key, self._pasts.get(key) or Past(self._by_scope[key.per])) for key in keys]


def _session(started: AgentStarted) -> _Session:
    tools = {tool.name: tool for tool in started.agent.tools}
    return _Session(started.agent.name, started.by.id, started.model.name, tools, started.origin is not None)
