"""Looks for a text in the files of a workspace. Run as a program it does so in a process that can be killed."""

import fnmatch
import json
import os
import re
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import BinaryIO

import msgspec

from ostler.adapters.tools.functions import Failure
from ostler.adapters.tools.workspace import Workspace, open_file, open_folder

SKIPPED = frozenset(
    {".git", ".hg", ".svn", "__pycache__", "node_modules", ".venv", "venv", ".tox", ".nox"}
    | {".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}
)
"""Folders that are shown but not looked into, unless named."""

REGEX_TIMEOUT_S = 15
FILES_MAX = 20_000
FILE_BYTES_MAX = 2 * 1024 * 1024
LINE_CHARS_MAX = 300
NOTES_MAX = 20
DEPTH_MAX = 40


class Query(msgspec.Struct, frozen=True):
    """What to look for, and where: `path` within the folder `root`."""

    root: str
    pattern: str
    path: str
    glob: str
    is_regex: bool
    matches_max: int


class Found(msgspec.Struct, frozen=True, omit_defaults=True):
    """`matches` as `path:line: text`. `notes` say everything that was not searched, and why."""

    matches: list[str]
    truncated: bool = False
    notes: list[str] = []


def search(query: Query) -> Found:
    """Files in order of their paths, line by line, until enough has been found."""
    test = _test(query)
    matches: list[str] = []
    notes: list[str] = []
    for number, (path, file) in enumerate(_files(query)):
        with file:
            body = file.read(FILE_BYTES_MAX + 1)
        if number == FILES_MAX:
            notes.append(f"stopped after {FILES_MAX} files; name a folder or a glob")
            break
        if b"\0" in body[:8192]:
            if not query.is_regex and query.pattern.encode() in body:
                notes.append(f"{path}: binary, contains it")
            continue
        if len(body) > FILE_BYTES_MAX:
            notes.append(f"{path}: only its first {FILE_BYTES_MAX} bytes were searched")
        for line, text in enumerate(body[:FILE_BYTES_MAX].decode(errors="replace").split("\n"), 1):
            if test(text):
                if len(matches) == query.matches_max:
                    return Found(matches, truncated=True, notes=notes[:NOTES_MAX])
                matches.append(f"{path}:{line}: {text[:LINE_CHARS_MAX].rstrip()}")
    return Found(matches, notes=notes[:NOTES_MAX])


def _test(query: Query) -> Callable[[str], object]:
    if not query.is_regex:
        return lambda text: query.pattern in text
    try:
        return re.compile(query.pattern).search
    except re.error as error:
        raise Failure("invalid", f"{query.pattern!r} is no regular expression: {error}") from error


def _files(query: Query) -> Iterator[tuple[str, BinaryIO]]:
    workspace = Workspace(query.root)
    if query.path != "." and _is_file(workspace, query.path):
        with workspace.place(query.path) as (folder, name):
            yield query.path, open_file(folder, name, query.path)
        return
    with workspace.folder(query.path) as root:
        for path, holder in walk(root, "" if query.path == "." else query.path, DEPTH_MAX):
            if holder is not None and _fits(path, query.glob):
                with suppress(Failure):  # no regular file, or gone meanwhile
                    yield path, open_file(holder, path.rsplit("/", 1)[-1], path)


def _is_file(workspace: Workspace, path: str) -> bool:
    with workspace.place(path) as (folder, name):
        try:
            return stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            raise Failure("not_found", f"there is no {path!r} in the workspace") from None


def _fits(path: str, glob: str) -> bool:
    return fnmatch.fnmatchcase(path if "/" in glob else path.rsplit("/", 1)[-1], glob)


def walk(folder: int, prefix: str, depth: int) -> Iterator[tuple[str, int | None]]:
    """Everything in an open folder, in order: files with the descriptor of their folder; `folder/` and `link@`."""
    with os.scandir(folder) as entries:
        here = sorted((entry.name, entry.is_dir(follow_symlinks=False), entry.is_symlink()) for entry in entries)
    for name, is_folder, is_link in here:
        path = f"{prefix}/{name}" if prefix else name
        if is_link:
            yield path + "@", None
        elif not is_folder:
            yield path, folder
        else:
            yield path + "/", None
            if depth > 1 and name not in SKIPPED:
                with suppress(OSError):  # it went or became something else meanwhile
                    inner = open_folder(folder, name)
                    try:
                        yield from walk(inner, path, depth - 1)
                    finally:
                        os.close(inner)


def main() -> None:
    """A query as JSON on standard input; what was found, or why not, on standard output."""
    signal.alarm(REGEX_TIMEOUT_S + 1)  # ends even a pattern that backtracks for ever, and whose caller has died
    query = msgspec.json.decode(sys.stdin.buffer.read(), type=Query)
    try:
        sys.stdout.buffer.write(msgspec.json.encode(search(query)))
    except Failure as failure:
        sys.stdout.write(json.dumps({"kind": failure.kind, "reason": failure.reason}))
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
