"""Performs one call that the gate let pass, and says what came of it as a command. Never raises but when cancelled."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from ostler.domain import context
from ostler.domain.guard import called
from ostler.domain.hook import Ruling
from ostler.domain.model import ModelRef, ModelRequest, Reply, Usage, within_reason
from ostler.domain.resilience.retry import UNBEGUN
from ostler.domain.screening.controls import neutralise
from ostler.domain.screening.screen import screen_output, screen_reply
from ostler.domain.session.attempts import may_try_again
from ostler.domain.session.commands import Compared, Examined, ReplyFailed, ReplyReceived, ToolReturned
from ostler.domain.session.events import NOTHING_USED
from ostler.domain.session.pending import ExamineWork, MeasureWork, ModelWork, ToolWork, Work
from ostler.domain.session.state import OpenCall, State
from ostler.domain.tool import CODE, ToolOutcome, ToolRequest, ToolSpec, failed
from ostler.kernel.errors import OstlerError, ProviderError, ProviderTimeout, StoreError, ToolNotFound, ToolTimeout
from ostler.kernel.event import StreamId
from ostler.ports import BlobStore, Clock, Entropy, LiveText, ModelProvider, ToolHost
from ostler.runtime.examiner import Examiner
from ostler.runtime.images import Images
from ostler.runtime.resilience.chain import Chain
from ostler.runtime.resilience.shared import FailedElsewhere

PARTIAL_MAX = 4096
"""How much of the beginning of a reply that broke off is kept in the event."""

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
        live: LiveText | None = None,
        chain: Chain | None = None,
    ) -> None:
        self.chain = chain or Chain()
        self._examiner = examiner or Examiner(clock)
        self._live = live
        self._images = Images(blobs)
        self._providers = providers
        self._tools = tools
        self._blobs = blobs
        self._clock = clock
        self._entropy = entropy

    async def perform(
        self, state: State, work: Work
    ) -> ReplyReceived | ReplyFailed | ToolReturned | Examined | Compared:
        match work:
            case ToolWork():
                return await self._return_tool(state, work)
            case ModelWork():
                return await self._ask_model(state, work)
            case ExamineWork():
                found = await self._examiner.examine(state, work)
                return Examined(self._clock.now_us(), found, state)
            case MeasureWork():
                again = await self._examiner.measure(state, work)
                return Compared(self._clock.now_us(), work.after.call, again)

    @property
    def examiner(self) -> Examiner:
        return self._examiner

    async def _return_tool(self, state: State, work: ToolWork) -> ToolReturned:
        """What came of a call, screened before it is recorded: what a rule takes out of it is written nowhere."""
        used = await self._use_tool(state, work)
        outcome = _storable(used.outcome)
        redacted: dict[str, int] = {}
        hooks: tuple[Ruling, ...] = ()
        if outcome.suspension is None:
            outcome, redacted = self._screened(state, work, outcome)
            again_us = self._tool_again_us(state, work, used)
            if again_us is not None:
                now_us = self._clock.now_us()
                return ToolReturned(now_us, work.call.id, outcome, redacted, retry_at_us=again_us, code=used.code)
            seen = outcome
            outcome, hooks = await self._examiner.screen_outcome(state, work.call, outcome)
            if outcome is not seen:  # what hooks have put in its place is screened as well
                outcome, more = self._screened(state, work, outcome)
                redacted = {kind: redacted.get(kind, 0) + more.get(kind, 0) for kind in redacted | more}
            outcome = await self._bounded(state, outcome, work.spec.output_bytes_max)
        return ToolReturned(self._clock.now_us(), work.call.id, outcome, redacted, hooks, shared_with=used.shared_with)

    def _tool_again_us(self, state: State, work: ToolWork, used: "_Used") -> int | None:
        """When a tool is to be called once more; None if what came of the call is what came of it."""
        is_transient = used.outcome.kind == "transient" and work.spec.name != CODE
        if not is_transient or not may_try_again(state, work.call, used.code):
            return None
        return self._again_us(state, work.call, used.code, used.retry_after_s)

    def _again_us(self, state: State, call: OpenCall, code: str, retry_after_s: float | None) -> int | None:
        """When another attempt makes sense; None if it would come too late."""
        chance = int.from_bytes(self._entropy.chance(4), "big") / 2**32
        failures = max(call.failures + 1, call.attempt)  # those that were lost count, too
        return state.agent.limits.retries.again_us(
            code,
            failures,
            chance,
            now_us=self._clock.now_us(),
            since_us=call.failing_since_us,
            retry_after_s=retry_after_s,
        )

    def _screened(self, state: State, work: ToolWork, outcome: ToolOutcome) -> tuple[ToolOutcome, dict[str, int]]:
        """What is left of an outcome, and what was taken out of it, by kind."""
        screened = screen_output(
            work.spec.name,
            outcome,
            names=state.guard.redactions(called(work.spec, "")),
            returns=work.spec.returns,
            detectors=self._examiner.detectors,
        )
        return screened.outcome, screened.redacted

    async def _ask_model(self, state: State, work: ModelWork) -> ReplyReceived | ReplyFailed:
        call = work.call
        try:
            provider = self._providers(state.model)
            request = context.request(state, call)
            if state.images:
                images = await self._images.of(state.by.tenant, request.messages)
                request = msgspec.structs.replace(request, images=images)
            reply, shared_with = await self.chain.ask(
                state, request, lambda: self._complete(provider, request, state, call)
            )
        except FailedElsewhere as elsewhere:
            return self._failed(state, call, elsewhere.error, NOTHING_USED)
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and _is_being_cancelled():
                raise
            return self._failed(state, call, error, None)
        if shared_with:
            reply = msgspec.structs.replace(reply, usage=Usage())
        names = state.guard.redactions(called(None, state.model.name))
        screened = screen_reply(within_reason(reply), names=names, detectors=self._examiner.detectors)
        reply, hooks = await self._examiner.screen_reply(state, call, screened.reply)
        return ReplyReceived(self._clock.now_us(), call.id, reply, screened.redacted, hooks, shared_with)

    async def _complete(self, provider: ModelProvider, request: ModelRequest, state: State, call: OpenCall) -> Reply:
        """Ask once, with the text shown as it comes to whoever watches: unless something could be taken out of it."""
        if self._live is None:
            return await provider.complete(request, _unseen)
        withheld = ""
        if state.guard.redactions(called(None, state.model.name)):
            withheld = "a rule takes out of it what it finds"
        elif self._examiner.screens_replies(state):
            withheld = "hooks look at it first"
        live = self._live.begin(StreamId(state.by.tenant, state.session), call.id, call.attempt, withheld=withheld)
        try:
            return await provider.complete(request, live.say)
        finally:
            live.end()

    def _failed(self, state: State, call: OpenCall, error: BaseException, usage: Usage | None) -> ReplyFailed:
        """What to record of an attempt that failed. `usage` None: what it has used is not known."""
        now_us = self._clock.now_us()
        if not isinstance(error, OstlerError):
            message = neutralise(f"{type(error).__name__}: {error}").text
            return ReplyFailed(now_us, call.id, "provider_defect", message, usage=usage)
        message = neutralise(_told(error)).text
        again_us = None
        if error.retryable:
            wanted_s = getattr(error, "retry_after_s", None)
            again_us = self._again_us(state, call, error.code, wanted_s)
            if again_us is None:
                asked = f" after {wanted_s:g} s" if wanted_s is not None else ""
                message += f" (Another attempt{asked} would be later than {state.agent.limits.retries.for_s:g} s.)"
        partial = neutralise(error.partial_text[:PARTIAL_MAX]).text if isinstance(error, ProviderError) else ""
        if state.agent.hooks or state.guard.redactions(called(None, state.model.name)):
            partial = ""  # what would be taken out of a whole reply cannot be told from the half of one
        status = error.status if isinstance(error, ProviderError) else None
        return ReplyFailed(now_us, call.id, error.code, message, status, again_us, partial, usage)

    def overdue(self, state: State, call: OpenCall, reason: str) -> ReplyFailed:
        """What to record of a model call that was stopped from outside, because it kept no time of its own."""
        return self._failed(state, call, ProviderTimeout(reason), None)

    async def _use_tool(self, state: State, work: ToolWork) -> "_Used":
        """What came of one attempt, and what an error said beside that."""
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
            agent=state.agent.name,
            user=state.by.id,
            taint=call.taint,
            memory=state.agent.memory,
        )
        try:
            outcome, shared_with = await self.chain.use(state, spec, request, lambda: self._perform(spec, request))
            return _Used(outcome, shared_with=shared_with)
        except FailedElsewhere as elsewhere:
            return _failed_tool(elsewhere.error)
        except asyncio.CancelledError as error:
            if _is_being_cancelled():
                raise
            return _Used(failed("permanent", f"CancelledError: {error}"))
        except Exception as error:
            return _failed_tool(error)

    async def _perform(self, spec: ToolSpec, request: ToolRequest) -> ToolOutcome:
        """Perform a call, unless it can be asked and says that an earlier attempt did."""
        if request.attempt > 1 and spec.effect == "reconcilable":
            outcome = await self._tools.reconcile(request)
            if outcome is not None:
                return outcome
        return await self._tools.perform(request)

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


class _Used(NamedTuple):
    """What came of an attempt to use a tool. `code` says why it failed, where it is not that this is `transient`."""

    outcome: ToolOutcome
    code: str = "transient"
    retry_after_s: float | None = None
    shared_with: str = ""


def _told(error: OstlerError) -> str:
    """What happened and what to do. The words of a provider need not end like a sentence."""
    if not error.hint:
        return error.message
    end = "" if error.message.endswith((".", "!", "?", "…")) else "."
    return f"{error.message}{end} {error.hint}"


def _failed_tool(error: Exception) -> _Used:
    """What the model is told of an error, and what says whether another attempt makes sense."""
    if not isinstance(error, OstlerError):
        return _Used(failed("permanent", f"{type(error).__name__}: {error}"))
    message = _told(error)
    match error:
        case ToolNotFound():
            return _Used(failed("not_found", error.message))
        case ToolTimeout():
            return _Used(failed("timeout", message))
        case _:
            code = error.code if error.code in UNBEGUN else "transient"
            outcome = failed("transient" if error.retryable else "permanent", message)
            return _Used(outcome, code, getattr(error, "retry_after_s", None))


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
