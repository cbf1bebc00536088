"""A relay: hands the log on to a bus, in order and at least once, and remembers how far it has come."""

import asyncio
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from ostler.domain.identity import DEFAULT_TENANT
from ostler.domain.resilience.retry import retry_delay_s
from ostler.kernel.errors import BusError, EventRefused, NotFound, OstlerError, StaleWrite, StoreError
from ostler.kernel.event import Record
from ostler.ports import Clock, Entropy, EventBus, EventStore, Row, ViewStore

WAIT_S = 5.0
"""How long it waits for the log to grow before it looks by itself."""
KEEP_S = 0.25
"""How long its position may be ahead of the stored one: a busy log costs the store four commits a second, and a relay
that is killed repeats what it handed over in the last quarter of one."""
PAUSE_MAX_S = 600.0
"""The longest wait between two tries, whatever the receiver asks for."""

State = Literal["starting", "catching up", "following", "waiting", "stopped"]


class RelaySettings(msgspec.Struct, frozen=True):
    """`types` are patterns of event types (`tool.*`), `tenants` names; none of either is all.

    `after` is where it begins when it runs for the first time (None: at the end of the log). An event that cannot be
    handed over for `give_up_s` becomes a dead letter (None: it is tried for ever). `batch` events are read at once, and
    `at_once` of them handed over: where they go one by one, one, so that little is repeated after a crash.
    """

    name: str
    types: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    after: int | None = 0
    give_up_s: float | None = None
    batch: int = 500
    at_once: int = 500


class DeadLetter(msgspec.Struct, frozen=True):
    """An event that was not handed over, and why. The event itself is in the log at `position`."""

    position: int
    tenant: str
    stream: str
    seq: int
    at_us: int
    reason: str


class Relay:
    """Runs until it is cancelled. `trouble` is told of every error that it meets; none of them ends it."""

    def __init__(
        self,
        *,
        store: EventStore,
        views: ViewStore,
        bus: EventBus,
        clock: Clock,
        entropy: Entropy,
        settings: RelaySettings,
        trouble: Callable[[OstlerError], None],
    ) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._entropy = entropy
        self._settings = settings
        self._trouble = trouble
        self._marker = Marker(views, settings.name)
        self._position = 0
        self._keep_at_s = 0.0
        self.state: State = "starting"
        self.handed_over = 0
        """How many events it has handed over."""
        self.on_change: Callable[[State], None] = lambda state: None
        """Told of every change of `state`."""

    @property
    def name(self) -> str:
        return self._settings.name

    async def lag(self) -> int:
        """How many events of the log it has not looked at yet."""
        return max(0, await self._store.head() - self._position)

    async def run(self) -> None:
        """Follow the log until cancelled; then the position is stored."""
        failures = 0
        try:
            while True:
                try:
                    if self.state in ("starting", "stopped"):
                        await self._begin()
                    await self._step()
                    failures = 0
                except StaleWrite as stale:
                    failures += 1
                    await self._be_told(stale, failures)
                except StoreError as error:
                    failures += 1
                    self._trouble(error)
                    await self._pause(failures)
        finally:
            self._change("stopped")
            try:
                await self._marker.keep(self._position)
            except OstlerError as error:
                self._trouble(error)

    async def _begin(self) -> None:
        self._position = await self._marker.begin(self._settings.after, self._store)
        self._change("catching up")

    async def _be_told(self, stale: StaleWrite, failures: int) -> None:
        """Somebody else has moved the position: go on from there. That repeats events, and leaves none out."""
        hint = "Run each relay once. Two of them lose nothing and hand everything over twice."
        self._trouble(StaleWrite(f"Another relay {self.name!r} is at work.", hint=hint, **stale.facts))
        await self._pause(failures)
        self._position = await self._marker.read()

    async def _step(self) -> None:
        """Hand over the next batch, or wait for one."""
        records = await self._store.tail(after=self._position, limit=self._settings.batch)
        if not records:
            await self._keep_position()
            self._change("following")
            await self._store.wait(after=self._position, timeout_s=WAIT_S)
            return
        if len(records) == self._settings.batch:
            self._change("catching up")
        await self._hand_over([record for record in records if self._wants(record)])
        self._position = records[-1].position
        await self._keep_position(is_pressing=False)

    async def _hand_over(self, records: Sequence[Record]) -> None:
        """Return when each of these is there, or a dead letter."""
        failures, since_s = 0, _now_s()
        while records:
            part = records[: self._settings.at_once]
            try:
                await self._bus.publish(part)
                self._advance(part, len(part))
                records, failures, since_s = records[len(part) :], 0, _now_s()
                await self._keep_position(is_pressing=False)
            except EventRefused as refusal:
                self._trouble(refusal)
                done = min(_count_until(records, refusal.position - 1), len(records) - 1)
                self._advance(records, done)
                await self._bury(records[done], refusal)
                records, failures, since_s = records[done + 1 :], 0, _now_s()
            except BusError as error:
                if done := _count_until(records, error.kept):
                    self._advance(records, done)
                    records, failures, since_s = records[done:], 0, _now_s()
                failures += 1
                self._change("waiting")
                self._trouble(error)
                give_up_s = self._settings.give_up_s
                if records and give_up_s is not None and _now_s() >= since_s + give_up_s:
                    await self._bury(records[0], error)
                    records, failures, since_s = records[1:], 0, _now_s()
                else:
                    await self._keep_position()
                    await self._pause(failures, error.retry_after_s)

    def _advance(self, records: Sequence[Record], count: int) -> None:
        """The first `count` of these are there."""
        if count:
            self.handed_over += count
            self._position = records[count - 1].position
            if self.state == "waiting":
                self._change("catching up")

    async def _bury(self, record: Record, error: BusError) -> None:
        """Leave this one out, and write that down together with the position behind it."""
        letter = DeadLetter(
            record.position, *record.stream, seq=record.seq, at_us=self._clock.now_us(), reason=error.message
        )
        await self._marker.keep(record.position, letter)
        self._position = record.position

    async def _keep_position(self, *, is_pressing: bool = True) -> None:
        if is_pressing or _now_s() >= self._keep_at_s:
            await self._marker.keep(self._position)
            self._keep_at_s = _now_s() + KEEP_S

    async def _pause(self, failures: int, retry_after_s: float | None = None) -> None:
        chance = int.from_bytes(self._entropy.chance(4)) / 2**32
        delay_s = retry_delay_s(failures, chance, retry_after_s=retry_after_s)
        await asyncio.sleep(min(PAUSE_MAX_S, delay_s))

    def _wants(self, record: Record) -> bool:
        settings = self._settings
        if settings.tenants and record.stream.tenant not in settings.tenants:
            return False
        if not settings.types:
            return True
        kind = _TAGGED.decode(record.data).type
        return any(fnmatchcase(kind, pattern) for pattern in settings.types)

    def _change(self, state: State) -> None:
        if state != self.state:
            self.state = state
            self.on_change(state)


