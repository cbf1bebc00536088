"""The part of the contract of `EventStore` that is about taking streams and their content away."""

import pytest

from ostler.kernel.errors import Conflict, StaleWrite, UsageError
from ostler.kernel.event import ERASED, StreamId, first_broken
from ostler.ports import Append, EventStore
from ostler.testing.contracts.streams import ORDER, OTHER, add_due, addition, records, standing


class RemovalContract:
    """See `EventStoreContract`, which this is a part of."""

    async def test_a_removed_stream_is_gone_and_no_position_is_used_twice(self, store: EventStore) -> None:
        old, gone, last = (StreamId("acme", name) for name in ("old", "gone", "last"))
        for stream in (old, last, gone):
            await store.append(addition(stream, 0, 2, stands=standing("completed")))
        await store.append(addition(OTHER, 0))
        await store.append(addition(gone, 2, 3))
        head = await store.head()
        await store.remove({old: 2, gone: 5}, addition(ORDER, 0))
        assert [await store.read(stream) for stream in (old, gone)] == [[], []]
        assert [info.stream for info in await store.streams("acme")] == [ORDER, OTHER, last]
        assert await store.head() == head + 1
        assert [r.stream for r in await store.tail()] == [last, last, OTHER, ORDER]
        assert await store.append(addition(OTHER, 1)) == head + 2
        with pytest.raises(StaleWrite):
            await store.append(addition(gone, 5))
        assert await store.append(addition(gone, 0)) == head + 3
        numbers = [info.number for info in await store.streams("acme")]
        assert len(set(numbers)) == len(numbers)

    async def test_only_what_is_at_rest_is_taken_away(self, store: EventStore) -> None:
        due, held, moved, quiet = await add_due(store, 1, 2, None, None)
        await store.append(addition(OTHER, 0))
        await store.beat("anna", until_us=100)
        await store.claim("anna", now_us=10, limit=1, only=held)
        await store.append(addition(held, 1, stands=standing(due_us=None)))
        await store.append(addition(moved, 1))
        before = (await store.tail(), await store.streams("acme"))
        for stream, version in ((due, 1), (held, 2), (moved, 1), (StreamId("acme", "nobody"), 1)):
            with pytest.raises(StaleWrite):
                await store.remove({quiet: 1, stream: version}, addition(ORDER, 0))
            with pytest.raises(StaleWrite):
                await store.erase(stream, version, addition(ORDER, 0))
        with pytest.raises(StaleWrite):
            await store.remove({quiet: 1}, addition(ORDER, 7))
        with pytest.raises(Conflict):
            await store.remove({OTHER: 1}, addition(ORDER, 0))
        assert (await store.tail(), await store.streams("acme")) == before

    async def test_an_erased_stream_keeps_its_places_and_its_chain(self, store: EventStore) -> None:
        await store.append(addition(OTHER, 0, 3, stands=standing("completed")))
        before = await store.read(OTHER)
        await store.erase(OTHER, 3, addition(ORDER, 0))
        after = await store.read(OTHER)
        assert [(r.seq, r.at_us, r.hash, r.position) for r in after] == [
            (r.seq, r.at_us, r.hash, r.position) for r in before
        ]
        assert {r.data for r in after} == {ERASED}
        assert (await store.tail())[:3] == after
        assert first_broken(after) is None
        assert [info.standing.status for info in await store.streams("acme")] == ["queued", "erased"]

    async def test_single_events_are_erased_and_the_stream_stands_where_it_stood(self, store: EventStore) -> None:
        await store.append(addition(OTHER, 0, 4, stands=standing("completed", queue="yard")))
        before, head = await store.read(OTHER), await store.head()
        await store.erase(OTHER, 4, addition(ORDER, 0), only=[2, 4])
        after = await store.read(OTHER)
        assert [r.data == ERASED for r in after] == [False, True, False, True]
        assert [r.data for r in after[::2]] == [r.data for r in before[::2]]
        assert [(r.seq, r.at_us, r.hash, r.position) for r in after] == [
            (r.seq, r.at_us, r.hash, r.position) for r in before
        ]
        assert (await store.tail())[:4] == after
        assert first_broken(after) is None
        assert await store.head() == head + 1
        (info,) = await store.streams("acme", prefix=OTHER.name)
        assert (info.standing, info.version) == (standing("completed", queue="yard"), 4)
        await store.erase(OTHER, 4, addition(ORDER, 1), only=[2])
        assert await store.read(OTHER) == after

    async def test_the_note_of_erased_events_may_stand_in_their_own_stream(self, store: EventStore) -> None:
        written = records(OTHER, 0, 5)
        await store.append(Append(OTHER, 0, written[:3], standing("completed")))
        await store.erase(OTHER, 3, addition(ORDER, 0), Append(OTHER, 3, written[3:4]), only=[1, 3])
        await store.append(Append(OTHER, 4, written[4:]))
        assert [r.stream for r in (await store.tail())[3:]] == [ORDER, OTHER, OTHER]
        after = await store.read(OTHER)
        assert [r.data == ERASED for r in after] == [True, False, True, False, False]
        assert [r.data for r in after[3:]] == [r.data for r in written[3:]]
        assert first_broken(after) is None

    async def test_events_are_erased_with_their_note_or_not_at_all(self, store: EventStore) -> None:
        (held,) = await add_due(store, 1)
        await store.append(addition(OTHER, 0, 3))
        before = (await store.tail(), await store.streams("acme"))
        own, noted = addition(OTHER, 3), addition(ORDER, 0)
        stale = [
            (2, [noted]),
            (3, [addition(ORDER, 7)]),
            (3, [noted, addition(OTHER, 2)]),
            (3, [own, addition(ORDER, 7)]),
        ]
        for version, notes in stale:
            with pytest.raises(StaleWrite):
                await store.erase(OTHER, version, *notes, only=[1])
        with pytest.raises(StaleWrite):
            await store.erase(held, 1, addition(ORDER, 0), only=[1])
        for stranger in (0, 4):
            with pytest.raises(UsageError):
                await store.erase(OTHER, 3, addition(ORDER, 0), only=[1, stranger])
        assert (await store.tail(), await store.streams("acme")) == before
