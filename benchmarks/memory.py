"""What remembering and recalling cost, and what is found, beside others that do a part of it.

`python -m benchmarks.memory [--size N …]`, by default with 1,000, 10,000 and 100,000 memories of one scope (about five
minutes). Texts are of some 40 words, as frequent as words are (Zipf), and have vectors of 384 numbers that lie in
groups, as those of texts do. Everything is written through the log of a store in SQLite and recalled through
`Memories`. CPU is that of the process; each figure is a median, for other work on the machine makes the mean worthless.

Peers are measured in the same run where they are installed, each for what it does at all: run it by an interpreter that
has them (`PYTHONPATH=src`, with `numpy`, `faiss-cpu`, `langgraph`), or they are passed over with a word.
"""

import argparse
import asyncio
import importlib
import importlib.util
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from ostler.adapters.index.sqlite import SqliteIndex
from ostler.adapters.store.sqlite import SqliteStore
from ostler.app.world import SystemClock
from ostler.domain.memory.memory import Source
from ostler.domain.memory.scope import Scope
from ostler.domain.memory.settings import Keeping
from ostler.domain.memory.writing import Wish
from ostler.ports.memory import Entry
from ostler.runtime.memory.embedding import Embedding
from ostler.runtime.memory.memories import Memories

SCOPE = Scope("bench", "agent", "user")
SOURCE = Source("agent:bench", call="ses_1/3.1")
WORDS, TEXT_WORDS, QUERY_WORDS, STOP_WORDS = 30_000, 40, 6, 50
DIMENSIONS, LATENT, GROUPS = 384, 48, 200
QUERIES = 60
BATCH = 1_000
SEED = 11

Vectors = npt.NDArray[np.float32]


class Corpus:
    """Texts, their vectors, and what is asked of them; the same for the same seed."""

    def __init__(self, size: int, seed: int = SEED) -> None:
        self._random, self._numbers = random.Random(seed), np.random.default_rng(seed)
        self._words = [f"w{number:05}" for number in range(WORDS)]
        self._frequencies = list(accumulate(1 / (number + 1) for number in range(WORDS)))
        self.texts = [f"t{number} " + " ".join(self._some(TEXT_WORDS)) for number in range(size)]
        self.vectors = self._grouped(size)
        self.queries = [" ".join(self._asked()) for _ in range(QUERIES)]
        near = self.vectors[self._numbers.integers(0, size, QUERIES)]
        self.query_vectors = _unit(near + 0.02 * self._numbers.normal(size=near.shape))

    def _some(self, count: int) -> list[str]:
        return self._random.choices(self._words, cum_weights=self._frequencies, k=count)

    def _asked(self) -> list[str]:
        """Words of a question, without those that are in every text."""
        return [word for word in self._some(200) if int(word[1:]) >= STOP_WORDS][:QUERY_WORDS]

    def _grouped(self, size: int) -> Vectors:
        centres = self._numbers.normal(size=(GROUPS, LATENT))
        space = self._numbers.normal(size=(LATENT, DIMENSIONS))
        latent = centres[self._numbers.integers(0, GROUPS, size)] + 0.6 * self._numbers.normal(size=(size, LATENT))
        return _unit(latent @ space + 0.3 * self._numbers.normal(size=(size, DIMENSIONS)))


class Planted:
    """An embedder that knows all texts beforehand, so that no time is spent on a model."""

    fingerprint = "planted"
    kind: Literal["semantic"] = "semantic"

    def __init__(self, corpus: Corpus) -> None:
        self._known = dict(zip(corpus.queries, corpus.query_vectors.tolist(), strict=True))

    async def embed(
        self, texts: Sequence[str], *, purpose: Literal["document", "query"] = "document"
    ) -> list[Sequence[float]]:
        return [self._known[text] for text in texts]

    async def close(self) -> None:
        pass


class Found(msgspec.Struct):
    """What was measured with so many memories: milliseconds of CPU, and rates per second."""

    size: int
    recall_p50_ms: float
    recall_p95_ms: float
    words_ms: float
    vectors_ms: float
    entries_ms: float
    recall_at_10: float
    remembered_per_s: float
    applied_per_s: float
    embedded_per_s: float
    peers: dict[str, float]


async def measure(size: int, directory: Path) -> Found:
    """Fill a store and an index, ask, and compare."""
    corpus = Corpus(size)
    async with memories_of(corpus, directory) as (memories, index):
        remembered = size / await _cpu(lambda: _remember(memories, corpus))
        await index.clear()
        applied = size / await _cpu(lambda: memories.catch_up([SCOPE]))
        embedded = size / await _cpu(lambda: _embed(index, corpus))
        await memories.recall(SCOPE, corpus.queries[0])
        recalls = [await _cpu(partial(memories.recall, SCOPE, query, limit=8)) for query in corpus.queries]
        words, vectors, entries, hits = [], [], [], 0
        for query, vector in zip(corpus.queries, corpus.query_vectors, strict=True):
            words.append(await _cpu(partial(index.words, SCOPE.visible, query.split())))
            wanted = vector.tolist()
            vectors.append(await _cpu(partial(index.vectors, SCOPE.visible, Planted.fingerprint, wanted)))
            ids = [hit.id for hit in await index.vectors(SCOPE.visible, Planted.fingerprint, wanted, limit=50)]
            entries.append(await _cpu(partial(index.get, SCOPE.visible, ids)))
            hits += len(_exact(corpus, vector) & {_number(entry) for entry in await index.get([SCOPE], ids[:10])})
        slow = statistics.quantiles(recalls, n=20)[-1]
    return Found(
        size,
        statistics.median(recalls) * 1e3,
        slow * 1e3,
        statistics.median(words) * 1e3,
        statistics.median(vectors) * 1e3,
        statistics.median(entries) * 1e3,
        hits / (10 * QUERIES),
        remembered,
        applied,
        embedded,
        {name: _peer(ask, corpus) for name, ask in PEERS.items() if _can_be_asked(name, size)},
    )


