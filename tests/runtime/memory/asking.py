"""Calls of the tools of memory, as sessions make them, on a store and an index in memory."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from ostler.adapters.index.sqlite import SqliteIndex
from ostler.adapters.store.memory import MemoryStore
from ostler.domain.memory.recollection import Recollection, Recollections
from ostler.domain.memory.settings import MemorySettings
from ostler.domain.tool import Taint, ToolOutcome, ToolRequest
from ostler.ports import Clock
from ostler.runtime.memory.memories import Memories
from ostler.runtime.memory.tools import MemoryTools

EVERYWHERE = MemorySettings(tools=("*",), writes=("session", "user", "agent", "tenant"))
CLEAN = Taint((), ("system", "tool.look", "user"))
SPOILT = Taint(("untrusted",), ("system", "tool.web.fetch", "user"))


class Tick:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.at_us = 1_772_323_200_000_000  # 2026-03-01

    def now_us(self) -> int:
        self.at_us += 1_000_000
        return self.at_us


class House:
    """The host of the tools, and sessions that call them. Each call has a number of its own, unless it is given one."""

    def __init__(self, memories: Memories, clock: Clock) -> None:
        self.memories = memories
        self.clock = clock
        self._calls = 0

        async def opened() -> Memories:
            return memories

        self.tools = MemoryTools(opened, clock)

    async def perform(
        self,
        tool: str,
        /,
        *,
        session: str = "ses_1",
        call: str = "",
        attempt: int = 1,
        user: str = "ada",
        agent: str = "clerk",
        tenant: str = "acme",
        taint: Taint | None = CLEAN,
        memory: MemorySettings | None = EVERYWHERE,
        **arguments: Any,
    ) -> ToolOutcome:
        self._calls += 1
        request = ToolRequest(
            tool=tool,
            arguments=arguments,
            key=f"{session}/{call or self._calls}",
            tenant=tenant,
            timeout_s=60,
            attempt=attempt,
            agent=agent,
            user=user,
            taint=taint,
            memory=memory,
        )
        return await self.tools.perform(request)

    async def done(self, tool: str, /, **more: Any) -> dict[str, Any]:
        """What a call answers that goes well."""
        outcome = await self.perform(tool, **more)
        assert outcome.ok, outcome.output
        answer: dict[str, Any] = msgspec.json.decode(outcome.output)
        return answer

    async def told(self, tool: str, /, **more: Any) -> tuple[Recollection, ...]:
        """What a call recalls."""
        outcome = await self.perform(tool, **more)
        assert outcome.ok, outcome.output
        return msgspec.json.decode(outcome.output, type=Recollections).memories

    async def texts(self, query: str, **more: Any) -> list[str]:
        return [one.text for one in await self.told("memory.recall", query=query, **more)]

    async def file(self, command: str, **more: Any) -> str:
        """What a command on files is answered, which goes well."""
        (one,) = await self.told("memory", command=command, **more)
        return one.text

    async def refusal(self, tool: str, /, **more: Any) -> tuple[str | None, str]:
        outcome = await self.perform(tool, **more)
        assert not outcome.ok, outcome.output
        return outcome.kind, outcome.output


@asynccontextmanager
async def house() -> AsyncIterator[House]:
    clock, store = Tick(), MemoryStore()
    memories = Memories(store, await SqliteIndex.open(":memory:"), clock)
    try:
        yield House(memories, clock)
    finally:
        await memories.close()
        await store.close()
