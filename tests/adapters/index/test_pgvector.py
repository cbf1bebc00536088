"""Where the database has pgvector, it finds what matrices of vectors find, without any being fetched."""

import random
import secrets
from collections.abc import AsyncIterator, Iterator

import pytest

from ostler.adapters.index.postgres import PostgresIndex
from ostler.adapters.store.postgres.store import PostgresStore
from ostler.domain.memory.scope import Scope
from ostler.kernel.errors import DimensionMismatch
from ostler.ports.memory import EVERYTHING, Filter, Hit
from ostler.testing.contracts.memory_histories import ANN, BOB, gone, ids, remembered, tell
from tests.servers import server_with_vectors

SCOPES = (ANN, BOB, Scope("acme"), Scope("rival", "coder", "ann"))
DIMENSIONS = 24


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with server_with_vectors() as url:
        yield url


@pytest.fixture
async def store(url: str) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(url)
    yield store
    await store.close()


@pytest.fixture
async def index(store: PostgresStore) -> PostgresIndex:
    """One that has no room for anything that it fetches."""
    index = PostgresIndex(store.server, matrices_bytes_max=0)
    await index.clear()
    return index


async def test_it_finds_what_matrices_find(index: PostgresIndex, store: PostgresStore) -> None:
    seed = secrets.randbits(32)
    chance = random.Random(seed)

    def vector() -> list[float]:
        return [chance.gauss(0, 1) for _ in range(DIMENSIONS)]

    for scope in SCOPES:
        kinds = [chance.choice(("fact", "episode")) for _ in range(60)]
        await tell(index, scope, *(remembered(f"mem_{number}", kind=kind) for number, kind in enumerate(kinds)))
        await tell(index, scope, gone("mem_1", "mem_2"))
        await index.embed("f", [(scope, f"mem_{number}", vector()) for number in range(60)])
    matrices = PostgresIndex(store.server)
    for scopes in (SCOPES[:1], SCOPES[1:3], SCOPES[:3], ()):
        for which in (EVERYTHING, Filter(kinds=("fact",)), Filter(as_of=300), Filter(is_closed_too=True)):
            query = vector()
            found = await index.vectors(scopes, "f", query, which, limit=9)
            expected = await matrices.vectors(scopes, "f", query, which, limit=9)
            assert near(found) == near(expected), seed
            assert {hit.scope for hit in found} <= {*scopes}, seed
    assert await index.vectors(SCOPES, "g", vector()) == []


def near(hits: list[Hit]) -> list[object]:
    return [(hit.scope, hit.id, pytest.approx(hit.score, abs=1e-5)) for hit in hits]


async def test_vectors_of_another_length_are_refused_and_one_of_no_direction_is_like_none(index: PostgresIndex) -> None:
    await tell(index, ANN, remembered("mem_1"), remembered("mem_2"), remembered("mem_3"))
    await index.embed("f", [(ANN, "mem_1", [0.0, 0.0]), (ANN, "mem_2", [3.0, 0.0]), (ANN, "mem_3", [-1.0, 0.0])])
    found = await index.vectors([ANN], "f", [2.0, 0.0])
    assert [(hit.id, hit.score) for hit in found] == [("mem_2", 1.0), ("mem_1", 0.0), ("mem_3", -1.0)]
    with pytest.raises(DimensionMismatch):
        await index.vectors([ANN], "f", [1.0, 0.0, 0.0])


async def test_nothing_is_fetched_for_it(
    index: PostgresIndex, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await tell(index, ANN, remembered("mem_1"), remembered("mem_2"))
    await index.embed("f", [(ANN, "mem_1", [1.0, 0.0]), (ANN, "mem_2", [1.0, 1.0])])
    asked: list[str] = []
    fetch = store.server.fetch

    async def watched(query: str, *arguments: object) -> list[object]:
        asked.append(query)
        return await fetch(query, *arguments)

    monkeypatch.setattr(store.server, "fetch", watched)
    assert ids(await index.vectors([ANN], "f", [1.0, 0.0])) == ["mem_1", "mem_2"]
    assert [query for query in asked if "array_send" in query] == []
    assert ids(await PostgresIndex(store.server).vectors([ANN], "f", [1.0, 0.0])) == ["mem_1", "mem_2"]
    assert [query for query in asked if "array_send" in query] != []
