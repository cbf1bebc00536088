"""Which memories have to go for somebody's sake, and which sessions had them in sight.

What is named is only the beginning. The same words stand in older versions of it, in what it was merged with, in what
was made of it, and in what sessions wrote that were given it; and each of these leads further in the same way.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Literal, NamedTuple

import msgspec

from ostler.domain.memory.events import (
    EntityDescribed,
    MemoryConsolidated,
    MemoryContradicted,
    MemoryErased,
    MemoryEvent,
    MemoryOpened,
    MemoryRecalled,
    MemoryRemembered,
    MemoryRestored,
    MemoryRetracted,
)
from ostler.domain.memory.memory import Memory, Value, normal
from ostler.domain.memory.scope import Scope
from ostler.domain.memory.terms import STOP_WORDS
from ostler.kernel.errors import UsageError
from ostler.kernel.event import Record, StreamId

Reason = Literal["named", "version", "merged", "derived", "retold", "possible"]
"""Why a memory has to go: it is what is meant, or another version of it under the same key; it was merged with it, or
made of it; a session that had it in sight wrote it, in words of it, or in words of its own.
"""

RUN = 4
"""Words in a row that two texts must share for one to retell the other. Two of them are such as not every text has."""

_WORD = re.compile(r"\w+")


class Which(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whose or which memories are meant: all of a `scope`, of a `user` with whatever agent, those with these `ids`, or
    all that speak of a `subject`, wherever in the tenant or in the `scope` alone.

    A scope is meant exactly, but that of a user with the sessions in it. With `is_thorough` also what is `possible`.
    """

    scope: Scope | None = None
    user: str = ""
    ids: tuple[str, ...] = ()
    subject: str = ""
    is_thorough: bool = False

    def check(self, tenant: str) -> None:
        """Raises `UsageError` unless it means something, of this tenant, and not two things."""
        named = [bool(self.user), bool(self.ids), bool(normal(self.subject)), self.scope is not None]
        if sum(named[:3]) > 1 or not any(named) or (self.scope is not None and (self.user or self.ids)):
            raise UsageError(
                "Say what is to be erased: a scope, a user, ids, or a subject (wherever, or in a scope).",
                hint="There is nothing that means all memories.",
            )
        if self.scope is not None and self.scope.tenant != tenant:
            raise UsageError(f"{self.scope} is no scope of the tenant {tenant}.")

    @property
    def is_whole(self) -> bool:
        """Whether all memories of some scopes are meant."""
        return bool(self.user) or (self.scope is not None and not self.subject)

    def holds(self, scope: Scope) -> bool:
        """Whether memories of this scope are looked at."""
        if self.user:
            return scope.user == self.user
        if self.scope is None:
            return True
        return self.scope in scope.visible if self.scope.level == "user" else scope == self.scope


class Doomed(msgspec.Struct, frozen=True):
    """A memory that has to go, and why. It was found in so many steps (`distance`) from what was named."""

    scope: Scope
    id: str
    reason: Reason
    distance: int
    text: str


class Reach(msgspec.Struct, frozen=True):
    """All that has to go. `scopes` are erased whole, with who they are of."""

    memories: tuple[Doomed, ...]
    entities: tuple[tuple[Scope, str], ...]
    scopes: tuple[Scope, ...]
    sessions: frozenset[str]
    possible: tuple[str, ...]


class _Told(NamedTuple):
    scope: Scope
    seq: int
    position: int
    memory: Memory


class _Described(NamedTuple):
    scope: Scope
    seq: int
    event: EntityDescribed


