"""What comes from outside while sessions run: SIGINT and SIGTERM, and what keeps a worker from going on."""

import asyncio
import signal
from collections.abc import Callable

from ostler.app.service import Runtime
from ostler.cli.output import say
from ostler.cli.trouble import tell
from ostler.kernel.errors import OstlerError

Stop = Callable[[], object]

REMIND_S = 60.0
"""How often it is said that something still lasts."""
OVER_S = 15.0
"""What was not met again for so long is over: whatever is tried again is tried more often than this."""


def on_signals(first: Stop, further: Stop) -> None:
    """Call `first` at the first signal to this process and `further` at any later one, until the loop is closed.

    A `KeyboardInterrupt` could come up anywhere, in the middle of cleaning up, too; this cannot.
    """
    loop = asyncio.get_running_loop()
    calls = [further, first]

    def on_signal() -> None:
        (calls.pop() if len(calls) > 1 else calls[0])()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)


class Troubles:
    """Tells what keeps workers from going on. What may pass is told once, again if it lasts, and when it is over."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}
        self._over: asyncio.TimerHandle | None = None

    def __call__(self, name: str, error: OstlerError) -> None:
        """`name` is the session that it happened to, if it was one."""
        if not error.retryable:
            tell(error)
            return
        loop = asyncio.get_running_loop()
        if self._over is not None:
            self._over.cancel()
        self._over = loop.call_later(OVER_S, self._is_over)
        told = self._told.get(error.message)
        if told is None:
            tell(error, passes=True)
            say("  Work goes on by itself as soon as it can.")
        elif loop.time() < told + REMIND_S:
            return
        else:
            say(f"Still waiting: {error.message}")
        self._told[error.message] = loop.time()

    def _is_over(self) -> None:
        self._told.clear()
        say("Going on.")


def tell_troubles(runtime: Runtime) -> None:
    """Say what keeps a worker from going on."""
    runtime.on_trouble = Troubles()


def ignore_troubles(runtime: Runtime) -> None:
    """Say nothing of what goes wrong because everything is let go of at once."""
    runtime.on_trouble = lambda _, error: None
