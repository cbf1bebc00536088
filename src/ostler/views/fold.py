"""What a read model is: a pure fold of the log into a row for each stream, and into sums over many streams."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from ostler.domain import housekeeping
from ostler.domain.housekeeping import HOUSEKEEPING, HOUSEKEEPING_CODEC
from ostler.domain.session.events import SESSION_CODEC, SessionEvent
from ostler.kernel.errors import StoreCorrupt, UnknownEvent
from ostler.kernel.event import ERASED, Record

S = TypeVar("S")
T = TypeVar("T")

SESSION_PREFIX = "ses_"
_TAG_FIRST = b'{"type":"'


class Format(Generic[S]):
    """How one kind of rows is kept: as MessagePack, in which the bytes and texts of a row stand as they are."""

    def __init__(self, kind: type[S]) -> None:
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(kind).decode

    def pack(self, row: S) -> bytes:
        """The bytes of a row, the same for the same row."""
        return self._encode(row)

    def unpack(self, body: bytes) -> S:
        """Raises `StoreCorrupt` if this is no such row."""
        try:
            return self._decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StoreCorrupt(
                f"A row of a view is damaged: {error}.", hint="`ostler views rebuild` makes it anew from the log."
            ) from error


class Step(NamedTuple, Generic[S, T]):
    """What follows from one record: the row of its stream from now on (None: none), and what is added to which sums."""

    row: S | None
    more: Sequence[tuple[str, T]] = ()


class View(NamedTuple, Generic[S, T]):
    """A read model of sessions. Its functions are pure and total: whatever the log holds, nothing is raised.

    `evolve` is given the row of the record's stream, and the records of the stream in order, but for events whose type
    it `ignores`; `add` makes one sum of two. A row is kept under the name of its stream, a sum under a key that begins
    with no letter. A fold that changes is a new `version`: it begins at the first event, with rows of its own.
    """

    name: str
    version: int
    rows: Format[S]
    evolve: Callable[[S | None, Record], Step[S, T]]
    sums: Format[T]
    add: Callable[[T, T], T]
    ignores: frozenset[bytes] = frozenset()

    @property
    def id(self) -> str:
        """The name under which a store keeps it."""
        return self.id_of(self.version)

    def id_of(self, version: int) -> str:
        """As `id`, of any version."""
        return f"{self.name}@{version}"

    def wants(self, record: Record) -> bool:
        """Whether the record is one of a session, says something, and is of no type that it ignores.

        Nothing is decoded for it.
        """
        is_said = record.data != ERASED and record.stream.name.startswith(SESSION_PREFIX)
        return is_said and _tag(record.data) not in self.ignores


AnyView = View[Any, Any]


class NoSum(msgspec.Struct, frozen=True):
    """The sum of a view that has none."""


NO_SUMS = Format(NoSum)


def no_sum(total: NoSum, _: NoSum) -> NoSum:
    """What is added up where there is nothing to add."""
    return total


def read(record: Record) -> SessionEvent | str:
    """The event of a record, or what is wrong with it: bytes that nobody wrote may fail in any way."""
    try:
        return SESSION_CODEC.decode(record.data)
    except UnknownEvent as error:
        return error.message
    except Exception as error:
        return f"The event cannot be read: {error}."


def taken_away(record: Record) -> Sequence[str]:
    """The sessions of its tenant that a record says were removed or erased: their rows go, whoever had put them."""
    if record.stream.name != HOUSEKEEPING:
        return ()
    try:
        event = HOUSEKEEPING_CODEC.decode(record.data)
    except UnknownEvent:
        return ()
    return [one.session for one in housekeeping.taken_away(event)]


def _tag(data: bytes) -> bytes:
    """The type of an encoded event, which stands first in it; of anything else, nothing."""
    if not data.startswith(_TAG_FIRST):
        return b""
    return data[len(_TAG_FIRST) : data.find(b'"', len(_TAG_FIRST))]
