"""Signing for the log: a checkpoint says how many events there are and what they are, and is kept elsewhere."""

import msgspec

from ostler.app.audit.note import SigningKey, read_note
from ostler.app.audit.tree import Tree
from ostler.domain.audit import AUDIT, AUDIT_CODEC, Checkpoint, CheckpointSigned, read_checkpoint
from ostler.kernel.errors import StoreCorrupt, UsageError
from ostler.kernel.event import StreamId
from ostler.ports import Clock, EventStore
from ostler.runtime.register import Register


class Signed(msgspec.Struct, frozen=True):
    """A checkpoint that was signed: `note` is the whole of it, to be kept where nobody can rewrite it with the log."""

    tenant: str
    size: int
    note: str


async def sign_checkpoint(
    store: EventStore, tree: Tree, clock: Clock, key: SigningKey, *, tenant: str, by: str
) -> Signed:
    """Sign for every event of the tenant that `tree`, brought up to date, holds; and write down that it was signed.

    Raises `StoreCorrupt` instead of signing what contradicts the last checkpoint: two such signatures would prove that
    the log was rewritten.
    """
    size = (await tree.frontier(tenant)).size
    root = await tree.root(tenant, size)
    for last in (await checkpoints(store, tenant))[-1:]:
        before = said_by(last)
        if before.size > size or await tree.root(tenant, before.size) != before.root:
            raise StoreCorrupt(
                f"The log of {tenant} is no longer the one that was signed for at {before.size} events.",
                hint="Nothing was signed. `ostler audit verify` shows what is wrong.",
            )
    note = key.sign(Checkpoint(key.origin(tenant), size, root).text(), tenant)
    await _register(store, tenant).write(lambda _: [CheckpointSigned(size, note, by)], at_us=clock.now_us())
    return Signed(tenant, size, note)


async def checkpoints(store: EventStore, tenant: str) -> list[CheckpointSigned]:
    """Every checkpoint of a tenant that was ever signed here, the oldest first."""
    return list(await _register(store, tenant).refresh())


def _register(store: EventStore, tenant: str) -> Register[CheckpointSigned, tuple[CheckpointSigned, ...]]:
    return Register(store, StreamId(tenant, AUDIT), AUDIT_CODEC, lambda known, more: (*known, *more), ())


def said_by(signed: CheckpointSigned) -> Checkpoint:
    """What was signed. Raises `StoreCorrupt` if the note is none."""
    try:
        return read_checkpoint(read_note(signed.note).text)
    except UsageError as error:
        raise StoreCorrupt(f"The checkpoint at {signed.size} events was altered: {error.message}") from error
