"""The contract of `ViewStore`: every sentence of the port as a test."""

import asyncio
import tempfile
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostler.adapters.store.memory_views import MemoryViewStore
from ostler.kernel.errors import OstlerError, StaleWrite
from ostler.ports import Row, ViewStore

Opener = Callable[[], AbstractAsyncContextManager[ViewStore]]

VIEW = "herds@1"
OTHER_VIEW = "herds@2"
AWKWARD = [
    "",
    "a",
    "a b",
    "ab",
    "a%",
    "a'b",
    'a"b',
    "b",
    "B",
    "é",
    "e\u0301",
    "z",
    "[1,2]",
    "\x1f",
    "￿",
    "😀",
    "k" * 500,
]
"""Keys that somebody might take for something else."""


def put(*keys: str, body: bytes = b"hay", tenant: str = "acme") -> list[Row]:
    """Rows with these keys."""
    return [Row(tenant, key, body) for key in keys]


def take(*keys: str, tenant: str = "acme") -> list[Row]:
    """Rows with these keys, to be taken away."""
    return [Row(tenant, key, None) for key in keys]


class ViewStoreContract(ABC):
    """Inherit, implement `storage`, and pytest asks your back end for every guarantee of the port."""

    pytestmark = pytest.mark.asyncio
    is_durable: ClassVar[bool] = True
    """Whether what was written is there after closing and opening again."""

    @abstractmethod
    def storage(self, directory: Path) -> Opener:
        """A new empty storage, as a function that opens one more handle onto it. `directory` is empty and yours."""

    @pytest.fixture
    def open_views(self, tmp_path: Path) -> Opener:
        return self.storage(tmp_path)

    @pytest_asyncio.fixture
    async def views(self, open_views: Opener) -> AsyncIterator[ViewStore]:
        async with open_views() as views:
            yield views

    # Moving on

    async def test_a_view_that_has_not_begun_is_at_zero_and_empty(self, views: ViewStore) -> None:
        assert await everything(views) == await everything(MemoryViewStore())
        assert (await views.position(VIEW), await views.rows(VIEW, "acme", ["a"])) == (0, {})

    async def test_rows_and_position_move_together(self, views: ViewStore) -> None:
        await views.advance(VIEW, after=0, position=7, rows=put("a", "b"))
        assert await views.position(VIEW) == 7
        assert await views.page(VIEW, "acme") == [("a", b"hay"), ("b", b"hay")]
        await views.advance(VIEW, after=7, position=9, rows=[*put("b", body=b"straw"), *take("a"), *put("c")])
        assert await views.position(VIEW) == 9
        assert await views.page(VIEW, "acme") == [("b", b"straw"), ("c", b"hay")]

    async def test_a_view_may_move_on_without_rows(self, views: ViewStore) -> None:
        await views.advance(VIEW, after=0, position=5)
        await views.advance(VIEW, after=5, position=2**40)
        assert (await views.position(VIEW), await views.page(VIEW, "acme")) == (2**40, [])

    async def test_rows_may_change_where_the_view_stands(self, views: ViewStore) -> None:
        await views.advance(VIEW, after=0, position=7, rows=put("a", "b"))
        await views.advance(VIEW, after=7, position=7, rows=take("a"))
        assert (await views.position(VIEW), await views.page(VIEW, "acme")) == (7, [("b", b"hay")])

    async def test_taking_away_what_is_not_there_changes_nothing(self, views: ViewStore) -> None:
        await views.advance(VIEW, after=0, position=1, rows=[*take("a"), *put("b")])
        assert await views.page(VIEW, "acme") == [("b", b"hay")]

    @pytest.mark.parametrize("after", [0, 6, 8, 100])
    async def test_whoever_is_not_where_the_view_is_is_refused_and_leaves_nothing(
        self, views: ViewStore, after: int
    ) -> None:
        await views.advance(VIEW, after=0, position=7, rows=put("a"))
        before = await everything(views)
        with pytest.raises(StaleWrite):
            await views.advance(VIEW, after=after, position=200, rows=[*put("a", "b", body=b"straw")])
        assert await everything(views) == before

    async def test_a_view_that_has_not_begun_cannot_be_gone_on_with(self, views: ViewStore) -> None:
        with pytest.raises(StaleWrite):
            await views.advance(VIEW, after=1, position=2, rows=put("a"))
        assert (await views.position(VIEW), await views.page(VIEW, "acme")) == (0, [])

    async def test_of_two_at_the_same_place_one_moves_the_view(self, open_views: Opener) -> None:
        async with open_views() as one, open_views() as two:
            for number in range(10):
                move = {"after": number, "position": number + 1}
                results = await asyncio.gather(
                    one.advance(VIEW, **move, rows=put(f"{number}-one")),
                    two.advance(VIEW, **move, rows=put(f"{number}-two")),
                    return_exceptions=True,
                )
                assert [type(result) for result in results if result is not None] == [StaleWrite]
            kept = [key.partition("-")[0] for key, _ in await two.page(VIEW, "acme")]
            assert kept == [str(number) for number in range(10)]

    async def test_a_stale_advance_among_others_fails_alone(self, views: ViewStore) -> None:
        results = await asyncio.gather(
            *(views.advance(f"view-{number}", after=number % 2, position=9, rows=put("a")) for number in range(8)),
            return_exceptions=True,
        )
        assert [isinstance(result, StaleWrite) for result in results] == [False, True] * 4
        found = [len(await views.page(f"view-{number}", "acme")) for number in range(8)]
        assert found == [1, 0] * 4

    # Reading

    async def test_a_body_is_kept_to_the_byte_and_an_empty_one_is_a_row(self, views: ViewStore) -> None:
        bodies = {"empty": b"", "all": bytes(range(256)) * 512}
        rows = [Row("acme", key, body) for key, body in bodies.items()]
        await views.advance(VIEW, after=0, position=1, rows=rows)
        assert await views.rows(VIEW, "acme", [*bodies, "absent"]) == bodies

    async def test_many_rows_are_put_and_found_at_once(self, views: ViewStore) -> None:
        keys = [f"{number:05}" for number in range(3_000)]
        await views.advance(VIEW, after=0, position=1, rows=put(*keys))
        assert set(await views.rows(VIEW, "acme", [*keys, *map(str, range(10))])) == set(keys)
        assert [key for key, _ in await views.page(VIEW, "acme", limit=5_000)] == keys
        assert len(await views.page(VIEW, "acme")) == 100
        assert await views.rows(VIEW, "acme", []) == {}

    async def test_pages_follow_the_order_of_the_bytes(self, views: ViewStore) -> None:
        keys = [key for key in AWKWARD if key]
        await views.advance(VIEW, after=0, position=1, rows=put(*keys))
        assert set(await views.rows(VIEW, "acme", keys)) == set(keys)
        pages, after = list[str](), ""
        while page := await views.page(VIEW, "acme", after=after, limit=4):
            after = page[-1][0]
            pages += [key for key, _ in page]
        assert pages == sorted(keys, key=str.encode)
        assert [key for key, _ in await views.page(VIEW, "acme", after="a'", limit=1)] == ["a'b"]
        assert await views.page(VIEW, "acme", limit=0) == []

    async def test_tenants_and_views_do_not_cross(self, views: ViewStore) -> None:
        await views.advance(VIEW, after=0, position=1, rows=[*put("a"), *put("a", body=b"theirs", tenant="rival")])
        await views.advance(OTHER_VIEW, after=0, position=2, rows=put("a", body=b"other"))
        assert await views.rows(VIEW, "acme", ["a"]) == {"a": b"hay"}
        assert await views.rows(VIEW, "rival", ["a"]) == {"a": b"theirs"}
        assert await views.page(OTHER_VIEW, "acme") == [("a", b"other")]
        assert (await views.page(VIEW, "third"), await views.page(OTHER_VIEW, "rival")) == ([], [])
        await views.advance(VIEW, after=1, position=2, rows=take("a"))
        assert await views.rows(VIEW, "rival", ["a"]) == {"a": b"theirs"}

    # Life

    async def test_a_view_that_is_forgotten_begins_anew_and_others_stay(self, views: ViewStore) -> None:
        await views.advance(VIEW, after=0, position=5, rows=[*put("a"), *put("a", tenant="rival")])
        await views.advance(OTHER_VIEW, after=0, position=6, rows=put("a"))
        await views.forget(VIEW)
        await views.forget("never begun")
        assert (await views.position(VIEW), await views.page(VIEW, "acme"), await views.page(VIEW, "rival")) == (
            0,
            [],
            [],
        )
        assert (await views.position(OTHER_VIEW), await views.page(OTHER_VIEW, "acme")) == (6, [("a", b"hay")])
        with pytest.raises(StaleWrite):
            await views.advance(VIEW, after=5, position=6, rows=put("b"))
        await views.advance(VIEW, after=0, position=1, rows=put("c"))
        assert await views.page(VIEW, "acme") == [("c", b"hay")]

    async def test_nothing_of_what_was_forgotten_comes_back(self, views: ViewStore) -> None:
        for number in range(3):
            assert await views.page(VIEW, "acme") == []
            await views.advance(VIEW, after=0, position=1, rows=put(f"a-{number}"))
            assert await views.page(VIEW, "acme") == [(f"a-{number}", b"hay")]
            await views.forget(VIEW)

    async def test_what_was_written_is_there_after_opening_again(self, open_views: Opener) -> None:
        async with open_views() as views:
            await views.advance(VIEW, after=0, position=5, rows=put("a"))
            before = await everything(views)
        if self.is_durable:
            async with open_views() as views:
                assert await everything(views) == before

    # Several classes inherit this test, which is what `differing_executors` warns of and what is meant here.
    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    @given(steps=st.lists(st.deferred(lambda: A_STEP), max_size=20))
    async def test_it_does_what_the_store_in_memory_does(self, steps: list["Step"]) -> None:
        with tempfile.TemporaryDirectory() as directory:
            model = MemoryViewStore()
            async with self.storage(Path(directory))() as views:
                for step in steps:
                    assert await outcome(views, step) == await outcome(model, step)
                    assert await everything(views) == await everything(model)


