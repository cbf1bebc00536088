"""Keeps track of what holds for all sessions of a tenant, so that it can be asked at every step for nothing."""

from collections.abc import Iterable

from ostler.domain import governance
from ostler.domain.governance import GOVERNANCE_CODEC, Governance, GovernanceEvent, streams_of
from ostler.domain.scheduling import EVERYONE
from ostler.kernel.event import StreamId
from ostler.ports import EventStore
from ostler.runtime.register import Register


class Governor:
    """What the governance streams said when they were last looked at. Looking is cheap, and asked for from outside:
    when something was written to them, and now and then.
    """

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._registers: dict[str, Register[GovernanceEvent, Governance]] = {}
        self._looked: set[str] = set()

    def register(self, tenant: str) -> Register[GovernanceEvent, Governance]:
        """The stream of one tenant, or (`*`) of the whole store."""
        if tenant not in self._registers:
            stream = streams_of(tenant)[1]
            self._registers[tenant] = Register(self._store, stream, GOVERNANCE_CODEC, governance.evolve, Governance())
        return self._registers[tenant]

    def is_halted(self, tenant: str) -> bool:
        """Whether nothing may begin in this tenant, as far as is known here."""
        return any(self.register(name).state.halted is not None for name in (EVERYONE, tenant))

    @property
    def halted(self) -> frozenset[str]:
        """The tenants, of those that were looked at, in which nothing may begin; `*` is all."""
        return frozenset(name for name, register in self._registers.items() if register.state.halted is not None)

    async def know(self, tenant: str) -> None:
        """Look at the stream of a tenant, if nobody has yet."""
        if tenant not in self._looked:
            await self.refresh([tenant])

    async def refresh(self, tenants: Iterable[str]) -> None:
        """Look at the streams of these tenants, and (`*`) of the whole store."""
        for tenant in tenants:
            await self.register(tenant).refresh()
            self._looked.add(tenant)

    async def refresh_all(self) -> None:
        """Look at those that were looked at before."""
        await self.refresh(list(self._registers))

    def concerns(self, streams: Iterable[StreamId]) -> bool:
        """Whether any of these is a governance stream."""
        return any(stream.name == governance.GOVERNANCE for stream in streams)
