"""A memory: what was remembered, of what kind, where it came from, and what became of it."""

import unicodedata
from hashlib import sha256
from typing import Literal

import msgspec

from ostler.domain.memory.scope import Scope

Kind = Literal["episode", "fact", "file"]
"""What happened to an agent; what is true; a text that agents keep under a path."""

Value = str | int | float | bool
"""What a property of an entity or a relation may be."""

TEXT_BYTES_MAX = 16 * 1024
"""The longest text of an episode or a fact; of a file, four times as much."""
ID_PREFIX = "mem_"


class Relation(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What a fact says of two entities: an edge of the knowledge graph, from its subject to its object.

    With `is_single` the subject has one such relation at a time, and a newer one takes its place.
    """

    subject: str
    name: str
    object: str
    weight: float = 1.0
    is_single: bool = False
    properties: dict[str, Value] = {}


class Source(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Where a memory came from.

    `writer` is `user:ID`, `agent:NAME`, `operator:ID`, `runtime` or `consolidation`; `call` names the event, as
    `ses_…/3.1`. `sources` are those whose words it may be made of (`user`, `tool.web.fetch`, `memory.fact`), and `of`
    the memories that it was made of.
    """

    writer: str
    call: str = ""
    sources: tuple[str, ...] = ()
    of: tuple[str, ...] = ()

    @property
    def session(self) -> str:
        return self.call.partition("/")[0]


class Memory(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One thing that is remembered. It never changes; what is newer takes its place, or stands beside it.

    `labels` are the strongest of all that it may be made of (`untrusted`, `private` …). `importance` is 0 to 1. Of the
    memories of a scope with the same `key` only the last is in force; of a file the key is its path. `happened_us` is
    when what it tells of happened, and it is true in the world from `valid_from_us` to before `valid_to_us` (None: not
    known to begin, or to end). `caused_by` is the memory that led to it. One that `is_pinned` is never evicted.
    """

    id: str
    kind: Kind
    text: str
    source: Source
    happened_us: int
    labels: tuple[str, ...] = ()
    importance: float = 0.5
    tags: tuple[str, ...] = ()
    key: str = ""
    relation: Relation | None = None
    caused_by: str = ""
    is_pinned: bool = False
    valid_from_us: int | None = None
    valid_to_us: int | None = None

    @property
    def size(self) -> int:
        """The bytes of all that it says at any length: its text, its tags, and the properties of its relation."""
        properties = self.relation.properties.items() if self.relation is not None else ()
        said = (self.text, *self.tags, *(str(one) for pair in properties for one in pair))
        return sum([len(text.encode()) for text in said])

    @property
    def digest(self) -> str:
        """The same for the same words, however they are spaced or capitalised; of a file, for the very same text.

        32 hexadecimal digits.
        """
        text = self.text if self.kind == "file" else folded(self.text)
        return sha256(f"{self.kind}\0{self.key}\0{text}".encode()).hexdigest()[:32]


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A memory as the index has it.

    It was remembered at `position` and `at_us`, and is in force to before the position `until` (None: still), which
    `ended_by` says more of (`superseded mem_…`, `evicted` …). `recalls` counts the calls that were given it.
    """

    scope: Scope
    memory: Memory
    position: int
    at_us: int
    until: int | None = None
    ended_by: str = ""
    recalls: int = 0
    contradicts: tuple[str, ...] = ()


def memory_id(scope: Scope, key: str) -> str:
    """The id of what is remembered by the call with this idempotency key: the same for each of its attempts."""
    name = f"{scope.tenant}\0{scope.stream.name}\0{key}"
    return ID_PREFIX + sha256(name.encode()).hexdigest()[:26]


def folded(text: str) -> str:
    """A text in the form in which what is said is compared: NFC, case folded, single spaces. To NFKC 10⁵ is 105."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def normal(text: str) -> str:
    """A name in the form in which names of entities are compared: NFKC, case folded, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
