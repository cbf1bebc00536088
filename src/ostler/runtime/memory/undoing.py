"""What it takes to undo what a run or a tool has written: what goes, and what comes back in its place."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from ostler.domain.memory.events import EntityDescribed, MemoryRetracted
from ostler.domain.memory.memory import Source, normal
from ostler.ports.memory import Entry

IsMeant = Callable[[Source, int], bool]
"""Whether what came of this, at this position of the log, is to be undone."""
Told = tuple[int, MemoryRetracted | EntityDescribed]
"""What was taken out of force, or said of an entity, and at which position of the log."""


class Undoing(NamedTuple):
    """What is to be retracted, and what is to be in force again, in the order of the log."""

    retracted: list[Entry]
    restored: list[Entry]


def undoing(entries: Iterable[Entry], told: Iterable[Told], is_meant: IsMeant) -> Undoing:
    """How to undo what is meant of these, which are all that a scope ever held.

    What was made of it goes as well. What comes back is what it has taken out of force, and of what had its place taken
    by it that which nothing else would have replaced since.
    """
    found = {entry.memory.id: entry for entry in sorted(entries, key=lambda entry: entry.position)}
    gone = {name for name, entry in found.items() if is_meant(entry.memory.source, entry.position)}
    for name, entry in found.items():  # a memory is made of older ones only
        if not gone.isdisjoint(entry.memory.source.of):
            gone.add(name)
    retracted = [entry for name, entry in found.items() if name in gone and entry.until is None]
    going = {entry.memory.id for entry in retracted}
    ended = {
        (name, position)
        for position, event in told
        if isinstance(event, MemoryRetracted) and event.source is not None and is_meant(event.source, position)
        for name in event.ids
    }
    restored = [
        entry
        for name, entry in found.items()
        if name not in gone and ((name, entry.until) in ended or _last_in_its_place(entry, found, gone) in going)
    ]
    return Undoing(retracted, restored)


def described_before(told: Iterable[Told], is_meant: IsMeant) -> list[EntityDescribed]:
    """What is to be said again of entities, in place of what is meant: what others said last, or that nothing is known
    of it.
    """
    last: dict[str, EntityDescribed] = {}
    others: dict[str, EntityDescribed] = {}
    undone: set[str] = set()
    for position, event in told:
        if isinstance(event, EntityDescribed):
            name = normal(event.name)
            last[name] = event
            if is_meant(event.source, position):
                undone.add(name)
            else:
                others[name] = event
                undone.discard(name)
    blank = {name: EntityDescribed(last[name].name, "", last[name].source) for name in undone if _says_much(last[name])}
    return [others.get(name) or blank[name] for name in sorted(undone) if name in others or name in blank]


def _says_much(described: EntityDescribed) -> bool:
    return bool(described.kind or described.properties)


def _last_in_its_place(entry: Entry, found: dict[str, Entry], gone: set[str]) -> str:
    """Of those that are to go and took its place one after the other, the last one; empty if another did."""
    seen: set[str] = set()
    name = replaced_by(entry)
    while name in gone and name in found and name not in seen and found[name].until is not None:
        seen.add(name)
        name = replaced_by(found[name])
    return name if name in gone else ""


def replaced_by(entry: Entry) -> str:
    """The id of the memory that took its place; empty if none did."""
    how, _, name = entry.ended_by.partition(" ")
    return name if how in ("superseded", "merged") and entry.until is not None else ""