class Account:
    """All that the memory streams of a tenant say, as far as it bears on what has to go; about a kilobyte a memory.

    Events are taken in the order of each stream; those whose content was erased are not taken.
    """

    def __init__(self) -> None:
        self.told: dict[str, _Told] = {}
        self.described: list[_Described] = []
        self.opened: dict[Scope, list[int]] = defaultdict(list)
        self.undescribed: set[Scope] = set()
        """Scopes of which something was erased that was no memory: descriptions of entities."""
        self.owed: set[str] = set()
        """Sessions that had something in sight that was erased before."""
        self._scopes: dict[StreamId, Scope] = {}
        self._seen: dict[str, dict[str, int]] = defaultdict(dict)
        self._merged: dict[str, set[str]] = defaultdict(set)
        self._made: dict[str, set[str]] = defaultdict(set)
        self._written: dict[str, list[str]] = defaultdict(list)
        self._versions: dict[tuple[Scope, str], list[str]] = defaultdict(list)
        self._moved: dict[str, set[str]] = defaultdict(set)
        self._said_of: dict[str, list[tuple[int, str]]] = defaultdict(list)
        self._gone: list[str] = []
        self._runs: dict[str, frozenset[tuple[str, ...]]] = {}

    def take(self, stream: StreamId, record: Record, event: MemoryEvent) -> None:
        """Take the next event of a stream. What stands before it is known whose it is is passed over."""
        if isinstance(event, MemoryOpened):
            self._scopes[stream] = event.scope
            self.opened[event.scope].append(record.seq)
        scope = self._scopes.get(stream)
        if scope is None:
            return
        match event:
            case MemoryRemembered():
                self._remember(_Told(scope, record.seq, record.position, event.memory))
            case MemoryRecalled():
                for name in event.ids:
                    self._seen[name].setdefault(event.call.partition("/")[0], record.position)
            case MemoryConsolidated() if event.how == "merged":
                for name in event.of:
                    self._merged[name].add(event.into)
                    self._merged[event.into].add(name)
            case MemoryConsolidated():
                for name in event.of:
                    self._made[name].add(event.into)
            case MemoryContradicted():
                self._said_of[event.id].append((record.seq, event.because))
                self._said_of[event.other].append((record.seq, event.because))
            case MemoryRetracted() | MemoryRestored():
                self._change(record, event)
            case EntityDescribed():
                self.described.append(_Described(scope, record.seq, event))
            case MemoryErased():
                if not event.ids:
                    self.undescribed.add(scope)
                self._gone += event.ids
                self.owed.update(event.sessions)
            case _:
                pass

    def events_of(self, name: str) -> list[int]:
        """The numbers of the events of its stream that say something of what a memory says."""
        return [self.told[name].seq, *(seq for seq, _ in self._said_of[name])]

    def texts_of(self, name: str) -> Iterator[str]:
        """All that it says, and all that is said of it."""
        yield from _texts(self.told[name].memory)
        yield from (because for _, because in self._said_of[name])

    def sessions_of(self, name: str) -> set[str]:
        """The sessions that have written it or were given it."""
        return set(self.in_sight(name))

    def in_sight(self, name: str) -> dict[str, int]:
        """The same, each with the position from which on it had it in sight."""
        seen = dict(self._seen.get(name, {}))
        if name in self.told:
            told = self.told[name]
            seen[told.memory.source.session] = told.position
        seen.pop("", None)
        return seen

    def owing(self) -> set[str]:
        """The sessions that had in sight what was erased before; those that are erased by now are among them."""
        return self.owed.union(*(self.in_sight(name) for name in self._gone))

    def related(self, name: str) -> Iterator[tuple[Reason, str]]:
        """What says the same as this memory, or was made of it."""
        told = self.told[name]
        if told.memory.key:
            yield from (("version", other) for other in self._versions[told.scope, told.memory.key])
        yield from (("version", other) for other in self._moved[name])
        yield from (("merged", other) for other in self._merged[name])
        yield from (("derived", other) for other in self._made[name])
        said = self._runs_of(name)
        for session in self.in_sight(name):
            for other in self._written[session]:
                if said & self._runs_of(other):
                    yield "retold", other

    def written_in_sight(self, name: str) -> Iterator[str]:
        """What sessions wrote after they had it in sight."""
        for session, position in self.in_sight(name).items():
            yield from (other for other in self._written[session] if self.told[other].position > position)

    def _runs_of(self, name: str) -> frozenset[tuple[str, ...]]:
        if name not in self._runs:
            self._runs[name] = runs(self.told[name].memory.text)
        return self._runs[name]

    def _change(self, record: Record, event: MemoryRetracted | MemoryRestored) -> None:
        if event.because and len(event.ids) == 1:
            self._said_of[event.ids[0]].append((record.seq, event.because))
        if isinstance(event, MemoryRetracted) and event.source is not None and event.why == "forgotten":
            for name in event.ids:
                self._seen[name].setdefault(event.source.session, record.position)

    def _remember(self, told: _Told) -> None:
        memory = told.memory
        self.told[memory.id] = told
        for name in memory.source.of:
            self._made[name].add(memory.id)
        if memory.source.session:
            self._written[memory.source.session].append(memory.id)
        if memory.key:
            self._versions[told.scope, memory.key].append(memory.id)
        if memory.kind == "file" and memory.caused_by:  # under another path, it is what the file was before
            self._moved[memory.id].add(memory.caused_by)
            self._moved[memory.caused_by].add(memory.id)


