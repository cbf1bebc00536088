"""SIGINT and SIGTERM, as events of the loop: the first asks to stop, any further one does not ask."""

import asyncio
import signal
from collections.abc import Callable

from ostler.app.service import Runtime
from ostler.cli.trouble import tell

Stop = Callable[[], object]


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


def tell_troubles(runtime: Runtime) -> None:
    """Say what keeps a worker from going on."""
    runtime.on_trouble = lambda _, error: tell(error)


def ignore_troubles(runtime: Runtime) -> None:
    """Say nothing of what goes wrong because everything is let go of at once."""
    runtime.on_trouble = lambda _, error: None
