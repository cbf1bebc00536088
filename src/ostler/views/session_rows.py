"""The view `sessions`: a row for each session with what lists show of it, which is little of what its log holds."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from ostler.domain.agent import AgentSpec
from ostler.domain.guard import NOBODYS
from ostler.domain.identity import Principal
from ostler.domain.model import ModelRef, Usage
from ostler.domain.session.events import ContextCompacted
from ostler.domain.session.evolve import evolve as evolve_state
from ostler.domain.session.state import End, Mind, OpenCall, Question, State
from ostler.domain.strategy.card import Card
from ostler.domain.transcript import Transcript
from ostler.kernel.event import GENESIS, Record, link
from ostler.views.fold import NO_SUMS, Format, NoSum, Step, View, no_sum, read
from ostler.views.sessions import SessionView, view

Shown = Literal["goal", "question", "pause", "end"]

SHOWN: tuple[Shown, ...] = ("goal", "question", "pause", "end")
"""The parts of a state that are shown and may be long."""

PART_CHARS_MAX = 2048
"""A shown part that is longer than this is not kept in a row but read from the log when it is shown."""

PROBLEM_CHARS_MAX = 500


class SessionRow(msgspec.Struct, frozen=True, gc=False):
    """A session after its event `seq`, whose hash is `hash`: its state, without what lists do not show.

    `elsewhere` are those shown parts that are too long for a row, with the number of the event that has them. A
    `problem` says why the log cannot be read on from there; `state` is None then.
    """

    seq: int
    hash: bytes
    state: State | None
    elsewhere: dict[Shown, int] = {}
    problem: str = ""


def evolve(row: SessionRow | None, record: Record) -> Step[SessionRow, NoSum]:
    """The row after one more record of its session. A log that is damaged or not understood makes it say so."""
    if row is None:
        row = SessionRow(0, GENESIS, None)
    elif row.state is None:
        return Step(msgspec.structs.replace(row, seq=record.seq))
    seq, name = row.seq + 1, record.stream.name
    if record.seq != seq or record.hash != link(row.hash, record.stream, seq, record.at_us, record.data):
        return _problem(record, f"Event {seq} of {name} was altered or is missing: its hash does not fit.")
    event = read(record)
    if isinstance(event, str):
        return _problem(record, event)
    if isinstance(event, ContextCompacted) and row.state is not None:  # it is about messages that a row does not have
        return Step(msgspec.structs.replace(row, seq=seq, hash=record.hash))
    try:
        state = evolve_state(row.state, event, record.at_us)
    except Exception as error:
        return _problem(record, f"Event {seq} of {name} makes no sense after those before it ({error!r}).")
    return Step(_lighter(row, state, record))


def _problem(record: Record, text: str) -> Step[SessionRow, NoSum]:
    return Step(SessionRow(record.seq, record.hash, None, problem=text[:PROBLEM_CHARS_MAX]))


def _lighter(row: SessionRow, state: State, record: Record) -> SessionRow:
    """The next row: what is not shown is dropped, and what is shown and long is left in the log."""
    changes: dict[str, Any] = {}
    elsewhere = row.elsewhere
    if row.state is None:
        changes["agent"] = AgentSpec(state.agent.name, state.agent.version)
        changes["model"] = msgspec.structs.replace(state.model, base_url=None, price=None)
        changes["candidates"] = tuple([_candidate(card.model) for card in state.candidates])
        changes["by"] = Principal(state.by.id)
        changes |= {"guard": NOBODYS, "layers": (), "shadow": (), "inputs": {}, "grant": None}
    if state.open:
        changes["open"] = tuple([_open(_kept_call(call)) for call in state.open])
    if len(record.data) > PART_CHARS_MAX or elsewhere:
        changed = [part for part in SHOWN if row.state is None or getattr(state, part) is not getattr(row.state, part)]
        long = [part for part in changed if _size(state, part, record) > PART_CHARS_MAX]
        elsewhere = {part: seq for part, seq in elsewhere.items() if part not in changed}
        elsewhere |= dict.fromkeys(long, record.seq)
        changes |= {part: _stub(state, part) for part in long}
    lighter = msgspec.structs.replace(
        state,
        transcript=Transcript(),
        transcript_bytes=0,
        inbox=(),
        asked=(),
        answer=None,
        examined=None,
        lasting=(),
        measuring=(),
        undoing=(),
        mind=_with_own("" if state.mind is None else state.mind.asked),
        **changes,
    )
    return SessionRow(record.seq, record.hash, lighter, elsewhere)


def _with_own(call: str) -> Mind | None:
    """All that must be known of a mind: the call of the runtime's own that is not counted among the session's."""
    return Mind(asked=call) if call else None


def _candidate(model: ModelRef) -> Card:
    """What must be known of a model that may be chosen, to say which one is."""
    known = ModelRef(model.kind, model.provider, model.name, model.tools)
    return Card(f"{model.provider}:{model.name}", known)


def _size(state: State, part: Shown, record: Record) -> int:
    """About how long a part is that the event of this record has changed."""
    match part:
        case "goal":
            return len(state.goal)
        case "pause":
            return len(state.pause or "")
        case "question":
            return len(record.data) if state.question is not None else 0
        case "end":
            return len(state.end.text) if state.end is not None else 0


def _stub(state: State, part: Shown) -> object:
    """What stands in a row for a part that is elsewhere: enough for the status."""
    match part:
        case "goal" | "pause":
            return ""
        case "question":
            return Question("", "", {}, "", "", "", None)
        case "end":
            assert state.end is not None, "only what is there is long"
            return End(state.end.status, "", "")


def view_of(row: SessionRow, read_again: Mapping[int, Record]) -> SessionView | None:
    """What the row shows, given the records whose numbers are in its `elsewhere`; None if it cannot be known from them.

    Then there is a problem with the log, and only the log itself can say which.
    """
    state = row.state
    if state is None:
        return None
    for part, seq in row.elsewhere.items():
        record = read_again.get(seq)
        if record is None or isinstance(event := read(record), str):
            return None
        try:
            whole = evolve_state(None if seq == 1 else state, event, record.at_us)
        except Exception:
            return None
        state = msgspec.structs.replace(state, **{part: getattr(whole, part)})
    return view(state)


_KeptCall = tuple[str, int, str | None, bool, int]


def _kept_call(call: OpenCall) -> _KeptCall:
    return call.id, call.not_before_us, call.limit, call.is_suspended, call.inner_calls


def _open(kept: _KeptCall) -> OpenCall:
    call, moment, limit, is_suspended, inner_calls = kept
    return OpenCall(call, not_before_us=moment, limit=limit, is_suspended=is_suspended, inner_calls=inner_calls)


class _KeptState(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What is kept of a state: as little as says all that is shown, without names of fields."""

    session: str
    agent: str
    agent_version: int
    model: ModelRef
    goal: str
    workspace: str | None
    sandbox: str
    started_us: int
    origin: str | None
    by: str
    steps: int
    tool_calls: int
    tokens: int
    cost_microusd: int
    open: tuple[_KeptCall, ...]
    question: Question | None
    pause: str | None
    end: End | None
    candidates: tuple[ModelRef, ...] = ()
    own_call: str = ""


