"""Performs one call that the gate let pass, and says what came of it as a command. Never raises but when cancelled."""

import asyncio
from collections.abc import Callable

from ostler.domain import context
from ostler.domain.guard import called
from ostler.domain.hook import Ruling
from ostler.domain.model import ModelRef
from ostler.domain.resilience import retry_delay_s
from ostler.domain.screening.detectors import BUILTIN, Detectors
from ostler.domain.screening.screen import screen_output, screen_reply
from ostler.domain.session.commands import Examined, ReplyFailed, ReplyReceived, ToolReturned
from ostler.domain.session.pending import ExamineWork, ModelWork, ToolWork, Work
from ostler.domain.session.state import State
from ostler.domain.tool import CODE, ToolOutcome, ToolRequest, ToolSpec, failed
from ostler.kernel.errors import OstlerError, ProviderError, StoreError, ToolNotFound, ToolTimeout
from ostler.kernel.event import StreamId
from ostler.ports import BlobStore, Clock, Entropy, ModelProvider, ToolHost
from ostler.runtime.examiner import Examiner

PREVIEW_BYTES = 4096
"""How much of an output that went to the blob store stays in the event, and before the model's eyes."""

SNAPSHOT_BYTES_MAX = 256 * 1024
"""A program that is more than this while it waits is ended: what it is stands in the log at each of its calls."""

Providers = Callable[[ModelRef], ModelProvider]
"""Finds the provider that reaches a model. Raises an `OstlerError` if none is configured."""


