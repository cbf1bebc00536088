"""What happens to the memories of a scope, as a stream of its own."""

from typing import Literal

import msgspec

from ostler.domain.memory.memory import Memory, Source, Value
from ostler.domain.memory.scope import Scope
from ostler.kernel.codec import Codec
from ostler.kernel.event import Event

Why = Literal["forgotten", "evicted", "decayed", "rolled_back"]
"""Why a memory is not in force any more: somebody wanted it, there was no room, nobody needed it, it was undone."""


class MemoryOpened(Event, tag="memory.opened"):
    """The first event of every such stream: whose memories these are."""

    scope: Scope


class MemoryRemembered(Event, tag="memory.remembered"):
    """This is in force from here on."""

    memory: Memory


class MemorySuperseded(Event, tag="memory.superseded"):
    """A newer memory (`by`) has taken the place of this one, of the same key or the same single-valued relation."""

    id: str
    by: str


class MemoryContradicted(Event, tag="memory.contradicted"):
    """These two cannot both be true, and nobody has decided which is: both are in force."""

    id: str
    other: str
    because: str


class MemoryRetracted(Event, tag="memory.retracted"):
    """These are not in force any more. What they said stays in the log.

    `source` is the call that wanted it, or whose memory there had to be room for; None if no call did.
    """

    ids: tuple[str, ...]
    why: Why
    by: str
    because: str = ""
    source: Source | None = None


class MemoryRestored(Event, tag="memory.restored"):
    """These are in force again, whatever had ended that."""

    ids: tuple[str, ...]
    by: str
    because: str = ""


class MemoryConsolidated(Event, tag="memory.consolidated"):
    """A memory (`into`) was made of others: near-duplicates `merged`, which it replaces, or what was `promoted` from
    repeated episodes, which stay.
    """

    of: tuple[str, ...]
    into: str
    how: Literal["merged", "promoted"]


class MemoryRecalled(Event, tag="memory.recalled"):
    """These were given to a session by the call (`ses_…/3.1`), or it has told again what they say."""

    ids: tuple[str, ...]
    call: str


class MemoryPinned(Event, tag="memory.pinned"):
    """Whether it may be evicted was changed by a person."""

    id: str
    by: str
    is_pinned: bool = True


class MemoryErased(Event, tag="memory.erased"):
    """What these said is gone for good, with the sessions that had read or written it. By whose will, and why."""

    ids: tuple[str, ...]
    by: str
    because: str
    sessions: tuple[str, ...] = ()


class EntityDescribed(Event, tag="entity.described"):
    """What kind of thing an entity of the knowledge graph is, and what else is known of it; it replaces what was."""

    name: str
    kind: str
    source: Source
    properties: dict[str, Value] = msgspec.field(default_factory=dict)
    labels: tuple[str, ...] = ()


MemoryEvent = (
    MemoryOpened
    | MemoryRemembered
    | MemorySuperseded
    | MemoryContradicted
    | MemoryRetracted
    | MemoryRestored
    | MemoryConsolidated
    | MemoryRecalled
    | MemoryPinned
    | MemoryErased
    | EntityDescribed
)

MEMORY_CODEC: Codec[MemoryEvent] = Codec(MemoryEvent)
