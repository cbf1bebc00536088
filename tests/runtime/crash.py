"""A world in which every outside call can be the last one that a process makes."""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ostler.adapters.tools.functions import FunctionTools, Tool, tool
from ostler.domain.agent import AgentSpec, Limits
from ostler.domain.scheduling import WorkerSettings
from ostler.domain.tool import ToolRequest
from ostler.ports import BlobStore, EventStore, ToolHost
from ostler.runtime.examiner import Examiner
from ostler.runtime.journal import Journal
from ostler.runtime.performer import Performer
from ostler.runtime.router import Router
from ostler.runtime.worker import Worker
from ostler.testing import Scripted, calls

LEASE_S = 30.0


class Crash(BaseException):
    """The process is gone; not an Exception, so that nobody can catch it and go on."""


class Clock:
    """Moves by a microsecond a look, and by as much as a test wants."""

    def __init__(self) -> None:
        self.us = 1_000_000_000_000_000

    def now_us(self) -> int:
        self.us += 1
        return self.us


class Chance:
    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def chance(self, size: int) -> bytes:
        return self._random.randbytes(size)


class Fuse:
    """Counts the moments before and after outside calls, and crashes at number `at` and ever after."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.moments: list[str] = []
        self.blown = asyncio.Event()

    def pass_by(self, moment: str) -> None:
        self.moments.append(moment)
        if self.at is not None and len(self.moments) >= self.at:
            self.blown.set()
            raise Crash(moment)


class Fused:
    """Any port, with the fuse before and after each of its calls. Yields to a scheduler in between, if given."""

    def __init__(self, port: Any, fuse: Fuse, name: str, scheduler: Callable[[], Any] | None = None) -> None:
        self._port = port
        self._fuse = fuse
        self._name = name
        self._scheduler = scheduler

    def __getattr__(self, method: str) -> Any:
        found = getattr(self._port, method)
        if not asyncio.iscoroutinefunction(found):
            return found

        async def call(*args: Any, **kwargs: Any) -> Any:
            if method in ("wait", "tail", "head", "close"):  # nothing depends on whether these were reached
                return await found(*args, **kwargs)
            self._fuse.pass_by(f"before {self._name}.{method}")
            if self._scheduler is not None:
                await self._scheduler()
            result = await found(*args, **kwargs)
            if self._scheduler is not None:
                await self._scheduler()
            self._fuse.pass_by(f"after {self._name}.{method}")
            return result

        return call


class World:
    """What tools have done, outside of any process: it survives them all."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.balance: set[str] = set()

    def tools(self) -> Sequence[Tool[..., Any]]:
        @tool(effect="read")
        async def look(request: ToolRequest) -> str:
            """Look."""
            self.done.append(f"look {request.key}")
            return "seen"

        @tool(effect="idempotent")
        async def save(request: ToolRequest) -> str:
            """Save."""
            self.done.append(f"save {request.key}")
            return "saved"

        async def happened(request: ToolRequest) -> str | None:
            return "booked" if f"book {request.key}" in self.done else None

        @tool(effect="reconcilable", reconcile=happened)
        async def book(request: ToolRequest) -> str:
            """Book."""
            self.done.append(f"book {request.key}")
            return "booked"

        @tool(effect="once")
        async def pay(request: ToolRequest) -> str:
            """Pay."""
            self.done.append(f"pay {request.key}")
            return "paid"

        return look, save, book, pay


class Process:
    """One incarnation of a worker over a store that outlives it."""

    def __init__(
        self,
        store: EventStore,
        blobs: BlobStore,
        world: World | ToolHost,
        script: Scripted,
        clock: Clock,
        *,
        fuse: Fuse | None = None,
        seed: int = 0,
        scheduler: Callable[[], Any] | None = None,
    ) -> None:
        self.fuse = fuse or Fuse()
        self.errors: list[BaseException] = []
        fused_store = Fused(store, self.fuse, "store", scheduler)
        provider = Fused(script, self.fuse, "provider", scheduler)
        host = FunctionTools(world.tools()) if isinstance(world, World) else world
        hosts = Fused(host, self.fuse, "tools", scheduler)
        chance = Chance(seed)
        self.journal = Journal(fused_store)
        examiner = Examiner(clock, router=Router(clock, chance))
        performer = Performer(lambda ref: provider, hosts, blobs, clock, chance, examiner=examiner)
        self.worker = Worker(
            journal=self.journal,
            performer=performer,
            clock=clock,
            entropy=chance,
            settings=WorkerSettings(lease_s=LEASE_S, grace_s=1),
            trouble=lambda stream, error: self.errors.append(error),
        )


class HasTools(Protocol):
    def tools(self) -> Sequence[Tool[..., Any]]: ...


def clerk(world: HasTools) -> AgentSpec:
    return AgentSpec(name="clerk", tools=tuple(one.spec for one in world.tools()), limits=Limits(attempts=50))


def script() -> Scripted:
    """Calls of every effect class, alone, together and in an order."""
    return Scripted(
        calls(("look", {}), ("look", {})),
        calls(("save", {}), ("pay", {})),
        calls(("book", {}), ("look", {}), ("save", {})),
        calls(("pay", {})),
        "all done",
    )
