"""How well each way of finding answers the questions of made-up years, and all of them together.

`python -m benchmarks.recall_quality [--json] [--write]`. Of each question it is known what answers it; `recall@k` is
the share of that among the first k memories that `Memories.recall` brings, `MRR` one over the place of the first of it.
Other weights are tried on the year of seed 0, and what is used is judged on those of five others. `--write` puts the
table into docs/explanation/memory.md. What such years cannot show: see benchmarks/dialogues.py.
"""

import argparse
import asyncio
import statistics
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.dialogues import CATEGORIES, Question, Year, year
from ostler.adapters.embedders.hashing import HashingEmbedder
from ostler.adapters.index.sqlite import SqliteIndex
from ostler.adapters.store.memory import MemoryStore
from ostler.domain.memory.memory import Source, memory_id
from ostler.domain.memory.ranking import DEFAULT_WEIGHTS, Weights
from ostler.domain.memory.scope import Scope
from ostler.domain.memory.writing import Wish
from ostler.runtime.memory.embedding import Embedding
from ostler.runtime.memory.memories import Memories

SEEDS = (6, 7, 8, 9, 10)
DEPTHS = (1, 5, 10, 20)
SCOPE = Scope("bench", "friend", "reader")
ALONE = Weights(recency=0, importance=0, frequency=0, relevance=1, words=0, vector=0, lexical=0, graph=0, neighbours=0)
"""Nothing but the ways of finding counts."""
WAYS: dict[str, Weights] = {
    "words": msgspec.structs.replace(ALONE, words=1),
    "vectors (hashed words)": msgspec.structs.replace(ALONE, lexical=1),
    "relations": msgspec.structs.replace(ALONE, graph=1),
    "words + vectors": msgspec.structs.replace(ALONE, words=0.7, lexical=0.3),
    "words + neighbours": msgspec.structs.replace(ALONE, words=1, neighbours=DEFAULT_WEIGHTS.neighbours),
    "words + vectors + neighbours": msgspec.structs.replace(
        ALONE, words=0.7, lexical=0.3, neighbours=DEFAULT_WEIGHTS.neighbours
    ),
    "words + neighbours + relations": msgspec.structs.replace(
        ALONE, words=1, neighbours=DEFAULT_WEIGHTS.neighbours, graph=DEFAULT_WEIGHTS.graph
    ),
    "default": DEFAULT_WEIGHTS,
    "default + a tenth of vectors": msgspec.structs.replace(DEFAULT_WEIGHTS, words=0.9, lexical=0.1),
}
PAGE = Path(__file__).parents[1] / "docs/explanation/memory.md"
BEGIN, END = "<!-- recall: begin -->\n", "<!-- recall: end -->"


class Scored(msgspec.Struct, frozen=True):
    """How one way of finding did in one year: `recall` by depth, of all questions; recall@10 by category."""

    way: str
    seed: int
    recall: dict[int, float]
    mrr: float
    by_category: dict[str, float]


class Spread(msgspec.Struct, frozen=True):
    """The mean over years, and the least and the greatest of them."""

    mean: float
    least: float
    most: float


class Row(msgspec.Struct, frozen=True):
    """How one way of finding did in several years."""

    way: str
    recall: dict[int, Spread]
    mrr: Spread
    by_category: dict[str, float]


class SetClock:
    """A clock that stands at the end of the year."""

    def __init__(self, now_us: int) -> None:
        self._now_us = now_us

    def now_us(self) -> int:
        return self._now_us


