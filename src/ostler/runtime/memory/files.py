"""The files that agents keep under /memories: memories of the kind `file`, of which each edit replaces the last.

They are kept where the agent's memories are. A file bears the labels of all that was ever written into it.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from weakref import WeakValueDictionary

from ostler.domain.memory import files
from ostler.domain.memory.files import Edited
from ostler.domain.memory.memory import memory_id
from ostler.domain.memory.recollection import Recollection, Recollections
from ostler.domain.memory.scope import Scope
from ostler.domain.memory.writing import Wish
from ostler.domain.tool import ToolOutcome
from ostler.kernel.errors import StaleWrite, UsageError
from ostler.kernel.event import timestamp
from ostler.ports.memory import Entry, Filter
from ostler.runtime.memory.asking import Asking, answered, check_may_end, united
from ostler.runtime.memory.memories import Memories

PAGE = 500
TRIES_MAX = 20

_NEEDED = {
    "view": ("path",),
    "create": ("path", "file_text"),
    "str_replace": ("path", "old_str"),
    "insert": ("path", "insert_line", "insert_text"),
    "delete": ("path",),
    "rename": ("old_path", "new_path"),
}
"""What each command cannot do without."""


class MemoryFiles:
    """Performs the commands. Each answer is a recollection, so that what it tells of a file bears the file's labels."""

    def __init__(self, memories: Memories) -> None:
        self._memories = memories
        self._locks: WeakValueDictionary[Scope, asyncio.Lock] = WeakValueDictionary()

    async def answer(self, asked: Asking, arguments: dict[str, Any]) -> ToolOutcome:
        """Raises `UsageError`, `NotFound`, `Conflict`, `NotAllowed` with what is to be answered."""
        command = arguments["command"]
        if lacking := [name for name in _NEEDED[command] if name not in arguments]:
            raise UsageError(f"Error: Missing `{lacking[0]}` parameter, which the command {command} needs.")
        if command == "view":
            return await self._view(asked, arguments)
        scope = asked.writable()
        async with self._locks.setdefault(scope, asyncio.Lock()):
            match command:
                case "delete":
                    return await self._delete(asked, scope, files.checked(arguments["path"]))
                case "rename":
                    old, new = files.checked(arguments["old_path"]), files.checked(arguments["new_path"])
                    return await self._rename(asked, scope, old, new)
                case _:
                    return await self._write_patiently(asked, scope, arguments)

    async def _view(self, asked: Asking, arguments: dict[str, Any]) -> ToolOutcome:
        path = files.checked(arguments["path"])
        scope = asked.reader.at(asked.settings.level)
        file = _last(await self._there(scope, path))
        if file is not None:
            await self._memories.count([file], asked.call)
            shown = files.file_view(path, file.memory.text, arguments.get("view_range"))
            return _told(shown, file.memory.labels, file)
        within = await self._within(scope, path)
        if not within and path != files.ROOT:
            raise files.missing(path)
        await self._memories.count(within, asked.call)  # their paths are in the session's log from here on
        sizes = {entry.memory.key: len(entry.memory.text.encode()) for entry in within}
        labels = {label for entry in within for label in entry.memory.labels}
        return _told(files.folder_view(path, sizes), sorted(labels))

    async def _write_patiently(self, asked: Asking, scope: Scope, arguments: dict[str, Any]) -> ToolOutcome:
        """As `_write`, on the file as it is by then, if another process writes it at the same time."""
        for _ in range(TRIES_MAX - 1):
            with suppress(StaleWrite):
                return await self._write(asked, scope, arguments)
        return await self._write(asked, scope, arguments)

    async def _write(self, asked: Asking, scope: Scope, arguments: dict[str, Any]) -> ToolOutcome:
        """Create or edit a file. A later attempt finds what the first one wrote, and is answered the same."""
        path = files.checked(arguments["path"])
        written = await self._written(scope, asked.call)
        there = [] if written else await self._there(scope, path)
        before = await self._before(scope, written) if written else _last(there)
        paths = [] if written else [entry.memory.key for entry in await self._within(scope, files.ROOT)]
        edited = _edited(path, None if before is None else before.memory.text, paths, arguments)
        labels = united(asked.taint.labels, before.memory.labels if before else ())
        if written is None:
            wish = Wish(
                kind="file",
                text=edited.text,
                source=asked.source,
                labels=labels,
                key=path,
                caused_by=before.memory.id if before else "",
            )
            instead_of = [entry.memory.id for entry in there]
            await self._memories.remember(scope, wish, key=asked.call, instead_of=instead_of)
        return _told(edited.answer, labels, before)

    async def _delete(self, asked: Asking, scope: Scope, path: str) -> ToolOutcome:
        if path == files.ROOT:
            raise UsageError(f"Error: {files.ROOT} itself cannot be deleted")
        going = await self._at(scope, path)
        if not going and not (asked.attempt > 1 and await self._at(scope, path, is_closed_too=True)):
            raise files.absent(path)
        check_may_end(asked, going)
        if going:
            ids = [entry.memory.id for entry in going]
            await self._memories.forget(scope, ids, by=asked.source.writer, because="deleted", source=asked.source)
        return _told(files.deleted(path), ())

    async def _rename(self, asked: Asking, scope: Scope, old: str, new: str) -> ToolOutcome:
        """Each file is written under its new path, then forgotten under its old one: after a crash both are there, and
        the next attempt forgets the old ones.
        """
        every = await self._at(scope, old, is_closed_too=True)
        going = [entry for entry in every if entry.until is None]
        moved = [memory_id(scope, _moving(asked, entry)) for entry in every]
        if not await self._memories.index.get([scope], moved):
            if not going:
                raise files.absent(old)
            files.check_destination(old, new, [entry.memory.key for entry in await self._within(scope, files.ROOT)])
        wishes = [
            (_moving(asked, entry), _moved(asked, entry, new + entry.memory.key.removeprefix(old))) for entry in going
        ]
        await self._memories.remember_all(scope, wishes)
        if going:
            ids = [entry.memory.id for entry in going]
            because = f"renamed to {new}"
            await self._memories.forget(scope, ids, by=asked.source.writer, because=because, source=asked.source)
        labels = {label for entry in (*going, *every) for label in entry.memory.labels}
        return _told(files.renamed(old, new), sorted(labels))

    async def _there(self, scope: Scope, path: str) -> list[Entry]:
        """The file as it is now, and before that what was restored of it."""
        await self._memories.catch_up([scope])
        found = await self._memories.index.holding(scope, key=path)
        return [entry for entry in found if entry.memory.kind == "file"]

    async def _at(self, scope: Scope, path: str, *, is_closed_too: bool = False) -> list[Entry]:
        """The file with this path, or all files below it, by path; with `is_closed_too` also those that were there."""
        found = await self._page(scope, path, is_closed_too=is_closed_too)
        return [entry for entry in found if entry.memory.key == path or files.is_within(entry.memory.key, path)]

    async def _within(self, scope: Scope, folder: str) -> list[Entry]:
        """The files below a folder, by path and age."""
        return await self._page(scope, folder + "/")

    async def _page(self, scope: Scope, prefix: str, *, is_closed_too: bool = False) -> list[Entry]:
        await self._memories.catch_up([scope])
        which = Filter(kinds=("file",), key_prefix=prefix, is_closed_too=is_closed_too)
        found: list[Entry] = []
        before: int | None = None
        while page := await self._memories.index.page([scope], which, before=before, limit=PAGE):
            found += page
            before = page[-1].position
        return sorted(found, key=lambda entry: (entry.memory.key, entry.position))

    async def _written(self, scope: Scope, key: str) -> Entry | None:
        """What the call with this idempotency key wrote, if it was performed before."""
        await self._memories.catch_up([scope])
        found = await self._memories.index.get([scope], [memory_id(scope, key)])
        return found[0] if found else None

    async def _before(self, scope: Scope, written: Entry) -> Entry | None:
        """The file as it was before that was written."""
        found = await self._memories.index.get([scope], [written.memory.caused_by])
        return found[0] if found else None


