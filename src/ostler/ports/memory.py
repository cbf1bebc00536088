"""What memory needs of the world: an index of what was remembered, and something that turns texts into vectors."""

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from ostler.domain.knowledge.graph import Direction as Direction
from ostler.domain.knowledge.graph import Edge as Edge
from ostler.domain.knowledge.graph import Entity as Entity
from ostler.domain.memory.events import MemoryEvent
from ostler.domain.memory.memory import Entry as Entry
from ostler.domain.memory.memory import Kind
from ostler.domain.memory.scope import Scope


class Noted(msgspec.Struct, frozen=True, gc=False):
    """An event of a scope's stream (None if it was erased), its place in the log, and its hash there."""

    seq: int
    position: int
    at_us: int
    event: MemoryEvent | None
    hash: bytes = b""


class Filter(msgspec.Struct, frozen=True, gc=False):
    """Which memories are meant. By default those that are in force now, of all kinds.

    Of tags, all of `all_of`, one of `any_of`, none of `none_of`. With `as_of` those that were in force after the event
    at this position of the log, with `valid_at_us` those that were true in the world then, with `is_closed_too` also
    those that are not in force any more. What happened from `from_us` to before `to_us`.
    """

    kinds: tuple[Kind, ...] = ()
    all_of: tuple[str, ...] = ()
    any_of: tuple[str, ...] = ()
    none_of: tuple[str, ...] = ()
    key_prefix: str = ""
    session: str = ""
    as_of: int | None = None
    valid_at_us: int | None = None
    from_us: int | None = None
    to_us: int | None = None
    is_closed_too: bool = False


EVERYTHING = Filter()


class Hit(msgspec.Struct, frozen=True, gc=False):
    """A memory that a search found, with the score of that search: greater is better, and nothing else is sure."""

    scope: Scope
    id: str
    score: float


class Held(msgspec.Struct, frozen=True, gc=False):
    """How much a scope holds: memories in force and not, the bytes of the texts of those in force, and all recalls."""

    scope: Scope
    applied: int
    in_force: dict[str, int]
    """By kind."""
    closed: int
    text_bytes: int
    relations: int
    entities: int
    recalls: int
    vectors: dict[str, int]
    """By the fingerprint of their embedder."""