Step = tuple[str, dict[str, Any]]
"""A method of the store and what it is called with."""

KEY = st.sampled_from(["a", "b", "é"])
A_VIEW = st.sampled_from([VIEW, OTHER_VIEW])
TENANT = st.sampled_from(["acme", "rival"])
PLACE = st.integers(0, 2)
SOME_ROWS = st.lists(
    st.builds(Row, TENANT, KEY, st.none() | st.binary(max_size=3)),
    max_size=4,
    unique_by=lambda row: (row.tenant, row.key),
)
A_STEP: st.SearchStrategy[Step] = st.one_of(
    st.tuples(
        st.just("advance"),
        st.fixed_dictionaries({"view": A_VIEW, "after": PLACE, "position": PLACE, "rows": SOME_ROWS}),
    ),
    st.tuples(st.just("forget"), st.fixed_dictionaries({"view": A_VIEW})),
    st.tuples(st.just("rows"), st.fixed_dictionaries({"view": A_VIEW, "tenant": TENANT, "keys": st.lists(KEY)})),
    st.tuples(
        st.just("page"),
        st.fixed_dictionaries({"view": A_VIEW, "tenant": TENANT, "after": KEY | st.just(""), "limit": PLACE}),
    ),
)


async def outcome(views: ViewStore, step: Step) -> object:
    """What the step returns, or the kind of error that it raises."""
    method, arguments = step
    try:
        return await getattr(views, method)(**arguments)
    except OstlerError as error:
        return type(error)


async def everything(views: ViewStore) -> object:
    """All that can be seen of a store, as far as these tests write to it."""
    return [
        (view, await views.position(view), [await views.page(view, tenant) for tenant in ("acme", "rival")])
        for view in (VIEW, OTHER_VIEW)
    ]


def shared(views: ViewStore) -> Opener:
    """An opener for a storage that is one object."""

    @asynccontextmanager
    async def open_views() -> AsyncIterator[ViewStore]:
        yield views

    return open_views
