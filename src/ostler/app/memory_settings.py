"""What `ostler.toml` says of memory: how long it lasts, who makes vectors of it, and what becomes of it."""

from collections.abc import Mapping
from typing import Annotated

import msgspec

from ostler.app.definition import Problem
from ostler.app.providers import ProviderTable
from ostler.domain.memory.settings import Consolidating, Keeping
from ostler.domain.suggest import did_you_mean

HASHING = "hashing"
NONE = "none"
EMBEDDING_PROVIDERS = ("ollama", "openai")
"""Those of the built-in providers that make vectors; servers of the project that speak `openai-chat` do, too."""

Count = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]


class ConsolidationTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[memory.consolidation]`: a worker looks through a scope once it has grown by `after` memories (0: never).

    Near-duplicates, to the share `alike` of their words or to `near` of the cosine of their vectors, become one; what
    `sessions_min` sessions have told becomes a fact; an episode that was never recalled goes once its strength is below
    `strength_min`. With an `agent`, one of the project without tools, a session of it finds words for facts that were
    merged for what they mean; it costs what sessions cost, and is shown no untrusted text.
    """

    after: Count = 1000
    alike: Share = Consolidating().alike
    near: Share = Consolidating().near
    sessions_min: Annotated[int, msgspec.Meta(ge=2)] = Consolidating().sessions_min
    strength_min: Annotated[float, msgspec.Meta(ge=0, le=1)] = Consolidating().strength_min
    agent: str | None = None

    @property
    def rules(self) -> Consolidating:
        return Consolidating(self.alike, self.near, self.sessions_min, self.strength_min)


class MemoryTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[memory]`: holds for all memories of the store.

    `embedder` is `none`, `hashing` (vectors of words, made without a model), `openai:MODEL`, `ollama:MODEL`, or a
    server of `[providers.NAME]` as `NAME:MODEL`; every text that is remembered is sent there. `dimensions` is the
    length of its vectors, where it has more than one; some models want each text to begin with a prefix. Of the others,
    see `Keeping`.
    """

    embedder: str = NONE
    dimensions: Annotated[int, msgspec.Meta(ge=16, le=65_536)] | None = None
    document_prefix: str = ""
    query_prefix: str = ""
    half_life_days: Annotated[float, msgspec.Meta(gt=0, le=36_500)] = Keeping().half_life_days
    episodes_max: Positive = Keeping().episodes_max
    memories_max: Positive = Keeping().memories_max
    bytes_max: Positive = Keeping().bytes_max
    consolidation: ConsolidationTable = ConsolidationTable()

    @property
    def keeping(self) -> Keeping:
        """How long memories last, and how much a scope may hold."""
        return Keeping(self.half_life_days, self.episodes_max, self.memories_max, self.bytes_max)


def problems_in_memory(table: MemoryTable, providers: Mapping[str, ProviderTable]) -> list[Problem]:
    """What is wrong with the table beyond its form, with the path of each."""
    provider, colon, model = table.embedder.partition(":")
    if table.embedder in (NONE, HASHING):
        return [
            (f"memory.{name}", f"says nothing of the embedder {table.embedder!r}")
            for name, is_given in (
                ("dimensions", table.embedder == NONE and table.dimensions is not None),
                ("document_prefix", bool(table.document_prefix)),
                ("query_prefix", bool(table.query_prefix)),
            )
            if is_given
        ]
    if not colon or not model:
        return [("memory.embedder", f"{table.embedder!r} is none, hashing or PROVIDER:MODEL, as in ollama:bge-m3")]
    if provider in EMBEDDING_PROVIDERS:
        return []
    server = providers.get(provider)
    if server is None:
        known = [*EMBEDDING_PROVIDERS, *sorted(providers)]
        near = did_you_mean(provider, known)
        hint = f"did you mean {near!r}?" if near else f"there are: {', '.join(known)}"
        return [("memory.embedder", f"no provider {provider!r} makes vectors ({hint})")]
    if server.dialect != "openai-chat":
        return [("memory.embedder", f"{provider!r} speaks {server.dialect}, which has no vectors")]
    return []
