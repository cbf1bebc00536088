"""Sequences that grow and share their past."""

from collections.abc import Iterator, Sequence
from typing import Generic, Self, TypeVar, overload

T = TypeVar("T")


class Growing(Sequence[T], Generic[T]):
    """An immutable sequence with O(1) `plus`: every version sees its own prefix of one shared, growing list.

    Adding to a version that is not the newest copies its prefix first, so that no version ever changes.
    """

    __slots__ = ("_length", "_shared")

    def __init__(self, items: Sequence[T] = ()) -> None:
        self._shared = list(items)
        self._length = len(self._shared)

    def plus(self, *items: T) -> Self:
        shared = self._shared if len(self._shared) == self._length else self._shared[: self._length]
        shared.extend(items)
        longer = type(self).__new__(type(self))
        longer._shared = shared
        longer._length = len(shared)
        return longer

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return self._shared[: self._length][index]
        if not -self._length <= index < self._length:
            raise IndexError(index)
        return self._shared[index if index >= 0 else self._length + index]

    def __iter__(self) -> Iterator[T]:
        return (self._shared[index] for index in range(self._length))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Growing) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self)!r})"
