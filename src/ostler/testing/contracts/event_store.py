"""The contract of `EventStore`: every sentence of the port as a test."""

import asyncio
import tempfile
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostler.adapters.store.memory import MemoryStore
from ostler.domain.scheduling import Caps
from ostler.kernel.errors import OstlerError, StaleWrite, StoreError, UsageError
from ostler.kernel.event import Record, StreamId, first_broken
from ostler.ports import Append, EventStore, Standing
from ostler.testing.contracts.claims import ClaimsContract
from ostler.testing.contracts.removal import RemovalContract
from ostler.testing.contracts.streams import LONG_S, ORDER, OTHER, Opener, add_due, addition, records, standing


class EventStoreContract(ClaimsContract, RemovalContract, ABC):
    """Inherit, implement `storage`, and pytest asks your back end for every guarantee of the port."""

    pytestmark = pytest.mark.asyncio
    is_durable: ClassVar[bool] = True
    """Whether what was written is there after `close` and opening again."""

    @abstractmethod
    def storage(self, directory: Path) -> Opener:
        """A new empty storage, as a function that opens one more handle onto it. `directory` is empty and yours."""

    @pytest_asyncio.fixture
    async def open_store(self, tmp_path: Path) -> AsyncIterator[Opener]:
        opener, opened = self.storage(tmp_path), list[EventStore]()

        async def open_one() -> EventStore:
            store = await opener()
            opened.append(store)
            return store

        yield open_one
        for store in opened:
            await store.close()

    @pytest_asyncio.fixture
    async def store(self, open_store: Opener) -> EventStore:
        return await open_store()

    # Appending

    async def test_what_was_appended_is_read_back_as_it_was_given(self, store: EventStore) -> None:
        given_records = records(ORDER, 0, 3)
        last = await store.append(Append(ORDER, 0, given_records, standing()))
        found = await store.read(ORDER)
        assert [(r.stream, r.seq, r.at_us, r.data, r.hash) for r in found] == [
            (r.stream, r.seq, r.at_us, r.data, r.hash) for r in given_records
        ]
        assert found[-1].position == last
        assert first_broken(found) is None

    async def test_data_is_kept_to_the_byte(self, store: EventStore) -> None:
        data = bytes(range(256)) * 64
        await store.append(Append(ORDER, 0, [Record(ORDER, 1, 7, data, b"\0" * 32)], standing()))
        (found,) = await store.read(ORDER)
        assert (found.data, found.hash) == (data, b"\0" * 32)

    async def test_positions_grow_in_the_order_of_appends_across_streams(self, store: EventStore) -> None:
        positions = [
            await store.append(addition(ORDER, 0, 2)),
            await store.append(addition(OTHER, 0)),
            await store.append(addition(ORDER, 2, 3)),
            await store.append(addition(StreamId("rival", "order-1"), 0)),
        ]
        assert positions == sorted(set(positions))
        tail = await store.tail()
        assert [r.stream for r in tail] == [ORDER] * 2 + [OTHER] + [ORDER] * 3 + [StreamId("rival", "order-1")]
        assert [r.position for r in tail] == sorted({r.position for r in tail})
        assert [tail[1].position, tail[2].position, tail[5].position, tail[6].position] == positions

    @pytest.mark.parametrize("expected", [0, 1, 3, 100])
    async def test_a_stale_append_is_refused_and_leaves_nothing(self, store: EventStore, expected: int) -> None:
        await store.append(addition(ORDER, 0, 2))
        before = await store.tail()
        with pytest.raises(StaleWrite):
            await store.append(addition(ORDER, expected, 3, stands=standing("changed")))
        assert await store.tail() == before
        (info,) = await store.streams("acme")
        assert (info.version, info.standing.status) == (2, "queued")

    async def test_a_stream_that_is_not_there_has_version_zero(self, store: EventStore) -> None:
        with pytest.raises(StaleWrite):
            await store.append(addition(ORDER, 1))
        assert (await store.tail(), await store.streams("acme")) == ([], [])

    async def test_of_two_writers_at_the_same_version_one_wins(self, open_store: Opener) -> None:
        one, two = await open_store(), await open_store()
        for version in range(10):
            results = await asyncio.gather(
                one.append(addition(ORDER, version)), two.append(addition(ORDER, version)), return_exceptions=True
            )
            assert [type(result) for result in results if isinstance(result, BaseException)] == [StaleWrite]
        assert [r.seq for r in await one.read(ORDER)] == list(range(1, 11))

    async def test_a_stale_append_among_others_fails_alone(self, store: EventStore) -> None:
        await store.append(addition(ORDER, 0))
        streams = [StreamId("acme", f"crowd-{number}") for number in range(20)]
        results = await asyncio.gather(
            *(store.append(addition(stream, 0)) for stream in streams[:10]),
            store.append(addition(ORDER, 0)),
            store.append(addition(ORDER, 1)),
            store.append(addition(OTHER, 5)),
            *(store.append(addition(stream, 0)) for stream in streams[10:]),
            return_exceptions=True,
        )
        assert [isinstance(result, StaleWrite) for result in results] == [False] * 10 + [True, False, True] + [
            False
        ] * 10
        assert [len(await store.read(stream)) for stream in [*streams, ORDER, OTHER]] == [1] * 20 + [2, 0]
        assert {r.position for r in await store.tail()} > {p for p in results if isinstance(p, int)}

    async def test_appends_begun_together_to_one_stream_may_build_on_each_other(self, store: EventStore) -> None:
        positions = await asyncio.gather(*(store.append(addition(ORDER, version)) for version in range(10)))
        assert positions == sorted(set(positions))
        assert [r.seq for r in await store.read(ORDER)] == list(range(1, 11))

    async def test_records_that_are_numbered_wrongly_are_refused(self, store: EventStore) -> None:
        for wrong in ([*records(ORDER, 0), *records(ORDER, 2)], records(ORDER, 1), records(OTHER, 0)):
            with pytest.raises(UsageError):
                await store.append(Append(ORDER, 0, wrong, standing()))
        assert await store.tail() == []

    async def test_the_first_append_of_a_stream_must_say_where_it_stands(self, store: EventStore) -> None:
        with pytest.raises(UsageError):
            await store.append(Append(ORDER, 0, records(ORDER, 0)))
        assert (await store.tail(), await store.streams("acme")) == ([], [])

    async def test_an_append_without_records_changes_only_the_standing(self, store: EventStore) -> None:
        last = await store.append(addition(ORDER, 0, 2))
        assert await store.append(Append(ORDER, 2, [], standing("waiting"))) == last
        with pytest.raises(StaleWrite):
            await store.append(Append(ORDER, 1, [], standing("stale")))
        (info,) = await store.streams("acme")
        assert (info.version, info.standing.status, await store.head()) == (2, "waiting", last)

    async def test_tenants_do_not_cross(self, store: EventStore) -> None:
        rival = StreamId("rival", ORDER.name)
        await store.append(addition(ORDER, 0, 2))
        await store.append(addition(rival, 0, 1, stands=standing("secret")))
        assert [len(await store.read(stream)) for stream in (ORDER, rival, StreamId("third", ORDER.name))] == [2, 1, 0]
        assert [info.standing.status for info in await store.streams("acme")] == ["queued"]
        assert await store.streams("third") == []

    # Reading

    async def test_reading_may_begin_and_end_in_the_middle(self, store: EventStore) -> None:
        assert (await store.read(ORDER), await store.tail(), await store.head()) == ([], [], 0)
        for version in range(5):
            await store.append(addition(ORDER, version))
            await store.append(addition(OTHER, version))
        last = await store.head()
        assert [r.seq for r in await store.read(ORDER, after=2)] == [3, 4, 5]
        assert [r.seq for r in await store.read(ORDER, after=2, limit=2)] == [3, 4]
        assert await store.read(ORDER, after=5) == []
        assert await store.read(ORDER, limit=0) == []
        tail = await store.tail()
        assert (len(tail), tail[-1].position) == (10, last)
        assert await store.tail(after=tail[3].position) == tail[4:]
        assert await store.tail(after=tail[3].position, limit=2) == tail[4:6]
        assert await store.tail(after=last) == []

    async def test_long_streams_are_read_whole(self, store: EventStore) -> None:
        await store.append(addition(ORDER, 0, 1_203))
        assert [r.seq for r in await store.read(ORDER)] == list(range(1, 1_204))
        assert len(await store.read(ORDER, after=1, limit=1_100)) == 1_100
        assert len(await store.tail(limit=5_000)) == 1_203
        assert len(await store.tail()) == 1_000

    async def test_a_tailing_reader_misses_nothing_of_concurrent_writers(self, open_store: Opener) -> None:
        handles = [await open_store(), await open_store()]
        writers, appends = 12, 15

        async def write(number: int) -> None:
            stream = StreamId(f"tenant-{number % 3}", f"writer-{number}")
            for version in range(appends):
                await handles[number % 2].append(addition(stream, version))

        async def follow(reader: EventStore) -> list[Record]:
            seen: list[Record] = []
            while len(seen) < writers * appends:
                after = seen[-1].position if seen else 0
                await reader.wait(after=after, timeout_s=LONG_S)
                seen += await reader.tail(after=after, limit=7)
            return seen

        following = [asyncio.create_task(follow(reader)) for reader in (handles[0], await open_store())]
        await asyncio.gather(*(write(number) for number in range(writers)))
        tail = await handles[0].tail()
        assert [await task for task in following] == [tail, tail]

    # Lists of streams

    async def test_streams_are_listed_newest_first_in_pages(self, store: EventStore) -> None:
        names = [f"order-{number}" for number in range(7)]
        for name in names:
            await store.append(addition(StreamId("acme", name), 0))
        await store.append(addition(StreamId("acme", names[0]), 1))
        pages, before = [], None
        while page := await store.streams("acme", before=before, limit=3):
            pages.append([info.stream.name for info in page])
            before = page[-1].number
        assert pages == [names[:3:-1], names[3:0:-1], names[:1]]

    async def test_streams_are_found_by_prefix_status_and_queue(self, store: EventStore) -> None:
        places = {
            "ses_1": standing("running", queue="coder"),
            "ses_2": standing("waiting", queue="coder"),
            "ses_3": standing("running", queue="clerk"),
            "wrk_1": standing("stopped", queue="workers"),
            "ses%1": standing("waiting", queue="coder"),
        }
        for name, place in places.items():
            await store.append(addition(StreamId("acme", name), 0, stands=place))

        async def found(**wanted: Any) -> list[str]:
            return [info.stream.name for info in await store.streams("acme", **wanted)]

        assert await found(prefix="ses_") == ["ses_3", "ses_2", "ses_1"]
        assert await found(prefix="ses%") == ["ses%1"]
        assert await found(prefix="SES") == []
        assert await found(statuses=["running"]) == ["ses_3", "ses_1"]
        assert await found(statuses=["stopped", "running", "stopped"], limit=2) == ["wrk_1", "ses_3"]
        assert await found(queue="coder") == ["ses%1", "ses_2", "ses_1"]
        assert await found(queue="coder", statuses=["waiting", "gone"], prefix="ses_") == ["ses_2"]

    async def test_rare_streams_are_found_among_many(self, store: EventStore) -> None:
        async def add(number: int) -> None:
            rare = number in (0, 1_100, 2_199)
            place = standing("failed" if rare else "queued", queue="clerk" if rare else "coder")
            tenant, name = ("rival" if rare else "acme"), f"{'rare' if rare else 'ses'}_{number:04}"
            await store.append(addition(StreamId(tenant, name), 0, stands=place))
            await store.append(addition(StreamId("mixed", name), 0, stands=place))

        for begin in range(0, 2_200, 200):
            await asyncio.gather(*(add(number) for number in range(begin, begin + 200)))
        rare = ["rare_2199", "rare_1100", "rare_0000"]
        for tenant, wanted in (
            ("rival", {}),
            ("mixed", {"prefix": "rare"}),
            ("mixed", {"statuses": ["failed", "gone"]}),
            ("mixed", {"queue": "clerk"}),
            ("mixed", {"prefix": "rare", "statuses": ["failed"], "queue": "clerk"}),
        ):
            found = await store.streams(tenant, **wanted)
            assert [info.stream.name for info in found] == rare
            rest = await store.streams(tenant, **wanted, before=found[0].number, limit=1)
            assert [info.stream.name for info in rest] == rare[1:2]
        many = [info.number for info in await store.streams("mixed", prefix="ses", statuses=["queued"], limit=5_000)]
        assert (len(many), many) == (2_197, sorted(many, reverse=True))

    async def test_a_standing_stays_until_another_is_given(self, store: EventStore) -> None:
        await store.append(addition(ORDER, 0, stands=standing("running", queue="coder", due_us=5)))
        await store.append(addition(ORDER, 1))
        (info,) = await store.streams("acme")
        assert (info.version, info.standing) == (2, standing("running", queue="coder", due_us=5))
        await store.append(addition(ORDER, 2, stands=standing("completed", queue="clerk")))
        (info,) = await store.streams("acme")
        assert (info.stream, info.version, info.standing) == (ORDER, 3, standing("completed", queue="clerk"))
        assert [len(await store.streams("acme", statuses=[status])) for status in ("running", "completed")] == [0, 1]

    # Waiting

    async def test_waiting_ends_at_once_for_those_who_are_behind(self, store: EventStore) -> None:
        last = await store.append(addition(ORDER, 0, 2))
        assert await store.wait(after=last - 1, timeout_s=LONG_S) == last

    async def test_waiting_ends_with_an_append_through_any_handle(self, open_store: Opener) -> None:
        one, two = await open_store(), await open_store()
        for version, writer in enumerate((one, two)):
            after = await one.head()
            waiting = [asyncio.create_task(store.wait(after=after, timeout_s=LONG_S)) for store in (one, one, two)]
            last = await writer.append(addition(ORDER, version))
            assert await asyncio.gather(*waiting) == [last] * 3

    async def test_a_foreign_wait_ends_with_an_append_through_another_handle(self, open_store: Opener) -> None:
        one, two = await open_store(), await open_store()
        waiting = asyncio.create_task(one.wait(after=0, timeout_s=LONG_S, foreign=True))
        last = await two.append(addition(ORDER, 0))
        assert await waiting == last

    async def test_waiting_in_vain_ends_at_timeout(self, store: EventStore) -> None:
        last = await store.append(addition(ORDER, 0))
        assert await store.wait(after=last, timeout_s=0.01) == last
        assert await store.wait(after=last + 5, timeout_s=0) == last + 5

    async def test_waiting_for_one_stream_ends_with_an_append_to_it(self, store: EventStore) -> None:
        last = await store.append(addition(ORDER, 0))
        waiting = asyncio.create_task(store.wait(after=last, timeout_s=LONG_S, stream=ORDER))
        last = await store.append(addition(ORDER, 1))
        assert await waiting == last

    # Life

    async def test_closing_twice_is_closing_once(self, store: EventStore) -> None:
        await store.append(addition(ORDER, 0))
        await store.close()
        await store.close()
        with pytest.raises(StoreError):
            await store.append(addition(ORDER, 1))

    async def test_closing_finishes_what_was_begun(self, open_store: Opener) -> None:
        store, other = await open_store(), await open_store()
        begun = [asyncio.create_task(store.append(addition(ORDER, version))) for version in range(5)]
        await asyncio.sleep(0)
        await store.close()
        assert len(await asyncio.gather(*begun)) == 5
        assert len(await other.read(ORDER)) == 5

    async def test_what_was_acknowledged_is_there_after_opening_again(self, open_store: Opener) -> None:
        store = await open_store()
        (stream,) = await add_due(store, 1)
        await store.append(addition(ORDER, 0, 5, stands=standing("waiting")))
        await store.beat("anna", until_us=100)
        (first,) = await store.claim("anna", now_us=10, limit=1)
        before = (await store.tail(), await store.streams("acme"), await store.workers())
        await store.close()
        if self.is_durable:
            store = await open_store()
            assert (await store.tail(), await store.streams("acme"), await store.workers()) == before
            assert await store.claim("bert", now_us=10, limit=1) == []
            (second,) = await store.claim("bert", now_us=100, limit=1)
            assert (second.stream, second.epoch > first.epoch) == (stream, True)

    # Several classes inherit this test, which is what `differing_executors` warns of and what is meant here.
    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    @given(steps=st.lists(st.deferred(lambda: A_STEP), max_size=30))
    async def test_it_does_what_the_store_in_memory_does(self, steps: list["Step"]) -> None:
        with tempfile.TemporaryDirectory() as directory:
            opener = self.storage(Path(directory))
            store = await opener()
            model = MemoryStore()
            try:
                for step in steps:
                    assert await outcome(store, model, step) == await outcome(model, model, step)
                    assert await everything(store) == await everything(model)
            finally:
                await store.close()


