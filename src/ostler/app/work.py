"""What the agents of a tenant have done, as the view `work` has it once it has read the whole log."""

from contextlib import suppress

import msgspec

from ostler.app.bootstrap import Parts
from ostler.domain.identity import DEFAULT_TENANT
from ostler.kernel.errors import StoreFull, StoreReadOnly
from ostler.views.work import WORK, Work, agent_of

PAGE = 1_000


class Record(msgspec.Struct, frozen=True):
    """What was done under one identity (`agent:coder@3`)."""

    agent: str
    work: Work


async def work_of_agents(
    parts: Parts, *, tenant: str = DEFAULT_TENANT, name: str | None = None
) -> tuple[list[Record], int]:
    """The record of every version of every agent, or of those of one name, and how many events are not counted yet.

    There are such only where the store cannot be written to. `name` may be `coder`, `coder@3` or `agent:coder@3`.
    """
    with suppress(StoreReadOnly, StoreFull):
        await parts.projector([WORK]).catch_up()
    behind = await parts.store.head() - await parts.views.position(WORK.id)
    found: list[Record] = []
    after = ""
    while page := await parts.views.page(WORK.id, tenant, after=after, limit=PAGE):
        sums = [(agent_of(key), body) for key, body in page if key.startswith("[")]
        found += [Record(agent, WORK.sums.unpack(body)) for agent, body in sums if name is None or _is(agent, name)]
        after = page[-1][0]
        if not after.startswith("["):
            break
    return found, max(0, behind)


def _is(agent: str, name: str) -> bool:
    whole = name if name.startswith("agent:") else f"agent:{name}"
    return agent == whole or agent.rpartition("@")[0] == whole
