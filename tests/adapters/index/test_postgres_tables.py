"""What the index in PostgreSQL does with its tables: what a search looks at, how it ranks, what erasing leaves."""

import random
import secrets
from collections.abc import AsyncIterator, Iterator
from math import log
from typing import Any

import asyncpg
import pytest

from ostler.adapters.index.postgres import PostgresIndex
from ostler.adapters.index.postgres_reading import LOOKED, Question
from ostler.adapters.index.postgres_words import K1, B, search
from ostler.adapters.index.sqlite import SqliteIndex
from ostler.adapters.store.postgres.server import address
from ostler.adapters.store.postgres.store import PostgresStore
from ostler.adapters.store.postgres.tenants import grant_tenant
from ostler.domain.memory.events import EntityDescribed, MemoryEvent, MemoryRecalled
from ostler.domain.memory.scope import Scope
from ostler.ports.memory import Filter
from ostler.testing.contracts.memory_histories import ANN, BOB, SOURCE, ids, relates, remembered, tell
from tests.servers import POSTGRES, fresh_schema

TABLES = ("scopes", "recalls", "entities", "names", "spaces", "vectors")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with fresh_schema() as schema:
        yield schema


@pytest.fixture
async def store(url: str) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(url)
    yield store
    await store.close()


@pytest.fixture
async def index(store: PostgresStore) -> PostgresIndex:
    index = PostgresIndex(store.server)
    await index.clear()
    return index


async def test_the_ranking_is_that_of_bm25(index: PostgresIndex) -> None:
    seed = secrets.randbits(32)
    chance = random.Random(seed)
    words = ["zebra", "yak", "xerus", "wolf", "vole", "urial"]
    texts = [chance.choices(words, weights=(1, 2, 4, 8, 16, 32), k=chance.randint(1, 30)) for _ in range(60)]
    await tell(index, ANN, *(remembered(f"mem_{place}", " ".join(text)) for place, text in enumerate(texts)))
    found = await index.words([ANN], ["zebra", "yak", "wolf"], limit=60)
    expected = bm25(texts, ["zebra", "yak", "wolf"])
    assert {hit.id: pytest.approx(hit.score, rel=1e-5) for hit in found} == expected, seed
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True), seed


def bm25(texts: list[list[str]], terms: list[str]) -> dict[str, float]:
    """As it is in the books: https://en.wikipedia.org/wiki/Okapi_BM25."""
    average = sum(map(len, texts)) / len(texts)
    scores: dict[str, float] = {}
    for term in terms:
        having = sum(term in text for text in texts)
        weight = log(1 + (len(texts) - having + 0.5) / (having + 0.5))
        for place, text in enumerate(texts):
            count = text.count(term)
            if count:
                share = count * (K1 + 1) / (count + K1 * (1 - B + B * len(text) / average))
                scores[f"mem_{place}"] = scores.get(f"mem_{place}", 0) + weight * share
    return scores


async def test_what_was_said_hundreds_of_times_counts_as_much(index: PostgresIndex) -> None:
    texts = [["yak"] * 200, ["yak"] * 3 + ["wolf"] * 197, ["wolf"]]
    await tell(index, ANN, *(remembered(f"mem_{place}", " ".join(text)) for place, text in enumerate(texts)))
    found = {hit.id: hit.score for hit in await index.words([ANN], ["yak"])}
    assert found == {name: pytest.approx(score, rel=1e-2) for name, score in bm25(texts, ["yak"]).items()}


async def test_of_words_written_together_all_are_to_occur(index: PostgresIndex) -> None:
    await tell(index, ANN, remembered("mem_1", "INV-2024-001 is paid"), remembered("mem_2", "INV-2024-002, 001 times"))
    await tell(index, ANN, remembered("mem_3", "001 INV"), remembered("mem_4", "東京都"))
    assert sorted(ids(await index.words([ANN], ["inv-2024-001"]))) == ["mem_1", "mem_2"]
    assert sorted(ids(await index.words([ANN], ["inv-2024-002", "paid"]))) == ["mem_1", "mem_2"]
    assert ids(await index.words([ANN], ["京都"])) == ["mem_4"]


