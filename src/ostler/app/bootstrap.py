"""Wiring: every part of a running Ostler, made from its settings, once."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ostler.app.breakers import breakers_of
from ostler.app.budgets import ledger
from ostler.app.changes import Changes
from ostler.app.live import live_text
from ostler.app.models import Models
from ostler.app.plugins import FITNESS, MEMORY, STORES, TOOLS, WORKER, is_installed, part, sandboxes
from ostler.app.settings import STORE_HINT, Settings, shown
from ostler.app.vault import lending, seen_secrets, vault
from ostler.app.world import SystemClock, SystemEntropy
from ostler.domain.agent import AgentSpec
from ostler.domain.fitness.target import Target
from ostler.domain.scheduling import WorkerSettings
from ostler.domain.screening.detectors import BUILTIN, Detectors
from ostler.domain.session.commands import Start
from ostler.kernel.errors import ConfigurationError, OstlerError, StoreError
from ostler.kernel.event import StreamId
from ostler.ports import BlobStore, Breakers, Clock, Entropy, EventStore, Ledger, Limiter, LiveText, ToolHost, ViewStore
from ostler.runtime.governor import Governor
from ostler.runtime.journal import Journal
from ostler.runtime.projector import Progress, Projector
from ostler.runtime.resilience.circuits import Circuits
from ostler.views.catalogue import VIEWS
from ostler.views.fold import AnyView

if TYPE_CHECKING:
    from ostler.adapters.tools.functions import FunctionTools, Tool
    from ostler.adapters.tools.scrub import Seen
    from ostler.adapters.tools.shell import ShellTools
    from ostler.runtime.examiner import GrantFault
    from ostler.runtime.fitness import Keeper
    from ostler.runtime.hooks import Hook, Hooks
    from ostler.runtime.memory.memories import Memories
    from ostler.runtime.router import Chooser, Choosers
    from ostler.runtime.worker import Worker


class Parts:
    """Everything that one process runs on, made as it is needed. Closing it closes what it made."""

    def __init__(
        self,
        settings: Settings,
        store: EventStore,
        blobs: BlobStore,
        views: ViewStore,
        *,
        limiter: Callable[[], Limiter],
    ) -> None:
        """`limiter` makes what keeps the limits of the settings, for all who share the store."""
        self.store = store
        self.blobs = blobs
        self.views = views
        self.clock: Clock = SystemClock()
        self.entropy: Entropy = SystemEntropy()
        self.models = Models(settings)
        self.settings = settings
        self.limiter = limiter
        self.journal = Journal(store)
        self.governor = Governor(store)
        self.unshared: Callable[[OstlerError], None] = lambda error: None
        """Told when breakers that all workers should share are this process's own for now."""
        self.trouble: Callable[[OstlerError], None] = lambda error: None
        """Told of what fails in the background, where this process has a worker."""
        self.changes = Changes(store)
        self.keeper: Keeper | None = None
        """What measures fitness targets for the worker of this process, if it has one and there are any."""
        self._memories: Memories | None = None
        self._opening_memories = asyncio.Lock()

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """The fitness targets of the project. Raises `DefinitionInvalid`, `ConfigurationError`."""
        path = self.settings.fitness
        return () if path is None else tuple(part(FITNESS["read"])(path))

    def with_targets(self, spec: AgentSpec) -> AgentSpec:
        """The agent, whose tools say which of the targets are measured around them, or must not fail."""
        fitted: AgentSpec = part(FITNESS["around"])(spec, self.targets) if self.targets else spec
        return fitted

    async def check_change(self, start: Start, despite: str) -> None:
        """Raises `FitnessFailing` if the session would change the model of its agent while a target forbids that."""
        if self.targets:
            await part(FITNESS["veto"])(self, start, despite)

    def fitness(self, trouble: Callable[[OstlerError], None], halted: Callable[[], Awaitable[None]]) -> "Keeper | None":
        """What measures the targets, None if there are none; `halted` is called after it has halted something."""
        path = self.settings.fitness
        if path is None or not self.targets:
            return None
        keeper: Keeper = part(FITNESS["keeper"])(self, path.absolute().parent, trouble, halted)
        return keeper

    @cached_property
    def ledger(self) -> Ledger:
        """What keeps the budgets of the settings, for all who share the store."""
        return ledger(self.settings.store, self.store)

    @cached_property
    def breakers(self) -> Breakers:
        """What keeps the circuit breakers: this process for itself, or a server for all workers."""
        settings = self.settings
        return breakers_of(settings.breakers, settings.variables.values, self._told_unshared)

    def _told_unshared(self, error: OstlerError) -> None:
        """Whoever runs a worker hears of it."""
        self.unshared(error)

    @cached_property
    def circuits(self) -> Circuits:
        """What is asked before each attempt of a call whether it may begin."""
        return Circuits(self.breakers, self.settings.breakers.breaker_of(), self.clock, self.governor)

    @cached_property
    def live(self) -> LiveText:
        """What carries what models say to those who watch, here and in other processes on the store."""
        return live_text(self.settings.store, self.store)

    @cached_property
    def seen(self) -> "Seen":
        """Every secret that tools of this process were lent, for `scrubbed_output`."""
        return seen_secrets()

    @cached_property
    def detectors(self) -> Detectors:
        """What looks for secrets and personal data: those of Ostler, and those that the settings declare."""
        return detectors_of(self.settings)

    @cached_property
    def hooks(self) -> "Hooks":
        """The hooks that this process knows."""
        hooks: Hooks = part(TOOLS["hooks"])(in_thread=part(TOOLS["thread"]))
        return hooks

    @cached_property
    def choosers(self) -> "Choosers":
        """The functions that this process knows which choose models."""
        choosers: Choosers = part(TOOLS["choosers"])(in_thread=part(TOOLS["thread"]))
        return choosers

    @cached_property
    def functions(self) -> "FunctionTools":
        """The host of the functions that this process knows."""
        functions: FunctionTools = part(TOOLS["functions"])([])
        return functions

    @cached_property
    def shell(self) -> "ShellTools":
        """The host of `shell.run`, which knows whether commands can run here."""
        settings = self.settings
        shell: ShellTools = part(TOOLS["shell"])(sandboxes(settings.remote), hosts=settings.hosts)
        return shell

    @cached_property
    def tools(self) -> ToolHost:
        """Every tool that can be performed here."""
        hosts = [self.functions, part(TOOLS["files"])(), self.shell, part(MEMORY["tools"])(self.memories, self.clock)]
        if is_installed("pydantic_monty"):
            hosts.append(part(TOOLS["code"])())
        toolbox: ToolHost = part(TOOLS["all"])(hosts)
        return lending(toolbox, vault(self.settings.variables.values, self.settings), self.seen)

    def know(
        self, tools: "Sequence[Tool[..., Any]]", hooks: "Sequence[Hook]" = (), choosers: "Sequence[Chooser]" = ()
    ) -> None:
        """Make functions callable by the sessions whose agents have them as tools or hooks, or to choose models."""
        for tool in tools:
            self.functions.add(tool)
        for hook in hooks:
            self.hooks.add(hook)
        for one in choosers:
            self.choosers.add(one)

    async def memories(self) -> "Memories":
        """What agents remember, in the store; opened when it is first asked for. Raises `StoreError`, `NotAStore`,
        `ConfigurationError`.
        """
        async with self._opening_memories:
            if self._memories is None:
                self._memories = await part(MEMORY["memories"])(self)
            return self._memories

    @property
    def opened_memories(self) -> "Memories | None":
        """The same, if anybody in this process has asked for it."""
        return self._memories

    def worker(
        self,
        settings: WorkerSettings,
        trouble: Callable[[StreamId | None, OstlerError], None],
        grant_fault: "GrantFault | None" = None,
    ) -> "Worker":
        """A worker that has not started. The limits of the project hold for it, unless it names caps of its own."""
        worker: Worker = part(WORKER)(self, settings, trouble, grant_fault)
        return worker

    def projector(
        self,
        which: Sequence[AnyView] = VIEWS,
        *,
        trouble: Callable[[StreamId | None, OstlerError], None] = lambda stream, error: None,
        progress: Callable[[Progress], None] = lambda progress: None,
    ) -> Projector:
        """What keeps these views of the store up to date, while it runs or when it is told to catch up."""
        return Projector(self.store, self.views, which, trouble=trouble, progress=progress)

    async def close(self) -> None:
        await self.models.close()
        if "live" in self.__dict__:
            await self.live.close()
        if "tools" in self.__dict__:
            await self.tools.close()
        if "breakers" in self.__dict__:
            await self.breakers.close()
        if self._memories is not None:
            await self._memories.close()
        await self.store.close()