class MemoryIndex(Protocol):
    """Finds memories. It is a view of their streams: it can be cleared at any time, and is filled again from them.

    Every question names the scopes that may be looked into, and what is in no other scope is ever found; no scopes find
    nothing. Names of entities are compared as `ostler.domain.memory.memory.normal` has them.
    """

    async def applied(self, scopes: Sequence[Scope]) -> dict[Scope, int]:
        """Up to which event each stream has been applied; 0 where nothing was."""
        ...

    async def last(self, scope: Scope) -> tuple[int, bytes]:
        """The number and the hash of the last event of a stream that was applied; 0 and nothing where none was."""
        ...

    async def apply(self, scope: Scope, notes: Sequence[Noted], *, after: int) -> None:
        """Take in the next events of a stream, all or none. Raises `StaleWrite` if it is not applied up to `after`.

        Applying only ever depends on these events and those before them. Erased events, of which nothing is known, and
        those that speak of erased memories change nothing.
        """
        ...

    async def scopes(self, tenant: str) -> list[Scope]:
        """Every scope of a tenant of which anything was applied, in order."""
        ...

    async def get(self, scopes: Sequence[Scope], ids: Sequence[str]) -> list[Entry]:
        """Those that there are, in force or not, in the order of `ids`."""
        ...

    async def page(
        self, scopes: Sequence[Scope], which: Filter = EVERYTHING, *, before: int | None = None, limit: int = 100
    ) -> list[Entry]:
        """The newest first, by the position at which they were remembered; `before` pages on by it."""
        ...

    async def holding(self, scope: Scope, *, key: str = "", subject: str = "", name: str = "") -> list[Entry]:
        """Those in force with this key, or that state this relation of this subject; the oldest first."""
        ...

    async def same(self, scopes: Sequence[Scope], digests: Sequence[str]) -> list[Entry]:
        """Those in force with one of these `Memory.digest`s."""
        ...

    async def weakest(self, scope: Scope, kind: Kind, *, half_life_us: int, limit: int = 1) -> list[Entry]:
        """Those in force and not pinned with the least strength, the weakest first; of equals, the oldest.

        In the order of `log2(importance) + happened_us / half_life_us`, which is that of their strength at any moment.
        """
        ...

    async def beside(self, scopes: Sequence[Scope], ids: Sequence[str], *, span: int) -> dict[str, list[Entry]]:
        """For each of these the `span` memories of the same kind and scope that happened before it and after it, and
        are in force, in the order of time, without itself.
        """
        ...

    async def words(
        self, scopes: Sequence[Scope], terms: Sequence[str], which: Filter = EVERYTHING, *, limit: int = 100
    ) -> list[Hit]:
        """Those that hold one of these terms in their text, their tags or their key, best first, scored by BM25 or what
        is nearest to it. Terms are words as somebody wrote them; the index stems them, and no term is syntax.
        """
        ...

    async def vectors(
        self,
        scopes: Sequence[Scope],
        fingerprint: str,
        vector: Sequence[float],
        which: Filter = EVERYTHING,
        *,
        limit: int = 100,
    ) -> list[Hit]:
        """Those whose vectors of this embedder are nearest, by cosine similarity, exact in what is returned.

        Raises `DimensionMismatch` if vectors of this fingerprint are of another length.
        """
        ...

    async def unembedded(self, scopes: Sequence[Scope], fingerprint: str, *, limit: int = 100) -> list[Entry]:
        """Those in force that have no vector of this embedder yet, the newest first."""
        ...

    async def embed(self, fingerprint: str, vectors: Sequence[tuple[Scope, str, Sequence[float]]]) -> None:
        """Keep these vectors, each of a scope and an id, in place of those of the same embedder; none of what is gone.

        Raises `DimensionMismatch`.
        """
        ...

    async def held(self, scope: Scope) -> Held: ...

    async def entities(
        self,
        scopes: Sequence[Scope],
        names: Sequence[str] | None = None,
        *,
        as_of: int | None = None,
        is_described: bool = False,
        limit: int = 1000,
    ) -> list[Entity]:
        """Those with one of these names (None: all), described or related to something, in order of name.

        With `is_described` only those that were described, which is known without a look at relations.
        """
        ...

    async def edges(
        self,
        scopes: Sequence[Scope],
        *,
        as_of: int | None = None,
        valid_at_us: int | None = None,
        after: int = 0,
        limit: int = 100_000,
    ) -> list[tuple[int, Edge]]:
        """All relations in force, in pages: each with a number that grows, after which the next page goes on."""
        ...

    async def neighbourhood(
        self,
        scopes: Sequence[Scope],
        names: Sequence[str],
        *,
        depth: int = 1,
        relations: Sequence[str] = (),
        direction: Direction = "both",
        as_of: int | None = None,
        valid_at_us: int | None = None,
        limit: int = 1000,
    ) -> list[tuple[int, Edge]]:
        """The relations on ways of at most `depth` steps from these entities, each with its distance (1 …), nearest
        first, of these names only (none: of all).
        """
        ...

    async def erase(self, scope: Scope, ids: Sequence[str]) -> None:
        """Take every trace of these out of the index and its files, as far as it can see to that: rows, vectors,
        postings, relations, and what of the latter is left in logs and free pages.
        """
        ...

    async def clear(self, scopes: Sequence[Scope] | None = None) -> None:
        """Forget everything of these scopes (None: of all), so that it is applied anew."""
        ...

    async def close(self) -> None: ...


class Embedder(Protocol):
    """Turns texts into vectors of one length, in one space.

    `fingerprint` names that space: provider, host, model, length, prefixes. Vectors of another are never compared with
    these. `kind` says whether nearness means a likeness of meaning or of words.
    """

    @property
    def fingerprint(self) -> str: ...

    @property
    def kind(self) -> Literal["semantic", "lexical"]: ...

    async def embed(
        self, texts: Sequence[str], *, purpose: Literal["document", "query"] = "document"
    ) -> list[Sequence[float]]:
        """One vector for each text, of unit length. Raises an `EmbedderError`."""
        ...

    async def close(self) -> None: ...
