"""Sessions as the log has them: loading, and executing commands against them."""

from collections.abc import Callable, Sequence

import msgspec

from ostler.domain.identity import Principal
from ostler.domain.model import ModelRef
from ostler.domain.registers import TRIALS
from ostler.domain.session.commands import SessionCommand, Start
from ostler.domain.session.decide import decide
from ostler.domain.session.events import SESSION_CODEC, AgentPaused, SessionEvent
from ostler.domain.session.evolve import evolve
from ostler.domain.session.fork import Fact, fork
from ostler.domain.session.state import State, due_us, is_under_way
from ostler.kernel.errors import Erased, LeaseLost, NotFound, StaleWrite, StoreCorrupt
from ostler.kernel.event import ERASED, GENESIS, Record, StreamId, first_broken, link
from ostler.ports import Append, Claim, EventStore, Standing

PAGE = 1000
QUARANTINED = "quarantined"
"""The status of a session whose log is damaged."""
NOWHERE = 2**31 - 1
"""A version that no stream is at: an append that expects it is refused, and the refusal names the epoch."""
CONFLICTS_MAX = 100
"""A command that loses to others this often in a row gives up; each loss means that somebody else went on."""


class Folded:
    """One session folded up to `seq`, the place where the next event goes. Only its journal moves it on."""

    __slots__ = ("hash", "seq", "standing", "state", "stream")

    def __init__(self, stream: StreamId) -> None:
        self.stream = stream
        self.state: State | None = None
        self.seq = 0
        self.hash = GENESIS
        self.standing: Standing | None = None


