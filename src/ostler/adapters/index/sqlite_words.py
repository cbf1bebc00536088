"""Which memories hold which terms, in SQLite, ranked by BM25.

The tables are of our own, and not those of FTS5, for two reasons: its BM25 counts the whole file for each term, so that
a small scope pays for all the others and is ranked by what they hold; and to take a text out of it without a trace, the
whole file must be written anew (https://www.sqlite.org/fts5.html, section 6.8).
"""

import sqlite3
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import nlargest
from itertools import accumulate, groupby
from math import log

from ostler.adapters.index.sqlite_reading import SCOPE_BITS, Keys, allowed, rows_of
from ostler.adapters.index.stemming import terms
from ostler.ports.memory import Filter, Hit

RUN_BITS = 8
"""The rows of a run differ in so many of their last bits: what is known of terms is turned round run by run."""
PLACES = 1 << RUN_BITS
COUNT_MAX = 255
LENGTH_MAX = 65_535

K1 = 1.2
B = 0.75
"""How soon more of the same term counts for nothing, and how much the length of a text does: as FTS5 has them."""

ADD = "INSERT INTO fresh (row, terms, length) VALUES (?, ?, ?)"
FRESH = "SELECT row, terms, length FROM fresh WHERE row BETWEEN ? AND ?"
GONE = "DELETE FROM fresh WHERE row BETWEEN ? AND ?"
POST = "INSERT INTO postings (run, term, places) VALUES (?, ?, ?)"
MEASURE = "INSERT INTO lengths (run, terms) VALUES (?, ?)"
POSTED = "SELECT places FROM postings WHERE run = ? AND term = ?"
REPOST = "UPDATE postings SET places = ? WHERE run = ? AND term = ?"
UNPOST = "DELETE FROM postings WHERE run = ? AND term = ?"
RUNS = """
    SELECT p.run, p.places FROM lengths AS l CROSS JOIN postings AS p USING (run)
    WHERE l.run BETWEEN ? AND ? AND p.term = ?
"""
LENGTHS = "SELECT run, terms FROM lengths WHERE run BETWEEN ? AND ?"
CLEAR = tuple(f"DELETE FROM {table} WHERE run BETWEEN ? AND ?" for table in ("postings", "lengths"))
SIZE = "SELECT episodes + facts + files + closed, terms FROM scopes WHERE key = ?"


def post(connection: sqlite3.Connection, texts: Mapping[int, "Counter[str]"]) -> None:
    """Note how often each term occurs in new rows, which follow one another."""
    for run, rows in groupby(texts, key=lambda row: row >> RUN_BITS):
        some: dict[int, Mapping[str, int]] = {row: texts[row] for row in rows}
        first, last = _rows_of(run)
        if last not in some:
            connection.executemany(ADD, [(row, *_lines(counts)) for row, counts in some.items()])
            continue
        some |= {row: _counts(lines) for row, lines, _ in connection.execute(FRESH, (first, last))}
        connection.execute(GONE, (first, last))
        _turn_round(connection, run, some)


def _turn_round(connection: sqlite3.Connection, run: int, texts: Mapping[int, Mapping[str, int]]) -> None:
    places: dict[str, bytearray] = {}
    lengths = array("H", bytes(2 * PLACES))
    for row in sorted(texts):
        place = row % PLACES
        lengths[place] = min(LENGTH_MAX, sum(texts[row].values()))
        for term, count in texts[row].items():
            entry = (place, count if count < COUNT_MAX else COUNT_MAX)
            if term in places:
                places[term] += bytes(entry)
            else:
                places[term] = bytearray(entry)
    connection.executemany(POST, [(run, term, places[term]) for term in sorted(places)])
    connection.execute(MEASURE, (run, lengths.tobytes()))


def _lines(counts: Mapping[str, int]) -> tuple[str, int]:
    lines = "".join(f"\n{term} {count}" for term, count in counts.items())
    return f"{lines}\n", sum(counts.values())


