"""The runtime as its users hold it: open a store, start sessions, watch and steer them."""

import asyncio
import gc
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

import msgspec

from ostler.app.bootstrap import Parts, connect
from ostler.app.governance import Governing
from ostler.app.identity import Identity, identity_of
from ostler.app.images import keep_images, read_images
from ostler.app.lists import session_views
from ostler.app.models import Choice, Wanted
from ostler.app.plugins import MEMORY, part
from ostler.app.session import Session
from ostler.app.settings import Settings, resolve
from ostler.app.starting import ground_of, problems_with_request
from ostler.app.strategies import Strategy, objects_in
from ostler.domain.agent import AgentSpec
from ostler.domain.constraint.policy import Policy
from ostler.domain.grant import Grant
from ostler.domain.identity import LOCAL_USER, Principal
from ostler.domain.scheduling import EVERYONE, WorkerSettings
from ostler.domain.screening.detectors import Detectors
from ostler.domain.session import commands as command
from ostler.kernel.errors import (
    Conflict,
    DefinitionInvalid,
    NotFound,
    OstlerError,
    UsageError,
)
from ostler.kernel.event import StreamId
from ostler.kernel.ids import CHANCE_BYTES, make_id
from ostler.ports import Entropy, StreamInfo
from ostler.views.sessions import SessionView

if TYPE_CHECKING:
    from ostler.app.agents import Agent
    from ostler.app.tending import Tending
    from ostler.runtime.resilience.pipeline import Timing
    from ostler.runtime.worker import Worker

COLLECT_AFTER = 50_000
"""Allocations between two looks for garbage in cycles while a worker runs. It makes many values and no cycles; at the
interpreter's default a sixth of its CPU would go into looking.
"""
MEASURE_GRACE_S = 5.0
"""How long leaving the runtime may take to measure what is still to be measured."""
HURRIED_GRACE_S = 1.0
"""How long calls under way may go on when the runtime is left by an exception, such as Ctrl-C."""


