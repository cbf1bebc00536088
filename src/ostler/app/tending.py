"""What a worker does for memories in the background: vectors for those that have none, and consolidation."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ostler.app.bootstrap import Parts
from ostler.app.memory_settings import NONE
from ostler.app.plugins import MEMORY as MEMORY_PARTS
from ostler.app.plugins import part
from ostler.domain.memory.scope import MEMORY, Scope
from ostler.kernel.errors import OstlerError

if TYPE_CHECKING:
    from ostler.runtime.memory.consolidation import Consolidation, Wording
    from ostler.runtime.memory.memories import Memories

LOOK_S = 60.0
"""How often is looked whether anything is remembered in the store."""
GRACE_S = 5.0
"""How long the end of a process may wait for the last vectors."""


class Tending:
    """Begins once there are memories, in this store, of whatever tenant; until then it costs a look now and then."""

    def __init__(self, parts: Parts, wording: "Callable[[str], Wording]") -> None:
        """`wording` makes what has the agent of this name find words."""
        self._parts = parts
        self._wording = wording
        self._task: asyncio.Task[None] | None = None
        self._head = 0

    def start(self) -> None:
        """Begin, unless the settings leave nothing to do."""
        memory = self._parts.settings.memory
        if memory.embedder != NONE or memory.consolidation.after:
            self._task = asyncio.create_task(self._run(), name="memory")

    async def stop(self) -> None:
        """Make the vectors of what was just remembered, if that does not take long, and end."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        memories = self._parts.opened_memories
        if memories is None or memories.embedding is None:
            return
        try:
            async with asyncio.timeout(GRACE_S):
                await memories.embedding.flush()
        except (TimeoutError, OstlerError):
            return  # whoever runs next makes them

    async def _run(self) -> None:
        memories = await self._begin()
        embedding, consolidating = memories.embedding, self._parts.settings.memory.consolidation
        async with asyncio.TaskGroup() as group:
            if embedding is not None:
                group.create_task(embedding.run(self._everywhere))
            if consolidating.after:
                agent = consolidating.agent
                wording = self._wording(agent) if agent else None
                consolidation: Consolidation = part(MEMORY_PARTS["consolidation"])(
                    memories, self._parts.clock, rules=consolidating.rules, wording=wording
                )
                after, trouble = consolidating.after, self._parts.trouble
                group.create_task(consolidation.run(self._wherever_new, after=after, trouble=trouble))

    async def _begin(self) -> "Memories":
        """The memories, once there are any. Why they cannot be had is told once."""
        told = ""
        if self._parts.settings.memory.embedder == NONE:
            await asyncio.sleep(LOOK_S)
        while True:
            try:
                if self._parts.opened_memories is not None or await self._tenants():
                    return await self._parts.memories()
            except OstlerError as error:
                if error.message != told:
                    self._parts.trouble(error)
                told = error.message
            await asyncio.sleep(LOOK_S)

    async def _everywhere(self) -> Sequence[Scope]:
        """Everybody who has memories in this store, up to date."""
        memories = await self._parts.memories()
        return [scope for tenant in await self._tenants() for scope in await memories.catch_up_all(tenant)]

    async def _wherever_new(self) -> Sequence[Scope]:
        """The same; nobody if nothing at all was written in this store since the last time."""
        head, before = await self._parts.store.head(), self._head
        self._head = head
        return await self._everywhere() if head != before else ()

    async def _tenants(self) -> list[str]:
        """The tenants in which anything is remembered; of very many, some."""
        census = await self._parts.store.census(now_us=self._parts.clock.now_us(), most=1)
        return [one.tenant for one in census.statuses if one.status == MEMORY]
