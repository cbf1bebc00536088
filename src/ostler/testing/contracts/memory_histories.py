"""Histories of memories, said in a few words or at random, and what is to be found after them, in the plainest way."""

from collections.abc import Iterable, Sequence
from functools import cache
from math import log2
from typing import Any

from hypothesis import strategies as st

from ostler.domain.memory.events import (
    EntityDescribed,
    MemoryConsolidated,
    MemoryContradicted,
    MemoryErased,
    MemoryEvent,
    MemoryOpened,
    MemoryPinned,
    MemoryRecalled,
    MemoryRemembered,
    MemoryRestored,
    MemoryRetracted,
    MemorySuperseded,
)
from ostler.domain.memory.memory import Memory, Relation, Source
from ostler.domain.memory.scope import Scope
from ostler.ports.memory import Edge, Entry, Filter, Hit, MemoryIndex, Noted

ANN = Scope("acme", "coder", "ann")
BOB = Scope("acme", "coder", "bob")
SOURCE = Source("agent:coder")

SCOPES = (
    Scope("acme", "coder", "ann", "ses_1"),
    Scope("acme", "coder", "ann"),
    Scope("acme", "coder"),
    Scope("acme"),
    Scope("acme", "coder", "bob"),
    Scope("rival", "coder", "ann"),
)
IDS = tuple(f"mem_{number}" for number in range(5))
"""The same in every scope, so that nothing but the scope keeps them apart."""
NAMES = ("Ann", "ANN ", "Bob", "Zürich")
WORDS = ("boat", "boats", "harbour", "tea", "NEAR", "ü")

Step = tuple[int, MemoryEvent | None]
"""The number of a scope, and what happens there."""


def mark(scope: int) -> str:
    """A word that all that is written in a scope holds, and nothing that is written in another."""
    return f"mark{scope}end"


def memories(scope: int, ids: Sequence[str] = IDS) -> st.SearchStrategy[Memory]:
    """Memories that may be written in the scope of this number."""
    moments = st.none() | st.integers(0, 6)
    relation = st.builds(
        Relation,
        st.sampled_from(NAMES),
        st.sampled_from(["likes", "knows"]),
        st.sampled_from(NAMES),
        properties=st.just({"mark": mark(scope)}),
    )
    return st.builds(
        Memory,
        st.sampled_from(ids),
        st.sampled_from(["episode", "fact", "file"]),
        st.lists(st.sampled_from(WORDS), max_size=3).map(lambda words: " ".join([*words, mark(scope)])),
        st.builds(Source, st.just("agent:coder"), call=st.sampled_from(["", "ses_1/3.1", "ses_2/4.1"])),
        st.integers(0, 6),
        importance=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
        tags=st.sets(st.sampled_from(["red", "blue"])).map(lambda tags: tuple(sorted(tags))),
        key=st.sampled_from(["", "a", "a/b", "b"]),
        relation=st.none() | relation,
        is_pinned=st.booleans(),
        valid_from_us=moments,
        valid_to_us=moments,
    )


@cache
def events(scope: int) -> st.SearchStrategy[MemoryEvent | None]:
    """All that may happen in the scope of this number; None is an event that was erased."""
    one, several = st.sampled_from(IDS), st.lists(st.sampled_from(IDS), max_size=3, unique=True).map(tuple)
    remembered = st.builds(MemoryRemembered, memory=memories(scope))
    described = st.builds(
        EntityDescribed,
        name=st.sampled_from(NAMES),
        kind=st.sampled_from(["person", "place"]),
        source=st.just(Source("agent:coder")),
        properties=st.just({"mark": mark(scope)}),
    )
    pair = st.permutations(IDS)
    return st.one_of(
        remembered,
        remembered,
        st.none(),
        st.just(MemoryOpened(scope=SCOPES[scope])),
        pair.map(lambda ids: MemorySuperseded(id=ids[0], by=ids[1])),
        pair.map(lambda ids: MemoryContradicted(id=ids[0], other=ids[1], because="they cannot both be true")),
        st.builds(MemoryRetracted, ids=several, why=st.sampled_from(["forgotten", "evicted"]), by=st.just("runtime")),
        st.builds(MemoryRestored, ids=several, by=st.just("user:ann")),
        st.builds(MemoryConsolidated, of=several, into=one, how=st.sampled_from(["merged", "promoted"])),
        st.builds(MemoryRecalled, ids=several, call=st.sampled_from(["ses_1/5.1", "ses_2/6.1"])),
        st.builds(MemoryPinned, id=one, by=st.just("user:ann"), is_pinned=st.booleans()),
        st.builds(MemoryErased, ids=several.map(lambda ids: ids[:1]), by=st.just("user:ann"), because=st.just("asked")),
        described,
    )


