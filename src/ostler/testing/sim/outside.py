"""The world outside of every process: tools that change it, a model that asks for them, and a ledger that survives."""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar

import msgspec

from ostler.adapters.tools.functions import Failure, FunctionTools, tool
from ostler.domain.gate import digest_of_arguments
from ostler.domain.model import AskedCall, ModelRef, ModelRequest, Price, Reply, StopReason, Usage
from ostler.domain.tool import ToolRequest
from ostler.kernel.errors import (
    ConfigurationError,
    IncompleteReply,
    OstlerError,
    ProviderOverloaded,
    ProviderRejected,
    ProviderUnreachable,
    RateLimited,
    ToolError,
)
from ostler.testing.sim.history import Asked, Effect
from ostler.testing.sim.loop import Process, here
from ostler.testing.sim.wire import Lines

TOOL_TIMEOUT_S = 4.0
HASTY_TOOL_TIMEOUT_S = 1.5
MODEL_TIMEOUT_S = 5.0
FOR_EVER_S = 600.0
_WEIGHTS = (1, 1, 2, 2)
AMOUNTS = 20
"""Arguments are numbers below this; the rules of the simulated agents speak of some of them."""

MODEL = ModelRef("scripted", "sim", "dice", price=Price(3_000_000, 15_000_000))


class Outside:
    """What tools and models do in one run, by its seed. `head` says how many events the log has."""

    def __init__(self, lines: Lines, head: Callable[[], int]) -> None:
        self._lines = lines
        self._chance = lines.chance
        self._faults = lines.faults
        self._history = lines.history
        self._head = head
        self._happened: set[str] = set()
        self.is_wrapping_up = False
        """The model answers at once, so that every session comes to an end."""

    async def act(self, request: ToolRequest, effect: str) -> str:
        """Perform a tool once: change the world, or fail before or after that, or take too long over it."""
        loop = asyncio.get_running_loop()
        done = Effect(
            loop.time(),
            self._head(),
            here().name,
            request.tool,
            effect,
            request.key,
            request.attempt,
            digest_of_arguments(request.arguments),
        )
        self._history.effects.append(done)
        mood = self._chance.random() if self._faults.is_on else 1.0
        if mood < self._faults.tool_hangs:
            await self._hang()
        else:
            await self._take_time()
        is_failing = self._faults.is_on and self._chance.random() < self._faults.tool_errors
        if is_failing and self._chance.random() < 0.5:
            raise Failure(self._chance.choice(("transient", "permanent")), "out of order")
        self._bring_down(here())
        done.done_s = loop.time()
        self._happened.add(request.key)
        await self._take_time()  # it has happened, and nobody here knows yet
        if is_failing:
            raise RuntimeError("it failed after it had happened")
        return f"{request.tool} done"

    def _bring_down(self, process: Process) -> None:
        """Now and then a tool takes its whole process with it."""
        if self._faults.is_on and self._chance.random() < 4 * self._faults.crash:
            self._lines.kill(process, within_s=self._chance.choice((0.0, 0.1, 2.0)) * self._chance.random())

    async def _take_time(self) -> None:
        if self._chance.random() < 0.6:
            await asyncio.sleep(self._chance.choice((0.0, 0.02, 0.3, 2.0)) * self._chance.random())

    async def _hang(self) -> None:
        """Take too long: stopped at once, only at the second time of asking, or never."""
        patience = self._chance.choice((0, 1, 1_000))
        give_up = asyncio.get_running_loop().time() + self._chance.choice((TOOL_TIMEOUT_S, 30.0, FOR_EVER_S))
        while (left := give_up - asyncio.get_running_loop().time()) > 0:
            try:
                await asyncio.sleep(left)
            except asyncio.CancelledError:
                if patience == 0:
                    raise
                patience -= 1

    async def happened(self, request: ToolRequest) -> str | None:
        """Whether the call with this key has changed the world."""
        await asyncio.sleep(0)
        if self._faults.is_on and self._chance.random() < self._faults.tool_errors / 3:
            raise ToolError("Nobody can say.")
        return f"{request.tool} done" if request.key in self._happened else None

    async def reply(self, request: ModelRequest) -> Reply:
        """What the model says, or how its provider fails."""
        asked = Asked(asyncio.get_running_loop().time(), self._head(), here().name, request.key)
        self._history.asked.append(asked)
        if self._faults.is_on:
            await asyncio.sleep(self._chance.choice((0.0, 0.05, 1.0, 3.0)) * self._chance.random())
            if self._chance.random() < self._faults.model_errors:
                await self._fail()
        reply = self._compose(request)
        asked.tokens = reply.usage.total_tokens
        return reply

    async def _fail(self) -> None:
        kind = self._chance.randrange(16)
        if kind == 0:
            raise ProviderRejected("The request is not understood.", status=400)
        if kind == 1:
            raise ConfigurationError("There is no key.")
        if kind == 2:
            raise RuntimeError("a defect of the provider")
        if kind == 3:
            await asyncio.sleep(FOR_EVER_S)
        errors: tuple[OstlerError, ...] = (
            RateLimited("Slow down.", status=429, retry_after_s=self._chance.choice((0.2, 3.0, 15.0))),
            RateLimited("Slow down.", status=429),
            ProviderOverloaded("Too many.", status=529),
            ProviderUnreachable("Nobody answers."),
            IncompleteReply("It broke off."),
        )
        raise self._chance.choice(errors)

    def _compose(self, request: ModelRequest) -> Reply:
        limit = request.settings.max_tokens
        usage = Usage(self._chance.randrange(1, 170), self._chance.randrange(1, min(60, limit) + 1))
        roll = self._chance.random()
        if self.is_wrapping_up or roll < 0.2:
            return Reply("That is all.", usage=usage)
        if roll < 0.2 + 0.3 * self._faults.model_nonsense:
            stops: tuple[StopReason, ...] = ("end", "length", "length", "refusal")
            return Reply("", stop=self._chance.choice(stops), usage=usage)
        calls = [self._call(number, request) for number in range(self._chance.choice((1, 1, 1, 2, 3)))]
        return Reply("", tuple(calls), "tool_calls", usage)

    def _call(self, number: int, request: ModelRequest) -> AskedCall:
        name = self._chance.choices(request.tools, _WEIGHTS)[0].name
        arguments = msgspec.json.encode({"amount": self._chance.randrange(AMOUNTS)}).decode()
        if self._chance.random() < self._faults.model_nonsense / 3:
            name, arguments = self._chance.choice(((name, '{"amount": "many"}'), ("loook", "{}"), (name, "{")))
        same = 0 if self._chance.random() < self._faults.model_nonsense / 3 else number
        return AskedCall(f"asked_{same}", name, arguments)