class Performer:
    """The only caller of providers and tools."""

    def __init__(
        self,
        providers: Providers,
        tools: ToolHost,
        blobs: BlobStore,
        clock: Clock,
        entropy: Entropy,
        *,
        examiner: Examiner | None = None,
        detectors: Detectors = BUILTIN,
    ) -> None:
        self._examiner = examiner or Examiner(clock)
        self._detectors = detectors
        self._providers = providers
        self._tools = tools
        self._blobs = blobs
        self._clock = clock
        self._entropy = entropy

    async def perform(self, state: State, work: Work) -> ReplyReceived | ReplyFailed | ToolReturned | Examined:
        match work:
            case ToolWork():
                return await self._return_tool(state, work)
            case ModelWork():
                return await self._ask_model(state, work)
            case ExamineWork():
                found = await self._examiner.examine(state, work)
                return Examined(self._clock.now_us(), found, state)

    @property
    def examiner(self) -> Examiner:
        return self._examiner

    async def _return_tool(self, state: State, work: ToolWork) -> ToolReturned:
        """What came of a call, screened before it is recorded: what a rule takes out of it is written nowhere."""
        outcome = _storable(await self._use_tool(state, work))
        redacted: dict[str, int] = {}
        hooks: tuple[Ruling, ...] = ()
        if outcome.suspension is None:
            outcome, redacted = self._screened(state, work, outcome)
            seen = outcome
            outcome, hooks = await self._examiner.screen_outcome(state, work.call, outcome)
            if outcome is not seen:  # what hooks have put in its place is screened as well
                outcome, more = self._screened(state, work, outcome)
                redacted = {kind: redacted.get(kind, 0) + more.get(kind, 0) for kind in redacted | more}
            outcome = await self._bounded(state, outcome, work.spec.output_bytes_max)
        return ToolReturned(self._clock.now_us(), work.call.id, outcome, redacted, hooks)

    def _screened(self, state: State, work: ToolWork, outcome: ToolOutcome) -> tuple[ToolOutcome, dict[str, int]]:
        """What is left of an outcome, and what was taken out of it, by kind."""
        screened = screen_output(
            work.spec.name,
            outcome,
            names=state.guard.redactions(called(work.spec, "")),
            returns=work.spec.returns,
            detectors=self._detectors,
        )
        return screened.outcome, screened.redacted

    async def _ask_model(self, state: State, work: ModelWork) -> ReplyReceived | ReplyFailed:
        call = work.call
        try:
            provider = self._providers(state.model)
            reply = await provider.complete(context.request(state, call), _unseen)
        except OstlerError as error:
            now = self._clock.now_us()
            retry_at = None
            if error.retryable:
                asked = error.retry_after_s if isinstance(error, ProviderError) else None
                chance = int.from_bytes(self._entropy.chance(4), "big") / 2**32
                retry_at = now + int(retry_delay_s(call.attempt, chance, retry_after_s=asked) * 1_000_000)
            status = error.status if isinstance(error, ProviderError) else None
            message = f"{error.message} {error.hint}".strip()
            return ReplyFailed(now, call.id, error.code, message, status, retry_at)
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and _is_being_cancelled():
                raise
            message = f"{type(error).__name__}: {error}"
            return ReplyFailed(self._clock.now_us(), call.id, "provider_defect", message)
        screened = screen_reply(
            reply, names=state.guard.redactions(called(None, state.model.name)), detectors=self._detectors
        )
        reply, hooks = await self._examiner.screen_reply(state, call, screened.reply)
        return ReplyReceived(self._clock.now_us(), call.id, reply, screened.redacted, hooks)

    async def _use_tool(self, state: State, work: ToolWork) -> ToolOutcome:
        call, spec = work.call, work.spec
        request = ToolRequest(
            tool=call.tool,
            arguments=call.arguments or {},
            key=f"{state.session}/{call.id}",
            tenant=state.by.tenant,
            timeout_s=spec.timeout_s,
            attempt=call.attempt,
            workspace=state.workspace,
            sandbox=state.sandbox,
            isolation=spec.isolation,
            callable_tools=_callable(state, spec),
            snapshot=call.snapshot,
            answer=call.answer,
        )
        try:
            outcome = None
            if call.attempt > 1 and spec.effect == "reconcilable":
                outcome = await self._tools.reconcile(request)
            if outcome is None:
                outcome = await self._tools.perform(request)
        except ToolNotFound as error:
            return failed("not_found", error.message)
        except ToolTimeout as error:
            return failed("timeout", f"{error.message} {error.hint}".strip())
        except OstlerError as error:
            return failed("transient" if error.retryable else "permanent", f"{error.message} {error.hint}".strip())
        except asyncio.CancelledError as error:
            if _is_being_cancelled():
                raise
            return failed("permanent", f"CancelledError: {error}")
        except Exception as error:
            return failed("permanent", f"{type(error).__name__}: {error}")
        return outcome

    async def _bounded(self, state: State, outcome: ToolOutcome, bytes_max: int) -> ToolOutcome:
        """Keeps a large output in the blob store, and its beginning in the event."""
        if len(outcome.output) * 4 <= bytes_max:  # at most four bytes a character in UTF-8
            return outcome
        body = outcome.output.encode()
        if len(body) <= bytes_max:
            return outcome
        preview = body[:PREVIEW_BYTES].decode(errors="ignore")
        try:
            digest = await self._blobs.put(StreamId(state.by.tenant, state.session), body)
        except StoreError as error:  # what came of the call must not be lost with what it said
            lost = len(body) - len(preview.encode())
            note = f"[{lost} of {len(body)} bytes could not be kept: {error.message}]"
            return ToolOutcome(outcome.ok, f"{preview}\n{note}", outcome.kind)
        return ToolOutcome(outcome.ok, preview, outcome.kind, False, digest, len(body))


def _storable(outcome: ToolOutcome) -> ToolOutcome:
    """The outcome, or the end of a program that is too large to be kept while it waits."""
    waiting = outcome.suspension
    if waiting is None or len(waiting.snapshot) <= SNAPSHOT_BYTES_MAX:
        return outcome
    size, tool = len(waiting.snapshot), waiting.tool
    held = f"the program held {size} bytes when it called {tool}, and may hold {SNAPSHOT_BYTES_MAX} at a call"
    return failed("permanent", f"{held}: let go of what is not needed before")


def _callable(state: State, spec: ToolSpec) -> tuple[ToolSpec, ...]:
    """What a program that the agent wrote may call: every other tool of the agent, through the gate."""
    if spec.name != CODE:
        return ()
    return tuple(tool for tool in state.agent.tools if tool.name != CODE)


def _is_being_cancelled() -> bool:
    """Whether somebody wants this task to stop; else a cancellation comes from inside of the call, and is a failure."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _unseen(text: str) -> None:
    """Streamed text that nobody watches."""
