"""Waiting for what other processes do, and looking for them by what their command line says."""

import asyncio
from collections.abc import Callable
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


async def until(condition: Callable[[], object]) -> None:
    """Wait on a condition that threads or other processes make true."""
    async with asyncio.timeout(60):  # a guard, not a measure
        while True:
            if condition():
                return
            await asyncio.sleep(0)