@asynccontextmanager
async def memories_of(corpus: Corpus, directory: Path) -> AsyncIterator[tuple[Memories, SqliteIndex]]:
    """Empty memories in files of this directory, durable as in use."""
    store = await SqliteStore.open(directory / "bench.db")
    index = await SqliteIndex.open(directory / "bench.db.memory")
    clock = SystemClock()
    roomy = Keeping(episodes_max=10**9, memories_max=10**9, bytes_max=2**40)
    yield Memories(store, index, clock, keeping=roomy, embedding=Embedding(Planted(corpus), index, clock)), index
    await index.close()
    await store.close()


async def _remember(memories: Memories, corpus: Corpus) -> None:
    wishes = [
        (f"key{number}", Wish("fact" if number % 2 else "episode", text, SOURCE, tags=("bench",)))
        for number, text in enumerate(corpus.texts)
    ]
    for start in range(0, len(wishes), BATCH):
        await memories.remember_all(SCOPE, wishes[start : start + BATCH])


async def _embed(index: SqliteIndex, corpus: Corpus) -> None:
    before: int | None = None
    while entries := await index.page([SCOPE], before=before, limit=BATCH):
        before = entries[-1].position
        vectors = [(SCOPE, entry.memory.id, corpus.vectors[_number(entry)].tolist()) for entry in entries]
        await index.embed(Planted.fingerprint, vectors)


def _number(entry: Entry) -> int:
    return int(entry.memory.text.split(" ", 1)[0][1:])


def _exact(corpus: Corpus, vector: Vectors) -> set[int]:
    return set(np.argsort(-(corpus.vectors @ vector))[:10].tolist())


def _unit(vectors: Any) -> Vectors:
    found: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return found


async def _cpu(work: Callable[[], Awaitable[Any]]) -> float:
    start = time.process_time()
    await work()
    return time.process_time() - start


def _faiss(corpus: Corpus) -> Callable[[int], object]:
    """The nearest vectors alone, in memory, by exact comparison."""
    faiss: Any = importlib.import_module("faiss")
    faiss.omp_set_num_threads(1)
    flat = faiss.IndexFlatIP(DIMENSIONS)
    flat.add(corpus.vectors)
    return lambda number: flat.search(corpus.query_vectors[number : number + 1], 100)


def _langgraph(corpus: Corpus) -> Callable[[int], object]:
    """Texts and their vectors in memory; by vectors alone."""
    store: Any = importlib.import_module("langgraph.store.memory")
    known = dict(zip(corpus.texts + corpus.queries, [*corpus.vectors, *corpus.query_vectors], strict=True))

    def embed(texts: Sequence[str]) -> list[list[float]]:
        return [known[text].tolist() for text in texts]

    kept = store.InMemoryStore(index={"dims": DIMENSIONS, "embed": embed, "fields": ["text"]})
    for number, text in enumerate(corpus.texts):
        kept.put(("bench", "user"), str(number), {"text": text})
    return lambda number: kept.search(("bench", "user"), query=corpus.queries[number], limit=10)


PEERS: dict[str, Callable[[Corpus], Callable[[int], object]]] = {
    "faiss IndexFlatIP": _faiss,
    "langgraph InMemoryStore": _langgraph,
}
MOST = {"langgraph InMemoryStore": 10_000}
"""With more than these a search takes seconds, and filling it many minutes."""


def _can_be_asked(name: str, size: int) -> bool:
    return size <= MOST.get(name, size) and importlib.util.find_spec(name.split()[0]) is not None


def _peer(made: Callable[[Corpus], Callable[[int], object]], corpus: Corpus) -> float:
    ask = made(corpus)
    ask(0)
    spent = []
    for number in range(min(QUERIES, 20)):
        start = time.process_time()
        ask(number)
        spent.append(time.process_time() - start)
    return statistics.median(spent) * 1e3


def report(found: Found) -> str:
    lines = [
        f"{found.size:,} memories of {DIMENSIONS} dimensions in one scope",
        f"  recall, words and vectors   {found.recall_p50_ms:8.2f} ms CPU p50, {found.recall_p95_ms:.2f} p95",
        f"    words {found.words_ms:.2f} ms, vectors {found.vectors_ms:.2f} ms, entries {found.entries_ms:.2f} ms",
        f"  recall@10 against exact     {found.recall_at_10:8.4f}",
        f"  remembered, durable         {found.remembered_per_s:8,.0f}/s of CPU",
        f"  applied to the index        {found.applied_per_s:8,.0f}/s, vectors {found.embedded_per_s:,.0f}/s",
    ]
    lines += [f"  {name:27} {spent:8.2f} ms CPU p50 a search by vectors" for name, spent in found.peers.items()]
    missing = [name for name in PEERS if name not in found.peers]
    return "\n".join(lines + ([f"  not measured: {', '.join(missing)}"] if missing else []))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, action="append", help="how many memories (default: 1000, 10000, 100000)")
    for size in parser.parse_args().size or (1_000, 10_000, 100_000):
        with tempfile.TemporaryDirectory() as directory:
            print(report(asyncio.run(measure(size, Path(directory)))))


if __name__ == "__main__":
    main()