class _Kept(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A row as it is kept."""

    seq: int
    hash: bytes
    problem: str
    elsewhere: dict[Shown, int]
    state: _KeptState | None


class _Rows(Format[SessionRow]):
    """Rows of sessions, as bytes: two rows that show the same are the same bytes."""

    def __init__(self) -> None:
        self._kept = Format(_Kept)

    def pack(self, row: SessionRow) -> bytes:
        state = None if row.state is None else _packed(row.state)
        return self._kept.pack(_Kept(row.seq, row.hash, row.problem, row.elsewhere, state))

    def unpack(self, body: bytes) -> SessionRow:
        kept = self._kept.unpack(body)
        state = None if kept.state is None else _unpacked(kept.state)
        return SessionRow(kept.seq, kept.hash, state, kept.elsewhere, kept.problem)


def _packed(state: State) -> _KeptState:
    return _KeptState(
        session=state.session,
        agent=state.agent.name,
        agent_version=state.agent.version,
        model=state.model,
        goal=state.goal,
        workspace=state.workspace,
        sandbox=state.sandbox,
        started_us=state.started_us,
        origin=state.origin,
        by=state.by.id,
        steps=state.steps,
        tool_calls=state.tool_calls,
        tokens=state.usage.total_tokens,
        cost_microusd=state.cost_microusd,
        open=tuple([_kept_call(call) for call in state.open]),
        question=state.question,
        pause=state.pause,
        end=state.end,
        candidates=tuple([card.model for card in state.candidates]),
        own_call="" if state.mind is None else state.mind.asked,
    )


def _unpacked(kept: _KeptState) -> State:
    return State(
        session=kept.session,
        agent=AgentSpec(kept.agent, kept.agent_version),
        guard=NOBODYS,
        model=kept.model,
        goal=kept.goal,
        by=Principal(kept.by),
        workspace=kept.workspace,
        sandbox=kept.sandbox,
        started_us=kept.started_us,
        origin=kept.origin,
        transcript=Transcript(),
        transcript_bytes=0,
        steps=kept.steps,
        tool_calls=kept.tool_calls,
        usage=Usage(input_tokens=kept.tokens),
        cost_microusd=kept.cost_microusd,
        open=tuple([_open(call) for call in kept.open]),
        question=kept.question,
        pause=kept.pause,
        end=kept.end,
        candidates=tuple([_candidate(model) for model in kept.candidates]),
        mind=_with_own(kept.own_call),
    )


SESSIONS: View[SessionRow, NoSum] = View("sessions", 3, _Rows(), evolve, NO_SUMS, no_sum)
