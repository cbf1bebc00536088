"""What happened in a simulated run, as seen from outside: what the store took, what the world felt, what was said."""

from collections.abc import Callable, Sequence

import msgspec

from ostler.domain.session.events import SESSION_CODEC, SessionEvent
from ostler.domain.session.evolve import evolve
from ostler.domain.session.state import State
from ostler.kernel.event import Record, StreamId


class Commit(msgspec.Struct, frozen=True, gc=False):
    """An append that the store took, with the fence that came with it. `seq` is that of the last record."""

    at_s: float
    stream: StreamId
    seq: int
    count: int
    epoch: int | None


class Taken(msgspec.Struct, frozen=True, gc=False):
    """A claim that the store gave."""

    at_s: float
    stream: StreamId
    epoch: int
    worker: str


class Effect(msgspec.Struct):
    """One performance of a tool, as the world outside saw it.

    `head` is how many events the log had when it began. `done_s` is when it changed something, None if it never did.
    """

    began_s: float
    head: int
    process: str
    tool: str
    effect: str
    key: str
    attempt: int
    digest: str
    done_s: float | None = None


class Asked(msgspec.Struct):
    """One request to a model, as the provider saw it. `tokens` is what it charged, None until it replied."""

    began_s: float
    head: int
    process: str
    key: str
    tokens: int | None = None


class Wish(msgspec.Struct):
    """What a person asked for. `error` None and `seq` set: it was acknowledged, its `events` end there."""

    at_s: float
    stream: StreamId
    kind: str
    call: str | None = None
    digest: str | None = None
    seq: int | None = None
    events: Sequence[SessionEvent] = ()
    error: str | None = None


class Tale(msgspec.Struct):
    """One session as its log tells it."""

    stream: StreamId
    records: list[Record]
    events: list[SessionEvent]
    state: State | None
    status: str = ""
    due_us: int | None = None
    worker: str | None = None


class History:
    """Everything that the checker judges."""

    def __init__(self) -> None:
        self.deeds: list[Commit | Taken] = []
        self.kept: list[tuple[StreamId, int, bytes]] = []
        """Records whose append was acknowledged to whoever made it: stream, seq and hash."""
        self.effects: list[Effect] = []
        self.asked: list[Asked] = []
        self.wishes: list[Wish] = []
        self.notes: list[tuple[float, str, str]] = []
        """What went wrong on purpose, and what workers were troubled by: when, where, what."""
        self.troubled: list[tuple[str, float, float]] = []
        """When which process could not hear of anything, being frozen or cut off."""
        self.rotten: dict[StreamId, int] = {}
        """Sessions of which one record reads other than it was written: its seq."""
        self.handed_out: set[StreamId] = set()
        """Those of them whose damaged record was read by somebody."""
        self.reported: set[StreamId] = set()
        """Damaged sessions of which somebody was told."""
        self.complaints: list[str] = []
        self.strayed: list[str] = []
        """Where a session in a process's memory was not what the log says."""
        self.overdue: list[str] = []
        """Sessions that had not come to rest when they should have."""
        self.healed_s = 0.0
        self.ahead_s = 0.0
        """How far the fastest clock of a worker was ever ahead: leases are by those clocks, and last longer by that."""
        self.tales: list[Tale] = []

    def note(self, at_s: float, where: str, what: str) -> None:
        self.notes.append((at_s, where, what))


def tale(stream: StreamId, records: list[Record]) -> Tale:
    """A session folded anew from its records. The state is None if they make no sense."""
    events = [SESSION_CODEC.decode(record.data) for record in records]
    state: State | None = None
    try:
        for record, event in zip(records, events, strict=True):
            state = evolve(state, event, record.at_us)
    except Exception:
        state = None
    return Tale(stream, records, events, state)


Judge = Callable[[History], list[str]]
"""One invariant: what it found wrong, each with the session and the event."""