OUTSIDE: ContextVar[Outside] = ContextVar("outside")


class Dice:
    """A `ModelProvider` that throws dice."""

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> Reply:
        return await OUTSIDE.get().reply(request)

    async def close(self) -> None:
        """Nothing is held."""


@tool(effect="read", timeout_s=HASTY_TOOL_TIMEOUT_S)
async def look(request: ToolRequest, amount: int) -> str:
    """Look."""
    return await OUTSIDE.get().act(request, "read")


@tool(effect="idempotent", timeout_s=TOOL_TIMEOUT_S)
async def save(request: ToolRequest, amount: int) -> str:
    """Save."""
    return await OUTSIDE.get().act(request, "idempotent")


async def _happened(request: ToolRequest) -> str | None:
    return await OUTSIDE.get().happened(request)


@tool(effect="reconcilable", timeout_s=TOOL_TIMEOUT_S, reconcile=_happened)
async def book(request: ToolRequest, amount: int) -> str:
    """Book."""
    return await OUTSIDE.get().act(request, "reconcilable")


@tool(effect="once", timeout_s=HASTY_TOOL_TIMEOUT_S)
async def pay(request: ToolRequest, amount: int) -> str:
    """Pay."""
    return await OUTSIDE.get().act(request, "once")


TOOLS = FunctionTools((look, save, book, pay))
