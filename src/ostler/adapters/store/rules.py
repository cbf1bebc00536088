"""What every back end asks of an append, and how it refuses one."""

import hashlib
from collections.abc import Sequence

from ostler.kernel.errors import Conflict, NotFound, StaleWrite, StoreCorrupt, UsageError
from ostler.kernel.event import StreamId
from ostler.ports import Append, Standing


def check(append: Append) -> None:
    """Raises `UsageError` unless the records are numbered on from `expected`, all of this stream."""
    seq = append.expected
    for record in append.records:
        seq += 1
        if record.seq != seq or record.stream != append.stream:
            raise UsageError(
                f"Record {record.seq} of {record.stream.name!r} was given as record {seq} of {append.stream.name!r}.",
                hint="Number the records on from `expected`, each with the stream of the append.",
            )


def first_standing(append: Append) -> Standing:
    """Where a new stream stands. Raises `UsageError` if its first append does not say so."""
    if append.standing is None:
        raise without_standing(append)
    return append.standing


def without_standing(append: Append) -> UsageError:
    """The refusal of a first append that does not say where its stream stands."""
    return UsageError(
        f"The first append of {append.stream.name!r} does not say where the stream stands.",
        hint="Give the first append of every stream a `standing`.",
    )


def stale(append: Append, *, version: int, epoch: int) -> StaleWrite:
    """The refusal of an append that expected something else."""
    return StaleWrite(
        hint="Read the stream again and decide anew.",
        stream=append.stream.name,
        expected=append.expected,
        version=version,
        expected_epoch=append.epoch,
        epoch=epoch,
    )


def stale_view(view: str, *, after: int) -> StaleWrite:
    """The refusal to move a view on from a place where it is not."""
    return StaleWrite(
        f"The view {view} is not at position {after}: somebody else has moved it.",
        hint="Read its position and its rows again.",
        view=view,
        after=after,
    )


def not_at_rest(stream: StreamId) -> StaleWrite:
    """The refusal to take a stream away that goes on, or went on meanwhile."""
    return StaleWrite(
        f"{stream.name} is not at rest: it is due, a worker holds it, or something was appended to it.",
        hint="Look at it again; only sessions that have ended are taken away.",
        stream=stream.name,
    )


def check_erasable(stream: StreamId, version: int, only: Sequence[int] | None) -> None:
    """Raises `UsageError` unless a stream at this version has these events."""
    strangers = [seq for seq in only or () if not 1 <= seq <= version]
    if strangers:
        raise UsageError(f"{stream.name} has {version} events, and none with the number {strangers[0]}.")


def is_newest(stream: StreamId) -> Conflict:
    """The refusal to take the newest stream of a store away."""
    return Conflict(
        f"{stream.name} is the newest session of the store, whose number must not be used twice.",
        hint="Remove it after another has begun.",
    )


def checked_body(body: bytes | None, digest: str) -> bytes:
    """A body as it was found. Raises `NotFound` if it was not, `StoreCorrupt` if it is not what the hash says."""
    if body is None:
        raise NotFound(f"There is no blob {digest!r} here.", digest=digest)
    if hashlib.sha256(body).hexdigest() != digest:
        raise StoreCorrupt(
            f"The blob {digest} is no longer what was stored.", hint="Restore it from a backup.", digest=digest
        )
    return body
