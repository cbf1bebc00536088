"""The files that agents keep under /memories, as texts: what is answered to each command, and what a text is after it.

The commands and their answers are those of the memory tool that models are trained on (memory_20250818,
https://platform.claude.com/docs/en/agents-and-tools/tool-use/memory-tool). Errors are raised with the words in which
they are answered. Lines are counted from 1.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ostler.kernel.errors import Conflict, NotFound, UsageError

ROOT = "/memories"
LEVELS = 2
"""How deep a folder is listed."""
VIEW_BYTES_MAX = 20 * 1024
"""The longest part of a file that one answer shows: as JSON it stays below what an output may have."""
AROUND = 4
"""Lines of a file that are shown before and after a place that was edited."""

_NEVER_LISTED = "node_modules"
_UNITS = "BKMG"


class Edited(NamedTuple):
    """What a file says after a command, and what the command is answered."""

    text: str
    answer: str


def checked(path: str) -> str:
    """The path as the name of a file or folder. Raises `UsageError` for one that is not /memories or below it."""
    name = unicodedata.normalize("NFC", path).removesuffix("/")
    steps = name.split("/")[1:]
    is_below = name == ROOT or name.startswith(ROOT + "/")
    if not is_below or any(step in ("", ".", "..") for step in steps) or not name.isprintable() or "\\" in name:
        raise UsageError(
            f"Error: Invalid path {path!r}. It should be {ROOT} or below it, without '..', '\\' or control characters."
        )
    return name


def is_within(path: str, folder: str) -> bool:
    """Whether a path lies in a folder, however deep."""
    return path.startswith(folder + "/")


def missing(path: str) -> NotFound:
    """There is no such file or folder to look at or to edit."""
    return NotFound(f"The path {path} does not exist. Please provide a valid path.")


def absent(path: str) -> NotFound:
    """There is no such file or folder to do anything else with."""
    return NotFound(f"Error: The path {path} does not exist")


def check_free(path: str, paths: Sequence[str]) -> None:
    """Raises `Conflict` if a file cannot be made here: something is there, or a file is where a folder must be."""
    if path == ROOT or any(one == path or is_within(one, path) for one in paths):
        raise Conflict(f"Error: File {path} already exists")
    if above := [one for one in paths if is_within(path, one)]:
        raise Conflict(f"Error: {above[0]} is a file, and holds no others")


def check_destination(old: str, new: str, paths: Sequence[str]) -> None:
    """Raises `Conflict` or `UsageError` if nothing can be renamed so."""
    if old == ROOT:
        raise UsageError(f"Error: {ROOT} itself cannot be renamed")
    if is_within(new, old):
        raise UsageError(f"Error: {new} is within {old}, which cannot be moved into itself")
    if new == ROOT or any(one == new or is_within(one, new) for one in paths):
        raise Conflict(f"Error: The destination {new} already exists")
    if above := [one for one in paths if is_within(new, one)]:
        raise Conflict(f"Error: {above[0]} is a file, and holds no others")


def created(path: str) -> str:
    """What `create` is answered."""
    return f"File created successfully at: {path}"


def deleted(path: str) -> str:
    """What `delete` is answered."""
    return f"Successfully deleted {path}"


def renamed(old: str, new: str) -> str:
    """What `rename` is answered."""
    return f"Successfully renamed {old} to {new}"


def folder_view(folder: str, sizes: Mapping[str, int]) -> str:
    """What is in a folder, by the bytes of all files below it. Of hidden items nothing is told."""
    shown: dict[str, int] = {}
    for path, size in sizes.items():
        steps = path.removeprefix(folder + "/").split("/")
        if any(step.startswith(".") or step == _NEVER_LISTED for step in steps):
            continue
        for depth in range(1, min(len(steps), LEVELS) + 1):
            place = "/".join((folder, *steps[:depth])) + ("/" if depth < len(steps) else "")
            shown[place] = shown.get(place, 0) + size
    title = f"Here're the files and directories up to {LEVELS} levels deep in {folder}, "
    lines = [f"{_size(sum(sizes.values()))}\t{folder}", *(f"{_size(shown[place])}\t{place}" for place in sorted(shown))]
    return "\n".join((title + f"excluding hidden items and {_NEVER_LISTED}:", *lines))


def file_view(path: str, text: str, view_range: Sequence[int] | None = None) -> str:
    """A file with its lines numbered, or those from one to another (-1: the last); as many as one answer may show.

    Raises `UsageError` for lines that there are not.
    """
    lines = _lines(text)
    first, last = view_range or (1, -1)
    last = len(lines) if last == -1 else last
    if view_range is not None and not 1 <= first <= last <= len(lines):
        raise UsageError(
            f"Error: Invalid `view_range` parameter: {list(view_range)}. It should be within the lines of the file: "
            f"[1, {len(lines)}]"
        )
    shown: list[str] = []
    left = VIEW_BYTES_MAX
    for number, line in enumerate(lines[first - 1 : last], first):
        left -= len(line.encode()) + 8
        if left < 0:
            shown.append(_cut(line, number, last, is_first=not shown))
            break
        shown.append(f"{number:6}\t{line}")
    return "\n".join((f"Here's the content of {path} with line numbers:", *shown))


def _cut(line: str, number: int, last: int, *, is_first: bool) -> str:
    """What stands in place of lines that one answer has no room for."""
    if not is_first:
        return f"(There is more: view lines {number} to {last} with `view_range`.)"
    part = line.encode()[: VIEW_BYTES_MAX // 2].decode(errors="ignore")
    return f"{number:6}\t{part}\n(Line {number} is longer than one answer shows, and was cut.)"


def replaced(path: str, text: str, old: str, new: str) -> Edited:
    """A file in which `new` stands where `old` did. Raises `UsageError` unless that occurs exactly once."""
    places = _places(text, old)
    if not places:
        raise UsageError(f"No replacement was performed, old_str `{old}` did not appear verbatim in {path}.")
    if len(places) > 1:
        numbers = ", ".join(str(text.count("\n", 0, place) + 1) for place in places)
        raise UsageError(
            f"No replacement was performed. Multiple occurrences of old_str `{old}` in lines: {numbers}. "
            "Please ensure it is unique"
        )
    after = text[: places[0]] + new + text[places[0] + len(old) :]
    line = text.count("\n", 0, places[0])
    lines = _lines(after)
    start = max(0, line - AROUND)
    shown = lines[start : line + new.count("\n") + 1 + AROUND]
    title = "The memory file has been edited. Here is the snippet showing the change (with line numbers):"
    return Edited(after, _snippet(title, shown, start + 1))


def inserted(path: str, text: str, after: int, what: str) -> Edited:
    """A file with a text put after a line (0: at its top). Raises `UsageError` if it has no such line."""
    lines = _lines(text)
    if not 0 <= after <= len(lines):
        raise UsageError(
            f"Error: Invalid `insert_line` parameter: {after}. It should be within the range of lines of the file: "
            f"[0, {len(lines)}]"
        )
    lines[after:after] = what.removesuffix("\n").split("\n")
    end = "\n" if text.endswith("\n") or (what.endswith("\n") and after == len(_lines(text))) else ""
    return Edited("\n".join(lines) + end, f"The file {path} has been edited.")


def _places(text: str, wanted: str) -> list[int]:
    """Where a text begins in another; the places may overlap."""
    found, place = [], text.find(wanted)
    while place >= 0:
        found.append(place)
        place = text.find(wanted, place + 1)
    return found


def _lines(text: str) -> list[str]:
    """Its lines; a line break at the end begins no other."""
    return text.removesuffix("\n").split("\n") if text else []


def _snippet(title: str, lines: Sequence[str], first: int) -> str:
    shown, left = [title], VIEW_BYTES_MAX
    for number, line in enumerate(lines, first):
        left -= len(line.encode()) + 8
        if left < 0:
            break
        shown.append(f"{number:6}\t{line}")
    return "\n".join(shown)


def _size(size: int) -> str:
    """A size for people: 0B, 512B, 1.5K, 3M."""
    scaled, unit = float(size), _UNITS[0]
    for unit in _UNITS:
        if scaled < 1024 or unit == _UNITS[-1]:
            break
        scaled /= 1024
    return f"{scaled:.0f}{unit}" if scaled == int(scaled) else f"{scaled:.1f}{unit}"
