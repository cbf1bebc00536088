"""The clock of the server, by which leases are given and events are dated on every machine alike."""

import time


class ServerClock:
    """A `Clock` that was set by the server's and goes on by this machine's ticking.

    It does not follow when somebody sets the clock of this machine, and goes on while the machine is suspended.
    """

    def __init__(self) -> None:
        self._ahead_us = 0

    def set(self, server_us: int, *, asked_us: int) -> None:
        """The server said `server_us`, some time between `asked_us` of `monotonic_us` and now: halfway, most likely."""
        answered_us = monotonic_us()
        self._ahead_us = server_us - (asked_us + answered_us) // 2

    def now_us(self) -> int:
        return monotonic_us() + self._ahead_us


def monotonic_us() -> int:
    """Microseconds since this machine was started, suspension included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
