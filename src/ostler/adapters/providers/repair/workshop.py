"""The tools that the script asks for, and how their answers are read."""

import re

import msgspec

from ostler.adapters.providers.repair.script import Ask, Seen

NEEDS = ("files.list", "files.read", "files.search", "files.edit", "files.write", "shell.run")

NO_SUCH_PROGRAM = 127
"""The exit code that shells and `env` use for it."""

NOT_SURE = ("unknown", "transient", "timeout", "cancelled")
"""Kinds of failure after which the call may have happened all the same."""


def list_files() -> Ask:
    """Everything in the workspace, as far as one listing goes."""
    return Ask("files.list", {"path": ".", "depth": 8, "limit": 1000})


def read(path: str, offset: int = 1) -> Ask:
    """A file from line `offset` on."""
    return Ask("files.read", {"path": path, "offset": offset})


def search(pattern: str) -> Ask:
    """The lines of Python files that a regular expression finds."""
    return Ask("files.search", {"pattern": pattern, "path": ".", "regex": True, "glob": "*.py"})


def edit(path: str, old: str, new: str) -> Ask:
    """Exchange a text that is in the file exactly once."""
    return Ask("files.edit", {"path": path, "old": old, "new": new})


def write(path: str, text: str) -> Ask:
    """Replace a whole file."""
    return Ask("files.write", {"path": path, "content": text})


def run(*argv: str, timeout_s: int | None = None) -> Ask:
    """Run one program."""
    return Ask("shell.run", {"argv": list(argv)} | ({} if timeout_s is None else {"timeout_s": timeout_s}))


class Ran(msgspec.Struct, frozen=True):
    """A program that ended by itself."""

    exit: int
    output: str


def ran(seen: Seen) -> Ran | None:
    """What `shell.run` says of a program; None if it never ran or nobody knows how it ended."""
    if not seen.ok:
        return None
    if isinstance(seen.data, dict) and isinstance(seen.data.get("exit"), int):
        return Ran(seen.data["exit"], str(seen.data.get("output", "")))
    # An observation that is too long is kept elsewhere, and this is the beginning of its JSON text.
    code = re.match(r'\s*\{\s*"exit"\s*:\s*(-?\d+)', seen.text)
    rest = seen.text[code.end() :] if code else ""
    return Ran(int(code[1]), rest.replace("\\n", "\n").replace('\\"', '"')) if code else None


def entries(seen: Seen) -> list[str]:
    """The paths in a listing."""
    return _strings(seen, "entries")


def hits(seen: Seen) -> list[str]:
    """The files in which a search found something, each once, in order."""
    return list(dict.fromkeys(re.split(r":\d+: ", match, maxsplit=1)[0] for match in _strings(seen, "matches")))


def content(seen: Seen) -> tuple[str | None, int | None]:
    """The text of a file that was read, or of a part of it, and the line where the next part begins, if there is one.

    No text if it could not be read, or is not text through and through.
    """
    data = seen.data if seen.ok and not seen.truncated else None
    text = data.get("text") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(text, str) or "\ufffd" in text:
        return None, None
    following = data.get("next_offset")
    return text, following if isinstance(following, int) else None


def _strings(seen: Seen, name: str) -> list[str]:
    listed = seen.data.get(name) if seen.ok and isinstance(seen.data, dict) else None
    return [item for item in listed if isinstance(item, str)] if isinstance(listed, list) else []