def detectors_of(settings: Settings) -> Detectors:
    """What can be found in outputs: the detectors of Ostler and the patterns of the project.

    Raises `DefinitionInvalid` for a pattern that cannot be used.
    """
    patterns = settings.detectors
    return Detectors(part(TOOLS["detectors"], extra="regex")(patterns)) if patterns else BUILTIN


async def connect(settings: Settings, *, create: bool = True) -> Parts:
    """Open the store that the settings name, and make everything else. Raises `ConfigurationError`, `StoreError`,
    `NotAStore`, and without `create` `NotFound` if there is none.
    """
    scheme, _, rest = settings.store.partition(":")
    if scheme in ("postgresql", "postgres"):
        server = await part(STORES["postgres"], extra="postgres").open(settings.store, create=create)
        kept = part(STORES["postgres blobs"])(server), part(STORES["postgres views"])(server)
        parts = Parts(settings, server, *kept, limiter=lambda: part(STORES["postgres limits"])(server))
        parts.clock = server.clock
        return parts
    if scheme == "memory":
        kept = part(STORES["memory blobs"])(), part(STORES["memory views"])()
        return Parts(settings, part(STORES["memory"])(), *kept, limiter=part(STORES["memory limits"]))
    if scheme != "sqlite" or not rest.startswith("///") or len(rest) == 3:
        raise ConfigurationError(
            f"{shown(settings.store)!r} is no store that is known here.",
            hint=STORE_HINT,
        )
    path = Path(rest[3:])
    try:
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"The folder {path.parent} cannot be made: {error.strerror}.") from error
    store = await part(STORES["sqlite"]).open(path, create=create)
    kept = part(STORES["sqlite blobs"])(store), part(STORES["sqlite views"])(store)
    return Parts(settings, store, *kept, limiter=lambda: part(STORES["sqlite limits"])(store))
