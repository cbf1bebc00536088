"""The proof of a single event that says nothing of any other, as https://c2sp.org/tlog-proof has it."""

import base64
import binascii
from collections.abc import Sequence

import msgspec

from ostler.app.audit.checkpoint import checkpoints, said_by
from ostler.app.audit.note import VerifierKey, is_log_of, read_note
from ostler.app.audit.tree import Entry, Tree
from ostler.app.audit.verify import INCLUDED, SIGNED, Check, found_text
from ostler.domain.audit import read_checkpoint
from ostler.kernel.errors import Conflict, Erased, NotFound, StoreCorrupt, UsageError
from ostler.kernel.event import ERASED, GENESIS, StreamId, link
from ostler.kernel.merkle import is_included, leaf_hash
from ostler.ports import EventStore

FIRST_LINE = "c2sp.org/tlog-proof@v1"


class Said(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The extra data of a proof: all that the hash of the event is over. `event` is its text exactly as stored."""

    tenant: str
    stream: str
    seq: int
    at_us: int
    previous: str
    event: msgspec.Raw


async def prove(store: EventStore, tree: Tree, stream: StreamId, seq: int) -> str:
    """The proof that this event is in the log, up to the last checkpoint.

    Raises `NotFound`, `Erased`, `Conflict` if it is not signed for yet, `StoreCorrupt` if it is not what was there.
    """
    found = await store.read(stream, after=max(0, seq - 2), limit=2)
    record = next((one for one in found if one.seq == seq), None)
    if record is None:
        raise NotFound(f"There is no event {seq} of {stream.name}.", hint=f"ostler logs {stream.name}")
    if record.data == ERASED:
        raise Erased(f"What event {seq} of {stream.name} said was erased, so that it cannot be proved any more.")
    signed = (await checkpoints(store, stream.tenant))[-1:]
    size = said_by(signed[0]).size if signed else 0
    index = await tree.index_of(stream.tenant, record.position, size)
    if index == size:
        raise Conflict("This event is not signed for yet.", hint="Sign for it first: ostler audit checkpoint")
    if await tree.entry(stream.tenant, index) != Entry(record.position, record.hash):
        raise StoreCorrupt(
            f"Event {seq} of {stream.name} is not what stood there when it was added to the audit tree.",
            hint="`ostler audit verify` shows what is wrong.",
        )
    previous = found[0].hash if seq > 1 else GENESIS
    said = Said(*stream, seq, record.at_us, previous.hex(), msgspec.Raw(record.data))
    path = await tree.inclusion(stream.tenant, index, size)
    extra, *hashes = [base64.b64encode(one).decode() for one in (msgspec.json.encode(said), *path)]
    return "\n".join([FIRST_LINE, f"extra {extra}", f"index {index}", *hashes, "", signed[0].note])


def verify_proof(text: str, keys: Sequence[VerifierKey]) -> list[Check]:
    """Judge such a proof, on any machine. Raises `UsageError` for anything that is none."""
    head, _, note = text.partition("\n\n")
    try:
        first, extra, index, *path = head.split("\n")
        said = msgspec.json.decode(base64.b64decode(extra.removeprefix("extra "), validate=True), type=Said)
        number = int(index.removeprefix("index "))
        proof = [base64.b64decode(one, validate=True) for one in path]
        previous = bytes.fromhex(said.previous)
    except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
        raise UsageError(f"This is no proof of an event: {error}.", hint="`ostler audit prove` writes such.") from error
    if first != FIRST_LINE:
        raise UsageError(f"This is no proof of an event: its first line is not {FIRST_LINE}.")
    signed = read_note(note)
    checkpoint = read_checkpoint(signed.text)
    own = link(previous, StreamId(said.tenant, said.stream), said.seq, said.at_us, bytes(said.event))
    is_in = is_included(leaf_hash(own), number, checkpoint.size, proof, checkpoint.root)
    signer = signed.signer(keys)
    is_signed = signer is not None and signer.name == checkpoint.origin and is_log_of(signer.name, said.tenant)
    return [
        Check(
            "signatures",
            "holds" if is_signed else "fails" if keys else "unchecked",
            f"a checkpoint of {checkpoint.origin} at {checkpoint.size:,} events, "
            + (
                "signed" if is_signed else "signed by none of the given keys" if keys else "and no key to check it with"
            ),
            SIGNED,
        ),
        Check(
            f"decision {said.stream}/{said.seq}",
            "holds" if is_in else "fails",
            found_text(number, said.at_us, own.hex(), bytes(said.event)),
            INCLUDED,
        ),
    ]
