"""The conversation so far, as an append-only sequence that shares its past."""

from collections.abc import Iterator, Sequence
from typing import overload

from ostler.domain.model import Message


class Transcript(Sequence[Message]):
    """An immutable sequence with O(1) `plus`: every version sees its own prefix of one shared, growing list.

    Adding to a version that is not the newest copies its prefix first, so that no version ever changes.
    """

    __slots__ = ("_length", "_shared")

    def __init__(self, messages: Sequence[Message] = ()) -> None:
        self._shared = list(messages)
        self._length = len(self._shared)

    def plus(self, *messages: Message) -> "Transcript":
        shared = self._shared if len(self._shared) == self._length else self._shared[: self._length]
        shared.extend(messages)
        longer = Transcript.__new__(Transcript)
        longer._shared = shared
        longer._length = len(shared)
        return longer

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> list[Message]: ...
    def __getitem__(self, index: int | slice) -> Message | list[Message]:
        if isinstance(index, slice):
            return self._shared[: self._length][index]
        if not -self._length <= index < self._length:
            raise IndexError(index)
        return self._shared[index if index >= 0 else self._length + index]

    def __iter__(self) -> Iterator[Message]:
        return (self._shared[index] for index in range(self._length))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Transcript) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Transcript({list(self)!r})"
