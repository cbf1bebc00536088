"""How fitness targets are measured: over the sessions that have ended, and by commands of the project."""

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from ostler.domain.fitness.figures import Figures, figures, reading
from ostler.domain.fitness.target import Reading, Target
from ostler.domain.session.state import ENDED
from ostler.kernel.errors import Erased, NotFound, StoreCorrupt, UnknownEvent
from ostler.kernel.event import StreamId
from ostler.ports import Clock, StreamInfo
from ostler.runtime.journal import Journal

PAGE = 100
SESSIONS_MAX = 5_000
"""Sessions that a measure looks at, the newest."""
REMEMBERED = 20_000
"""Sessions whose figures are kept: what has ended changes no more."""
OUTPUT_MAX = 8_192
"""How much of the end of a command's output is looked at."""
REASON_MAX = 200
LOOK_S = 0.02
"""How often is looked whether a command has ended."""


class Measuring:
    """Measures targets for one process; commands run in `folder`, the project's."""

    def __init__(self, journal: Journal, clock: Clock, folder: Path) -> None:
        self._journal = journal
        self._clock = clock
        self._folder = folder
        self._figures: dict[StreamId, Figures | None] = {}

    async def measure(self, target: Target, tenant: str) -> Reading:
        """The value of a target. Stopped, it leaves no process behind."""
        if target.command:
            return await run_command(target, self._folder)
        now_us = self._clock.now_us()
        found = [one async for one in self._sessions(target, tenant, now_us - target.window_us)]
        return reading(target, found, now_us)

    async def _sessions(self, target: Target, tenant: str, since_us: int) -> AsyncIterator[Figures]:
        """The sessions that have ended, newest first, back to where a whole page had ended before the window."""
        before: int | None = None
        read = 0
        while page := await self._journal.store.streams(
            tenant, prefix="ses_", statuses=ENDED, queue=target.agent or None, before=before, limit=PAGE
        ):
            found = [one for info in page if (one := await self._figures_of(info)) is not None]
            for one in found:
                yield one
            read, before = read + len(page), page[-1].number
            if read >= SESSIONS_MAX or (found and all(one.ended_us <= since_us for one in found)):
                return

    async def _figures_of(self, info: StreamInfo) -> Figures | None:
        """What a session came to. One that cannot be read counts for nothing."""
        if info.stream not in self._figures:
            try:
                found = figures(await self._journal.facts(info.stream))
            except (Erased, StoreCorrupt, UnknownEvent, NotFound):
                found = None
            if len(self._figures) >= REMEMBERED:
                del self._figures[next(iter(self._figures))]
            self._figures[info.stream] = found
        return self._figures[info.stream]


async def run_command(target: Target, folder: Path) -> Reading:
    """The exit status of the target's command, or the number on the last line of its output.

    It is a command of whoever runs Ostler: it runs as they do, without a shell and outside of any sandbox.
    """
    kept = PIPE if target.reads_output else DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            *target.command,
            cwd=folder,
            stdin=DEVNULL,
            stdout=kept,
            stderr=DEVNULL if target.reads_output else STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        reason = f"{target.command[0]} cannot be started: {error.strerror}"
        return Reading(reason=reason[:REASON_MAX], is_fault=True)
    try:
        output, _ = await asyncio.gather(_end_of(process), _leaves_nothing(process))
        status = await process.wait()
    finally:
        _kill(process)
    if status < 0:
        return Reading(reason=f"it was ended by signal {-status}", is_fault=True)
    if not target.reads_output:
        return Reading(float(status))
    if status != 0:
        return Reading(reason=f"it ended with exit status {status}", is_fault=True)
    return _number(output)


async def _leaves_nothing(process: Process) -> None:
    """Once it has ended, so does what it leaves running, which would hold its output open."""
    while process.returncode is None:  # noqa: ASYNC110 (`wait` of some Pythons waits until its output is closed)
        await asyncio.sleep(LOOK_S)
    _kill(process)


async def _end_of(process: Process) -> bytes:
    output = b""
    while process.stdout is not None and (more := await process.stdout.read(OUTPUT_MAX)):
        output = (output + more)[-OUTPUT_MAX:]
    return output


def _kill(process: Process) -> None:
    """Nothing that it has started goes on after it."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _number(output: bytes) -> Reading:
    lines = output.decode(errors="replace").strip().splitlines()
    last = lines[-1].strip() if lines else ""
    try:
        value = float(last)
    except ValueError:
        value = float("nan")
    if value != value or value in (float("inf"), float("-inf")):
        # What it says instead is not repeated: models are told the reason, and nobody knows what it has printed.
        return Reading(reason="the last line of its output is no number", is_fault=True)
    return Reading(value)
