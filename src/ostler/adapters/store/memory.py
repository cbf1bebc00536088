"""Streams and blobs in memory: the whole contract but durability, for tests and for what need not be kept."""

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from ostler.adapters.store.census import Stood, of_all
from ostler.adapters.store.rules import check, check_erasable, first_standing, is_newest, not_at_rest, stale
from ostler.adapters.store.waiters import Waiters
from ostler.domain.housekeeping import ERASED as ERASED_STATUS
from ostler.domain.scheduling import NO_CAPS, Candidate, Caps, back_off_us, choose
from ostler.kernel.errors import NotFound, StoreError
from ostler.kernel.event import ERASED, Record, StreamId
from ostler.ports import Append, Census, Claim, Standing, StreamInfo


class _Stream:
    """What is known of one stream."""

    __slots__ = ("attempts", "claimed_us", "epoch", "name", "number", "records", "standing", "worker")

    def __init__(self, name: StreamId, number: int, standing: Standing) -> None:
        self.name = name
        self.number = number
        self.standing = standing
        self.records: list[Record] = []
        self.worker: str | None = None
        self.epoch = 0
        self.attempts = 0
        self.claimed_us = 0


class MemoryStore:
    """An `EventStore` that lives and dies with the process.

    Whoever shares the object shares the store; it cannot tell them apart, so that a foreign wait wakes for all. Closing
    it keeps what it holds, and it may still be read.
    """

    def __init__(self) -> None:
        self._streams: dict[StreamId, _Stream] = {}
        self._due: dict[StreamId, _Stream] = {}
        self._log: list[Record] = []
        self._numbers = 0
        self._head = 0
        self._workers: dict[str, int] = {}
        self._hands: dict[str, dict[StreamId, _Stream]] = {}
        self._waiters = Waiters()
        self._is_closed = False

    async def append(self, append: Append) -> int:
        self._check_fits(append)
        stream = self._streams.get(append.stream)
        if stream is None:
            stream = _Stream(append.stream, self._numbers + 1, first_standing(append))
            self._numbers += 1
            self._streams[append.stream] = stream
        for record in append.records:
            self._head += 1
            stored = msgspec.structs.replace(record, position=self._head)
            stream.records.append(stored)
            self._log.append(stored)
        if append.standing is not None:
            self._stand(stream, append.standing)
        self._waiters.wake(self._head, streams=(append.stream,))
        return self._head

    def _check_fits(self, append: Append) -> None:
        check(append)
        self._check_open()
        stream = self._streams.get(append.stream)
        version, epoch = (len(stream.records), stream.epoch) if stream else (0, 0)
        if append.expected != version or append.epoch not in (None, epoch):
            raise stale(append, version=version, epoch=epoch)

    def _stand(self, stream: _Stream, standing: Standing) -> None:
        stream.standing = standing
        if standing.due_us is None:
            self._due.pop(stream.name, None)
        else:
            self._due[stream.name] = stream

    async def read(self, stream: StreamId, *, after: int = 0, limit: int | None = None) -> list[Record]:
        found = self._streams.get(stream)
        return found.records[after:][:limit] if found else []

    async def tail(self, *, after: int = 0, limit: int = 1000) -> list[Record]:
        begin = bisect_right(self._log, after, key=_position)
        return self._log[begin : begin + limit]

    async def head(self) -> int:
        return self._head

    async def streams(
        self,
        tenant: str,
        *,
        prefix: str = "",
        statuses: Sequence[str] = (),
        queue: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[StreamInfo]:
        found: list[StreamInfo] = []
        for stream in reversed(self._streams.values()):
            if len(found) == limit:
                break
            if (
                stream.name.tenant == tenant
                and stream.name.name.startswith(prefix)
                and (not statuses or stream.standing.status in statuses)
                and queue in (None, stream.standing.queue)
                and (before is None or stream.number < before)
            ):
                version = len(stream.records)
                found.append(StreamInfo(stream.name, stream.number, version, stream.standing, stream.worker))
        return found

    async def wait(self, *, after: int, timeout_s: float, foreign: bool = False, stream: StreamId | None = None) -> int:
        self._check_open()
        if self._head > after:
            return self._head
        return await self._waiters.wait(after=after, timeout_s=timeout_s, foreign=False, stream=stream)

    async def knocks(self, *, after: int) -> tuple[int, dict[StreamId, int]]:
        begin = bisect_right(self._log, after, key=_position)
        return self._head, {record.stream: record.seq for record in self._log[begin:]}

    async def beat(self, worker: str, *, until_us: int) -> None:
        self._workers[worker] = until_us

    async def claim(
        self,
        worker: str,
        *,
        now_us: int,
        limit: int,
        queues: Sequence[str] | None = None,
        only: StreamId | None = None,
        caps: Caps = NO_CAPS,
        suspects: int = 1,
    ) -> list[Claim]:
        self._free_the_dead(now_us)
        due = [self._due[only]] if only in self._due else [] if only is not None else self._due.values()
        candidates = {
            stream.number: (stream, _candidate(stream))
            for stream in due
            if stream.worker is None
            and _due(stream) <= now_us
            and stream.claimed_us + back_off_us(stream.attempts) <= now_us
            and (queues is None or stream.standing.queue in queues)
        }
        chosen = choose(
            [candidate for _, candidate in candidates.values()],
            self._held if len(candidates) > 1 or caps else {},
            limit=limit,
            caps=caps,
            suspects=suspects,
        )
        taken = [candidates[candidate.number][0] for candidate in chosen]
        for stream in taken:
            self._hold(stream, worker)
            stream.epoch += 1
            stream.attempts += 1
            stream.claimed_us = now_us
        return [Claim(stream.name, stream.epoch, stream.attempts) for stream in taken]

    async def vouch(self, worker: str, streams: Sequence[StreamId]) -> None:
        for stream in self._in_hand(worker, streams):
            stream.attempts = 0

    async def release(self, worker: str, streams: Sequence[StreamId]) -> None:
        for stream in self._in_hand(worker, streams):
            self._hold(stream, None)
            stream.attempts = 0

    def _in_hand(self, worker: str, streams: Sequence[StreamId]) -> list[_Stream]:
        """Those of these streams that the worker holds."""
        return [self._hands[worker][name] for name in dict.fromkeys(streams) if name in self._hands.get(worker, ())]

    def _hold(self, stream: _Stream, worker: str | None) -> None:
        if stream.worker is not None:
            del self._hands[stream.worker][stream.name]
        stream.worker = worker
        if worker is not None:
            self._hands.setdefault(worker, {})[stream.name] = stream

    def _free_the_dead(self, now_us: int) -> None:
        for worker in [name for name in self._hands if self._workers.get(name, now_us) <= now_us]:
            self._free(worker)

    def _free(self, worker: str) -> None:
        for stream in self._hands.pop(worker, {}).values():
            stream.worker = None

    @property
    def _held(self) -> Counter[tuple[str, str]]:
        """How many streams are in the hands of workers, by tenant and queue."""
        held = (stream for hand in self._hands.values() for stream in hand.values())
        return Counter((stream.name.tenant, stream.standing.queue) for stream in held)

    async def workers(self) -> list[tuple[str, int]]:
        return sorted(self._workers.items())

    async def census(self, *, now_us: int, without: Sequence[str] = (), most: int = 10_000) -> Census:
        streams = [
            Stood(stream.name, stream.standing, stream.worker, stream.attempts, stream.claimed_us)
            for stream in self._streams.values()
        ]
        return of_all(streams, now_us=now_us, without=without, most=most)

    async def retire(self, worker: str) -> None:
        self._workers.pop(worker, None)
        self._free(worker)

    async def remove(self, streams: Mapping[StreamId, int], note: Append) -> None:
        for name, version in streams.items():
            if self._at_rest(name, version).number == self._numbers:
                raise is_newest(name)
        await self.append(note)
        self._log = [record for record in self._log if record.stream not in streams]
        for name in streams:
            del self._streams[name]

    async def erase(self, stream: StreamId, version: int, *notes: Append, only: Sequence[int] | None = None) -> None:
        check_erasable(stream, version, only)
        found = self._at_rest(stream, version)
        chosen = set(range(1, version + 1) if only is None else only)
        for note in notes:
            self._check_fits(note)
        for note in notes:
            await self.append(note)
        found.records = [
            msgspec.structs.replace(record, data=ERASED) if record.seq in chosen else record for record in found.records
        ]
        erased = {record.position: record for record in found.records}
        self._log = [erased.get(record.position, record) for record in self._log]
        if only is None:
            self._stand(found, msgspec.structs.replace(found.standing, status=ERASED_STATUS, due_us=None))

    def _at_rest(self, name: StreamId, version: int) -> _Stream:
        stream = self._streams.get(name)
        if stream is None or len(stream.records) != version or stream.worker or stream.standing.due_us is not None:
            raise not_at_rest(name)
        return stream

    async def close(self) -> None:
        self._is_closed = True
        self._waiters.fail(StoreError("The store is closed."))

    def _check_open(self) -> None:
        if self._is_closed:
            raise StoreError("The store is closed.")


class MemoryBlobStore:
    """A `BlobStore` that lives and dies with the process."""

    def __init__(self) -> None:
        self._bodies: dict[tuple[str, str], bytes] = {}
        self._users: dict[tuple[str, str], set[str]] = {}

    async def put(self, stream: StreamId, body: bytes) -> str:
        digest = hashlib.sha256(body).hexdigest()
        self._bodies.setdefault((stream.tenant, digest), bytes(body))
        self._users.setdefault((stream.tenant, digest), set()).add(stream.name)
        return digest

    async def share(self, stream: StreamId, digests: Sequence[str]) -> None:
        for digest in digests:
            if (stream.tenant, digest) in self._bodies:
                self._users.setdefault((stream.tenant, digest), set()).add(stream.name)

    async def drop(self, streams: Sequence[StreamId]) -> None:
        for tenant, name in streams:
            for place, users in list(self._users.items()):
                if place[0] == tenant and name in users:
                    users.discard(name)
                    if not users:
                        del self._bodies[place], self._users[place]

    async def get(self, tenant: str, digest: str) -> bytes:
        try:
            return self._bodies[tenant, digest]
        except KeyError as error:
            raise NotFound(f"There is no blob {digest!r} here.", digest=digest) from error


def _position(record: Record) -> int:
    return record.position


def _candidate(stream: _Stream) -> Candidate:
    standing = stream.standing
    return Candidate(
        stream.name.tenant, standing.queue, standing.priority, _due(stream), stream.number, stream.attempts
    )


def _due(stream: _Stream) -> int:
    due_us = stream.standing.due_us
    assert due_us is not None, "only streams that are due at some time are asked"
    return due_us