Step = tuple[str, dict[str, Any]]
"""A method of the store and what it is called with; an append says how far it is off the current version."""

STREAMS = [StreamId(tenant, name) for tenant in ("acme", "rival") for name in ("a", "b")]
SOME_STREAM = st.sampled_from(STREAMS)
WORKER = st.sampled_from(["anna", "bert"])
MOMENT = st.integers(1, 5)
STANDING = st.builds(Standing, st.sampled_from("qr"), st.sampled_from("st"), st.none() | MOMENT, st.integers(-1, 1))
CAPS = st.builds(
    Caps,
    st.dictionaries(st.sampled_from(["acme", "*"]), st.integers(0, 2)),
    st.dictionaries(st.sampled_from(["q", "*"]), st.integers(0, 2)),
)

A_STEP: st.SearchStrategy[Step] = st.one_of(
    st.tuples(
        st.just("append"),
        st.fixed_dictionaries(
            {
                "stream": SOME_STREAM,
                "off": st.sampled_from([0, 0, 0, 0, 1, -1]),
                "count": st.integers(0, 3),
                "standing": st.none() | STANDING,
                "epoch": st.none() | st.integers(0, 2),
            }
        ),
    ),
    st.tuples(
        st.just("claim"),
        st.fixed_dictionaries(
            {"worker": WORKER, "now_us": MOMENT | st.just(9_000_000), "limit": st.integers(0, 3)},
            optional={
                "queues": st.lists(st.sampled_from("qr"), unique=True),
                "only": SOME_STREAM,
                "caps": CAPS,
                "suspects": st.integers(0, 2),
            },
        ),
    ),
    st.tuples(
        st.sampled_from(["release", "vouch"]),
        st.fixed_dictionaries({"worker": WORKER, "streams": st.lists(SOME_STREAM)}),
    ),
    st.tuples(st.just("beat"), st.fixed_dictionaries({"worker": WORKER, "until_us": MOMENT})),
    st.tuples(st.just("retire"), st.fixed_dictionaries({"worker": WORKER})),
    st.tuples(
        st.just("streams"),
        st.fixed_dictionaries(
            {"tenant": st.just("acme")},
            optional={
                "prefix": st.sampled_from(["a", "ab", ""]),
                "statuses": st.lists(st.sampled_from("st")),
                "queue": st.sampled_from("qr"),
                "before": st.integers(0, 4),
                "limit": st.integers(0, 2),
            },
        ),
    ),
)


async def outcome(store: EventStore, model: MemoryStore, step: Step) -> object:
    """What the step returns, or the kind of error that it raises. Versions are taken from the model."""
    method, arguments = step
    try:
        if method == "append":
            return await store.append(await _append(model, **arguments))
        return await getattr(store, method)(**arguments)
    except OstlerError as error:
        return type(error)


async def _append(
    model: MemoryStore, stream: StreamId, off: int, count: int, standing: Standing | None, epoch: int | None
) -> Append:
    expected = max(0, len(await model.read(stream)) + off)
    return Append(stream, expected, records(stream, expected, count), standing, epoch)


async def everything(store: EventStore) -> object:
    """All that can be seen of a store."""
    lists = [await store.streams(tenant) for tenant in ("acme", "rival")]
    return await store.tail(), await store.head(), lists, await store.workers(), await store.census(now_us=3, most=2)
