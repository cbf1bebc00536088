"""Vectors of one embedder as matrices in memory, searched exactly, and given up when room is wanted."""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

BYTES_MAX = 256 * 1024 * 1024
"""What the matrices of an index may take together; of those used longest ago the first ones go."""


class Matrix:
    """The vectors of some numbered rows, each of unit length or without a direction."""

    def __init__(self, dimensions: int) -> None:
        self._vectors = np.empty((0, dimensions), np.float32)
        self._rows = np.empty(0, np.int64)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def nbytes(self) -> int:
        return self._vectors.nbytes + self._rows.nbytes

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
        scores = self._vectors[: self._size] @ query
        best = np.arange(self._size) if count >= self._size else np.argpartition(scores, -count)[-count:]
        best = best[np.lexsort((-self._rows[best], -scores[best]))]
        return list(zip(self._rows[best].tolist(), scores[best].tolist(), strict=True))

    def _drop(self, rows: npt.NDArray[np.int64]) -> None:
        stays = ~np.isin(self._rows[: self._size], rows)
        if not stays.all():
            kept = int(stays.sum())
            self._vectors[:kept] = self._vectors[: self._size][stays]
            self._rows[:kept] = self._rows[: self._size][stays]
            self._size = kept

    def _reserve(self, size: int) -> None:
        """Room for so many; a matrix that grows one by one is copied seldom."""
        if size > len(self._rows):
            room = max(size, self._size + self._size // 4)
            vectors = np.empty((room, self._vectors.shape[1]), np.float32)
            vectors[: self._size] = self._vectors[: self._size]
            rows = np.empty(room, np.int64)
            rows[: self._size] = self._rows[: self._size]
            self._vectors, self._rows = vectors, rows


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
