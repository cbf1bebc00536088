"""Notices that an agent is driven by something else than before, whenever a session starts, and records it once."""

from collections.abc import AsyncIterator

from ostler.domain.changes import CHANGES_CODEC, MODELS, Driver, Drivers, ModelChanged, driver_of, evolve
from ostler.domain.session.commands import Start
from ostler.domain.session.events import SESSION_CODEC, AgentStarted
from ostler.kernel.errors import UnknownEvent
from ostler.kernel.event import ERASED, StreamId
from ostler.ports import EventStore
from ostler.runtime.register import Register

PAGE = 20


class Changes:
    """The streams `models` of a store.

    Where an agent never changed, nothing is written, and a start costs one look at a stream that is empty: what its
    sessions are driven by is then known from the newest of them, and kept.
    """

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._registers: dict[str, Register[ModelChanged, Drivers]] = {}
        self._ever: dict[tuple[str, str], Driver] = {}

    async def before(self, start: Start) -> None:
        """A session is about to start: record it if it is driven by something else than those before it."""
        await self._note(start, driver_of(start), await self._first(start))

    async def is_other(self, start: Start) -> bool:
        """Whether a session that starts so would be driven by something else than those before it."""
        drivers = await self._register(start.by.tenant).refresh()
        before = drivers.get(start.agent.name, await self._first(start))
        return before is not None and before != driver_of(start)

    async def _first(self, start: Start) -> Driver | None:
        """What drives the agent if it never changed; None if that is not known or of no account."""
        tenant, agent = start.by.tenant, start.agent.name
        ever = self._ever.get((tenant, agent))
        if ever is None and agent not in self._register(tenant).state:
            ever = await self._newest(tenant, agent)
            if ever is not None:
                self._ever[tenant, agent] = ever
        return ever

    async def after(self, start: Start) -> None:
        """It has started: if it seemed to be its agent's first, others may have started beside it."""
        tenant, agent = start.by.tenant, start.agent.name
        if (tenant, agent) in self._ever or agent in self._register(tenant).state:
            return
        now = self._ever[tenant, agent] = driver_of(start)
        for info in await self._store.streams(tenant, prefix=start.session, limit=1):
            await self._note(start, now, await self._newest(tenant, agent, before=info.number))

    async def all(self, tenant: str, agent: str | None = None) -> list[tuple[int, ModelChanged]]:
        """Every change that was recorded, with its moment in microseconds since 1970."""
        records = await self._store.read(StreamId(tenant, MODELS))
        found = [(record.at_us, CHANGES_CODEC.decode(record.data)) for record in records]
        return [(at_us, event) for at_us, event in found if agent in (None, event.agent)]

    async def _note(self, start: Start, now: Driver, ever: Driver | None) -> None:
        def decide(drivers: Drivers) -> list[ModelChanged]:
            before = drivers.get(start.agent.name, ever)
            if before is None or before == now:
                return []
            return [ModelChanged(start.agent.name, before, now, start.session, start.by.id)]

        await self._register(start.by.tenant).write(decide, at_us=start.at_us)

    def _register(self, tenant: str) -> Register[ModelChanged, Drivers]:
        if tenant not in self._registers:
            self._registers[tenant] = Register(self._store, StreamId(tenant, MODELS), CHANGES_CODEC, evolve, {})
        return self._registers[tenant]

    async def _newest(self, tenant: str, agent: str, *, before: int | None = None) -> Driver | None:
        """What drives the newest session of an agent that is no fork; of those that were created `before` one."""
        async for started in self._starts(tenant, agent, before):
            if started.origin is None:
                return driver_of(started)
        return None

    async def _starts(self, tenant: str, agent: str, before: int | None) -> AsyncIterator[AgentStarted]:
        while page := await self._store.streams(tenant, prefix="ses_", queue=agent, before=before, limit=PAGE):
            for info in page:
                (first,) = await self._store.read(info.stream, limit=1)
                try:
                    event = SESSION_CODEC.decode(first.data) if first.data != ERASED else None
                except UnknownEvent:
                    continue
                if isinstance(event, AgentStarted):
                    yield event
            before = page[-1].number