class Bench:
    """One year, remembered; it can be asked in any way."""

    def __init__(self, told: Year, seed: int) -> None:
        self.year = told
        self.seed = seed
        self._store = MemoryStore()
        self._clock = SetClock(told.end_us)
        self._names: dict[str, str] = {}

    async def open(self) -> "Bench":
        self._index = await SqliteIndex.open(":memory:")
        self._embedding = Embedding(HashingEmbedder(), self._index, self._clock)
        memories = self._memories(DEFAULT_WEIGHTS)
        source = Source("agent:friend", "ses_year/1")
        wishes = [
            (
                told.id,
                Wish(
                    kind="fact" if told.relation else "episode",
                    text=told.text,
                    source=source,
                    importance=told.importance,
                    relation=told.relation,
                    happened_us=told.happened_us,
                ),
            )
            for told in self.year.told
        ]
        await memories.remember_all(SCOPE, wishes)
        self._names = {memory_id(SCOPE, told.id): told.id for told in self.year.told}
        while await self._embedding.fill([SCOPE], 500):
            pass
        return self

    async def scored(self, way: str, weights: Weights, questions: Sequence[Question] | None = None) -> Scored:
        """How it does with these weights."""
        memories = self._memories(weights)
        places = [(one, await self._places(memories, one)) for one in questions or self.year.questions]
        return Scored(
            way=way,
            seed=self.seed,
            recall={depth: statistics.mean(_share(found, depth) for _, found in places) for depth in DEPTHS},
            mrr=statistics.mean(max((1 / place for place in found if place), default=0.0) for _, found in places),
            by_category={
                category: statistics.mean(_share(found, 10) for one, found in places if one.category == category)
                for category in CATEGORIES
                if any(one.category == category for one, _ in places)
            },
        )

    async def close(self) -> None:
        await self._embedding.close()
        await self._index.close()

    async def _places(self, memories: Memories, question: Question) -> list[int]:
        """For each part of what answers it the place at which it was found, from 1; 0 if it was not."""
        recall = await memories.recall(SCOPE, question.text, limit=max(DEPTHS))
        order = [self._names[one.entry.memory.id] for one in recall.found]
        return [next((place for place, name in enumerate(order, 1) if name in part), 0) for part in question.evidence]

    def _memories(self, weights: Weights) -> Memories:
        return Memories(self._store, self._index, self._clock, embedding=self._embedding, weights=weights)


def _share(places: Sequence[int], depth: int) -> float:
    return sum(0 < place <= depth for place in places) / len(places)


async def measure(seeds: Sequence[int] = SEEDS, *, each: int = 60, ways: dict[str, Weights] = WAYS) -> list[Scored]:
    """Every way in every year."""
    found = []
    for seed in seeds:
        bench = await Bench(year(seed, each=each), seed).open()
        found += [await bench.scored(way, weights) for way, weights in ways.items()]
        await bench.close()
    return found


def rows(scored: Sequence[Scored]) -> list[Row]:
    """The years together, by way."""
    made = []
    for way in dict.fromkeys(one.way for one in scored):
        of_way = [one for one in scored if one.way == way]
        made.append(
            Row(
                way=way,
                recall={depth: _spread([one.recall[depth] for one in of_way]) for depth in DEPTHS},
                mrr=_spread([one.mrr for one in of_way]),
                by_category={
                    name: statistics.mean(one.by_category[name] for one in of_way) for name in of_way[0].by_category
                },
            )
        )
    return made


def _spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.mean(values), min(values), max(values))


def table(found: Sequence[Row]) -> str:
    """The rows as two Markdown tables: by depth, and by category."""
    depths = " | ".join(f"recall@{depth}" for depth in DEPTHS)
    lines = [f"| found by | {depths} | MRR |", f"|---|{'---:|' * (len(DEPTHS) + 1)}"]
    for row in found:
        cells = [_shown(row.recall[depth]) for depth in DEPTHS]
        lines.append(f"| {row.way} | {' | '.join(cells)} | {_shown(row.mrr)} |")
    names = list(found[0].by_category)
    lines += ["", f"| recall@10 | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
    lines += [f"| {row.way} | {' | '.join(f'{row.by_category[name]:.2f}' for name in names)} |" for row in found]
    return "\n".join(lines) + "\n"


def _shown(spread: Spread) -> str:
    return f"{spread.mean:.3f} ({spread.least:.2f}–{spread.most:.2f})"


def write(page: Path, text: str) -> None:
    """Put the table between its marks."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", action="store_true", help="put the table into docs/explanation/memory.md")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument("--each", type=int, default=60, help="questions of each category")
    choice = parser.parse_args()
    found = rows(asyncio.run(measure(choice.seeds, each=choice.each)))
    print(msgspec.json.format(msgspec.json.encode(found)).decode() if choice.json else table(found))
    if choice.write:
        write(PAGE, table(found))


if __name__ == "__main__":
    main()
