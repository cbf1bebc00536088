"""Streams for the contracts of a store: names, records and appends that tests share."""

from collections.abc import Awaitable, Callable, Sequence

from ostler.kernel.event import GENESIS, Record, StreamId, link
from ostler.ports import Append, Claim, EventStore, Standing

Opener = Callable[[], Awaitable[EventStore]]

ORDER = StreamId("acme", "order-1")
OTHER = StreamId("acme", "order-2")
LONG_S = 60.0
"""Far longer than anything here takes: whoever waits so long waits in vain."""


def records(stream: StreamId, after: int, count: int = 1, previous: bytes = GENESIS) -> list[Record]:
    """`count` records that follow on `after`, chained to each other and to the hash `previous`."""
    made = []
    for seq in range(after + 1, after + 1 + count):
        at_us, data = 1_700_000_000_000_000 + seq, b'{"type":"hay.eaten","bale":%d}' % seq
        previous = link(previous, stream, seq, at_us, data)
        made.append(Record(stream, seq, at_us, data, previous))
    return made


def standing(status: str = "queued", *, queue: str = "stable", due_us: int | None = None) -> Standing:
    """A standing for tests."""
    return Standing(queue, status, due_us)


def addition(
    stream: StreamId, expected: int, count: int = 1, *, stands: Standing | None = None, epoch: int | None = None
) -> Append:
    """An append of `count` records; the first one of a stream stands somewhere even if it is not said where."""
    if stands is None and expected == 0:
        stands = standing()
    return Append(stream, expected, records(stream, expected, count), stands, epoch)


def stream_due(number: int) -> StreamId:
    """The name of the stream of this number among those that are due."""
    return StreamId("acme", f"due-{number}")


async def add_due(store: EventStore, *moments: int | None, queue: str = "stable") -> list[StreamId]:
    """One new stream for each moment, due then."""
    streams = [stream_due(number) for number in range(len(moments))]
    for stream, due_us in zip(streams, moments, strict=True):
        await store.append(addition(stream, 0, stands=standing(queue=queue, due_us=due_us)))
    return streams


def taken(claims: Sequence[Claim]) -> list[StreamId]:
    """The streams of some claims."""
    return [claim.stream for claim in claims]
