"""Relays, made from the settings and looked at from outside."""

from collections.abc import Callable, Sequence

import msgspec

from ostler.app.bootstrap import Parts
from ostler.app.plugins import BUSES, part
from ostler.app.settings import PROJECT_FILE, Settings
from ostler.app.targets import GIVE_UP_S, RelayTarget
from ostler.domain.suggest import did_you_mean
from ostler.kernel.errors import BusError, ConfigurationError, NotFound, OstlerError
from ostler.ports import EventBus
from ostler.runtime.relay import DeadLetter, Marker, Relay, RelaySettings

LETTERS_COUNTED_MAX = 10_000
RETRY_PAGE = 100
KAFKA_PORT = 9092


class RelayView(msgspec.Struct, frozen=True):
    """A relay as it stands: `lag` is how many events of the log it has not looked at, `begun` whether it ever ran."""

    name: str
    to: str
    position: int
    lag: int
    dead_letters: int
    begun: bool


class Retried(msgspec.Struct, frozen=True):
    """What came of handing dead letters over again."""

    delivered: int
    failed: int
    reason: str = ""


def find(settings: Settings, names: Sequence[str] = ()) -> list[RelayTarget]:
    """The relays with these names, or all. Raises `NotFound`; `ConfigurationError` if there are none at all."""
    if not settings.relays:
        raise ConfigurationError(
            "No relays are configured.", hint=f'Add `[relays.NAME]` with `to = "redis://…"` to {PROJECT_FILE}.'
        )
    for name in names:
        if name not in settings.relays:
            near = did_you_mean(name, list(settings.relays))
            hint = f"Did you mean {near!r}?" if near else f"There are: {', '.join(settings.relays)}."
            raise NotFound(f"There is no relay {name!r}.", hint=hint)
    return [settings.relays[name] for name in dict.fromkeys(names or settings.relays)]


def make_bus(target: RelayTarget, parts: Parts) -> EventBus:
    """The bus of a relay. Raises `ConfigurationError`."""
    table, where, secret = target.table, target.address, target.secret
    if table.secret_env is not None and not secret:
        raise ConfigurationError(
            f"The environment variable {table.secret_env} is not set, and the relay {target.name!r} needs it.",
            hint="Set it, or take `secret_env` out of the relay.",
        )
    make = part(BUSES[target.kind], extra="http" if target.kind == "webhook" else target.kind)
    bus: EventBus
    match target.kind:
        case "redis":
            bus = make(table.to, stream=table.stream or "ostler", length_max=table.length_max, password=secret)
        case "nats":
            bus = make(table.to, stream=table.stream or "OSTLER", subject=table.subject or "ostler", password=secret)
        case "kafka":
            topic = table.topic or where.path.strip("/") or "ostler"
            bus = make(
                ",".join(server.at(KAFKA_PORT) for server in where.servers),
                topic=topic,
                user=where.user or None,
                password=secret or where.password or None,
            )
        case "webhook":
            bus = make(table.to, secrets=(secret or "").split(), clock=parts.clock)
    return bus


def make_relay(target: RelayTarget, bus: EventBus, parts: Parts, *, trouble: Callable[[OstlerError], None]) -> Relay:
    """The relay that hands the log of this store over to `bus`."""
    table = target.table
    begin = {"start": 0, "end": None}.get(table.begin, 0) if isinstance(table.begin, str) else table.begin
    is_webhook = target.kind == "webhook"
    give_up_s = (table.give_up_s or GIVE_UP_S) if is_webhook else None
    return Relay(
        store=parts.store,
        views=parts.views,
        bus=bus,
        clock=parts.clock,
        entropy=parts.entropy,
        settings=RelaySettings(
            target.name,
            types=table.types,
            tenants=table.tenants,
            after=begin,
            give_up_s=give_up_s,
            at_once=1 if is_webhook else 500,
        ),
        trouble=trouble,
    )


async def look(target: RelayTarget, parts: Parts) -> RelayView:
    """How a relay stands."""
    marker = Marker(parts.views, target.name)
    position, head = await marker.read(), await parts.store.head()
    letters = await marker.letters(limit=LETTERS_COUNTED_MAX)
    return RelayView(
        name=target.name,
        to=target.shown,
        position=position,
        lag=max(0, head - position),
        dead_letters=len(letters),
        begun=await marker.has_begun(),
    )


async def move(target: RelayTarget, parts: Parts, position: int | None) -> int:
    """Let a relay go on from another position (None: the end of the log), which is returned."""
    position = await parts.store.head() if position is None else position
    await Marker(parts.views, target.name).move(position)
    return position


async def letters(target: RelayTarget, parts: Parts, *, limit: int) -> list[DeadLetter]:
    """The events that a relay has left out."""
    return await Marker(parts.views, target.name).letters(limit=limit)


async def retry(target: RelayTarget, bus: EventBus, parts: Parts, *, positions: Sequence[int] = ()) -> Retried:
    """Hand the dead letters (at these positions, or all) over once more, the oldest first.

    One that is refused again is kept, and the next is tried; one that cannot be handed over now ends it.
    """
    marker, delivered, failed, after = Marker(parts.views, target.name), 0, 0, 0
    said = ""
    while page := await marker.letters(after=after, limit=RETRY_PAGE):
        after = page[-1].position
        for letter in page:
            if positions and letter.position not in positions:
                continue
            try:
                await marker.deliver(letter, parts.store, bus)
                delivered += 1
            except BusError as error:
                failed, said = failed + 1, error.message
                if error.retryable:
                    return Retried(delivered, failed, said)
    return Retried(delivered, failed, said)