class Runtime:
    """An open store, and a worker that runs the sessions of the agents it knows.

    Use as `async with Runtime.open(...) as runtime`. Leaving it stops the worker: calls under way may finish, the rest
    is in the log, and goes on when a runtime is opened on the same store again.
    """

    def __init__(
        self,
        settings: Settings,
        agents: "Sequence[Agent]",
        worker: WorkerSettings | None,
        detectors: Detectors | None = None,
    ) -> None:
        """Use `Runtime.open`."""
        self._detectors = detectors
        self.settings = settings
        self.troubles: list[tuple[str, OstlerError]] = []
        self._agents = agents
        self._worker_settings = worker
        self._parts: Parts | None = None
        self._worker: Worker | None = None
        self._projector: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._tending: Tending | None = None
        self._directories: dict[str, Identity] = {}
        self._collect_after = gc.get_threshold()
        self.on_trouble: Callable[[str, OstlerError], None] = lambda name, error: self.troubles.append((name, error))

    @classmethod
    def open(
        cls,
        store: str | Path | Settings = "sqlite:///ostler.db",
        *,
        agents: "Sequence[Agent]" = (),
        worker: bool | WorkerSettings = True,
        detectors: Detectors | None = None,
    ) -> Self:
        """A runtime on `store`: `sqlite:///relative.db`, `sqlite:////absolute.db`, `memory:`, or the path of a file.

        Everything else comes from the environment and `ostler.toml`, as on the command line, unless `store` is the
        settings themselves.

        `agents` are those whose sessions it may go on with after a restart; starting a session makes its agent known,
        too. `worker` False only starts, watches and steers. `detectors` look for what rules redact, in place of
        those of the settings.
        """
        if isinstance(store, Path):
            store = f"sqlite:///{store}"
        settings = store if isinstance(store, Settings) else resolve(os.environ, Path.cwd(), store=store)
        chosen = WorkerSettings(queues=()) if worker is True else worker or None
        return cls(settings, agents, chosen, detectors)

    async def __aenter__(self) -> Self:
        self._parts = await connect(self.settings)
        if self._detectors is not None:
            self._parts.detectors = self._detectors
        for agent in self._agents:
            self._know(agent)
        if self._worker_settings is not None:
            await self.work(self._worker_settings)
        return self

    def __enter__(self) -> NoReturn:
        raise UsageError(
            "A runtime is opened with `async with`.", hint="Write `async with Runtime.open(…) as runtime:`."
        )

    def __exit__(self, *_: object) -> None:
        """Only there so that a plain `with` gets as far as being told."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._worker is not None:
                await self._worker.stop(grace_s=None if error is None else HURRIED_GRACE_S)
        finally:
            gc.set_threshold(*self._collect_after)
            if self._projector is not None:
                self._projector.cancel()
                await asyncio.gather(self._projector, return_exceptions=True)
            if self._keeping is not None:
                await self._stop_measuring(self._keeping)
            if self._tending is not None:
                await self._tending.stop()
            if self._parts is not None:
                await self._parts.close()

    async def serve(self, queue: str) -> None:
        """Let the worker of this runtime take the sessions of one more queue; if it has none, start one for these."""
        if self._worker is None:
            await self.work(WorkerSettings(queues=(queue,)))
        else:
            self._worker.serve(queue)

    async def work(self, settings: WorkerSettings) -> "Worker":
        """Start the worker of this runtime now, if it was opened without one. Leaving the runtime stops it."""
        parts = self._open_parts()
        if self._worker is not None:
            raise UsageError("This runtime has a worker already.")
        self._worker = parts.worker(
            settings,
            lambda stream, error: self._troubled(stream, error),
            grant_fault=self._grant_fault,
        )
        first, *rest = self._collect_after
        if first:
            gc.set_threshold(max(first, COLLECT_AFTER), *rest)
        await self._worker.start()
        try:
            await parts.live.serve()
        except OstlerError as error:
            self._troubled(None, error)
        if parts.keeper is not None:
            running = parts.keeper.run(self._worker.name, LOCAL_USER.tenant)
            self._keeping = asyncio.create_task(running, name="fitness")
        self._tending = part(MEMORY["tending"])(parts, lambda agent: part(MEMORY["wording"])(self, agent))
        self._tending.start()
        if settings.keeps_views:
            projector = parts.projector(trouble=lambda stream, error: self._troubled(stream, error))
            self._projector = asyncio.create_task(projector.run(), name="projector")
        return self._worker

    async def _stop_measuring(self, keeping: asyncio.Task[None]) -> None:
        """What sessions have left to be measured, is, if that does not take long."""
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        keeper = self._open_parts().keeper
        try:
            async with asyncio.timeout(MEASURE_GRACE_S):
                if keeper is not None:
                    await keeper.flush()
        except (TimeoutError, OstlerError) as error:
            self._troubled(None, OstlerError(f"Fitness targets were left unmeasured: {type(error).__name__}"))

    async def start(
        self,
        agent: "Agent | AgentSpec",
        goal: str,
        *,
        model: Wanted | Choice | None = None,
        by: Principal = LOCAL_USER,
        workspace: str | Path | None = None,
        sandbox: str | None = None,
        priority: int = 0,
        policy: Policy | str | None = None,
        inputs: Mapping[str, Any] | None = None,
        grant: Grant | None = None,
        images: Sequence[Path | bytes] = (),
        despite: str = "",
    ) -> "Session":
        """Start a session; it is durable when this returns. Of those that are due, higher `priority` goes first.

        `policy` holds above the agent's own (a policy, a file of rules, or the name of one that comes with Ostler).
        `inputs` are the values of what the policies declare; `grant` bounds what it may do, beyond the rights of `by`
        and of the agent; `images` (files, or bytes) go with the goal. `despite` is why it is to start although a
        failing target forbids another model. What would keep it from working is found out before there is one: raises
        `DefinitionInvalid`, `ConfigurationError` (no model), `SandboxUnavailable`, `Halted`, `FitnessFailing`.
        """
        parts = self._open_parts()
        if problems := problems_with_request(goal, priority):
            raise DefinitionInvalid("the start", problems)
        pictures = read_images(images, "the start")
        spec = parts.with_targets(agent if isinstance(agent, AgentSpec) else agent.spec)
        if not isinstance(agent, AgentSpec):
            self._know(agent)
        self._know_models(model)
        chosen = await self.choose_model(agent, model)
        isolation = sandbox or self.settings.sandbox
        holds = await parts.shell.ready(isolation) if spec.tool("shell.run") is not None else ()
        ground = await ground_of(parts, spec, chosen, by, policy=policy, inputs=inputs or {}, grant=grant)
        now = parts.clock.now_us()
        folder = str(_workspace(workspace)) if workspace is not None else None
        return await self._begin(
            pictures,
            command.Start(
                now,
                make_id("ses", now // 1000, _chance(parts.entropy)),
                spec,
                chosen.model,
                goal,
                by,
                folder,
                isolation,
                priority,
                ground.layers,
                ground.shadow,
                ground.inputs,
                grant,
                bool(self.settings.budgets.budgets),
                holds,
                strategy=chosen.strategy,
                candidates=chosen.candidates,
            ),
            despite,
        )

    async def _begin(self, pictures: Sequence[tuple[bytes, str]], start: command.Start, despite: str) -> "Session":
        """Start a session with these images."""
        await self._open_parts().check_change(start, despite)
        parts, stream = self._open_parts(), StreamId(start.by.tenant, start.session)
        try:
            images = await keep_images(parts.blobs, stream, pictures)
            await parts.changes.before(start)
            await parts.journal.start(stream.tenant, msgspec.structs.replace(start, images=images))
            await parts.changes.after(start)
        except OstlerError:
            if pictures:
                await parts.blobs.drop([stream])
            raise
        self.wake()
        return Session(self, stream)

    async def halt(
        self,
        reason: str,
        *,
        agent: str = "",
        tenant: str = LOCAL_USER.tenant,
        everywhere: bool = False,
        by: Principal = LOCAL_USER,
    ) -> bool:
        """Let no call begin and no session start in a tenant, or in the whole store; what is under way may finish.

        With an `agent`, that holds for its sessions only. Durable when this returns, and until `release`. False if that
        held already. Raises `NotAllowed`.
        """
        return await self._govern(by, tenant, everywhere, lambda governing: governing.halt(reason, agent))

    async def release(
        self,
        reason: str = "",
        *,
        agent: str = "",
        tenant: str = LOCAL_USER.tenant,
        everywhere: bool = False,
        by: Principal = LOCAL_USER,
    ) -> bool:
        """Let sessions start, and go on where they stopped. False if nothing was halted. Raises `NotAllowed`."""
        return await self._govern(by, tenant, everywhere, lambda governing: governing.release(reason, agent))

    async def _govern(
        self, by: Principal, tenant: str, everywhere: bool, wish: Callable[[Governing], Awaitable[bool]]
    ) -> bool:
        changed = await wish(Governing(self._open_parts(), EVERYONE if everywhere else tenant, by))
        if self._worker is not None:
            await self._worker.govern()
        return changed

    async def choose_model(self, agent: "Agent | AgentSpec", named: Wanted | Choice | None = None) -> Choice:
        """The model that a session of `agent` would be driven by, or those that it is chosen among, and why."""
        if isinstance(named, Choice):
            return named
        own, spec = (None, agent) if isinstance(agent, AgentSpec) else (agent.model, agent.spec)
        return await self._open_parts().models.choose(named, spec.name, own)

    async def session(self, name: str, *, tenant: str = LOCAL_USER.tenant) -> "Session":
        """The session with this id, or the only one whose id starts so. Raises `NotFound`, `Conflict`."""
        prefix = name if name.startswith("ses_") else f"ses_{name}"
        found = await self._open_parts().store.streams(tenant, prefix=prefix, limit=10)
        exact = [info for info in found if info.stream.name == prefix]
        if not found:
            raise NotFound(f"There is no session {name}.", hint="`ostler ps --all` lists them.")
        if len(found) > 1 and not exact:
            names = ", ".join(info.stream.name for info in found)
            raise Conflict(f"{name} is the beginning of more than one session: {names}.", hint="Write more of the id.")
        return Session(self, (exact or found)[0].stream)

    async def sessions(
        self,
        *,
        tenant: str = LOCAL_USER.tenant,
        statuses: Sequence[str] = (),
        agent: str | None = None,
        limit: int = 50,
    ) -> list[SessionView]:
        """Sessions, newest first, as of now."""
        parts = self._open_parts()
        found = await parts.store.streams(tenant, prefix="ses_", statuses=statuses, queue=agent, limit=limit)
        return await session_views(parts.journal, parts.views, found)

    def stages(self) -> "dict[str, list[Timing]]":
        """What each stage that attempts of calls pass cost so far in this process: of `models` and of `tools`."""
        return {} if self._worker is None else self._worker.stages()

    @property
    def parts(self) -> Parts:
        """The store and everything else this runtime is wired from; for tools of operators, not for agents."""
        return self._open_parts()

    def _know(self, agent: "Agent") -> None:
        """Make an agent's code reachable for its sessions, and let the worker take them."""
        parts = self._open_parts()
        parts.know(agent.tools, agent.hooks)
        self._know_models(agent.model)
        if self._worker is not None:
            self._worker.serve(agent.spec.name)
        elif self._worker_settings is not None and self._worker_settings.queues is not None:
            queues = tuple({*self._worker_settings.queues, agent.spec.name})
            self._worker_settings = msgspec.structs.replace(self._worker_settings, queues=queues)

    def _know_models(self, wanted: Wanted | Choice | None) -> None:
        """Make objects that are models reachable, and the function that chooses among them."""
        parts = self._open_parts()
        if isinstance(wanted, Choice):
            return
        for model in objects_in(wanted):
            parts.models.add(model.ref, model)
        if isinstance(wanted, Strategy) and wanted.chooser is not None:
            parts.choosers.add(wanted.chooser)

    async def check_served(self, info: StreamInfo) -> None:
        """Raises `Conflict` if a session is due, and there is only this runtime, which does not know its agent."""
        queue = info.standing.queue
        if self._worker is None or info.standing.due_us is None or self._worker.serves(queue):
            return
        parts, own = self._open_parts(), self._worker.name
        now = parts.clock.now_us()
        if not [name for name, until_us in await parts.store.workers() if name != own and until_us > now]:
            raise Conflict(
                f"Nobody runs {info.stream.name}: this runtime does not know its agent {queue!r}.",
                hint="Open it with `Runtime.open(…, agents=[…])`, or start a worker that knows the agent.",
            )

    async def let_go(self, stream: StreamId) -> bool:
        """Wait while this runtime's own worker holds the session; False at once if it does not."""
        return self._worker is not None and await self._worker.let_go(stream)

    def _open_parts(self) -> Parts:
        if self._parts is None:
            raise UsageError("The runtime is not open.", hint="Write `async with Runtime.open(...) as runtime:`.")
        return self._parts

    async def _grant_fault(self, tenant: str, grant: str) -> str:
        """Why nothing may be done under a grant any more. What was read of a directory is kept."""
        if tenant not in self._directories:
            self._directories[tenant] = identity_of(self._open_parts(), tenant)
        return await self._directories[tenant].fault(grant)

    def wake(self, stream: StreamId | None = None) -> None:
        """Something was appended in this process: the worker looks at once."""
        if self._worker is not None:
            self._worker.wake(stream)

    def _troubled(self, stream: StreamId | None, error: OstlerError) -> None:
        self.on_trouble(stream.name if stream is not None else "", error)


def _chance(entropy: Entropy) -> bytes:
    return entropy.chance(CHANCE_BYTES)


def _workspace(path: str | Path) -> Path:
    folder = Path(path).expanduser().absolute()
    if not folder.is_dir():
        raise UsageError(f"The workspace {folder} is not a folder.", hint="Give an existing folder.")
    try:
        next(folder.iterdir(), None)
    except OSError as error:
        raise UsageError(f"The workspace {folder} cannot be read: {error.strerror}.") from error
    return folder.resolve()
