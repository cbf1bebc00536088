"""The plot: what is done, in which order, and what is told of it on the way."""

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager

import msgspec

from ostler.app import agents
from ostler.app.demo.process import replay_offline, worker
from ostler.app.demo.report import Killed, Offline, Report, Seen, diff_in, is_test_run, report, what
from ostler.app.demo.stage import HELD_RUN, Stage, Witness, check_sandbox
from ostler.app.service import Runtime
from ostler.app.session import Session
from ostler.app.verify import Verified, stream_ids, verify
from ostler.domain.boot import WORKER_CODEC, WorkerStarted
from ostler.domain.identity import DEFAULT_TENANT, Principal
from ostler.domain.session.events import SESSION_CODEC, ApprovalRequested, SessionEvent, ToolRequested
from ostler.kernel.errors import NotFound, OstlerError
from ostler.kernel.event import Record
from ostler.ports import EventStore
from ostler.runtime.replay import snapshot

GOAL = "make the tests pass"
MODEL = "strategy:coder-tempted"
ALLOWED_S = 120.0
"""How long all of it may take before something must be wrong."""

APPROVER = Principal("demo", kind="service", scopes=("*",))
BECAUSE = "the demo has looked at the diff"


class Prepared(msgspec.Struct, frozen=True):
    """Everything is there and the session has been started; nobody runs it yet."""

    stage: Stage
    session: str
    held: list[str]


class Begun(msgspec.Struct, frozen=True):
    """A worker has been started. `is_successor`: another one was killed before."""

    pid: int
    is_successor: bool


class Asked(msgspec.Struct, frozen=True):
    """A call waits for a decision. So far there are that many `commits`; the demo is about to approve it."""

    call: str
    what: str
    rule: str
    reason: str
    diff: str
    commits: int


class Proved(msgspec.Struct, frozen=True):
    """The session was replayed offline, and every log verified."""

    replay: Offline
    logs: list[Verified]


Beat = Prepared | Begun | Record | Killed | Asked | Proved
"""What is told of the demonstration as it goes; a `Record` is an event of its session."""


Tell = Callable[[Beat], None]


async def play(stage: Stage, tell: Tell) -> Report:
    """Give the whole demonstration. Raises `SandboxUnavailable` before anything else is done.

    However it ends, no process of it is left.
    """
    began = time.monotonic()
    held = await check_sandbox()
    stage.build()
    async with Runtime.open(stage.settings, worker=False) as runtime:
        session = await _start(runtime, stage)
        tell(Prepared(stage, session.id, held))
        async with _in_time(), aclosing(session.records()) as records:
            run = _Run(stage, session, records, tell)
            with Witness(stage) as witness:
                killed = await run.until_killed(witness)
            successor_pid, commits = await run.until_ended()
        proved = await _prove(runtime, session, stage)
        tell(proved)
        seen = Seen(
            killed=killed,
            successor_pid=successor_pid,
            found_lost=await _found_lost(runtime.parts.store, successor_pid),
            commits_before=commits,
            commits_after=stage.commits(),
            runs=witness.runs(),
            replay=proved.replay,
            logs=proved.logs,
        )
        took_s = time.monotonic() - began
        view, facts = await session.view(), await session.facts()
        return report(view, facts, seen, took_s=took_s, folder=str(stage.folder), store=stage.store)


class _Run:
    """One session, watched event by event; what happens to it happens at an event."""

    def __init__(self, stage: Stage, session: Session, records: AsyncGenerator[Record, None], tell: Tell) -> None:
        self._stage = stage
        self._session = session
        self._records = records
        self._tell = tell

    async def until_killed(self, witness: Witness) -> Killed:
        """Run it in a worker that is killed while the tests run."""
        async with worker(self._stage, 1) as running:
            self._tell(Begun(running.pid, is_successor=False))
            call = await running.during(self._until_held(witness))
            processes = await running.kill()
        killed = Killed(
            pid=running.pid,
            call=call.call,
            what=what(call.tool, call.arguments),
            runs=witness.runs(),
            processes=processes,
        )
        self._tell(killed)
        return killed

    async def until_ended(self) -> tuple[int, int]:
        """Let another worker go on; returns its process and how many commits there were before it was allowed one."""
        async with worker(self._stage, 2) as running:
            self._tell(Begun(running.pid, is_successor=True))
            commits = await running.during(self._approving())
            await running.stop()
        return running.pid, commits

    async def _until_held(self, witness: Witness) -> ToolRequested:
        """Follow the session until the held run of the tests is under way; returns its intent."""
        runs = 0
        async for record in self._records:
            event = self._told(record)
            if isinstance(event, ToolRequested) and is_test_run(event.arguments):
                runs += 1
                if runs == HELD_RUN:
                    await witness.until(runs)
                    return event
        raise OstlerError("The session ended before its worker could be killed.")

    async def _approving(self) -> int:
        """Follow the session to its end and approve what it asks for; returns how many commits there were by then."""
        commits = 0
        async for record in self._records:
            event = self._told(record)
            if isinstance(event, ApprovalRequested):
                commits = self._stage.commits()
                about, diff = what(event.tool, event.arguments), diff_in(await self._session.facts())
                self._tell(Asked(event.call, about, event.rule, event.reason, diff, commits))
                await self._session.approve(event.call, by=APPROVER, reason=BECAUSE)
        return commits

    def _told(self, record: Record) -> SessionEvent:
        self._tell(record)
        return SESSION_CODEC.decode(record.data)


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(ALLOWED_S):
            yield
    except TimeoutError as error:
        raise OstlerError(f"The session did not end within {ALLOWED_S:g} s, which should take a few.") from error


async def _start(runtime: Runtime, stage: Stage) -> Session:
    found = agents.builtin("coder", runtime.parts.tools.specs())
    if found is None:
        raise NotFound("The built-in agent coder is missing.", hint="Install Ostler again.")
    return await runtime.start(found[0], GOAL, model=MODEL, workspace=stage.workspace)


async def _prove(runtime: Runtime, session: Session, stage: Stage) -> Proved:
    """Replay the session offline, and verify every log of the store, those of the workers as well."""
    replayed = await replay_offline(stage, session.id)
    digest = hashlib.sha256(snapshot(await session.state())).hexdigest()
    store, blobs = runtime.parts.store, runtime.parts.blobs
    logs = [await verify(store, blobs, stream) for stream in await stream_ids(store, DEFAULT_TENANT)]
    return Proved(Offline(replayed.decisions, replayed.events, replayed.digest, digest), logs)


async def _found_lost(store: EventStore, pid: int) -> Sequence[str]:
    """Which dead workers the one with this process number has found, as it says itself."""
    for stream in await stream_ids(store, DEFAULT_TENANT, "wrk_"):
        started = WORKER_CODEC.decode((await store.read(stream, limit=1))[0].data)
        if isinstance(started, WorkerStarted) and started.pid == pid:
            return started.found_lost
    return ()