async def test_the_same_is_found_as_in_sqlite_and_it_scores_the_same(index: PostgresIndex) -> None:
    seed = secrets.randbits(32)
    chance = random.Random(seed)
    words = ["zebras", "yak", "wolves", "Zürich", "semi-colon", "2024", "running", "京都"]
    events = [remembered(f"mem_{number}", " ".join(chance.choices(words, k=6))) for number in range(40)]
    other = await SqliteIndex.open(":memory:")
    for one in (index, other):
        await tell(one, ANN, *events)
    for asked in (["zebra"], ["yak", "run"], ["zurich", "2024"], ["semi", "wolf"]):
        found, expected = await index.words([ANN], asked), await other.words([ANN], asked)
        assert {hit.id: hit.score for hit in found} == {hit.id: pytest.approx(hit.score) for hit in expected}, seed
    await other.close()


async def test_a_search_for_words_looks_at_no_row_of_another_scope(index: PostgresIndex, store: PostgresStore) -> None:
    await tell(index, BOB, *(remembered(f"mem_{number}", f"hay {number}") for number in range(300)))
    await tell(index, ANN, remembered("mem_1", "hay"), remembered("mem_2", "straw"))
    question = Question([ANN])
    query = search(question, ["hay"], question.conditions(Filter()), limit=10)
    plan = await store.server.fetch(f"EXPLAIN ANALYZE {store.server.sql(LOOKED + query)}", *question.values)
    (scan,) = [row[0] for row in plan if "Bitmap Index Scan on memories_by_words" in row[0]]
    assert "rows=1 loops=1" in scan.partition("actual")[2]


@pytest.mark.parametrize("word", ["long", "\0", "'; DROP TABLE memories; --", "\\", "{", "a,b", "%", "ﬁ"])
async def test_every_text_is_kept_and_found_as_it_is(index: PostgresIndex, word: str) -> None:
    name = "long " * 3000 if word == "long" else f"{word} Ann"
    event = relates("mem_1", name, name, "Bob", key=name, tags=(name,))
    described = EntityDescribed(name=name, kind="person", source=SOURCE)
    await tell(index, ANN, event, described, MemoryRecalled(ids=("mem_1",), call=name))
    (entry,) = await index.holding(ANN, key=name)
    assert (entry.memory, entry.recalls) == (event.memory, 1)
    assert ids(await index.holding(ANN, subject=name, name=name)) == ["mem_1"]
    assert ids(await index.page([ANN], Filter(key_prefix=name, all_of=(name,), any_of=(name,)))) == ["mem_1"]
    assert await index.page([ANN], Filter(none_of=(name,))) == []
    assert [edge.id for _, edge in await index.neighbourhood([ANN], [name], relations=[name])] == ["mem_1"]
    assert [entity.kind for entity in await index.entities([ANN], [name])] == ["person"]
    has_words = any(character.isalnum() for character in word)
    assert ids(await index.words([ANN], [word])) == (["mem_1"] if has_words else [])


async def test_the_nearest_of_few_that_are_meant_are_found_among_many_that_are_not(index: PostgresIndex) -> None:
    kinds = ["fact" if number % 40 == 39 else "episode" for number in range(200)]
    await tell(index, ANN, *(remembered(f"mem_{number}", kind=kind) for number, kind in enumerate(kinds)))
    await index.embed("f", [(ANN, f"mem_{number}", [1.0, number / 100]) for number in range(200)])
    found = await index.vectors([ANN], "f", [1.0, 0.0], Filter(kinds=("fact",)), limit=2)
    assert ids(found) == ["mem_39", "mem_79"]


async def test_what_another_process_embeds_and_erases_is_seen(index: PostgresIndex, store: PostgresStore) -> None:
    other = PostgresIndex(store.server)
    await tell(index, ANN, *(remembered(f"mem_{number}") for number in range(4)))
    await index.embed("f", [(ANN, f"mem_{number}", [1.0, number]) for number in range(3)])
    assert ids(await other.vectors([ANN], "f", [1.0, 0.0])) == ["mem_0", "mem_1", "mem_2"]
    await index.embed("f", [(ANN, "mem_3", [1.0, 0.5]), (ANN, "mem_0", [0.0, 1.0])])
    assert ids(await other.vectors([ANN], "f", [1.0, 0.0])) == ["mem_3", "mem_1", "mem_2", "mem_0"]
    await index.erase(ANN, ["mem_3"])
    assert ids(await other.vectors([ANN], "f", [1.0, 0.0])) == ["mem_1", "mem_2", "mem_0"]


