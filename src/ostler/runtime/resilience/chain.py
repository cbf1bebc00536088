"""What every attempt of a call passes before it reaches a provider or a tool: places, equal calls, breakers.

    pressure → sharing → breaker → call

Trying again is not part of it: that is the log's, so that a wait holds no place, no promise and no probe.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, NamedTuple, TypeVar

from ostler.domain.model import ModelRequest, Reply
from ostler.domain.resilience.breaker import Key, Outcome, outcome_of_model, outcome_of_tool
from ostler.domain.resilience.pressure import Pressure
from ostler.domain.resilience.sharing import key_of_model, key_of_tool
from ostler.domain.session.state import State
from ostler.domain.tool import FailureKind, ToolOutcome, ToolRequest, ToolSpec
from ostler.kernel.errors import OstlerError, ToolTimeout
from ostler.runtime.resilience.circuits import Circuits
from ostler.runtime.resilience.pipeline import Pipeline, Stage, Step, Timing
from ostler.runtime.resilience.shared import Done, Sharing
from ostler.runtime.resilience.slots import Slots

Made = TypeVar("Made")

KEPT_CHARACTERS_MAX = 256 * 1024
"""What is longer is not kept for later calls."""


class Attempt(NamedTuple, Generic[Made]):
    """One attempt on its way. `share` is the key of equal calls, None if it is for this call alone."""

    name: str
    priority: int
    breaker: Key
    share: str | None
    share_s: float
    timeout_s: float
    call: Callable[[], Awaitable[Made]]


Judge = Callable[[Made | None, BaseException | None], tuple[Outcome, str]]
"""What an attempt that ended so says of who was called, and the code of its failure."""


class Chain:
    """The way of every attempt in this process. `warn` is told when places become scarce."""

    def __init__(
        self,
        pressure: Pressure | None = None,
        circuits: Circuits | None = None,
        *,
        warn: Callable[[OstlerError], None] = lambda error: None,
    ) -> None:
        settings = pressure or Pressure()
        self.model_slots = Slots("calls of models", settings.model_calls, settings, warn)
        self.tool_slots = Slots("calls of tools", settings.tool_calls, settings, warn)
        self._replies, self._outcomes = Sharing(_may_keep_reply), Sharing(_may_keep_outcome)
        self._models = _pipeline(self.model_slots, self._replies, circuits, _judge_model)
        self._tools = _pipeline(self.tool_slots, self._outcomes, circuits, _judge_tool)

    async def ask(self, state: State, request: ModelRequest, call: Callable[[], Awaitable[Reply]]) -> Done[Reply]:
        """The reply to a request. Raises what `call` raises, `Shed`, `CircuitOpen` and `FailedElsewhere`."""
        tenant, settings = state.by.tenant, request.settings
        return await self._models.run(
            Attempt(
                request.key,
                state.priority,
                Key(tenant, "provider", request.model.provider),
                None if settings.share_s is None else key_of_model(tenant, request),
                settings.share_s or 0.0,
                settings.timeout_s,
                call,
            )
        )

    async def use(
        self, state: State, spec: ToolSpec, request: ToolRequest, call: Callable[[], Awaitable[ToolOutcome]]
    ) -> Done[ToolOutcome]:
        """The outcome of a tool call. Raises as `ask` does."""
        return await self._tools.run(
            Attempt(
                request.key,
                state.priority,
                Key(request.tenant, "tool", spec.name),
                None if spec.share_s is None else key_of_tool(spec, request),
                spec.share_s or 0.0,
                spec.timeout_s,
                call,
            )
        )

    @property
    def under_way(self) -> int:
        """How many calls that others may wait for are under way."""
        return self._replies.under_way + self._outcomes.under_way

    def timings(self) -> dict[str, list[Timing]]:
        """What each stage cost so far, for calls of models and of tools."""
        return {"models": self._models.timings(), "tools": self._tools.timings()}


def _pipeline(
    slots: Slots, sharing: Sharing[Made], circuits: Circuits | None, judge: Judge[Made]
) -> Pipeline[Attempt[Made], Done[Made]]:
    async def pressure(attempt: Attempt[Made], inner: Step[Attempt[Made], Done[Made]]) -> Done[Made]:
        slots.take(attempt.priority)
        try:
            return await inner(attempt)
        finally:
            slots.give_back()

    async def share(attempt: Attempt[Made], inner: Step[Attempt[Made], Done[Made]]) -> Done[Made]:
        if attempt.share is None:
            return await inner(attempt)

        async def call() -> Made:
            return (await inner(attempt)).value

        return await sharing.run(attempt.share, attempt.name, attempt.share_s, call)

    stages = [Stage("pressure", pressure), Stage("sharing", share)]
    if circuits is not None:
        stages.append(Stage("breaker", _breaking(circuits, judge)))
    return Pipeline(stages, _call)


async def _call(attempt: Attempt[Made]) -> Done[Made]:
    return Done(await attempt.call())


def _breaking(
    circuits: Circuits, judge: Judge[Made]
) -> Callable[[Attempt[Made], Step[Attempt[Made], Done[Made]]], Awaitable[Done[Made]]]:
    async def breaker(attempt: Attempt[Made], inner: Step[Attempt[Made], Done[Made]]) -> Done[Made]:
        admitted = await circuits.admit(attempt.breaker)
        if admitted is None:
            return await inner(attempt)
        too_late = asyncio.get_running_loop().time() + attempt.timeout_s
        try:
            done = await inner(attempt)
        except BaseException as error:
            outcome, because = judge(None, error)
            if isinstance(error, asyncio.CancelledError) and asyncio.get_running_loop().time() >= too_late:
                outcome, because = "failed", "timeout"  # whoever is told to stop by then has not kept its time
            await circuits.report(admitted, outcome, because=because)
            raise
        outcome, because = judge(done.value, None)
        await circuits.report(admitted, outcome, because=because)
        return done

    return breaker


def _judge_model(reply: Reply | None, error: BaseException | None) -> tuple[Outcome, str]:
    return outcome_of_model(error), error.code if isinstance(error, OstlerError) else ""


def _judge_tool(outcome: ToolOutcome | None, error: BaseException | None) -> tuple[Outcome, str]:
    if outcome is not None:
        return outcome_of_tool(outcome.kind), outcome.kind or ""
    if isinstance(error, OstlerError):
        kind: FailureKind = "permanent"
        if error.retryable:
            kind = "timeout" if isinstance(error, ToolTimeout) else "transient"
        return outcome_of_tool(kind), error.code
    return outcome_of_tool("permanent" if isinstance(error, Exception) else "cancelled"), ""


def _may_keep_reply(reply: Reply) -> bool:
    return reply.stop in ("end", "tool_calls", "stop_sequence") and len(reply.text) <= KEPT_CHARACTERS_MAX


def _may_keep_outcome(outcome: ToolOutcome) -> bool:
    return outcome.ok and outcome.suspension is None and len(outcome.output) <= KEPT_CHARACTERS_MAX
