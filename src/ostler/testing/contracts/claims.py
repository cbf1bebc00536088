"""The part of the contract of `EventStore` that workers live by: leases, claims, knocks, and the census."""

import asyncio

import pytest

from ostler.domain.scheduling import Caps
from ostler.kernel.errors import StaleWrite
from ostler.kernel.event import StreamId
from ostler.ports import CENSUS_GROUPS_MAX, EventStore, QueueCount, Standing, Suspect
from ostler.testing.contracts.streams import OTHER, Opener, add_due, addition, standing, stream_due, taken


class ClaimsContract:
    """See `EventStoreContract`, which this is a part of."""

    async def test_due_streams_are_claimed_longest_due_first(self, store: EventStore) -> None:
        streams = await add_due(store, 30, 10, 101, None, 20, 100)
        await store.beat("anna", until_us=200)
        assert taken(await store.claim("anna", now_us=100, limit=3)) == [streams[1], streams[4], streams[0]]
        assert taken(await store.claim("anna", now_us=100, limit=3)) == [streams[5]]
        assert await store.claim("anna", now_us=100, limit=3) == []

    async def test_an_append_makes_due_and_undue(self, store: EventStore) -> None:
        (stream,) = await add_due(store, None)
        await store.append(addition(stream, 1, stands=standing(due_us=5)))
        await store.append(addition(stream, 2, stands=standing(due_us=None)))
        assert await store.claim("anna", now_us=10, limit=1) == []
        await store.append(addition(stream, 3, stands=standing(due_us=5)))
        assert taken(await store.claim("anna", now_us=10, limit=1)) == [stream]

    async def test_claims_can_be_narrowed_to_queues_and_to_one_stream(self, store: EventStore) -> None:
        streams = await add_due(store, 1, 2, 3)
        foreign = StreamId("rival", streams[0].name)
        await store.append(addition(foreign, 0, stands=standing(queue="coder", due_us=9)))
        assert await store.claim("anna", now_us=10, limit=9, queues=[]) == []
        assert await store.claim("anna", now_us=10, limit=9, queues=["clerk"]) == []
        assert await store.claim("anna", now_us=10, limit=9, queues=["coder"], only=streams[0]) == []
        assert taken(await store.claim("anna", now_us=10, limit=9, queues=["clerk", "coder"])) == [foreign]
        assert taken(await store.claim("anna", now_us=10, limit=9, only=streams[1])) == [streams[1]]
        assert await store.claim("anna", now_us=10, limit=9, only=OTHER) == []
        assert await store.claim("anna", now_us=2, limit=9, only=streams[2]) == []

    async def test_a_claim_holds_as_long_as_its_worker_lives(self, store: EventStore) -> None:
        (stream,) = await add_due(store, 1)
        await store.beat("anna", until_us=100)
        (first,) = await store.claim("anna", now_us=10, limit=1)
        assert await store.claim("bert", now_us=99, limit=1) == []
        await store.beat("anna", until_us=200)
        assert await store.claim("bert", now_us=199, limit=1) == []
        (second,) = await store.claim("bert", now_us=200, limit=1)
        assert (first.stream, second.stream) == (stream, stream)
        assert second.epoch > first.epoch
        (info,) = await store.streams("acme")
        assert info.worker == "bert"

    async def test_a_worker_whose_claim_was_taken_cannot_append(self, store: EventStore) -> None:
        (stream,) = await add_due(store, 1)
        with pytest.raises(StaleWrite):
            await store.append(addition(stream, 1, epoch=7))
        (first,) = await store.claim("anna", now_us=10, limit=1)
        await store.append(addition(stream, 1, epoch=first.epoch))
        (second,) = await store.claim("bert", now_us=10, limit=1)
        for stands in (None, standing("stolen")):
            with pytest.raises(StaleWrite):
                await store.append(addition(stream, 2, epoch=first.epoch, stands=stands))
        await store.append(addition(stream, 2, epoch=second.epoch))
        await store.append(addition(stream, 3))
        (info,) = await store.streams("acme")
        assert (info.version, info.standing.status) == (4, "queued")

    async def test_a_released_stream_can_be_claimed(self, store: EventStore) -> None:
        streams = await add_due(store, 1, 2, 3)
        await store.beat("anna", until_us=100)
        await store.claim("anna", now_us=10, limit=3)
        await store.release("bert", streams)
        await store.release("anna", [])
        assert await store.claim("bert", now_us=10, limit=3) == []
        await store.release("anna", [streams[2], streams[0], OTHER])
        assert [info.worker for info in await store.streams("acme")] == [None, "anna", None]
        assert taken(await store.claim("bert", now_us=10, limit=3)) == [streams[0], streams[2]]

    async def test_a_retired_worker_and_its_claims_are_forgotten(self, store: EventStore) -> None:
        streams = await add_due(store, 1, 2)
        await store.beat("bert", until_us=50)
        await store.beat("anna", until_us=100)
        assert await store.workers() == [("anna", 100), ("bert", 50)]
        await store.claim("anna", now_us=10, limit=2)
        await store.retire("anna")
        await store.retire("nobody")
        assert await store.workers() == [("bert", 50)]
        assert [info.worker for info in await store.streams("acme")] == [None, None]
        await store.beat("anna", until_us=100)
        assert taken(await store.claim("bert", now_us=10, limit=2)) == streams

    async def test_tenants_take_turns(self, store: EventStore) -> None:
        hot = await add_due(store, *range(1, 31))
        calm = [StreamId("calm", f"late-{number}") for number in range(2)]
        for number, stream in enumerate(calm):
            await store.append(addition(stream, 0, stands=standing(due_us=90 + number)))
        await store.beat("anna", until_us=1_000)
        assert taken(await store.claim("anna", now_us=100, limit=3)) == [hot[0], calm[0], hot[1]]
        assert taken(await store.claim("anna", now_us=100, limit=3)) == [calm[1], hot[2], hot[3]]

    async def test_priority_goes_before_age_within_a_tenant(self, store: EventStore) -> None:
        for number, priority in enumerate((0, -1, 5, 5)):
            place = Standing("stable", "queued", 10 - number, priority)
            await store.append(addition(stream_due(number), 0, stands=place))
        claims = await store.claim("anna", now_us=100, limit=9)
        assert taken(claims) == [stream_due(number) for number in (3, 2, 0, 1)]
        assert [info.standing.priority for info in await store.streams("acme")] == [5, 5, -1, 0]

    async def test_nothing_is_taken_from_a_queue_that_is_barred(self, store: EventStore) -> None:
        one, two = await add_due(store, 1, 2)
        await store.beat("anna", until_us=1_000)
        await store.append(addition(two, 1, stands=standing(queue="clerk", due_us=2)))
        barred = [Caps().without((), frozenset({(tenant, "stable")})) for tenant in ("else", "acme", "*")]
        elsewhere, here, everywhere = barred
        assert taken(await store.claim("anna", now_us=10, limit=9, caps=everywhere)) == [two]
        assert await store.claim("anna", now_us=10, limit=9, caps=here) == []
        assert taken(await store.claim("anna", now_us=10, limit=9, caps=elsewhere)) == [one]

    async def test_caps_count_what_all_workers_hold(self, store: EventStore) -> None:
        streams = await add_due(store, 1, 2, 3, 4)
        await store.beat("anna", until_us=1_000)
        assert taken(await store.claim("anna", now_us=10, limit=1)) == streams[:1]
        two = Caps(tenants={"acme": 2})
        assert taken(await store.claim("bert", now_us=10, limit=9, caps=two)) == streams[1:2]
        await store.beat("bert", until_us=1_000)
        assert await store.claim("bert", now_us=10, limit=9, caps=Caps(queues={"*": 2})) == []
        assert (
            taken(await store.claim("bert", now_us=10, limit=9, caps=Caps({"else": 0}, {"stable": 3}))) == streams[2:3]
        )
        assert taken(await store.claim("carl", now_us=1_000, limit=9, caps=two)) == streams[:2]

    async def test_attempts_count_until_a_stream_is_let_go_or_vouched_for(self, store: EventStore) -> None:
        (stream,) = await add_due(store, 1)
        seconds = 0

        async def attempt() -> int | None:
            claims = await store.claim("anna", now_us=1 + seconds * 1_000_000, limit=1)
            return claims[0].attempts if claims else None

        assert [await attempt(), await attempt()] == [1, 2]
        assert await attempt() is None  # it rests for a second, the next time for two
        seconds = 1
        assert [await attempt(), await attempt()] == [3, None]
        seconds = 2
        assert await attempt() is None
        seconds = 3
        assert await attempt() == 4
        await store.vouch("bert", [stream])
        await store.vouch("anna", [OTHER, stream])
        assert await attempt() == 1
        await store.release("anna", [stream])
        assert await attempt() == 1

    async def test_suspects_are_claimed_up_to_their_number(self, store: EventStore) -> None:
        suspects = await add_due(store, 1, 2, 3)
        for _ in range(2):
            await store.claim("anna", now_us=10, limit=3)
        late = 10_000_000
        fresh = StreamId("acme", "fresh")
        await store.append(addition(fresh, 0, stands=standing(due_us=9)))
        assert taken(await store.claim("bert", now_us=late, limit=9, suspects=0)) == [fresh]
        assert taken(await store.claim("carl", now_us=late, limit=9, suspects=2)) == [*suspects[:2], fresh]

    async def test_suspects_keep_nobody_waiting_behind_them(self, store: EventStore) -> None:
        suspects = await add_due(store, *[1] * 60)
        for attempt in range(2):
            await store.claim("anna", now_us=10 + attempt, limit=60)
        late = 20_000_000
        healthy = StreamId("acme", "healthy")
        await store.append(addition(healthy, 0, stands=standing(due_us=late)))
        assert taken(await store.claim("bert", now_us=late, limit=1, suspects=0)) == [healthy]
        await store.release("bert", [healthy])
        assert taken(await store.claim("bert", now_us=late, limit=2)) == [suspects[0], healthy]

    async def test_what_is_due_does_not_wait_behind_what_is_due_later(self, store: EventStore) -> None:
        later = [StreamId(f"tenant-{number:03}", "timer") for number in range(300)]
        await asyncio.gather(*(store.append(addition(name, 0, stands=standing(due_us=10**12))) for name in later))
        now = StreamId("zebra", "now")
        await store.append(addition(now, 0, stands=standing(due_us=5)))
        assert taken(await store.claim("anna", now_us=10, limit=9)) == [now]

    async def test_knocks_are_appends_without_a_fence(self, store: EventStore) -> None:
        (stream,) = await add_due(store, 1)
        (claim,) = await store.claim("anna", now_us=10, limit=1)
        end, knocks = await store.knocks(after=0)
        assert (end, knocks) == (await store.head(), {stream: 1})
        await store.append(addition(stream, 1, epoch=claim.epoch))
        await store.append(addition(OTHER, 0, 3))
        await store.append(addition(stream, 2))
        later, knocks = await store.knocks(after=end)
        assert (later, knocks) == (await store.head(), {stream: 3, OTHER: 3})
        assert await store.knocks(after=later) == (later, {})

    async def test_many_knocks_come_in_portions_until_there_are_no_more(self, store: EventStore) -> None:
        for start in range(0, 2_500, 250):
            names = [StreamId("acme", f"knock-{number}") for number in range(start, start + 250)]
            await asyncio.gather(*(store.append(addition(name, 0)) for name in names))
        position, heard = 0, set[StreamId]()
        while True:
            position, knocks = await store.knocks(after=position)
            if not knocks:
                break
            heard |= knocks.keys()
        assert (len(heard), position) == (2_500, await store.head())

    async def test_no_stream_is_claimed_by_two_workers_at_once(self, open_store: Opener) -> None:
        handles = [await open_store(), await open_store()]
        streams = await add_due(handles[0], *range(1, 31))
        for number in range(6):
            await handles[0].beat(f"worker-{number}", until_us=1_000)
        claims = await asyncio.gather(
            *(handles[number % 2].claim(f"worker-{number}", now_us=100, limit=7) for number in range(6))
        )
        assert sorted(claim.stream for claimed in claims for claim in claimed) == sorted(streams)

    async def test_a_census_counts_streams_by_tenant_and_status(self, store: EventStore) -> None:
        for number, status in enumerate(["queued", "waiting", "waiting", "completed", "completed"]):
            await store.append(addition(stream_due(number), 0, stands=standing(status)))
        await store.append(addition(StreamId("rival", "order-1"), 0, stands=standing("waiting")))
        counted = await store.census(now_us=10)
        assert [(one.tenant, one.status, one.count) for one in counted.statuses] == [
            ("acme", "completed", 2),
            ("acme", "queued", 1),
            ("acme", "waiting", 2),
            ("rival", "waiting", 1),
        ]
        assert (counted.queues, counted.held, counted.suspects, counted.is_whole) == ([], [], [], True)
        some = await store.census(now_us=10, without=["completed", "queued", "nonsense"], most=1)
        assert [(one.tenant, one.status, one.count) for one in some.statuses] == [
            ("acme", "waiting", 1),
            ("rival", "waiting", 1),
        ]

    async def test_a_census_tells_what_is_due_and_since_when(self, store: EventStore) -> None:
        await add_due(store, 7, 5, 10, 11, None)
        for number, place in enumerate((Standing("stable", "queued", 90, 4), Standing("barn", "queued", 11, -1))):
            await store.append(addition(StreamId("acme", f"later-{number}"), 0, stands=place))
        counted = await store.census(now_us=10)
        assert counted.queues == [
            QueueCount("acme", "barn", due=0, later=1, oldest_us=None, priority_min=-1, priority_max=-1),
            QueueCount("acme", "stable", due=3, later=2, oldest_us=5, priority_min=0, priority_max=4),
        ]
        (barn, stable) = (await store.census(now_us=90, most=2)).queues
        assert (barn.due, stable.due, stable.later) == (1, 2, 0)

    async def test_what_is_held_is_counted_for_its_worker_dead_or_alive(self, store: EventStore) -> None:
        streams = await add_due(store, 1, 2, 3)
        await store.append(addition(StreamId("rival", "order-1"), 0, stands=standing(queue="barn", due_us=1)))
        await store.beat("anna", until_us=50)
        await store.claim("anna", now_us=10, limit=9, queues=["stable"])
        await store.claim("bert", now_us=10, limit=9)
        await store.release("anna", streams[:1])
        counted = await store.census(now_us=100)
        assert [(one.worker, one.tenant, one.queue, one.count) for one in counted.held] == [
            ("anna", "acme", "stable", 2),
            ("bert", "rival", "barn", 1),
        ]
        assert [(one.queue, one.due) for one in counted.queues] == [("stable", 1)]

    async def test_suspects_are_told_until_they_are_vouched_for(self, store: EventStore) -> None:
        one, two = await add_due(store, 1, 2)
        for seconds in (0, 0, 1):
            await store.claim("anna", now_us=10 + seconds * 1_000_000, limit=1, only=one)
        for _ in range(2):
            await store.claim("anna", now_us=20, limit=1, only=two)
        found = (await store.census(now_us=10)).suspects
        assert found == [
            Suspect(one, "stable", "queued", 3, 1_000_010, None),
            Suspect(two, "stable", "queued", 2, 20, "anna"),
        ]
        await store.vouch("anna", [two])
        assert [suspect.stream for suspect in (await store.census(now_us=10)).suspects] == [one]

    async def test_a_census_of_very_many_groups_says_that_it_is_not_whole(self, store: EventStore) -> None:
        names = [StreamId(f"tenant-{number:04}", "order-1") for number in range(CENSUS_GROUPS_MAX + 1)]
        await asyncio.gather(*(store.append(addition(name, 0, stands=standing(due_us=1))) for name in names[1:]))
        assert (await store.census(now_us=10)).is_whole
        await store.append(addition(names[0], 0, stands=standing()))
        counted = await store.census(now_us=10)
        assert (len(counted.statuses), counted.statuses[0].tenant) == (CENSUS_GROUPS_MAX, "tenant-0000")
        assert (len(counted.queues), counted.is_whole) == (CENSUS_GROUPS_MAX, False)