def histories(*, most: int = 25, scopes: int = len(SCOPES)) -> st.SearchStrategy[list[Step]]:
    """What happens in the first so many of `SCOPES`, in order."""
    step = st.integers(0, scopes - 1).flatmap(lambda scope: st.tuples(st.just(scope), events(scope)))
    return st.lists(step, max_size=most)


def streams(history: Iterable[Step]) -> dict[Scope, list[Noted]]:
    """The events of each scope, with positions that run through all of them as in a store."""
    found: dict[Scope, list[Noted]] = {}
    for position, (number, event) in enumerate(history, 1):
        notes = found.setdefault(SCOPES[number], [])
        notes.append(Noted(len(notes) + 1, position * 3, position * 100, event))
    return found


class Known:
    """What is known of one memory: when it was in force, and what became of it."""

    def __init__(self, note: Noted, memory: Memory) -> None:
        self.memory = memory
        self.note = note
        self.spans: list[tuple[int, int | None]] = [(note.position, None)]
        self.ended_by = ""
        self.calls: set[str] = set()
        self.others: set[str] = set()
        self.is_pinned = memory.is_pinned

    @property
    def is_in_force(self) -> bool:
        return self.spans[-1][1] is None

    def end(self, position: int, ended_by: str) -> None:
        if self.is_in_force:
            self.spans[-1] = (self.spans[-1][0], position)
            self.ended_by = ended_by

    def restore(self, position: int) -> None:
        if not self.is_in_force:
            self.spans.append((position, None))
            self.ended_by = ""

    def passes(self, which: Filter) -> bool:
        memory, tags, position = self.memory, set(self.memory.tags), which.as_of
        if position is None:
            stands = which.is_closed_too or self.is_in_force
        elif which.is_closed_too:
            stands = self.note.position <= position
        else:
            stands = any(since <= position and (until is None or until > position) for since, until in self.spans)
        return (
            stands
            and (not which.kinds or memory.kind in which.kinds)
            and tags.issuperset(which.all_of)
            and (not which.any_of or not tags.isdisjoint(which.any_of))
            and tags.isdisjoint(which.none_of)
            and memory.key.startswith(which.key_prefix)
            and (not which.session or memory.source.session == which.session)
            and (which.from_us is None or memory.happened_us >= which.from_us)
            and (which.to_us is None or memory.happened_us < which.to_us)
            and _is_true(memory, which.valid_at_us)
        )


def _is_true(memory: Memory, at_us: int | None) -> bool:
    begun = at_us is None or memory.valid_from_us is None or memory.valid_from_us <= at_us
    return begun and (at_us is None or memory.valid_to_us is None or memory.valid_to_us > at_us)


def known(notes: Iterable[Noted]) -> dict[str, Known]:
    """All that is known after these events of a scope, by id, in the order in which it was remembered."""
    found: dict[str, Known] = {}
    for note in notes:
        _take(found, note)
    return found


def _take(found: dict[str, Known], note: Noted) -> None:
    event = note.event
    match event:
        case MemoryRemembered():
            found.setdefault(event.memory.id, Known(note, event.memory))
        case MemorySuperseded():
            _end(found, [event.id], note.position, f"superseded {event.by}")
        case MemoryContradicted() if event.id in found and event.other in found:
            found[event.id].others.add(event.other)
            found[event.other].others.add(event.id)
        case MemoryRetracted():
            _end(found, event.ids, note.position, event.why)
        case MemoryRestored():
            for one in _present(found, event.ids):
                one.restore(note.position)
        case MemoryConsolidated() if event.how == "merged":
            _end(found, event.of, note.position, f"merged {event.into}")
        case MemoryRecalled():
            for one in _present(found, event.ids):
                one.calls.add(event.call)
        case MemoryPinned():
            for one in _present(found, [event.id]):
                one.is_pinned = event.is_pinned
        case MemoryErased():
            _erase(found, event.ids)
        case _:
            pass


def _erase(found: dict[str, Known], ids: Iterable[str]) -> None:
    for gone in ids:
        found.pop(gone, None)
        for other in found.values():
            other.others.discard(gone)


def _present(found: dict[str, Known], ids: Iterable[str]) -> list[Known]:
    return [found[name] for name in ids if name in found]


def _end(found: dict[str, Known], ids: Iterable[str], position: int, ended_by: str) -> None:
    for one in _present(found, ids):
        one.end(position, ended_by)


