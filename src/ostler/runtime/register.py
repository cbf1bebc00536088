"""Small streams of a tenant that decisions of people stand in: read whole, written to by whoever decides."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from ostler.kernel.codec import Codec
from ostler.kernel.errors import StaleWrite, StoreCorrupt
from ostler.kernel.event import GENESIS, Record, StreamId, first_broken, link
from ostler.ports import Append, EventStore, Standing

E = TypeVar("E", bound=Any)
S = TypeVar("S")

PAGE = 1000
TRIES_MAX = 50


class Register(Generic[E, S]):
    """One such stream, folded. It is not in anybody's queue, and its status is its name."""

    def __init__(
        self,
        store: EventStore,
        stream: StreamId,
        codec: Codec[E],
        evolve: Callable[[S, Iterable[E]], S],
        empty: S,
    ) -> None:
        self.stream = stream
        self.state = empty
        self.version = 0
        self._store = store
        self._codec = codec
        self._evolve = evolve
        self._hash = GENESIS

    async def refresh(self) -> S:
        """Fold what was written since; returns how things stand now. Raises `StoreCorrupt`, `UnknownEvent`."""
        while records := await self._store.read(self.stream, after=(after := self.version), limit=PAGE):
            if self.version != after:  # somebody else has read them meanwhile
                continue
            broken = first_broken(records, after=after, previous=self._hash)
            if broken is not None:
                raise StoreCorrupt(
                    f"Event {broken} of {self.stream.name} of {self.stream.tenant} was altered or is missing.",
                    hint="Restore the store from a backup.",
                )
            self.state = self._evolve(self.state, [self._codec.decode(record.data) for record in records])
            self.version, self._hash = records[-1].seq, records[-1].hash
        return self.state

    async def write(self, decide: Callable[[S], Sequence[E]], *, at_us: int) -> list[E]:
        """Append what `decide` makes of how things stand now; loses to nobody. Raises what `decide` raises."""
        for _ in range(TRIES_MAX):
            events = list(decide(await self.refresh()))
            if not events:
                return []
            records, previous = [], self._hash
            for seq, event in enumerate(events, self.version + 1):
                data = self._codec.encode(event)
                previous = link(previous, self.stream, seq, at_us, data)
                records.append(Record(self.stream, seq, at_us, data, previous))
            standing = Standing(self.stream.name, self.stream.name, None)
            try:
                await self._store.append(Append(self.stream, self.version, records, standing))
            except StaleWrite:
                continue
            await self.refresh()
            return events
        raise StaleWrite(f"{self.stream.name} is being written to by too many at once.")
