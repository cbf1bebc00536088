"""What is halted at the moment: by whom, since when, and why."""

from collections.abc import Iterable

import msgspec

from ostler.app.bootstrap import Parts
from ostler.domain.governance import GOVERNANCE_CODEC, FleetHalted, streams_of
from ostler.domain.scheduling import EVERYONE
from ostler.kernel.event import timestamp


class Halt(msgspec.Struct, frozen=True):
    """No call begins and no session starts in this tenant (`*`: in the whole store) since this RFC 3339 moment."""

    tenant: str
    by: str
    since: str
    reason: str


async def halts(parts: Parts, tenants: Iterable[str]) -> list[Halt]:
    """Those of the whole store and of these tenants."""
    found = []
    for tenant in dict.fromkeys((EVERYONE, *tenants)):
        halted = (await parts.governor.register(tenant).refresh()).halted
        if halted is not None:
            found.append(Halt(tenant, halted.by, timestamp(await _since_us(parts, tenant)), halted.reason))
    return found


async def _since_us(parts: Parts, tenant: str) -> int:
    """When it was last halted; the events say who and why, and their records when."""
    _, stream = streams_of(tenant)
    records = await parts.store.read(stream)
    return max(record.at_us for record in records if isinstance(GOVERNANCE_CODEC.decode(record.data), FleetHalted))
