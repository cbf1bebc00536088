"""Keeps track of what holds for all sessions of a tenant, so that it can be asked at every step for nothing."""

from collections.abc import Iterable

from ostler.domain import governance
from ostler.domain.governance import GOVERNANCE_CODEC, BreakerTripped, Governance, GovernanceEvent, streams_of
from ostler.domain.resilience.breaker import Key
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

    def is_halted(self, tenant: str, agent: str = "") -> bool:
        """Whether nothing may begin in this tenant, or of this agent of it, as far as is known here."""
        states = [self.register(name).state for name in (EVERYONE, tenant)]
        return any(state.halted is not None or agent in state.halted_agents for state in states)

    def tripped(self, key: Key) -> tuple[str, BreakerTripped] | None:
        """Where this breaker was opened by hand, in the whole store (`*`) or in its tenant, as far as is known here."""
        for name in (EVERYONE, key.tenant):
            tripped = self.register(name).state.tripped
            if tripped and (found := tripped.get((key.kind, key.name))) is not None:
                return name, found
        return None

    def reset_us(self, key: Key) -> int:
        """When somebody last closed this breaker by hand, as far as is known here; 0 if nobody ever did."""
        resets = (self.register(name).state.resets.get((key.kind, key.name)) for name in (EVERYONE, key.tenant))
        return max((found.at_us for found in resets if found is not None), default=0)

    @property
    def halted(self) -> frozenset[str]:
        """The tenants, of those that were looked at, in which nothing may begin; `*` is all."""
        return frozenset(name for name, register in self._registers.items() if register.state.halted is not None)

    @property
    def halted_agents(self) -> frozenset[tuple[str, str]]:
        """The agents of whose sessions nothing may begin, as (tenant, agent); of the tenant `*`, wherever they run."""
        held = self._registers.items()
        return frozenset((name, agent) for name, register in held for agent in register.state.halted_agents)

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
