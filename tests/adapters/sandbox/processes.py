"""Looking for processes by what their command line says."""

from contextlib import suppress
from pathlib import Path


def processes_with(word: str) -> list[int]:
    """Living processes of this machine, inside sandboxes too, with `word` in their command line."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):  # gone, or somebody else's
                words = (folder / "cmdline").read_bytes().decode(errors="replace")
                if word in words:
                    found.append(int(folder.name))
    return found
