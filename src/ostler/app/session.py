"""A session as its users hold it: watch it, decide about its calls, steer it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Protocol

import msgspec

from ostler.app.bootstrap import Parts
from ostler.app.governance import in_force, layers_of_today
from ostler.app.images import keep_images, read_images
from ostler.app.speech import spoken
from ostler.domain.constraint.policy import Policy
from ostler.domain.governance import GOVERN, Governance
from ostler.domain.guard import Guard
from ostler.domain.housekeeping import ERASED
from ostler.domain.identity import LOCAL_USER, Principal
from ostler.domain.live import Piece
from ostler.domain.model import ModelRef
from ostler.domain.schema import parse_json
from ostler.domain.session import commands as command
from ostler.domain.session.bodies import bodies_of
from ostler.domain.session.commands import SessionCommand
from ostler.domain.session.events import (
    SESSION_CODEC,
    AgentCancelled,
    AgentCompleted,
    AgentFailed,
    ApprovalRejected,
    Lasts,
    PolicyMoved,
    SessionEvent,
)
from ostler.domain.session.fork import Fact
from ostler.domain.session.state import ENDED, State
from ostler.kernel.errors import (
    Conflict,
    DefinitionInvalid,
    NotAllowed,
    OstlerError,
    UsageError,
)
from ostler.kernel.event import Record, StreamId
from ostler.kernel.ids import CHANCE_BYTES, make_id
from ostler.ports import Append, Entropy, StreamInfo
from ostler.runtime.journal import QUARANTINED, Journal, check_content, standing_of
from ostler.views.sessions import SessionView, view

WAIT_S = 5.0


class Host(Protocol):
    """What a session needs of the runtime that it is held in."""

    @property
    def parts(self) -> Parts: ...

    def wake(self, stream: StreamId | None = None) -> None: ...

    async def let_go(self, stream: StreamId) -> bool: ...

    async def check_served(self, info: StreamInfo) -> None: ...


class Happening(msgspec.Struct, frozen=True):
    """One event of a session as it is watched: its number, its moment (microseconds since 1970), itself."""

    seq: int
    at_us: int
    event: SessionEvent


class Result(msgspec.Struct, frozen=True):
    """How a session ended. `text` is the answer of a completed one, the explanation of any other."""

    session: str
    status: str
    reason: str
    text: str

    @property
    def is_success(self) -> bool:
        return self.status == "completed"

    @property
    def value(self) -> Any:
        """The answer of an agent that `returns` something, as JSON has it. Raises `Conflict` if there is none."""
        if not self.is_success:
            raise Conflict(f"{self.session} has no answer: {self}.")
        value, problem = parse_json(self.text)
        if problem is not None:
            raise Conflict(
                f"The answer of {self.session} is no JSON: {problem.message}.",
                hint="An agent with `returns` answers with JSON.",
            )
        return value

    def __str__(self) -> str:
        return self.text if self.is_success else f"{self.status} ({self.reason}): {self.text}"


class Session:
    """A handle on one session; it holds nothing, everything is asked of the log."""

    def __init__(self, runtime: Host, stream: StreamId) -> None:
        self._runtime = runtime
        self._stream = stream

    @property
    def id(self) -> str:
        return self._stream.name

    @property
    def stream(self) -> StreamId:
        return self._stream

    async def events(self, *, after: int = 0, follow: bool = True) -> AsyncIterator[Happening]:
        """Every event with `seq > after`, in order, each once; then, while `follow`, as they happen until the end."""
        async for record in self.records(after=after, follow=follow):
            yield Happening(record.seq, record.at_us, SESSION_CODEC.decode(record.data))

    async def records(self, *, after: int = 0, follow: bool = True) -> AsyncGenerator[Record, None]:
        """As `events`, as they are stored."""
        store = self._journal.store
        while True:
            position = await store.head()
            is_over = not follow or (await self._info()).standing.status in (*ENDED, QUARANTINED, ERASED)
            records = await store.read(self._stream, after=after)
            check_content(records)
            for record in records:
                after = record.seq
                yield record
            if is_over or (records and isinstance(SESSION_CODEC.decode(records[-1].data), _ENDS)):
                return
            if not records:
                await store.wait(after=position, timeout_s=WAIT_S, stream=self._stream)

    async def text(self, *, after: int = 0) -> AsyncGenerator[Piece, None]:
        """What the model says, in pieces and in order, until the end: live as it comes, wherever the session runs.

        What was not heard, or not shown before it was in the log, comes from there: replies of events after `after`
        that are over already are one piece each. An attempt that failed is begun anew, with another `attempt`. Whoever
        reads slowly keeps nobody waiting; their `offset`s tell of what was left out.
        """
        async with (
            aclosing(self.live()) as live,
            aclosing(self.records()) as records,
            aclosing(spoken(live, records, after=after)) as pieces,
        ):
            async for piece in pieces:
                yield piece

    def live(self) -> AsyncGenerator[Piece, None]:
        """Only what is said from now on, after what came so far of the reply under way; it does not end by itself."""
        return self._runtime.parts.live.watch(self._stream)

    async def facts(self) -> list[Fact]:
        """Every event so far with its moment in microseconds since 1970, from number 1 on. Raises `StoreCorrupt`."""
        await self._journal.load(self._stream)
        return await self._journal.facts(self._stream)

    async def result(self, *, timeout_s: float | None = None) -> Result:
        """Wait for the end. Raises `TimeoutError` after `timeout_s`; the session goes on regardless. Raises
        `StoreCorrupt` if its log turns out to be damaged.
        """
        async with asyncio.timeout(timeout_s):
            end = await self._end(await self._until_ended())
        match end:
            case AgentCompleted(answer=text, reason=reason):
                return Result(self.id, "completed", reason, text)
            case AgentFailed(reason=reason, message=text):
                return Result(self.id, "failed", reason, text)
            case AgentCancelled(reason=reason, by=by):
                return Result(self.id, "cancelled", reason, f"by {by}")

    async def _end(self, version: int) -> AgentCompleted | AgentFailed | AgentCancelled:
        """The end of an ended session; after it there is nothing but decisions of people that came too late."""
        while True:
            (record,) = await self._journal.store.read(self._stream, after=version - 1, limit=1)
            event = SESSION_CODEC.decode(record.data)
            if isinstance(event, AgentCompleted | AgentFailed | AgentCancelled):
                return event
            version -= 1

    async def _until_ended(self) -> int:
        """Wait for the end; returns the number of the last event."""
        store = self._journal.store
        while True:
            position = await store.head()
            info = await self._info()
            if info.standing.status in ENDED:
                return info.version
            if info.standing.status in (QUARANTINED, ERASED):
                await self._journal.load(self._stream)
            if not await self._runtime.let_go(self._stream):
                await self._runtime.check_served(info)
                await store.wait(after=position, timeout_s=WAIT_S, stream=self._stream)

    async def version(self) -> int:
        """The number of its last event."""
        return (await self._info()).version

    async def head(self) -> int:
        """The position of the store, to wait from with `changed`."""
        return await self._journal.store.head()

    async def changed(self, *, after: int, timeout_s: float = WAIT_S) -> None:
        """Return when the store has moved on from position `after`, or at timeout; then look again."""
        await self._journal.store.wait(after=after, timeout_s=timeout_s)

    async def _info(self) -> StreamInfo:
        (info,) = await self._journal.store.streams(self._stream.tenant, prefix=self.id, limit=1)
        return info

    async def state(self) -> State:
        loaded = await self._journal.load(self._stream)
        assert loaded.state is not None
        return loaded.state

    async def view(self) -> SessionView:
        return view(await self.state())

    async def approve(
        self,
        call: str | None = None,
        *,
        by: Principal = LOCAL_USER,
        reason: str = "",
        digest: str | None = None,
        arguments: dict[str, Any] | None = None,
        lasts: Lasts = "once",
        until_us: int | None = None,
    ) -> str:
        """Let the call that waits go on; returns its id.

        `digest` binds the approval to exactly the call that was looked at; `arguments` are put in place of those that
        the model asked for, and judged like them. `lasts` beyond this once, the same call is not asked about again in
        this session, or until a moment. Raises `Conflict`, with the reason, for a decision that does not count: it is
        recorded nevertheless.
        """
        if (lasts == "until") != (until_us is not None):
            raise UsageError("`lasts` must be 'until' if, and only if, there is a moment until which it lasts.")
        question = await self._question(call)
        wish = command.Approve(self.now_us(), question, by, reason, digest, arguments, lasts, until_us)
        await self._decide(wish)
        return question

    async def deny(self, call: str | None = None, *, by: Principal = LOCAL_USER, reason: str = "") -> str:
        """Refuse the call that waits; returns its id. Raises as `approve` does."""
        question = await self._question(call)
        await self._decide(command.Deny(self.now_us(), question, by, reason))
        return question

    async def ask_back(self, text: str, call: str | None = None, *, by: Principal = LOCAL_USER) -> str:
        """Ask something before deciding: the call is not begun, and the model is told. Raises as `approve` does."""
        question = await self._question(call)
        await self._decide(command.AskBack(self.now_us(), question, by, text))
        return question

    async def move_policy(self, policy: Policy | None = None, *, by: Principal = LOCAL_USER, reason: str = "") -> None:
        """Put the session under the tenant's policies of today, and `policy` in place of its agent's; recorded.

        Until then a session keeps the policies that it started with; the one that it was started under itself stays.
        Raises `NotAllowed`, `Halted`, `PolicyInvalid`, and `DefinitionInvalid` if the policies declare inputs that the
        session was not given.
        """
        if not by.may(GOVERN):
            raise NotAllowed(f"{by.id} lacks the scope {GOVERN!r}.")
        state = await self.state()
        held = await in_force(self._runtime.parts, self._stream.tenant)
        own = state.agent.policy if policy is None else policy
        layers = _layers(held, state, own)
        await self._tell(command.MovePolicy(self.now_us(), by, own, layers, held.shadow, reason))

    async def _decide(self, wish: command.Approve | command.Deny | command.AskBack) -> None:
        for event in await self._tell(wish):
            if isinstance(event, ApprovalRejected):
                raise Conflict(
                    f"The decision of {wish.by.id} about call {wish.call} does not count: {event.reason}.",
                    hint="`ostler approvals` lists what waits for a decision, and for whose.",
                )

    async def send(self, text: str, *, images: Sequence[Path | bytes] = (), by: Principal = LOCAL_USER) -> None:
        """Say something to the running agent; it sees it with its next request, and images (files, or bytes) with it.

        Raises `DefinitionInvalid` for what is no image, `Conflict` if the session has ended.
        """
        shown = await keep_images(self._runtime.parts.blobs, self._stream, read_images(images, "the message"))
        await self._tell(command.Send(self.now_us(), text, by, shown))

    async def pause(self, *, by: Principal = LOCAL_USER, reason: str = "") -> None:
        await self._tell(command.Pause(self.now_us(), by, reason))

    async def resume(self, *, by: Principal = LOCAL_USER) -> None:
        """End a pause. A session that is not paused is put back into the queue, if it is not there as it should be."""
        await self._tell(command.Resume(self.now_us(), by))
        loaded, info = await self._journal.load(self._stream), await self._info()
        assert loaded.state is not None
        standing = standing_of(loaded.state, at_us=self.now_us(), before=info.standing)
        if info.version == loaded.seq and standing != info.standing:
            await self._journal.store.append(Append(self._stream, loaded.seq, (), standing))
            self._runtime.wake(self._stream)

    async def cancel(self, *, by: Principal = LOCAL_USER, reason: str = "") -> None:
        """Begin nothing more, stop what is under way, then end."""
        await self._tell(command.Cancel(self.now_us(), by, reason))

    async def kill(self, *, by: Principal = LOCAL_USER) -> None:
        """End at once; what is under way is recorded as unknown and stopped by its worker."""
        await self._tell(command.Kill(self.now_us(), by))

    async def fork(
        self,
        *,
        seq: int | None = None,
        say: str | None = None,
        trial: ModelRef | None = None,
        by: Principal = LOCAL_USER,
    ) -> "Session":
        """A new session with this one's past up to `seq`, and `say` as the next thing that it hears.

        It is under the tenant's policies of today, like every session that starts. A `trial` asks this model for one
        reply and ends; nothing is performed. Raises `Conflict` (a call is under way there), `Halted`, and
        `DefinitionInvalid` if the policies declare inputs that the session was not given.
        """
        parts = self._runtime.parts
        held = await in_force(parts, self._stream.tenant, (await self._info()).standing.queue)
        now = self.now_us()
        name = make_id("ses", now // 1000, _chance(parts.entropy))
        shared = [digest for _, event in await self.facts() for digest in bodies_of(event)]
        own = StreamId(self._stream.tenant, name)
        await parts.blobs.share(own, shared)
        try:
            forked = await parts.journal.fork(
                self._stream, name, by=by, at_us=now, seq=seq, trial=trial, then=lambda state: _under(held, state, by)
            )
        except OstlerError:
            await parts.blobs.drop([own])
            raise
        if say is not None:
            await parts.journal.execute(forked, command.Send(now, say, by))
        self._runtime.wake()
        return Session(self._runtime, forked.stream)

    async def _question(self, call: str | None) -> str:
        if call is not None:
            return call
        question = (await self.state()).question
        if question is None:
            raise Conflict(f"{self.id} waits for no approval.", hint="`ostler approvals` lists what does.")
        return question.call

    async def _tell(self, wish: SessionCommand) -> list[SessionEvent]:
        loaded = await self._journal.load(self._stream)
        events = await self._journal.execute(loaded, wish)
        self._runtime.wake(self._stream)
        return events

    @property
    def _journal(self) -> Journal:
        return self._runtime.parts.journal

    def now_us(self) -> int:
        """The time by the store's clock, in microseconds since 1970."""
        return self._runtime.parts.clock.now_us()


_ENDS = (AgentCompleted, AgentFailed, AgentCancelled)


def _layers(held: Governance, state: State, own: Policy) -> tuple[Policy, ...]:
    """The policies above `own` that a session would be under today. Raises `DefinitionInvalid`, `PolicyInvalid`."""
    layers = layers_of_today(held, state.layers)
    problems = Guard(own, layers, held.shadow).problems_with(state.inputs)
    if problems:
        raise DefinitionInvalid(f"the policies for {state.session}", problems)
    return layers


def _under(held: Governance, state: State, by: Principal) -> list[SessionEvent]:
    """What puts a fork under the policies of today, if they are not those of its past."""
    own = state.agent.policy
    layers = _layers(held, state, own)
    is_same = (layers, held.shadow) == (state.layers, state.shadow)
    return [] if is_same else [PolicyMoved(by.id, own, layers, held.shadow, "a fork is under the policies of its day")]


def _chance(entropy: Entropy) -> bytes:
    return entropy.chance(CHANCE_BYTES)
