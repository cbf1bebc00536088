"""Wiring: every part of a running Ostler, made from its settings, once."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ostler.adapters.sandbox.bwrap import Bubblewrap
from ostler.adapters.sandbox.none import Unconfined
from ostler.adapters.store.memory import MemoryBlobStore, MemoryStore
from ostler.adapters.store.sqlite import SqliteBlobStore, SqliteStore
from ostler.adapters.tools.composite import Toolbox
from ostler.adapters.tools.files import FileTools
from ostler.adapters.tools.functions import FunctionTools, Tool
from ostler.adapters.tools.shell import ShellTools
from ostler.app.models import Models
from ostler.app.settings import Settings
from ostler.app.world import SystemClock, SystemEntropy
from ostler.kernel.errors import ConfigurationError, OstlerError, StoreError
from ostler.kernel.event import StreamId
from ostler.ports import BlobStore, Clock, Entropy, EventStore, ToolHost
from ostler.runtime.journal import Journal
from ostler.runtime.performer import Performer
from ostler.runtime.worker import Worker, WorkerSettings


class Parts:
    """Everything that one process runs on. Closing it closes what it made."""

    def __init__(self, settings: Settings, store: EventStore, blobs: BlobStore) -> None:
        self.store = store
        self.blobs = blobs
        self.clock: Clock = SystemClock()
        self.entropy: Entropy = SystemEntropy()
        self.models = Models(settings)
        self.functions = FunctionTools([])
        self.tools: ToolHost = Toolbox(
            [self.functions, FileTools(), ShellTools({"bwrap": Bubblewrap(), "none": Unconfined()})]
        )
        self.journal = Journal(store)

    def know(self, tools: Sequence[Tool[..., Any]]) -> None:
        """Make functions callable by the sessions whose agents have them as tools."""
        for tool in tools:
            self.functions.add(tool)

    def worker(self, settings: WorkerSettings, trouble: Callable[[StreamId | None, OstlerError], None]) -> Worker:
        performer = Performer(self.models.provider, self.tools, self.blobs, self.clock, self.entropy)
        return Worker(
            journal=self.journal,
            performer=performer,
            clock=self.clock,
            entropy=self.entropy,
            settings=settings,
            trouble=trouble,
        )

    async def close(self) -> None:
        await self.models.close()
        await self.tools.close()
        await self.store.close()


async def connect(settings: Settings) -> Parts:
    """Open the store that the settings name, and make everything else. Raises `ConfigurationError`, `StoreError`."""
    scheme, _, rest = settings.store.partition(":")
    if scheme == "memory":
        return Parts(settings, MemoryStore(), MemoryBlobStore())
    if scheme != "sqlite" or not rest.startswith("///") or len(rest) == 3:
        raise ConfigurationError(
            f"{settings.store!r} is no store that is known here.",
            hint="Write sqlite:///relative/path.db, sqlite:////absolute/path.db or memory:",
        )
    path = Path(rest[3:])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"The folder {path.parent} cannot be made: {error.strerror}.") from error
    store = await SqliteStore.open(path)
    return Parts(settings, store, SqliteBlobStore(store))
