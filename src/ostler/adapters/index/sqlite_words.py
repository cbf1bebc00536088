"""Which memories hold which terms, in SQLite, ranked by BM25.

The tables are of our own, and not those of FTS5, for three reasons that were measured: its BM25 counts the whole file
for each term, so that a small scope pays for all the others and is ranked by what they hold; to take a text out of it
without a trace, the whole file must be written anew (https://www.sqlite.org/fts5.html, section 6.8); and here
six terms over 100,000 texts take a third of the time.
"""

import sqlite3
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import nlargest
from math import log

from ostler.adapters.index.sqlite_reading import SCOPE_BITS, Keys, allowed
from ostler.adapters.index.stemming import terms
from ostler.ports.memory import Filter, Hit

RUN_BITS = 10
"""The rows of a run differ in so many of their last bits."""
PLACES = (1 << RUN_BITS) - 1
COUNT_BITS = 16 - RUN_BITS
COUNTS = (1 << COUNT_BITS) - 1
LENGTH_MAX = (1 << 16) - 1

K1 = 1.2
B = 0.75
"""How soon more of the same term counts for nothing, and how much the length of a text does: as FTS5 has them."""

POST = """
    INSERT INTO postings (scope, run, term, places) VALUES (?, ?, ?, ?)
    ON CONFLICT (scope, run, term) DO UPDATE SET places = CAST(places || excluded.places AS BLOB)
"""
MEASURE = """
    INSERT INTO lengths (scope, run, terms) VALUES (?, ?, ?)
    ON CONFLICT (scope, run) DO UPDATE SET terms = CAST(terms || excluded.terms AS BLOB)
"""
POSTED = "SELECT places FROM postings WHERE scope = ? AND run = ? AND term = ?"
REPOST = "UPDATE postings SET places = ? WHERE scope = ? AND run = ? AND term = ?"
UNPOST = "DELETE FROM postings WHERE scope = ? AND run = ? AND term = ?"
RUNS = """
    SELECT p.run, p.places FROM lengths AS l CROSS JOIN postings AS p USING (scope, run)
    WHERE l.scope = ? AND p.term = ?
"""
LENGTHS = "SELECT run, terms FROM lengths WHERE scope = ?"
SIZE = "SELECT episodes + facts + files + closed, terms FROM scopes WHERE key = ?"


def post(connection: sqlite3.Connection, scope: int, texts: Mapping[int, "Counter[str]"]) -> None:
    """Note the terms of new rows, in their order, each with how often it occurs."""
    places: dict[tuple[int, str], array[int]] = {}
    lengths: dict[int, array[int]] = {}
    for row, counts in texts.items():
        run, place = row >> RUN_BITS, (row & PLACES) << COUNT_BITS
        lengths.setdefault(run, array("H")).append(min(LENGTH_MAX, counts.total()))
        for term, count in counts.items():
            places.setdefault((run, term), array("H")).append(place | min(COUNTS, count))
    connection.executemany(POST, [(scope, *key, some.tobytes()) for key, some in sorted(places.items())])
    connection.executemany(MEASURE, [(scope, run, some.tobytes()) for run, some in lengths.items()])


def withdraw(connection: sqlite3.Connection, scope: int, row: int, terms: Iterable[str]) -> None:
    """Leave nothing of a row that has these terms."""
    run, place = row >> RUN_BITS, row & PLACES
    for term in set(terms):
        ((blob,),) = connection.execute(POSTED, (scope, run, term))
        others = array("H", (entry for entry in array("H", blob) if entry >> COUNT_BITS != place))
        if others:
            connection.execute(REPOST, (others.tobytes(), scope, run, term))
        else:
            connection.execute(UNPOST, (scope, run, term))


def asked(words: Iterable[str]) -> list[tuple[str, ...]]:
    """The terms of each word that somebody asks for: of `semi-colon` two, which are to occur both."""
    return list(dict.fromkeys(found for word in words if (found := tuple(dict.fromkeys(terms(word))))))


def search(
    connection: sqlite3.Connection, keys: Keys, wanted: Sequence[tuple[str, ...]], which: Filter, *, limit: int
) -> list[Hit]:
    """Those that hold one of these words, best first; of equals, the newest."""
    ranking = Ranking(connection, keys)
    for words in wanted:
        ranking.add(words)
    hits: list[Hit] = []
    for some in ranking.batches(limit + limit // 2):
        ids = allowed(connection, [row for _, row in some], which)
        hits += [Hit(keys[row >> SCOPE_BITS], ids[row], score) for score, row in some if row in ids]
        if len(hits) >= limit:
            break
    return hits[:limit]


class Ranking:
    """The scores of all rows of some scopes that hold a term that was added.

    A term counts for the more, the fewer texts of these very scopes hold it (S. Robertson and H. Zaragoza, The
    probabilistic relevance framework: BM25 and beyond, 2009).
    """

    def __init__(self, connection: sqlite3.Connection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys
        self._scores: dict[int, float] = {}
        self._lengths: dict[int, array[int]] = {}
        self._texts, total = 0, 0
        for key in keys:
            ((texts, length),) = connection.execute(SIZE, (key,))
            self._texts, total = self._texts + texts, total + length
            self._lengths |= {run: array("H", blob) for run, blob in connection.execute(LENGTHS, (key,))}
        self._norms = _Norms(total / self._texts if total else 1.0)

    def add(self, words: tuple[str, ...]) -> None:
        """Add what a term is worth; of several, where all of them occur."""
        if len(words) == 1:
            self._weigh(words[0], self._scores)
            return
        parts: list[dict[int, float]] = [{} for _ in words]
        for word, part in zip(words, parts, strict=True):
            self._weigh(word, part)
        for row in set(parts[0]).intersection(*parts[1:]):
            self._scores[row] = self._scores.get(row, 0.0) + sum(part[row] for part in parts)

    def batches(self, first: int) -> Iterator[list[tuple[float, int]]]:
        """Scores and rows, best first: so many, and then ever more."""
        pairs = list(zip(self._scores.values(), self._scores, strict=True))
        yield nlargest(first, pairs)
        if len(pairs) > first:
            pairs.sort(reverse=True)
        done = first
        while done < len(pairs):
            yield pairs[done : done * 8]
            done *= 8

    def _weigh(self, term: str, scores: dict[int, float]) -> None:
        runs = [run for key in self._keys for run in self._connection.execute(RUNS, (key, term))]
        texts = sum(len(places) for _, places in runs) // 2
        weight = (K1 + 1) * log(1 + (self._texts - texts + 0.5) / (texts + 0.5))
        norms, known = self._norms, scores.get
        for run, places in runs:
            first, lengths = run << RUN_BITS, self._lengths[run]
            for entry in memoryview(places).cast("H"):
                place, count = entry >> COUNT_BITS, entry & COUNTS
                row = first + place
                scores[row] = known(row, 0.0) + weight * count / (count + norms[lengths[place]])


class _Norms(dict[int, float]):
    """By the length of a text, how often a term must occur in it to be worth half of what it can be."""

    def __init__(self, average: float) -> None:
        self._average = average

    def __missing__(self, length: int) -> float:
        self[length] = found = K1 * (1 - B + B * length / self._average)
        return found