def expected(streams: dict[Scope, list[Noted]], scopes: Iterable[Scope], which: Filter) -> list[object]:
    """What a page of all these is, the newest first, as far as `shape` shows it."""
    rows: list[tuple[int, object]] = []
    for scope in scopes:
        here = known(streams.get(scope, ()))
        for one in here.values():
            if one.passes(which):
                others = sorted(other for other in one.others if here[other].is_in_force)
                ended = (one.spans[-1][1], one.ended_by)
                row = (scope, one.memory.id, one.memory.text, one.is_pinned, *ended, len(one.calls), others)
                rows.append((one.note.position, row))
    return [row for _, row in sorted(rows, key=lambda pair: pair[0], reverse=True)]


def shape(entries: Iterable[Entry]) -> list[object]:
    """Entries as `expected` has them."""
    return [
        (
            entry.scope,
            entry.memory.id,
            entry.memory.text,
            entry.memory.is_pinned,
            entry.until,
            entry.ended_by,
            entry.recalls,
            sorted(entry.contradicts),
        )
        for entry in entries
    ]


def remembered(name: str, text: str = "hay", **more: Any) -> MemoryRemembered:
    """A fact with this id; what is not given is what is most common."""
    given: dict[str, Any] = {"kind": "fact", "source": SOURCE, "happened_us": 0} | more
    return MemoryRemembered(memory=Memory(name, text=text, **given))


def relates(name: str, subject: str, relation: str, object: str, **more: Any) -> MemoryRemembered:  # noqa: A002
    """A fact that states a relation."""
    properties = more.pop("properties", {})
    stated = Relation(subject, relation, object, more.pop("weight", 1.0), properties=properties)
    return remembered(name, f"{subject} {relation} {object}", relation=stated, **more)


def gone(*ids: str) -> MemoryRetracted:
    """These are forgotten."""
    return MemoryRetracted(ids=ids, why="forgotten", by="user:ann")


async def tell(index: MemoryIndex, scope: Scope, *events: MemoryEvent | None) -> list[int]:
    """Let these happen next in a scope, and return their positions: ten for each."""
    after = (await index.applied([scope]))[scope]
    notes = [Noted(seq, seq * 10, seq * 1000, event) for seq, event in enumerate(events, after + 1)]
    await index.apply(scope, notes, after=after)
    return [note.position for note in notes]


def ids(found: Iterable[Entry | Hit]) -> list[str]:
    """The ids of entries or hits, in their order."""
    return [one.memory.id if isinstance(one, Entry) else one.id for one in found]


def facts(found: Iterable[tuple[int, Edge]]) -> list[tuple[int, str]]:
    """Numbers and ids of relations, in their order."""
    return [(number, edge.id) for number, edge in found]


async def apply_all(index: MemoryIndex, notes: dict[Scope, list[Noted]], size: int) -> None:
    """Apply these streams, so many events at a time."""
    for scope, stream in notes.items():
        for start in range(0, len(stream), size):
            await index.apply(scope, stream[start : start + size], after=start)


async def everything(index: MemoryIndex, scope: Scope, as_of: int | None = None) -> object:
    """All that is in force in a scope, or was, without what an entry says of later times."""
    entries = await index.page([scope], Filter(as_of=as_of))
    entities = await index.entities([scope], as_of=as_of)
    near = await index.neighbourhood([scope], ["ann"], depth=2, as_of=as_of)
    return (
        [(entry.memory.id, entry.memory.text, entry.position) for entry in entries],
        sorted(ids(await index.words([scope], WORDS, Filter(as_of=as_of)))),
        [(entity.kind, entity.properties) for entity in entities],
        [edge for _, edge in await index.edges([scope], as_of=as_of)],
        sorted(facts(near)),
    )


async def check_counts(index: MemoryIndex, scope: Scope, entries: list[Entry]) -> None:
    """What a scope is said to hold is what it holds."""
    held, in_force = await index.held(scope), [entry for entry in entries if entry.until is None]
    related = [entry.memory.relation for entry in in_force if entry.memory.relation]
    assert sum(held.in_force.values()) == len(in_force)
    assert held.closed == len(entries) - len(in_force)
    assert held.text_bytes == sum(entry.memory.size for entry in in_force)
    assert held.recalls == sum(entry.recalls for entry in entries)
    assert held.relations == len(related)
    assert held.entities == len(await index.entities([scope]))


async def check_weakest(index: MemoryIndex, scope: Scope, entries: list[Entry]) -> None:
    """The weakest are those that sorting finds."""
    free = [entry for entry in entries if entry.until is None and not entry.memory.is_pinned]
    for kind in ("episode", "fact", "file"):
        ranked = sorted(
            (log2(entry.memory.importance or 1e-300) + entry.memory.happened_us / 2, entry.position, entry.memory.id)
            for entry in free
            if entry.memory.kind == kind
        )
        assert ids(await index.weakest(scope, kind, half_life_us=2, limit=9)) == [name for *_, name in ranked]
