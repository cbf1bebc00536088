"""What is signed of a log, as a stream of its own, and the text that is signed: how many events, under which root."""

import base64
import binascii

import msgspec

from ostler.kernel.codec import Codec
from ostler.kernel.errors import UsageError
from ostler.kernel.event import Event

AUDIT = "audit"
"""The stream of each tenant that these events stand in, its queue and its status. No agent's name may be this."""


class CheckpointSigned(Event, tag="checkpoint.signed"):
    """The first `size` events of the tenant were signed for. This event comes after them and is none of them.

    `note` is the signed checkpoint, whole, as it was handed out.
    """

    size: int
    note: str
    by: str


AuditEvent = CheckpointSigned

AUDIT_CODEC: Codec[AuditEvent] = Codec(AuditEvent)


class Checkpoint(msgspec.Struct, frozen=True):
    """The text of a checkpoint (https://c2sp.org/tlog-checkpoint): a log, its size, and the root of its tree.

    `origin` names the log: nothing in it is a space or a plus sign.
    """

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Three lines; extension lines are not written."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def read_checkpoint(text: str) -> Checkpoint:
    """The checkpoint that this is the text of; extension lines are passed over. Raises `UsageError`."""
    lines = text.split("\n")
    if len(lines) < 4 or lines[-1] or not all(lines[:-1]):
        raise UsageError("This is no checkpoint: it takes a line of origin, one of the size and one of the root.")
    origin, size, root, *_ = lines
    try:
        digest = base64.b64decode(root, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if not (size.isascii() and size.isdigit() and len(size) < 20 and str(int(size)) == size):
        raise UsageError(f"This is no checkpoint: its second line is no number of events: {size[:40]!r}.")
    if len(digest) != 32:
        raise UsageError(f"This is no checkpoint: its third line is no root of 32 bytes in base64: {root[:60]!r}.")
    return Checkpoint(origin, int(size), digest)
