"""A chain that calls of models and tools pass, shared by these tests."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from ostler.adapters.breakers.memory import MemoryBreakers
from ostler.adapters.store.memory import MemoryStore
from ostler.app.world import SystemClock
from ostler.domain.agent import AgentSpec
from ostler.domain.identity import LOCAL_USER
from ostler.domain.model import ModelRef, ModelRequest, ModelSettings, Reply, UserMessage
from ostler.domain.resilience.breaker import Breaker
from ostler.domain.session import commands as command
from ostler.domain.session.decide import decide
from ostler.domain.session.state import State
from ostler.domain.tool import ToolOutcome, ToolRequest, ToolSpec, succeeded
from ostler.runtime.governor import Governor
from ostler.runtime.resilience.chain import Chain
from ostler.runtime.resilience.circuits import Circuits

REF = ModelRef("scripted", "scripted", "m")
LOOK = ToolSpec("look", "Look.", {"type": "object"}, "read", share_s=0)


def state() -> State:
    return decide(command.Start(1, "ses_1", AgentSpec("clerk", tools=(LOOK,)), REF, "Go.", LOCAL_USER), None).state


def circuits(settings: Breaker | None = None) -> Circuits:
    clock = SystemClock()
    return Circuits(MemoryBreakers(), lambda kind, name: settings or Breaker(), clock, Governor(MemoryStore()))


def request(key: str, *, text: str = "Go.", share_s: float | None = None) -> ModelRequest:
    return ModelRequest(REF, "", [UserMessage(text)], (), ModelSettings(share_s=share_s), key)


def use(key: str, **more: object) -> ToolRequest:
    return ToolRequest("look", {}, key, "default", 60.0, **more)  # type: ignore[arg-type]


@pytest.fixture
def chain_of_one_place_each() -> tuple[Chain, Callable[[int], Awaitable[None]]]:
    """A chain, and a way to pass it: as a model or a tool call, alone or sharing."""
    chain, session = Chain(circuits=circuits()), state()
    keys = iter(range(10**9))

    async def reply() -> Reply:
        for _ in range(3):
            await asyncio.sleep(0)
        return Reply("done")

    async def outcome() -> ToolOutcome:
        for _ in range(3):
            await asyncio.sleep(0)
        return succeeded("seen")

    async def ask(way: int) -> None:
        key = f"ses_1/{next(keys)}"
        if way < 2:
            await chain.ask(session, request(key, share_s=0 if way else None), reply)
        else:
            await chain.use(session, LOOK, use(key, workspace=str(way)), outcome)

    return chain, ask
