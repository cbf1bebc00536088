"""Working memory: what one session keeps before its own eyes, bounded; what was used longest ago goes first."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from ostler.domain.memory.settings import MemorySettings
from ostler.domain.memory.tools import WORKING_DROP, WORKING_GET, WORKING_PUT
from ostler.domain.tokens import counts_of, tokens
from ostler.domain.tool import ToolOutcome, failed, succeeded

WORKING_TOOLS = frozenset({WORKING_PUT, WORKING_GET, WORKING_DROP})
"""What a session performs by itself, because nobody else knows what it holds."""


class WorkingEntry(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A text under its key. `source` is the call that put it there, `labels` what it may be made of.

    `tokens` is what it takes of the room: the largest estimate for any model, so that it is the same for all.
    """

    key: str
    text: str
    source: str
    tokens: int
    labels: tuple[str, ...] = ()
    is_pinned: bool = False


class WorkingMemory(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What a session keeps, the least recently used first. Putting and getting are uses; looking at it is none."""

    entries: tuple[WorkingEntry, ...] = ()

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def tokens(self) -> int:
        return sum([entry.tokens for entry in self.entries])

    def entry(self, key: str) -> WorkingEntry | None:
        """What is kept under a key, without using it."""
        return next((entry for entry in self.entries if entry.key == key), None)

    def without(self, key: str) -> "WorkingMemory":
        return WorkingMemory(tuple([entry for entry in self.entries if entry.key != key]))

    def used(self, entry: WorkingEntry) -> "WorkingMemory":
        """With this entry as the one that was used last, in place of what was under its key."""
        return WorkingMemory((*self.without(entry.key).entries, entry))

    def put(self, entry: WorkingEntry, *, entries_max: int, tokens_max: int) -> "WorkingMemory | None":
        """With this entry, and without those used longest ago for which there is no room any more; None if there would
        be none for it without letting go of pinned ones.
        """
        others = list(self.without(entry.key).entries)
        count, size = len(others) + 1, sum([one.tokens for one in others]) + entry.tokens
        kept = []
        for one in others:
            if (count > entries_max or size > tokens_max) and not one.is_pinned:
                count, size = count - 1, size - one.tokens
            else:
                kept.append(one)
        if count > entries_max or size > tokens_max:
            return None
        return WorkingMemory((*kept, entry))


EMPTY = WorkingMemory()


class Performed(NamedTuple):
    """What a call has made of working memory, and what is answered."""

    memory: WorkingMemory
    outcome: ToolOutcome


def perform(
    memory: WorkingMemory,
    tool: str,
    arguments: Mapping[str, Any],
    *,
    settings: MemorySettings,
    call: str,
    labels: tuple[str, ...],
) -> Performed:
    """Perform one of the `WORKING_TOOLS`. What was put is of this call, and may be made of what has these labels."""
    key = str(arguments["key"])
    if tool == WORKING_PUT:
        text = str(arguments["text"])
        size = tokens(counts_of(f"{key} {text}"), "other")
        entry = WorkingEntry(key, text, call, size, labels, bool(arguments.get("pinned", False)))
        return _put(memory, entry, settings)
    found = memory.entry(key)
    if found is None:
        return Performed(memory, failed("not_found", _nothing_under(key, memory)))
    if tool == WORKING_GET:
        return Performed(memory.used(found), succeeded({"key": key, "text": found.text, "source": found.source}))
    return Performed(memory.without(key), succeeded({"dropped": key}))


def _put(memory: WorkingMemory, entry: WorkingEntry, settings: MemorySettings) -> Performed:
    most, room = settings.working_entries, settings.working_tokens
    after = memory.put(entry, entries_max=most, tokens_max=room)
    if after is None:
        pinned = [repr(one.key) for one in memory.entries if one.is_pinned and one.key != entry.key]
        full = f"{entry.key!r} takes {entry.tokens} tokens; working memory holds {most} entries and {room} tokens"
        held = f", and {', '.join(pinned)} must stay: drop one of them first" if pinned else ": make it shorter"
        return Performed(memory, failed("invalid", full + held))
    gone = [one.key for one in memory.entries if after.entry(one.key) is None]
    return Performed(after, succeeded({"kept": entry.key, "let_go": gone} if gone else {"kept": entry.key}))


def _nothing_under(key: str, memory: WorkingMemory) -> str:
    kept = ", ".join([repr(entry.key) for entry in memory.entries])
    return f"nothing is kept under {key!r}; there is: {kept or 'nothing'}"
