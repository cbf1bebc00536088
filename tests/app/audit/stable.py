"""A store with the logs of two tenants, for audits; and tools to forge what came out of it."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from ostler.app.audit.checkpoint import Signed, sign_checkpoint
from ostler.app.audit.export import cut_by_checkpoints, export
from ostler.app.audit.lines import Line, read_lines
from ostler.app.audit.note import SigningKey
from ostler.app.audit.tree import Tree
from ostler.app.audit.verify import Check, Verifier, verify
from ostler.app.bootstrap import Parts, connect
from ostler.app.housekeeping import Housekeeping
from ostler.app.settings import Settings
from ostler.domain.housekeeping import HOUSEKEEPING, HOUSEKEEPING_CODEC, MemoriesErased
from ostler.kernel.event import GENESIS, Record, StreamId, link
from ostler.ports import Append, Standing, StreamInfo

KEY = SigningKey("stable.example", bytes(range(32)))
STRANGER = SigningKey("stable.example", bytes(32))
AT_REST = Standing("stable", "completed", None)
DAY_US = 86_400_000_000


class SetClock:
    """A clock that shows what it was set to."""

    def __init__(self, now_us: int = 1_700_000_000_000_000) -> None:
        self.us = now_us

    def now_us(self) -> int:
        return self.us


class Stable:
    """A store, its tree and its clock."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.store = parts.store
        self.clock = parts.clock = SetClock()
        self.tree = Tree(parts.store, parts.views)

    @classmethod
    async def open(cls, url: str) -> "Stable":
        return cls(await connect(Settings(url, Path())))

    async def write(self, name: str, count: int = 1, tenant: str = "acme", said: str = "hay") -> None:
        """Append `count` events to a stream, one append each."""
        stream = StreamId(tenant, name)
        old = await self.store.read(stream)
        seq, previous = (old[-1].seq, old[-1].hash) if old else (0, GENESIS)
        for number in range(seq + 1, seq + 1 + count):
            data = msgspec.json.encode({"type": "hay.eaten", "by": name, "what": said, "bale": number})
            previous = link(previous, stream, number, self.clock.us, data)
            record = Record(stream, number, self.clock.us, data, previous)
            await self.store.append(Append(stream, number - 1, [record], AT_REST))

    async def remove(self, *names: str) -> None:
        """Remove sessions of acme for good, as `ostler store prune` does."""
        await self._keeping().remove(
            [await self._info(name) for name in names], because="old", archive=None, written_by="a test"
        )

    async def erase(self, name: str) -> None:
        """Erase the content of a session of acme."""
        await self._keeping().erase(await self._info(name), because="asked to")

    async def erase_events(self, name: str, *numbers: int) -> None:
        """Erase single events of a stream of acme, with a note of it."""
        stream, notes = StreamId("acme", name), StreamId("acme", HOUSEKEEPING)
        old, version = await self.store.read(notes), len(await self.store.read(stream))
        seq, previous = (old[-1].seq, old[-1].hash) if old else (0, GENESIS)
        data = HOUSEKEEPING_CODEC.encode(MemoriesErased(name, numbers, "the keeper", "asked to"))
        record = Record(notes, seq + 1, self.clock.us, data, link(previous, notes, seq + 1, self.clock.us, data))
        note = Append(notes, seq, [record], Standing(HOUSEKEEPING, HOUSEKEEPING, None))
        await self.store.erase(stream, version, note, only=numbers)

    def _keeping(self) -> Housekeeping:
        parts = self.parts
        return Housekeeping(parts.journal, parts.blobs, parts.views, self.clock, tenant="acme", by="the keeper")

    async def _info(self, name: str) -> StreamInfo:
        (info,) = await self.store.streams("acme", prefix=name)
        return info

    async def sign(self, tenant: str = "acme", key: SigningKey = KEY) -> Signed:
        await self.tree.catch_up()
        return await sign_checkpoint(self.store, self.tree, self.clock, key, tenant=tenant, by="the vet")

    async def lines(
        self,
        *,
        from_us: int | None = None,
        to_us: int | None = None,
        sessions: Sequence[str] = (),
        tenant: str = "acme",
    ) -> list[bytes]:
        """An audit file."""
        await self.tree.catch_up()
        cut = await cut_by_checkpoints(self.store, self.tree, tenant, from_us=from_us, to_us=to_us, sessions=sessions)
        made = export(self.store, self.tree, cut, written_by="a test")
        return [msgspec.json.encode(line) async for line in made]


def judged(lines: Sequence[bytes], verifier: Verifier | None = None) -> dict[str, Check]:
    """The checks of a file by their names, judged with the right key if nothing else is said."""
    verifier = verifier or Verifier(keys=[KEY.verifier("acme")])
    return {check.name: check for check in verify(read_lines(lines), verifier)}


def failed(lines: Sequence[bytes], verifier: Verifier | None = None) -> set[str]:
    return {name for name, check in judged(lines, verifier).items() if check.outcome == "fails"}


def of_kind(lines: Sequence[bytes], kind: str) -> list[int]:
    """Which lines are of this kind."""
    return [number for number, line in enumerate(lines) if msgspec.json.decode(line)["line"] == kind]


def encoded(lines: Sequence[Line]) -> list[bytes]:
    return [msgspec.json.encode(line) for line in lines]