async def test_an_erased_word_is_in_no_index_and_no_row(index: PostgresIndex, store: PostgresStore) -> None:
    word = f"quagga{secrets.token_hex(4)}"
    around: list[MemoryEvent] = [remembered(f"mem_{number}", f"hay {number}") for number in range(50)]
    secret = relates("mem_x", word, "likes", "tea", key=word, tags=(word,))
    await tell(index, ANN, *around, secret, remembered("mem_y"))
    before = await indexes_with(store, word)
    assert {"memories_by_words", "memories_by_name", "memories_by_subject", "memory_names_by_name"} <= {*before}
    await index.erase(ANN, ["mem_x"])
    assert await indexes_with(store, word) == []
    for table in ("memories", "memory_names"):
        rows = await store.server.fetch(f"SELECT t::text FROM {store.server.address.schema}.{table} AS t")
        assert [row for (row,) in rows if word in row] == []


async def test_of_a_scope_that_was_cleared_no_word_is_in_an_index(index: PostgresIndex, store: PostgresStore) -> None:
    word = f"quagga{secrets.token_hex(4)}"
    scope = Scope("acme", "vet", word)
    described = EntityDescribed(word, word, SOURCE, {word: word})
    await tell(index, scope, described, relates("mem_x", word, "likes", "tea", key=word, tags=(word,)))
    before = await indexes_with(store, word)
    assert {"memory_entities_by_name", "memory_names_by_name"} <= {*before}
    await index.clear([scope])
    assert await indexes_with(store, word) == []


async def indexes_with(store: PostgresStore, word: str) -> list[str]:
    """The indexes in whose files the word is, as they are on the disk of the server."""
    connection = await asyncpg.connect(POSTGRES)
    try:
        await connection.execute("CHECKPOINT")
        query = """
            SELECT relname, pg_read_binary_file(pg_relation_filepath(pg_class.oid)) FROM pg_class
            WHERE relnamespace = $1::regnamespace AND relname ~ '^memor' AND relkind = 'i' ORDER BY relname
        """
        rows: list[Any] = await connection.fetch(query, store.server.address.schema)
        return [name for name, content in rows if word.encode() in content]
    finally:
        await connection.close()


async def test_a_tenants_role_sees_the_memories_of_its_tenant_only(
    index: PostgresIndex, store: PostgresStore, url: str
) -> None:
    rival = Scope("rival", "coder", "ann")
    for scope in (ANN, rival):
        told = relates("mem_1", scope.tenant, "likes", "tea")
        described = EntityDescribed(name=scope.tenant, kind="firm", source=SOURCE)
        await tell(index, scope, told, described, MemoryRecalled(ids=("mem_1",), call="ses_1/1.1"))
        await index.embed("f", [(scope, "mem_1", [1.0])])
    role, schema = f"ostler_test_{secrets.token_hex(4)}", address(url).schema
    owner = await asyncpg.connect(POSTGRES)
    await owner.execute(f"CREATE ROLE {role} LOGIN")
    try:
        await grant_tenant(store.server, "rival", role)
        connection = await asyncpg.connect(POSTGRES, user=role)
        seen = {table: await connection.fetchval(f"SELECT count(*) FROM {schema}.memory_{table}") for table in TABLES}
        subjects = [row[0] for row in await connection.fetch(f"SELECT subject FROM {schema}.memories")]
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(f"DELETE FROM {schema}.memories")
        await connection.close()
    finally:
        await owner.execute(f"DROP OWNED BY {role}")
        await owner.execute(f"DROP ROLE {role}")
        await owner.close()
    assert (seen, subjects) == (dict.fromkeys(TABLES, 1) | {"names": 2}, ["rival"])
