"""A command in namespaces that bubblewrap makes, and how to be certain that all of it has ended."""

import asyncio
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from ostler.adapters.sandbox.process import Child, readable

_SETUP_S = 10.0
"""After so long without a word of bubblewrap it is taken to be stuck, when it is to be killed anyway."""


class Namespaced(Child):
    """A command whose descendants all live in one process namespace, which ends with its first process.

    The command is held back until there is a handle of that process, so that its number cannot mean another by then.
    """

    def __init__(
        self,
        command: Callable[[Sequence[str]], Sequence[str]],
        *,
        environment: Mapping[str, str],
        stdin: bytes,
        keep_bytes: int,
        inherited: Sequence[int] = (),
    ) -> None:
        """`command` is given the options by which bubblewrap talks to us."""
        self._info, info = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        block, self._go = os.pipe2(os.O_CLOEXEC)
        self._told = b""
        self._first: int | None = None
        try:
            super().__init__(
                command(["--info-fd", str(info), "--block-fd", str(block)]),
                environment=environment,
                folder="/",
                stdin=stdin,
                keep_bytes=keep_bytes,
                inherited=[info, block, *inherited],
            )
        except BaseException:
            os.close(self._info)
            os.close(self._go)
            raise
        finally:
            os.close(info)
            os.close(block)

    async def ended(self) -> None:
        await self._hold()
        with suppress(BrokenPipeError):
            os.write(self._go, b"\n")
        await super().ended()

    async def kill(self) -> None:
        """The kernel reports the end of a namespace's first process only when all others are gone."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_SETUP_S):
                await self._hold()
        if self._first is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._first, signal.SIGKILL)
            await readable(self._first)
        await super().kill()

    def close(self) -> None:
        super().close()
        for descriptor in (self._info, self._go, self._first):
            if descriptor is not None:
                os.close(descriptor)

    async def _hold(self) -> None:
        """Get the handle, unless bubblewrap ended before there was a namespace. It tells its number in pieces."""
        while self._first is None:
            await readable(self._info)
            piece = os.read(self._info, 4096)
            if not piece:
                return
            self._told += piece
            if self._told.endswith(b"}\n"):
                with suppress(ProcessLookupError):
                    self._first = os.pidfd_open(json.loads(self._told)["child-pid"])
