"""What every back end asks of an append, and how it refuses one."""

from ostler.kernel.errors import StaleWrite, UsageError
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
