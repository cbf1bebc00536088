"""What an audit file is made of: JSON lines that rebuild the tree of a tenant from its first leaf to its last.

A header; a line for each root that was, or is to be, signed; what was removed, if anything; and then the leaves from
left to right. Each of them is in an event that can be read, in a hash of an event that was removed, or below the root
of a subtree of events that are not in the file. So whoever reads it once, with a few hundred bytes of memory, has the
root of the whole tree, and every event in the file is proved by its place in it.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec

from ostler.kernel.errors import UsageError

FORMAT_VERSION = 1

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class _Line(msgspec.Struct, frozen=True, tag_field="line", forbid_unknown_fields=True):
    """What is not known here would go unjudged: a file with more in it has another version."""


class Header(_Line, frozen=True, tag="ostler.audit"):
    """Whose log it is, and how much of it.

    `size` is the number of leaves. Those from `start` up to `end` are the period; `sessions` are the only ones that
    are shown, None: all that did anything in the period, from their first event.
    """

    version: int
    written_by: str
    tenant: str
    size: Count
    start: Count
    end: Count
    sessions: list[str] | None = None


class Root(_Line, frozen=True, tag="root"):
    """The root of the first `size` leaves, the proof that the whole tree begins with them, and who signed it, if any.

    `proof` is that of RFC 6962, 2.1.2; `note` is a signed checkpoint.
    """

    size: Count
    root: bytes
    proof: list[bytes]
    note: str = ""


class Removed(_Line, frozen=True, tag="removed"):
    """A session that housekeeping took out of the log: how many events it had, and the hash of the last."""

    session: str
    events: Count
    head: Digest


class Shown(_Line, frozen=True, tag="event"):
    """A leaf that can be read. `event` is its text exactly as stored: the hash is over these bytes."""

    stream: str
    seq: Count
    at_us: int
    hash: Digest
    event: msgspec.Raw


class Gone(_Line, frozen=True, tag="gone"):
    """Leaves whose events are not in the log any more: all that is left are their hashes."""

    hashes: list[bytes]


class Hidden(_Line, frozen=True, tag="hidden"):
    """Leaves that are not in the file: how many, and the roots of the subtrees that they make up, from the left."""

    leaves: Count
    roots: list[bytes]


Line = Header | Root | Removed | Shown | Gone | Hidden


def read_lines(lines: Iterable[bytes]) -> Iterator[Line]:
    """The lines of a file. Raises `UsageError` for anything that is no line of such a file."""
    decode = msgspec.json.Decoder(Line).decode
    number = 0
    for number, text in enumerate(lines, 1):
        try:
            line: Line = decode(text)
            if isinstance(line, Header) != (number == 1):
                raise ValueError("a header stands on the first line, and only there")
            if isinstance(line, Header) and line.version != FORMAT_VERSION:
                raise ValueError(f"it has format version {line.version}, and this Ostler reads {FORMAT_VERSION}")
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise UsageError(
                f"Line {number} is not one of an audit file: {error}.", hint="`ostler audit export` writes such files."
            ) from error
        yield line
    if not number:
        raise UsageError("The file is empty.", hint="`ostler audit export` writes files that can be verified.")
