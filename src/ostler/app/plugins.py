"""Parts that are imported only when they are used, by name, so that nobody pays for what they do not need."""

import importlib.util
import pkgutil
from typing import Any

from ostler.kernel.errors import ConfigurationError

PROVIDERS = {
    "anthropic": "ostler.adapters.providers.anthropic:Anthropic",
    "google": "ostler.adapters.providers.google:Google",
    "openai": "ostler.adapters.providers.openai:OpenAI",
    "openai-chat": "ostler.adapters.providers.openai:OpenAI",
    "openai-responses": "ostler.adapters.providers.openai_responses:OpenAIResponses",
    "strategy": "ostler.adapters.providers.strategy:StrategyProvider",
}
"""By dialect. `openai` is what `openai-chat` was called; the logs of old sessions say so."""

RECORDINGS = {
    "record": "ostler.adapters.providers.recorded:Recording",
    "replay": "ostler.adapters.providers.recorded:Recorded",
}

STRATEGIES = {
    "coder": "ostler.adapters.providers.repair:coder",
    "coder-tempted": "ostler.adapters.providers.repair:coder_tempted",
}
"""Deterministic code that plays the model, by the name of the agent that it can drive."""


STORES = {
    "memory": "ostler.adapters.store.memory:MemoryStore",
    "memory blobs": "ostler.adapters.store.memory:MemoryBlobStore",
    "memory ledger": "ostler.adapters.store.memory_ledger:MemoryLedger",
    "memory limits": "ostler.adapters.store.memory_limits:MemoryLimiter",
    "memory views": "ostler.adapters.store.memory_views:MemoryViewStore",
    "postgres": "ostler.adapters.store.postgres.store:PostgresStore",
    "postgres blobs": "ostler.adapters.store.postgres.blobs:PostgresBlobStore",
    "postgres ledger": "ostler.adapters.store.postgres.ledger:PostgresLedger",
    "postgres limits": "ostler.adapters.store.postgres.limits:PostgresLimiter",
    "postgres views": "ostler.adapters.store.postgres.views:PostgresViewStore",
    "postgres checkup": "ostler.adapters.store.postgres.checkup:checkup",
    "sqlite": "ostler.adapters.store.sqlite:SqliteStore",
    "sqlite blobs": "ostler.adapters.store.sqlite_blobs:SqliteBlobStore",
    "sqlite ledger": "ostler.adapters.store.sqlite_ledger:SqliteLedger",
    "sqlite limits": "ostler.adapters.store.sqlite_limits:SqliteLimiter",
    "sqlite views": "ostler.adapters.store.sqlite_views:SqliteViewStore",
    "sqlite checkup": "ostler.adapters.store.checkup:checkup",
}

BREAKERS = {
    "memory": "ostler.adapters.breakers.memory:MemoryBreakers",
    "redis": "ostler.adapters.breakers.redis:RedisBreakers",
}

GRAPH = "ostler.adapters.graph.process:ProcessEngine"
"""What computes on the knowledge graph."""

STATISTICS = "ostler.adapters.statistics:Significance"

FITNESS = {
    "around": "ostler.app.fitness:with_targets",
    "keeper": "ostler.app.fitness:keeper_of",
    "read": "ostler.app.fitness:read_targets",
    "veto": "ostler.app.fitness:check_change",
}

EMBEDDERS = {
    "hashing": "ostler.adapters.embedders.hashing:HashingEmbedder",
    "model": "ostler.adapters.embedders.served:Model",
    "ollama": "ostler.adapters.embedders.ollama:OllamaEmbedder",
    "openai": "ostler.adapters.embedders.openai:OpenAIEmbedder",
}
"""By what their servers speak; `model` is what those are told that have one."""

MEMORY = {
    "consolidation": "ostler.runtime.memory.consolidation:Consolidation",
    "memories": "ostler.app.memory:memories_of",
    "postgres": "ostler.adapters.index.postgres:PostgresIndex",
    "sqlite": "ostler.adapters.index.sqlite:SqliteIndex",
    "tending": "ostler.app.tending:Tending",
    "tools": "ostler.runtime.memory.tools:MemoryTools",
    "wording": "ostler.app.wording:Wording",
}
"""What only a process needs that remembers or recalls, and the indexes by the scheme of their store."""

BUSES = {
    "kafka": "ostler.adapters.bus.kafka:KafkaBus",
    "nats": "ostler.adapters.bus.nats:NatsBus",
    "redis": "ostler.adapters.bus.redis:RedisBus",
    "webhook": "ostler.adapters.bus.webhook:WebhookBus",
}

LIVE = {
    "memory": "ostler.adapters.live.memory:MemoryLive",
    "postgres": "ostler.adapters.live.postgres:PostgresLive",
    "unix": "ostler.adapters.live.unix:UnixLive",
}

TOOLS = {
    "all": "ostler.adapters.tools.composite:Toolbox",
    "choosers": "ostler.runtime.router:Choosers",
    "code": "ostler.adapters.tools.code:CodeTools",
    "detectors": "ostler.domain.screening.patterns:declared",
    "files": "ostler.adapters.tools.files:FileTools",
    "functions": "ostler.adapters.tools.functions:FunctionTools",
    "hooks": "ostler.runtime.hooks:Hooks",
    "shell": "ostler.adapters.tools.shell:ShellTools",
    "thread": "ostler.adapters.tools.thread:in_thread",
}

WORKER = "ostler.app.workers:make_worker"
"""What only a process needs that runs sessions: most commands do not."""

SANDBOXES = {
    "bwrap": "ostler.adapters.sandbox.bwrap:Bubblewrap",
    "landlock": "ostler.adapters.sandbox.landlock:Landlock",
    "none": "ostler.adapters.sandbox.none:Unconfined",
}
"""Where commands can run, by the name that a session is started with. None is used for another that does not hold."""


def sandboxes(remote: str | None = None) -> dict[str, Any]:
    """One of each. `remote` is the user's own, as `module:Class`: an `ostler.adapters.tools.shell.Sandbox`.

    Raises `ConfigurationError` if that cannot be found.
    """
    made = {name: part(path)() for name, path in SANDBOXES.items()}
    if remote is not None:
        try:
            made["remote"] = pkgutil.resolve_name(remote)()
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigurationError(
                f"The sandbox {remote!r} cannot be found: {error}.", hint="Write module:Class, as Python imports it."
            ) from error
    return made


def is_installed(module: str) -> bool:
    """Whether a library is there, without importing it."""
    return importlib.util.find_spec(module) is not None


def part(path: str, *, extra: str = "") -> Any:
    """The object at `module:name`. Raises `ConfigurationError` if the library that it needs is not installed."""
    try:
        return pkgutil.resolve_name(path)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("ostler"):
            raise
        raise ConfigurationError(
            f"{error.name} is not installed.", hint=f"Install it with `pip install 'ostler[{extra}]'`."
        ) from error