def reach(account: Account, which: Which) -> Reach:
    """All that has to go for the sake of what is named."""
    named = _named(account, which)
    doomed: dict[str, tuple[Reason, int]] = dict.fromkeys(named, ("named", 0))
    frontier, distance = list(named), 0
    while frontier:
        distance += 1
        found = [pair for name in frontier for pair in account.related(name)]
        if which.is_thorough:
            found += [("possible", other) for name in frontier for other in account.written_in_sight(name)]
        frontier = []
        for reason, name in found:
            if name in account.told and name not in doomed:
                doomed[name] = (reason, distance)
                frontier.append(name)
    possible = {other for name in doomed for other in account.written_in_sight(name)} - doomed.keys()
    sessions = account.owing().union(*(account.sessions_of(name) for name in doomed))
    described = [one for one in account.described if _is_doomed(one, which)] + _nameless(account, doomed, sessions)
    return Reach(
        memories=tuple(_doomed(account, name, *found) for name, found in doomed.items()),
        entities=tuple(dict.fromkeys((one.scope, one.event.name) for one in described)),
        scopes=tuple(sorted(scope for scope in account.opened if which.is_whole and which.holds(scope))),
        sessions=frozenset(sessions.union(one.event.source.session for one in described) - {""}),
        possible=tuple(sorted(possible)),
    )


def runs(text: str) -> frozenset[tuple[str, ...]]:
    """Every run of `RUN` words of a text, in the form in which texts are compared; of a shorter one, all its words."""
    words = _WORD.findall(normal(text))
    size = min(RUN, len(words))
    found = (tuple(words[start : start + size]) for start in range(len(words) - size + 1))
    return frozenset(run for run in found if sum(word not in STOP_WORDS for word in run) > 1)


def speaks_of(subject: str) -> Callable[[Iterable[str]], bool]:
    """Whether one of some texts names this subject, as a whole and however it is written."""
    pattern = re.compile(rf"(?<!\w){re.escape(normal(subject))}(?!\w)")
    return lambda texts: any(pattern.search(normal(text)) for text in texts)


def _named(account: Account, which: Which) -> list[str]:
    if which.ids:
        return [name for name in dict.fromkeys(which.ids) if name in account.told]
    is_meant = speaks_of(which.subject) if which.subject else None
    return [
        name
        for name, told in account.told.items()
        if (which.holds(told.scope) and (is_meant is None or is_meant(account.texts_of(name))))
        or (which.user and told.memory.source.writer == f"user:{which.user}")
    ]


def _is_doomed(described: _Described, which: Which) -> bool:
    """Whether a description of an entity is meant."""
    event = described.event
    if which.ids:
        return False
    if which.user and event.source.writer == f"user:{which.user}":
        return True
    return which.holds(described.scope) and (
        not which.subject or speaks_of(which.subject)((event.name, event.kind, *_said(event.properties)))
    )


def _nameless(account: Account, doomed: Collection[str], sessions: Collection[str]) -> list[_Described]:
    """What these sessions have said of entities that no relation names any more when these memories have gone."""
    named = {end for name in doomed for end in _ends(account.told[name])}
    nameless = named.difference(*(_ends(told) for name, told in account.told.items() if name not in doomed))
    return [
        one
        for one in account.described
        if one.event.source.session in sessions and (one.scope, normal(one.event.name)) in nameless
    ]


def _ends(told: _Told) -> list[tuple[Scope, str]]:
    """The entities that a memory relates to one another."""
    relation = told.memory.relation
    return [] if relation is None else [(told.scope, normal(end)) for end in (relation.subject, relation.object)]


def _texts(memory: Memory) -> Iterator[str]:
    yield from (memory.text, memory.key, *memory.tags)
    if (relation := memory.relation) is not None:
        yield from (relation.subject, relation.name, relation.object)
        yield from _said(relation.properties)


def _said(properties: dict[str, Value]) -> Iterator[str]:
    yield from (str(said) for one in properties.items() for said in one)


def _doomed(account: Account, name: str, reason: Reason, distance: int) -> Doomed:
    told = account.told[name]
    return Doomed(told.scope, name, reason, distance, told.memory.text)