class Journal:
    """Reads and writes sessions in a store."""

    def __init__(self, store: EventStore) -> None:
        self.store = store

    async def load(self, stream: StreamId) -> Folded:
        """The session as of its last event.

        Raises `NotFound`, `Erased`, `StoreCorrupt` (broken chain), `UnknownEvent`.
        """
        session = Folded(stream)
        await self.refresh(session)
        if session.state is None:
            raise NotFound(f"There is no session {stream.name}.", hint="`ostler ps --all` lists them.")
        return session

    async def refresh(self, session: Folded) -> bool:
        """Fold what others have appended since. True if there was anything."""
        start, last_us = session.seq, 0
        while True:
            records = await self.store.read(session.stream, after=session.seq, limit=PAGE)
            broken = first_broken(records, after=session.seq, previous=session.hash)
            if broken is not None:
                raise StoreCorrupt(
                    f"Event {broken} of {session.stream.name} was altered or is missing: its hash does not fit.",
                    hint=f"`ostler verify {session.stream.name}` shows the damage; restore the store from a backup.",
                )
            check_content(records)
            for record in records:
                event = SESSION_CODEC.decode(record.data)
                try:
                    session.state = evolve(session.state, event, record.at_us)
                except Exception as error:
                    raise StoreCorrupt(
                        f"Event {record.seq} of {session.stream.name} makes no sense after those before it.",
                        hint="It was not written by Ostler; restore the store from a backup.",
                    ) from error
                session.seq, session.hash, last_us = record.seq, record.hash, record.at_us
            if len(records) < PAGE:
                break
        if session.seq == start or session.state is None:
            return False
        session.standing = standing_of(session.state, at_us=last_us, before=session.standing)
        return True

    async def execute(
        self, session: Folded, command: SessionCommand, *, epoch: int | None = None, may_begin: bool = True
    ) -> list[SessionEvent]:
        """Decide, append, and move `session` on; returns the events, durable by now.

        Loses to nobody: if others have appended meanwhile, their events are folded and the command is decided again.
        Raises what `decide` and the store raise, and `LeaseLost` if the epoch is no longer the current one.
        """
        for _ in range(CONFLICTS_MAX):
            decision = decide(command, session.state, may_begin=may_begin)
            if not decision.events:
                return []
            standing = standing_of(decision.state, at_us=command.at_us, before=session.standing)
            records = chain(session.stream, session.seq, session.hash, command.at_us, decision.events)
            changed = standing if standing != session.standing else None
            try:
                await self.store.append(Append(session.stream, session.seq, records, changed, epoch))
            except StaleWrite as stale:
                if not await self.refresh(session):
                    if epoch is None:
                        raise
                    raise LeaseLost(f"Another worker has taken {session.stream.name}.") from stale
                continue
            session.state, session.standing = decision.state, standing
            session.seq, session.hash = records[-1].seq, records[-1].hash
            return decision.events
        raise StaleWrite(f"{session.stream.name} is being written to by too many at once.")

    async def start(self, tenant: str, command: Start) -> Folded:
        session = Folded(StreamId(tenant, command.session))
        await self.execute(session, command)
        return session

    async def facts(self, stream: StreamId) -> list[Fact]:
        """Every event of a session with its time. Raises `NotFound`."""
        records = await self.records(stream)
        return [(record.at_us, SESSION_CODEC.decode(record.data)) for record in records]

    async def records(self, stream: StreamId) -> list[Record]:
        """Every record of a session, as stored and not verified. Raises `NotFound`, `Erased`."""
        records: list[Record] = []
        while page := await self.store.read(stream, after=len(records), limit=PAGE):
            check_content(page)
            records += page
        if not records:
            raise NotFound(f"There is no session {stream.name}.", hint="`ostler ps --all` lists them.")
        return records

    async def fork(
        self,
        stream: StreamId,
        name: str,
        *,
        by: Principal,
        at_us: int,
        seq: int | None,
        trial: ModelRef | None = None,
        then: Callable[[State], Sequence[SessionEvent]] = lambda state: (),
    ) -> Folded:
        """A new session `name` that shares the past of `stream` up to `seq`; `then` says how it goes on at once."""
        await self.load(stream)  # what is damaged is not passed on, with good hashes of its own
        forked = Folded(StreamId(stream.tenant, name))
        records = []
        facts = fork(await self.facts(stream), session=name, by=by.id, at_us=at_us, seq=seq, trial=trial)
        state: State | None = None
        for at, event in facts:
            state = evolve(state, event, at)
        assert state is not None
        for event in then(state):
            facts.append((at_us, event))
            state = evolve(state, event, at_us)
        forked.state = state
        for at, event in facts:
            records += chain(forked.stream, forked.seq, forked.hash, at, [event])
            forked.seq, forked.hash = records[-1].seq, records[-1].hash
        forked.standing = standing_of(forked.state, at_us=at_us, before=None)
        await self.store.append(Append(forked.stream, 0, records, forked.standing))
        return forked

    async def assert_held(self, claim: Claim) -> None:
        """Raises `LeaseLost` if the claim is not the last one to its stream. Writes nothing."""
        try:
            await self.store.append(Append(claim.stream, NOWHERE, (), None, claim.epoch))
        except StaleWrite as stale:
            if stale.facts["epoch"] != claim.epoch:
                raise LeaseLost(f"Another worker has taken {claim.stream.name}.") from stale

    async def park(self, claim: Claim, reason: str, *, at_us: int) -> None:
        """Pause a session without loading it, because that may be what its workers die of."""
        for info in await self.store.streams(claim.stream.tenant, prefix=claim.stream.name, limit=1):
            (last,) = await self.store.read(claim.stream, after=info.version - 1)
            records = chain(claim.stream, last.seq, last.hash, at_us, [AgentPaused("ostler", reason, is_parked=True)])
            standing = msgspec.structs.replace(info.standing, status="paused", due_us=None)
            await self.store.append(Append(claim.stream, last.seq, records, standing, claim.epoch))

    async def quarantine(self, session: StreamId) -> None:
        """Take a damaged session out of the queue; nothing is appended to it and no worker will touch it again."""
        for info in await self.store.streams(session.tenant, prefix=session.name, limit=1):
            standing = msgspec.structs.replace(info.standing, status=QUARANTINED, due_us=None)
            await self.store.append(Append(session, info.version, (), standing))


def check_content(records: Sequence[Record]) -> None:
    """Raises `Erased` if the content of these records was taken away."""
    if records and records[0].data == ERASED:
        raise Erased(
            f"The content of {records[0].stream.name} was erased.",
            hint="`ostler verify` proves that its events stood where they stood; what they said is gone for good.",
        )


def chain(stream: StreamId, seq: int, previous: bytes, at_us: int, events: list[SessionEvent]) -> list[Record]:
    """Records for `events`, linked to what stands before them."""
    records = []
    for number, event in enumerate(events, seq + 1):
        data = SESSION_CODEC.encode(event)
        previous = link(previous, stream, number, at_us, data)
        records.append(Record(stream, number, at_us, data, previous))
    return records


def standing_of(state: State, *, at_us: int, before: Standing | None) -> Standing:
    """Where the session stands in the queue. One that stays due keeps its place, whatever happens in it."""
    if before is not None and before.status == "running" and is_under_way(state):
        return before
    due = due_us(state)
    if due == 0:
        stays = before is not None and before.due_us is not None and before.due_us <= at_us
        due = before.due_us if before is not None and stays else at_us
    return Standing(TRIALS if state.is_trial else state.agent.name, state.status, due, state.priority)
