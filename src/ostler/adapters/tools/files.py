"""The files of a session's workspace: list, read, search, write, edit."""

import asyncio
import hashlib
import os
import subprocess
import sys
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from ostler.adapters.tools.functions import Failure, FunctionTools, tool
from ostler.adapters.tools.search import DEPTH_MAX, REGEX_TIMEOUT_S, Found, Query, search, walk
from ostler.adapters.tools.thread import in_thread
from ostler.adapters.tools.workspace import Workspace
from ostler.domain.tool import Role, ToolOutcome, ToolRequest, failed, succeeded

READ_BYTES_MAX = 24 * 1024
"""What one read returns at most: with its JSON it stays below the bound above which an output leaves the event."""

FILE_BYTES_MAX = 8 * 1024 * 1024
"""The largest file that is edited."""

READS: Final[tuple[Role, ...]] = ("reads_untrusted", "reads_private")
"""The user's own files, in which there may be what others wrote."""

_MARK = "user.ostler.edit"

Path = Annotated[str, Meta(description="Relative to the workspace, whose root is '.'; without '..', links or './'.")]


class FileTools(FunctionTools):
    """Hosts `files.list`, `files.read`, `files.search`, `files.write` and `files.edit` within `request.workspace`."""

    def __init__(self) -> None:
        super().__init__([list_files, read_file, search_files, write_file, edit_file])


@tool(name="files.list", effect="read", timeout_s=30.0, roles=["reads_private"])
def list_files(
    request: ToolRequest,
    path: Path = ".",
    depth: Annotated[int, Meta(ge=1, le=DEPTH_MAX)] = 3,
    limit: Annotated[int, Meta(ge=1, le=1000)] = 500,
) -> dict[str, Any]:
    """List a folder: files by their paths, folders with a '/' at the end, symbolic links with an '@'.

    Folders such as .git and node_modules are shown but not looked into, unless `path` names them.

    Args:
        depth: How many levels of folders to look into.
        limit: How many entries to return at most.
    """
    entries: list[str] = []
    with _workspace(request).folder(path) as folder:
        for entry, _ in walk(folder, "" if path == "." else path, depth):
            if len(entries) == limit:
                return {"entries": entries, "truncated": True}
            entries.append(entry)
    return {"entries": entries, "truncated": False}


@tool(name="files.read", effect="read", timeout_s=30.0, roles=READS)
def read_file(
    request: ToolRequest,
    path: Path,
    offset: Annotated[int, Meta(ge=1)] = 1,
    limit: Annotated[int, Meta(ge=1, le=5000)] = 2000,
) -> dict[str, Any]:
    """Read a text file, or some of its lines.

    When the answer is `truncated`, go on reading with `offset` set to its `next_offset`.

    Args:
        offset: The first line to return, counting from 1.
        limit: How many lines to return at most.
    """
    chosen: list[bytes] = []
    size, number = 0, 0
    with _workspace(request).open(path) as file:
        if b"\0" in file.read(8192):
            raise Failure("invalid", f"{path!r} is binary ({os.fstat(file.fileno()).st_size} bytes), not text")
        file.seek(0)
        is_start = True  # of a line; a very long one comes in pieces
        while piece := file.readline(READ_BYTES_MAX + 1):
            number += is_start
            is_start = piece.endswith(b"\n")
            if number < offset:
                continue
            if size + len(piece) > READ_BYTES_MAX or number >= offset + limit:
                return _part(chosen or [piece[:READ_BYTES_MAX]], offset, number if chosen else number + 1)
            chosen.append(piece)
            size += len(piece)
    if offset > max(number, 1):
        raise Failure("invalid", f"{path!r} has {number} lines; there is no line {offset}")
    return {"text": b"".join(chosen).decode(errors="replace"), "lines": number, "truncated": False}


def _part(lines: list[bytes], offset: int, next_offset: int) -> dict[str, Any]:
    text = b"".join(lines).decode(errors="replace")
    answer = {"text": text, "first_line": offset, "truncated": True, "next_offset": next_offset}
    if not text.endswith("\n"):
        answer["note"] = f"line {next_offset - 1} is longer than what one read returns and was cut"
    return answer


@tool(name="files.search", effect="read", timeout_s=30.0, roles=READS)
async def search_files(
    request: ToolRequest,
    pattern: Annotated[str, Meta(min_length=1, max_length=1000)],
    path: Path = ".",
    glob: str = "*",
    regex: bool = False,
    limit: Annotated[int, Meta(ge=1, le=500)] = 100,
) -> Found:
    """Find the lines that contain a text, as `path:line: text`. Folders such as .git are left out unless named.

    Args:
        pattern: The text itself, case and all, or a Python regular expression if `regex` is true.
        glob: Which files to search: matched with the name, or with the whole path if it contains a '/'.
        regex: Whether `pattern` is a regular expression.
        limit: How many matches to return at most.
    """
    query = Query(_workspace(request).root, pattern, path, glob, regex, limit)
    if regex:
        return await _search_apart(query)
    return await in_thread(lambda: search(query))


