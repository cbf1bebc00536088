"""What is halted at the moment: by whom, since when, and why."""

from collections.abc import Iterable

import msgspec

from ostler.app.bootstrap import Parts
from ostler.domain.governance import GOVERNANCE_CODEC, FleetHalted, streams_of
from ostler.domain.scheduling import EVERYONE
from ostler.kernel.event import timestamp


class Halt(msgspec.Struct, frozen=True):
    """No call begins and no session starts in this tenant (`*`: in the whole store) since this RFC 3339 moment.

    With an `agent`, that holds for its sessions only.
    """

    tenant: str
    by: str
    since: str
    reason: str
    agent: str = ""


async def halts(parts: Parts, tenants: Iterable[str]) -> list[Halt]:
    """Those of the whole store and of these tenants."""
    found = []
    for tenant in dict.fromkeys((EVERYONE, *tenants)):
        state = await parts.governor.register(tenant).refresh()
        for halted in (*([state.halted] if state.halted is not None else []), *state.halted_agents.values()):
            since = timestamp(await _since_us(parts, tenant, halted.agent))
            found.append(Halt(tenant, halted.by, since, halted.reason, halted.agent))
    return found


async def _since_us(parts: Parts, tenant: str, agent: str) -> int:
    """When it was last halted; the events say who and why, and their records when."""
    _, stream = streams_of(tenant)
    events = [(record.at_us, GOVERNANCE_CODEC.decode(record.data)) for record in await parts.store.read(stream)]
    return max(at_us for at_us, event in events if isinstance(event, FleetHalted) and event.agent == agent)
