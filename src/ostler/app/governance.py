"""What holds for all sessions of a tenant: halting it, and changing its policies, each step by whoever may."""

from collections.abc import Sequence

from ostler.app.bootstrap import Parts
from ostler.domain import governance
from ostler.domain.constraint.policy import Policy
from ostler.domain.governance import Change, Governance, GovernanceEvent, PolicyWithdrawn, Proposal
from ostler.domain.identity import DEFAULT_TENANT, Principal
from ostler.domain.resilience.breaker import Kind
from ostler.domain.scheduling import EVERYONE
from ostler.kernel.errors import Halted, NotAllowed


class Governing:
    """The governance of one tenant, or (`*`) of the whole store, in the hands of `by`."""

    def __init__(self, parts: Parts, tenant: str, by: Principal) -> None:
        self._register = parts.governor.register(tenant)
        self._clock = parts.clock
        self._by = by
        self._tenant = tenant

    async def state(self) -> Governance:
        """How things stand now."""
        return await self._register.refresh()

    async def halt(self, reason: str, agent: str = "") -> bool:
        """No call begins and no session starts from now on, of the `agent` if one is named.

        False if that holds already. Raises `NotAllowed`.
        """
        return bool(await self._write(lambda state: governance.halt(state, self._by, reason, agent)))

    async def release(self, reason: str = "", agent: str = "") -> bool:
        """Sessions go on where they stopped; False if nothing was halted. Raises `NotAllowed`."""
        return bool(await self._write(lambda state: governance.release(state, self._by, reason, agent)))

    async def trip(self, kind: Kind, name: str, reason: str) -> bool:
        """No call of a provider or tool begins from now on; False if that holds already. Raises `NotAllowed`."""
        now_us = self._clock.now_us()
        return bool(await self._write(lambda state: governance.trip(state, self._by, kind, name, reason, now_us)))

    async def reset(self, kind: Kind, name: str, reason: str = "") -> None:
        """Its breaker is closed, whoever or whatever has opened it. Raises `NotAllowed`."""
        now_us = self._clock.now_us()
        await self._write(lambda state: governance.reset(state, self._by, kind, name, reason, now_us))

    async def propose(self, policy: Policy, digest: str, change: Change, because: str) -> Proposal:
        await self._write(lambda state: governance.propose(state, self._by, policy, digest, change, because))
        return self._register.state.proposal(digest)

    async def shadow(self, digest: str) -> Proposal:
        await self._write(lambda state: governance.shadow(state, self._by, digest))
        return self._register.state.proposal(digest)

    async def approve(self, digest: str, reason: str) -> Proposal:
        await self._write(lambda state: governance.approve(state, self._by, digest, reason))
        return self._register.state.proposal(digest)

    async def reject(self, digest: str, reason: str) -> Proposal:
        await self._write(lambda state: governance.reject(state, self._by, digest, reason))
        return self._register.state.proposal(digest)

    async def apply(self, digest: str) -> Proposal:
        await self._write(lambda state: governance.apply(state, self._by, digest))
        return self._register.state.proposal(digest)

    async def withdraw(self, name: str, reason: str) -> bool:
        """True if it is withdrawn now; False if that was proposed, and somebody else has to do it."""
        events = await self._write(lambda state: governance.withdraw(state, self._by, name, reason))
        return any(isinstance(event, PolicyWithdrawn) for event in events)

    async def _write(self, decide: governance.Decide) -> Sequence[GovernanceEvent]:
        """Those of the tenant `default`, who own the store, govern everything, and others their own tenant."""
        if self._by.tenant not in (DEFAULT_TENANT, self._tenant):
            raise NotAllowed(f"{self._by.id} is of the tenant {self._by.tenant}, and governs nothing beyond it.")
        return await self._register.write(decide, at_us=self._clock.now_us())


def layers_of_today(held: Governance, layers: Sequence[Policy]) -> tuple[Policy, ...]:
    """The policies of a tenant as of now, above those of these `layers` that a session itself was started under."""
    ever = [one.policy for one in held.proposals.values() if one.stage == "applied"]
    return (*held.layers, *(policy for policy in layers if policy not in ever))


async def in_force(parts: Parts, tenant: str, agent: str = "") -> Governance:
    """What holds for sessions that start in this tenant now, of the whole store and of the tenant together.

    Raises `Halted` if none may, or none of this agent.
    """
    await parts.governor.refresh([EVERYONE, tenant])
    everywhere, here = (parts.governor.register(name).state for name in (EVERYONE, tenant))
    halted = everywhere.halted or here.halted
    if halted is not None:
        raise Halted(
            f"{'Everything' if halted is everywhere.halted else f'The tenant {tenant}'} was halted by {halted.by}: "
            f"{halted.reason or 'no reason was given'}.",
            hint="`ostler release` lets sessions start and go on again.",
        )
    for state in (everywhere, here) if agent else ():
        if (alone := governance.halted(state, agent)) is not None:
            raise Halted(
                f"The agent {agent} was halted by {alone.by}: {alone.reason or 'no reason was given'}.",
                hint=f"`ostler release --agent {agent}` lets its sessions start and go on again.",
            )
    return governance.joined(everywhere, here)
