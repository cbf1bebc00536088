"""The part of the contract of `EventStore` that is about taking streams and their content away."""

import pytest

from ostler.kernel.errors import Conflict, StaleWrite
from ostler.kernel.event import ERASED, StreamId, first_broken
from ostler.ports import EventStore
from ostler.testing.contracts.streams import ORDER, OTHER, add_due, addition, standing


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