def _last(entries: Sequence[Entry]) -> Entry | None:
    return entries[-1] if entries else None


def _edited(path: str, text: str | None, paths: Sequence[str], arguments: dict[str, Any]) -> Edited:
    """What a file says after a command, and what that is answered; `text` is None where there is no file."""
    if arguments["command"] == "create":
        if text is not None or paths:
            files.check_free(path, [*paths, *([path] if text is not None else [])])
        return Edited(arguments["file_text"], files.created(path))
    if arguments["command"] == "str_replace":
        if text is None:
            raise files.missing(path)
        return files.replaced(path, text, arguments["old_str"], arguments.get("new_str", ""))
    if text is None:
        raise files.absent(path)
    return files.inserted(path, text, arguments["insert_line"], arguments["insert_text"])


def _moving(asked: Asking, entry: Entry) -> str:
    """The idempotency key of the part of a call that moves one file."""
    return f"{asked.call}#{entry.memory.id}"


def _moved(asked: Asking, entry: Entry, path: str) -> Wish:
    memory = entry.memory
    return Wish(
        kind="file",
        text=memory.text,
        source=asked.source,
        labels=united(asked.taint.labels, memory.labels),
        key=path,
        caused_by=memory.id,
        is_pinned=memory.is_pinned,
        importance=memory.importance,
        tags=memory.tags,
    )


def _told(text: str, labels: Sequence[str], file: Entry | None = None) -> ToolOutcome:
    one = Recollection(
        id=file.memory.id if file else "",
        kind="file",
        text=text,
        writer=file.memory.source.writer if file else "",
        at=timestamp(file.memory.happened_us) if file else "",
        labels=tuple(labels),
        key=file.memory.key if file else "",
    )
    return answered(Recollections((one,)))
