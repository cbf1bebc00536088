"""Vectors of one embedder as matrices in memory, searched by cosine, and given up when room is wanted."""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

BYTES_MAX = 256 * 1024 * 1024
"""What the matrices of an index may take together; of those used longest ago the first ones go."""
SCANNED_MAX = 20_000
"""More vectors than these are sifted first: only those whose signs agree most often with the wanted are compared."""
SIFTED_MIN = 1_000
SIFTED_PER_WANTED = 10
"""So many are compared, at least, and for each that is wanted."""
SURE = 2.5
"""How many standard deviations must lie between what is as near as the last one found, and what was not compared."""

Vectors = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


class Matrix:
    """The vectors of some numbered rows, each of unit length or without a direction."""

    def __init__(self, dimensions: int) -> None:
        self._vectors: Vectors = np.empty((0, dimensions), np.float32)
        self._rows: Rows = np.empty(0, np.int64)
        self._size = 0
        self._signs: Signs | None = None

    def __len__(self) -> int:
        return self._size

    @property
    def nbytes(self) -> int:
        return self._vectors.nbytes + self._rows.nbytes + (self._signs.nbytes if self._signs else 0)

    def put(self, rows: Sequence[int], blobs: Sequence[bytes]) -> None:
        """Add vectors, as float32 in the order of this machine, in place of those that these rows had."""
        numbers = np.array(rows, np.int64)
        self._drop(numbers)
        self._reserve(self._size + len(rows))
        end = self._size + len(rows)
        self._vectors[self._size : end] = np.frombuffer(b"".join(blobs), np.float32).reshape(len(rows), -1)
        self._rows[self._size : end] = numbers
        self._size = end

    def nearest(self, vector: Sequence[float], count: int) -> list[tuple[int, float]]:
        """So many rows and their cosine similarity, best first; of equals, the newest."""
        query = np.array(vector, np.float32)
        sifted = max(SIFTED_MIN, count * SIFTED_PER_WANTED)
        if self._size <= SCANNED_MAX or sifted * 4 > self._size:
            return self._scanned(query, count)
        if self._signs is None or not self._signs.covers(self._size):
            self._signs = Signs(self._vectors[: self._size], room=len(self._rows))
        self._signs.follow(self._vectors[: self._size])
        some, differing = self._signs.most_alike(query, sifted)
        vectors = self._vectors[some]
        rows, scores = self._rows[some], vectors @ query
        best = _best(rows, scores, count)
        if not self._signs.is_sure(query, vectors[best], differing):
            return self._scanned(query, count)
        return _pairs(rows[best], scores[best])

    def _scanned(self, query: Vectors, count: int) -> list[tuple[int, float]]:
        rows, scores = self._rows[: self._size], self._vectors[: self._size] @ query
        best = _best(rows, scores, count)
        return _pairs(rows[best], scores[best])

    def _drop(self, rows: Rows) -> None:
        stays = ~np.isin(self._rows[: self._size], rows)
        if not stays.all():
            kept = int(stays.sum())
            self._vectors[:kept] = self._vectors[: self._size][stays]
            self._rows[:kept] = self._rows[: self._size][stays]
            self._size = kept
            self._signs = None

    def _reserve(self, size: int) -> None:
        """Room for so many; a matrix that grows one by one is copied seldom."""
        if size > len(self._rows):
            room = max(size, self._size + self._size // 4)
            vectors = np.empty((room, self._vectors.shape[1]), np.float32)
            vectors[: self._size] = self._vectors[: self._size]
            rows = np.empty(room, np.int64)
            rows[: self._size] = self._rows[: self._size]
            self._vectors, self._rows, self._signs = vectors, rows, None


class Signs:
    """One bit for each number of each vector: whether it is above the mean of them all.

    Where two vectors point the same way, most of these agree (M. S. Charikar, Similarity estimation techniques from
    rounding algorithms, 2002).
    """

    def __init__(self, vectors: Vectors, *, room: int) -> None:
        self._mean = vectors.mean(axis=0, dtype=np.float32)
        words = -(-vectors.shape[1] // 64)
        self._bits = np.zeros((words, room), np.uint64)
        self._size = 0
        self._begun_with = len(vectors)

    @property
    def nbytes(self) -> int:
        return self._bits.nbytes

    def covers(self, size: int) -> bool:
        """Whether so many have about the same mean, as far as one can tell from their number."""
        return size <= 2 * self._begun_with

    def follow(self, vectors: Vectors) -> None:
        """Take in what these vectors have beyond those known before."""
        while self._size < len(vectors):
            end = min(len(vectors), self._size + 4096)
            self._bits[:, self._size : end] = self._packed(vectors[self._size : end]).T
            self._size = end

    def most_alike(self, query: Vectors, count: int) -> tuple[npt.NDArray[np.intp], int]:
        """The places of those that agree with it most often, and how often they differ at most.

        So many, and those that are their equals.
        """
        differing = np.zeros(self._size, np.uint16)
        for bits, wanted in zip(self._bits, self._packed(query[None])[0], strict=True):
            differing += np.bitwise_count(bits[: self._size] ^ wanted)
        limit = int(np.searchsorted(np.cumsum(np.bincount(differing)), count))
        return np.flatnonzero(differing <= limit), limit

    def is_sure(self, query: Vectors, found: Vectors, differing: int) -> bool:
        """Whether what is as near to the query as these would hardly differ from it in more than so many signs.

        Two vectors at an angle differ in each sign with the probability of the angle divided by pi.
        """
        wanted, others = query - self._mean, found - self._mean
        lengths = np.linalg.norm(others, axis=1) * np.linalg.norm(wanted)
        cosine = float(np.min((others @ wanted) / np.maximum(lengths, 1e-12)))
        chance = float(np.arccos(np.clip(cosine, -1, 1)) / np.pi)
        signs = query.shape[0]
        return bool(signs * chance + SURE * (signs * chance * (1 - chance)) ** 0.5 <= differing)

    def _packed(self, vectors: Vectors) -> npt.NDArray[np.uint64]:
        packed = np.packbits(vectors > self._mean, axis=1)
        padding = self._bits.shape[0] * 8 - packed.shape[1]
        return np.ascontiguousarray(np.pad(packed, ((0, 0), (0, padding)))).view(np.uint64)


class Shelf:
    """Matrices by what they are of, each with a mark that says how far it has been filled."""

    def __init__(self, *, bytes_max: int = BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._matrices: OrderedDict[Hashable, tuple[Matrix, Any]] = OrderedDict()

    def get(self, key: Hashable) -> tuple[Matrix, Any] | None:
        if key in self._matrices:
            self._matrices.move_to_end(key)
        return self._matrices.get(key)

    def put(self, key: Hashable, matrix: Matrix, mark: Any) -> None:
        """Keep it, and let go of others if there is no room for all. The newest one is always kept."""
        self._matrices[key] = (matrix, mark)
        self._matrices.move_to_end(key)
        while len(self._matrices) > 1 and sum(kept.nbytes for kept, _ in self._matrices.values()) > self._bytes_max:
            self._matrices.popitem(last=False)

    def clear(self) -> None:
        self._matrices.clear()


def _best(rows: Rows, scores: Vectors, count: int) -> npt.NDArray[np.intp]:
    """Where the best scores are; of equals, those of the newest rows first."""
    best = np.arange(len(rows)) if count >= len(rows) else np.argpartition(scores, -count)[-count:]
    return best[np.lexsort((-rows[best], -scores[best]))]


def _pairs(rows: Rows, scores: Vectors) -> list[tuple[int, float]]:
    return list(zip(rows.tolist(), scores.tolist(), strict=True))