async def _search_apart(query: Query) -> Found:
    """Search in a process: a pattern that backtracks for ever holds the interpreter's lock and no thread stops it."""
    process = _start_search()
    try:
        async with asyncio.timeout(REGEX_TIMEOUT_S):
            answer, _ = await asyncio.to_thread(process.communicate, msgspec.json.encode(query))
    except TimeoutError:
        raise Failure("timeout", f"searching for {query.pattern!r} took too long; make it simpler") from None
    finally:
        process.kill()
        process.wait()
    if process.returncode == 0:
        return msgspec.json.decode(answer, type=Found)
    try:
        reason = msgspec.json.decode(answer)
    except msgspec.DecodeError:
        raise Failure("permanent", f"the search process ended with {process.returncode}") from None
    raise Failure(reason["kind"], reason["reason"])


def _start_search() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", search.__module__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


@tool(name="files.write", effect="idempotent", timeout_s=30.0)
def write_file(request: ToolRequest, path: Path, content: str) -> dict[str, Any]:
    """Write a whole file: it is made, with its folders, or replaced, at once or not at all.

    Args:
        content: Everything that the file shall contain.
    """
    body = content.encode()
    _replace(request, path, body)
    return {"path": path, "bytes": len(body)}


def _reconcile_edit(request: ToolRequest) -> ToolOutcome | None:
    """Whether the edit with this key happened.

    An edited file carries a mark of the edit's key, which appears with the content in one rename. Without the mark
    (another program has replaced the file since, or the file system keeps no attributes) the content tells: could it
    be the result of the edit, could it be what was there before? Where it could be either, the outcome is unknown.
    """
    path, old, new = (request.arguments[name].encode() for name in ("path", "old", "new"))
    try:
        with _workspace(request).open(path.decode()) as file:
            if _mark_of(file.fileno()) == _digest(request):
                return succeeded({"path": path.decode()})
            body = file.read(FILE_BYTES_MAX + 1)
    except Failure:
        return None  # performing it says what is wrong
    may_be_before = len(_places(body, old)) == 1
    may_be_after = _could_come_of(body, old, new)
    if may_be_after and may_be_before:
        return failed("unknown", f"nobody can say whether {path.decode()!r} was edited; read it and see")
    return succeeded({"path": path.decode()}) if may_be_after else None


@tool(name="files.edit", effect="reconcilable", timeout_s=30.0, reconcile=_reconcile_edit)
def edit_file(request: ToolRequest, path: Path, old: Annotated[str, Meta(min_length=1)], new: str) -> dict[str, Any]:
    """Replace a text that occurs exactly once in a file.

    Args:
        old: The text to be replaced, exactly as it stands in the file, with enough around it to occur only once.
        new: What stands there afterwards.
    """
    with _workspace(request).open(path) as file:
        body = file.read(FILE_BYTES_MAX + 1)
    if len(body) > FILE_BYTES_MAX:
        raise Failure("invalid", f"{path!r} is larger than {FILE_BYTES_MAX} bytes")
    places = _places(body, old.encode())
    if not places:
        raise Failure("invalid", f"`old` does not occur in {path!r}; read it again and copy the text exactly")
    if len(places) > 1:
        raise Failure("invalid", f"`old` occurs more than once in {path!r}; include more of what is around it")
    edited = body.replace(old.encode(), new.encode())
    _replace(request, path, edited, mark=(_MARK, _digest(request)))
    return {"path": path, "line": body[: places[0]].count(b"\n") + 1}


def _places(body: bytes, text: bytes) -> list[int]:
    """Where `text` begins in `body`; the first two places, which may overlap, are enough."""
    first = body.find(text)
    second = body.find(text, first + 1) if first >= 0 else -1
    return [place for place in (first, second) if place >= 0]


def _could_come_of(body: bytes, old: bytes, new: bytes) -> bool:
    """Whether `body` can be what replacing the only `old` by `new` leaves.

    After a deletion `old` is taken to be gone: where it is still there, deleting it is what was wanted.
    """
    if not new:
        return old not in body
    start = body.find(new)
    while start >= 0:
        if len(_places(body[:start] + old + body[start + len(new) :], old)) == 1:
            return True
        start = body.find(new, start + 1)
    return False


def _mark_of(descriptor: int) -> bytes:
    try:
        return os.getxattr(descriptor, _MARK)
    except OSError:
        return b""


def _workspace(request: ToolRequest) -> Workspace:
    if request.workspace is None:
        raise Failure("blocked", "this session has no workspace, so it has no files")
    return Workspace(request.workspace)


def _digest(request: ToolRequest) -> bytes:
    return hashlib.sha256(f"{request.tenant}\0{request.key}".encode()).hexdigest()[:32].encode()


def _replace(request: ToolRequest, path: str, body: bytes, mark: tuple[str, bytes] | None = None) -> None:
    scratch = f".ostler-{_digest(request).decode()}"
    if request.attempt > 1:
        _workspace(request).sweep(path, scratch=scratch)
    _workspace(request).replace(path, body, scratch=scratch, mark=mark)