def _counts(lines: str) -> dict[str, int]:
    parts = lines.split()
    return dict(zip(parts[::2], map(int, parts[1::2]), strict=True))


def withdraw(connection: sqlite3.Connection, row: int, terms: Iterable[str]) -> None:
    """Leave nothing of a row that has these terms."""
    if connection.execute(GONE, (row, row)).rowcount:
        return
    run, place = row >> RUN_BITS, row % PLACES
    for term in set(terms):
        ((blob,),) = connection.execute(POSTED, (run, term))
        at = blob[::2].index(place) * 2
        others = blob[:at] + blob[at + 2 :]
        if others:
            connection.execute(REPOST, (others, run, term))
        else:
            connection.execute(UNPOST, (run, term))


def clear(connection: sqlite3.Connection, first: int, last: int) -> None:
    """Leave nothing of whole runs, from the row `first` to the row `last`."""
    connection.execute(GONE, (first, last))
    for query in CLEAR:
        connection.execute(query, (first >> RUN_BITS, last >> RUN_BITS))


def run_of(row: int) -> tuple[int, int]:
    """The first and the last row of the run that a row is in."""
    return _rows_of(row >> RUN_BITS)


def _rows_of(run: int) -> tuple[int, int]:
    return run << RUN_BITS, (run + 1 << RUN_BITS) - 1


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
        self._spans = [rows_of(key) for key in keys]
        self._scores: dict[int, float] = {}
        self._lengths: dict[int, array[int]] = {}
        fresh: list[tuple[int, str, int]] = []
        self._texts, total = 0, 0
        for key, (first, last) in zip(keys, self._spans, strict=True):
            ((texts, length),) = connection.execute(SIZE, (key,))
            self._texts, total = self._texts + texts, total + length
            runs = connection.execute(LENGTHS, (first >> RUN_BITS, last >> RUN_BITS))
            self._lengths |= {run: array("H", blob) for run, blob in runs}
            fresh += connection.execute(FRESH, (first, last))
        self._fresh = _Fresh(fresh)
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
        fresh = list(self._fresh.holding(term))
        runs: list[tuple[int, bytes]] = []
        for first, last in self._spans:
            runs += self._connection.execute(RUNS, (first >> RUN_BITS, last >> RUN_BITS, term))
        texts = len(fresh) + sum(len(places) for _, places in runs) // 2
        weight = (K1 + 1) * log(1 + (self._texts - texts + 0.5) / (texts + 0.5))
        norms, known = self._norms, scores.get
        for row, count, length in fresh:
            scores[row] = known(row, 0.0) + weight * count / (count + norms[length])
        for run, places in runs:
            first, lengths = run << RUN_BITS, self._lengths[run]
            for place, count in zip(places[::2], places[1::2], strict=True):
                row = first + place
                scores[row] = known(row, 0.0) + weight * count / (count + norms[lengths[place]])


class _Fresh:
    """The rows of runs that are not complete, all of their lines together: they are looked through as one text."""

    def __init__(self, rows: Sequence[tuple[int, str, int]]) -> None:
        self._rows = rows
        self._text = "".join(lines for _, lines, _ in rows)
        self._ends = list(accumulate(len(lines) for _, lines, _ in rows))

    def holding(self, term: str) -> Iterator[tuple[int, int, int]]:
        """Rows with this term, with how often it occurs and the length of the text."""
        line = f"\n{term} "
        at = self._text.find(line)
        while at >= 0:
            row, _, length = self._rows[bisect_right(self._ends, at)]
            start, end = at + len(line), self._text.index("\n", at + len(line))
            yield row, int(self._text[start:end]), length
            at = self._text.find(line, end)


class _Norms(dict[int, float]):
    """By the length of a text, how often a term must occur in it to be worth half of what it can be."""

    def __init__(self, average: float) -> None:
        self._average = average

    def __missing__(self, length: int) -> float:
        self[length] = found = K1 * (1 - B + B * length / self._average)
        return found
