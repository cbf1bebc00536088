"""What it takes to undo what a run or a tool has written: what goes, and what comes back in its place."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from ostler.ports.memory import Entry


class Undoing(NamedTuple):
    """The ids of what is to be retracted, and of what is to be in force again, in the order of the log."""

    retracted: list[str]
    restored: list[str]


def undoing(entries: Iterable[Entry], is_meant: Callable[[Entry], bool]) -> Undoing:
    """How to undo what is meant of these, which are all that a scope ever held.

    What was made of it goes as well, and of what had its place taken by it that which nothing else would have replaced
    since.
    """
    found = {entry.memory.id: entry for entry in sorted(entries, key=lambda entry: entry.position)}
    gone = {name for name, entry in found.items() if is_meant(entry)}
    for name, entry in found.items():  # a memory is made of older ones only
        if not gone.isdisjoint(entry.memory.source.of):
            gone.add(name)
    retracted = [name for name in found if name in gone and found[name].until is None]
    going = set(retracted)
    restored = [
        name for name, entry in found.items() if name not in gone and _last_in_its_place(entry, found, gone) in going
    ]
    return Undoing(retracted, restored)


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
