"""Merkle trees as RFC 6962 and RFC 9162 define them: roots, proofs that a leaf is in, proofs that a tree only grew.

Hashes are SHA-256, 32 bytes. A *subtree* is one of 2^level leaves that begins at a multiple of 2^level. Whoever keeps
the roots of such subtrees can prove everything: `inclusion_path` and `consistency_path` say of which ranges of leaves a
proof needs the roots, `subtrees` which subtrees make up a range, and `combined` makes its root of theirs.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

EMPTY_ROOT = hashlib.sha256(b"").digest()
"""The root of a tree without leaves."""

_sha256 = hashlib.sha256


class Subtree(NamedTuple):
    """The leaves `number * 2**level` up to, and without, `(number + 1) * 2**level`."""

    level: int
    number: int


class Range(NamedTuple):
    """The leaves from `start` up to, and without, `end`."""

    start: int
    end: int


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf that holds `data`."""
    return _sha256(b"\0" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node with these two below it."""
    return _sha256(b"\1" + left + right).digest()


class Frontier:
    """The right edge of a growing tree: all that is needed to add leaves and to know the root.

    It holds the roots of the subtrees that make up the tree, the largest first: one for each 1 in `size` as a binary
    number.
    """

    __slots__ = ("roots", "size")

    def __init__(self, size: int = 0, roots: Sequence[bytes] = ()) -> None:
        if len(roots) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} subtrees, not {len(roots)}")
        self.size = size
        self.roots = list(roots)

    def add(self, root: bytes, level: int = 0) -> list[bytes]:
        """Add one subtree by its root: of level 0, one leaf by its hash.

        Returns the roots of all subtrees that this completes, from `level` upwards. Raises `ValueError` where no
        subtree of that level begins.
        """
        if self.size & ((1 << level) - 1):
            raise ValueError(f"no subtree of level {level} begins at leaf {self.size}")
        roots = self.roots
        completed = [root]
        full = self.size >> level
        while full & 1:
            root = _sha256(b"\1" + roots.pop() + root).digest()
            completed.append(root)
            full >>= 1
        roots.append(root)
        self.size += 1 << level
        return completed

    def root(self) -> bytes:
        """The root of the whole tree."""
        return combined(self.roots)


def subtrees(leaves: Range) -> list[Subtree]:
    """The fewest subtrees that make up a range, from left to right."""
    found, (start, end) = [], leaves
    while start < end:
        fits = (end - start).bit_length() - 1
        level = min(fits, (start & -start).bit_length() - 1) if start else fits
        found.append(Subtree(level, start >> level))
        start += 1 << level
    return found


def combined(roots: Sequence[bytes]) -> bytes:
    """The root of a range that is made up of subtrees with these roots, the largest first."""
    if not roots:
        return EMPTY_ROOT
    *others, root = roots
    for left in reversed(others):
        root = node_hash(left, root)
    return root


def inclusion_path(index: int, size: int) -> list[Range]:
    """The ranges whose roots prove that leaf `index` is in a tree of `size` leaves (RFC 9162, 2.1.3.1).

    From the leaf upwards. Raises `ValueError` if there is no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} in a tree of {size}")
    path, (start, end) = [], Range(0, size)
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(Range(middle, end))
            end = middle
        else:
            path.append(Range(start, middle))
            start = middle
    return path[::-1]


def consistency_path(old: int, new: int) -> list[Range]:
    """The ranges whose roots prove that a tree of `new` leaves begins with one of `old` (RFC 9162, 2.1.4.1).

    Empty if there is nothing to prove: `old` is 0, or `new`. Raises `ValueError` if `old` is greater.
    """
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {new} leaves cannot begin with one of {old}")
    path, (start, end) = [], Range(0, new)
    if old in (0, new):
        return []
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(Range(middle, end))
            end = middle
        else:
            path.append(Range(start, middle))
            start = middle
    if start:
        path.append(Range(start, end))  # else it is the old root, which whoever verifies has
    return path[::-1]


def is_included(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether `proof` shows that the leaf with this hash is number `index` under `root` (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    place, last, current = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            current = node_hash(sibling, current)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            current = node_hash(current, sibling)
        place, last = place >> 1, last >> 1
    return last == 0 and current == root


def is_consistent(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether `proof` shows that the tree under `new_root` begins with that under `old_root` (RFC 9162, 2.1.4.2)."""
    if not 0 <= old <= new:
        return False
    if old in (0, new):
        return not proof and old_root == (new_root if old == new else EMPTY_ROOT)
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    if not path:
        return False
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    of_old = of_new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            of_old, of_new = node_hash(sibling, of_old), node_hash(sibling, of_new)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            of_new = node_hash(of_new, sibling)
        place, last = place >> 1, last >> 1
    return last == 0 and of_old == old_root and of_new == new_root


def _split(size: int) -> int:
    """The largest power of two that is less than `size`."""
    return 1 << ((size - 1).bit_length() - 1)