class Marker:
    """How far a relay has read, and what it left out: rows of a view `relay/<name>`."""

    def __init__(self, views: ViewStore, relay: str) -> None:
        self._views = views
        self._relay = relay
        self._view = f"relay/{relay}"
        self._stored = 0

    async def begin(self, after: int | None, store: EventStore) -> int:
        """The position to go on from; the first time that is `after`, and is written down."""
        if await self.has_begun():
            return await self.read()
        position = await store.head() if after is None else after
        self._stored = await self._views.position(self._view)
        await self._move(position, [Row(DEFAULT_TENANT, _BEGUN, b"{}")])
        return position

    async def has_begun(self) -> bool:
        """Whether the relay ever ran: at position 0 it may have, with nothing to read."""
        return bool(await self._views.rows(self._view, DEFAULT_TENANT, [_BEGUN]))

    async def read(self) -> int:
        """The position as it is stored now."""
        self._stored = await self._views.position(self._view)
        return self._stored

    async def keep(self, position: int, letter: DeadLetter | None = None) -> None:
        """Store the position, and a dead letter with it. Raises `StaleWrite` if somebody else has moved it."""
        if letter is not None:
            await self._move(position, [Row(DEFAULT_TENANT, _key(letter.position), msgspec.json.encode(letter))])
        elif position > self._stored:
            await self._move(position, [])

    async def _move(self, position: int, rows: Sequence[Row]) -> None:
        await self._views.advance(self._view, after=self._stored, position=position, rows=rows)
        self._stored = position

    async def letters(self, *, after: int = 0, limit: int = 1000) -> list[DeadLetter]:
        """The dead letters with `position > after`, in order."""
        start = _key(after) if after else _DEAD
        page = await self._views.page(self._view, DEFAULT_TENANT, after=start, limit=limit)
        return [msgspec.json.decode(body, type=DeadLetter) for key, body in page if key.startswith(_DEAD)]

    async def deliver(self, letter: DeadLetter, store: EventStore, bus: EventBus) -> None:
        """Hand a dead letter over once more, and forget it. Raises `BusError`; then it is kept.

        It comes after younger events: whoever takes it tells by its position. A relay at work is not disturbed.
        """
        records = await store.tail(after=letter.position - 1, limit=1)
        if not records or records[0].position != letter.position:
            raise NotFound(f"The log holds no event at position {letter.position}.")
        await bus.publish(records)
        while True:
            await self.read()
            try:
                await self._move(self._stored, [Row(DEFAULT_TENANT, _key(letter.position), None)])
                return
            except StaleWrite:  # the relay has moved on between our two steps
                continue

    async def move(self, position: int) -> None:
        """Let the relay go on from another position; dead letters stay. It must not be at work."""
        await self.read()
        await self._move(position, [Row(DEFAULT_TENANT, _BEGUN, b"{}")])


class _Tagged(msgspec.Struct):
    type: str


_TAGGED = msgspec.json.Decoder(_Tagged)
_BEGUN = "begun"
_DEAD = "dead/"


def _key(position: int) -> str:
    """The key of a dead letter: keys sort as positions do."""
    return f"{_DEAD}{position:020d}"


def _count_until(records: Sequence[Record], position: int) -> int:
    """How many of these are not beyond `position`."""
    return sum(record.position <= position for record in records)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
