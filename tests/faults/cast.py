"""Who plays in the fault tests: agents with scripted models, and tools whose effects are lines in a ledger."""

import asyncio
import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ostler.adapters.tools.functions import Tool, tool
from ostler.domain.agent import AgentSpec, Limits
from ostler.domain.constraint.policy import Policy, Rule
from ostler.domain.gate import digest_of_arguments
from ostler.domain.model import ModelRef, ModelRequest, Reply
from ostler.domain.tool import ToolRequest
from ostler.kernel.errors import OstlerError, RateLimited
from ostler.kernel.event import StreamId
from ostler.ports import Append, Claim, EventStore
from ostler.testing import Scripted, calls
from tests.runtime import crash

PEOPLE = "people"
"""The ledger of those who start, approve and cancel."""


class Ledger:
    """What one process did, in the order in which it did it: a line of JSON each, written at once and as a whole.

    It survives every death of the process. A line is [what, seconds, …]; the seconds are those of one clock for all
    processes of the machine, which nobody can set.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        self.position = 0

    def note(self, what: str, *facts: object) -> None:
        line = msgspec.json.encode([what, round(time.clock_gettime(time.CLOCK_MONOTONIC), 6), *facts]) + b"\n"
        while True:
            try:
                os.write(self._file, line)
            except InterruptedError:
                continue
            return


class NotedStore:
    """A store that notes what it has acknowledged to this process."""

    def __init__(self, store: EventStore, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def append(self, append: Append) -> int:
        position = await self._store.append(append)
        self._ledger.position = max(self._ledger.position, position)
        for before_the_last, record in enumerate(reversed(append.records)):
            place = position - before_the_last
            stream = record.stream
            self._ledger.note("kept", stream.tenant, stream.name, record.seq, record.hash.hex(), place, append.epoch)
        return position

    async def beat(self, worker: str, *, until_us: int) -> None:
        self._ledger.note("beat", worker)
        await self._store.beat(worker, until_us=until_us)

    async def claim(self, worker: str, **wish: Any) -> list[Claim]:
        claims = await self._store.claim(worker, **wish)
        for claim in claims:
            self._ledger.note("claim", claim.stream.tenant, claim.stream.name, claim.epoch, claim.attempts)
        return claims


class Outside:
    """The world that tools change. `pause_s` is the longest that an effect takes; None keeps the files of nobody."""

    def __init__(self, folder: Path, ledger: Ledger, *, pause_s: float = 0.0, seed: int = 0) -> None:
        self._folder = folder
        self._ledger = ledger
        self._pause_s = pause_s
        self._chance = random.Random(seed)

    async def do(self, request: ToolRequest, work: Callable[[], Any] | None = None) -> None:
        """Begin, take a while, and change the world."""
        digest = digest_of_arguments(request.arguments)
        self._ledger.note("begin", request.tool, request.key, request.attempt, digest, self._ledger.position)
        if self._pause_s:
            await asyncio.sleep(self._chance.random() * self._pause_s)
        if work is not None:
            await work()
        if request.tool == "book":
            self._booking(request).touch()
        self._ledger.note("done", request.tool, request.key, request.attempt)

    def has_booked(self, request: ToolRequest) -> bool:
        return self._booking(request).exists()

    def _booking(self, request: ToolRequest) -> Path:
        return self._folder / f"booked {request.key.replace('/', ' ')}"

    def tools(self) -> Sequence[Tool[..., Any]]:
        return *self._ordinary(), *self._troublesome()

    def _ordinary(self) -> Sequence[Tool[..., Any]]:
        """One of each effect class."""

        @tool(effect="read")
        async def look(request: ToolRequest) -> str:
            """Look."""
            await self.do(request)
            return "seen"

        @tool(effect="idempotent")
        async def save(request: ToolRequest) -> str:
            """Save."""
            await self.do(request)
            return "saved"

        async def happened(request: ToolRequest) -> str | None:
            return "booked" if self.has_booked(request) else None

        @tool(effect="reconcilable", reconcile=happened)
        async def book(request: ToolRequest) -> str:
            """Book."""
            await self.do(request)
            return "booked"

        @tool(effect="once")
        async def pay(request: ToolRequest) -> str:
            """Pay."""
            await self.do(request)
            return "paid"

        return look, save, book, pay

    def _troublesome(self) -> Sequence[Tool[..., Any]]:
        @tool(effect="once")
        async def nap(request: ToolRequest, seconds: float) -> str:
            """Take so long, and let others go on meanwhile."""
            await self.do(request, lambda: asyncio.sleep(seconds))
            return "rested"

        @tool(effect="idempotent")
        async def hog(request: ToolRequest, seconds: float) -> str:
            """Take so long, and let nobody else in the process do anything meanwhile."""

            async def stand_still() -> None:
                time.sleep(seconds)  # noqa: ASYNC251 - that is the fault

            await self.do(request, stand_still)
            return "moved on"

        @tool(effect="idempotent")
        async def die(request: ToolRequest) -> str:
            """Bring the process down, as a fault in a C library would."""

            async def crash() -> None:
                os.abort()

            await self.do(request, crash)
            return "never said"

        return nap, hog, die


EFFECTS = {"look": "read", "save": "idempotent", "book": "reconcilable", "pay": "once", "nap": "once"} | dict.fromkeys(
    ("hog", "die"), "idempotent"
)


def agent(story: str, tools: Sequence[Tool[..., Any]]) -> AgentSpec:
    """The agent of a story; `asking` is one whose payments a person must approve."""
    kind = story.partition(" ")[0]
    policy = Policy(rules=(Rule("require", "pay"),)) if kind == "asking" else Policy()
    return AgentSpec(kind, tools=tuple(one.spec for one in tools), policy=policy, limits=Limits(attempts=50))


def model(story: str) -> Scripted:
    """What the model of a story says; `nap 0.5` is the story `nap` with half a second.

    The provider refuses every other request of `refused`, as busy ones do.
    """
    kind, _, value = story.partition(" ")
    turns: dict[str, Sequence[Any]] = {
        "asking": [calls(("pay", {})), "paid"],
        "refused": [calls(("save", {})), calls(("pay", {})), "at last"],
        "short": [calls(("pay", {})), "done"],
        "nap": [calls(("nap", {"seconds": float(value or 0)})), calls(("save", {}), ("pay", {})), "awake"],
        "hog": [calls(("hog", {"seconds": float(value or 0)})), calls(("save", {}), ("pay", {})), "moved on"],
        "die": [calls(("die", {})), "never said"],
        "limp": [calls(("look", {})), calls(("save", {})), calls(("die", {})), "never said"],
    }
    if kind == "clerk":
        return _renamed(crash.script(), story)
    return Scripted(*turns[kind], name=story)


def _renamed(script: Scripted, name: str) -> Scripted:
    script.ref = ModelRef("scripted", "scripted", name)
    return script


class NotedModel:
    """The provider of all stories, which notes what it was asked and what it charged."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._models: dict[str, Scripted] = {}

    def find(self, ref: ModelRef) -> "_Voice":
        if ref.name not in self._models:
            self._models[ref.name] = model(ref.name)
        return _Voice(self._models[ref.name], self._ledger)


class _Voice:
    def __init__(self, script: Scripted, ledger: Ledger) -> None:
        self._script = script
        self._ledger = ledger

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> Reply:
        if (
            self._script.ref.name == "refused"
            and random.Random(f"{request.key} {self._ledger.position}").random() < 0.5
        ):
            raise RateLimited("Slow down.", status=429, retry_after_s=0.05)
        reply = await self._script.complete(request, on_text)
        self._script.requests.clear()
        self._ledger.note("asked", request.key, reply.usage.total_tokens, self._ledger.position)
        return reply

    async def close(self) -> None:
        """Nothing is held."""


def complain(ledger: Ledger) -> Callable[[StreamId | None, OstlerError], None]:
    """Notes what a worker has trouble with."""
    return lambda stream, error: ledger.note("trouble", stream.name if stream else "", error.code, str(error))
