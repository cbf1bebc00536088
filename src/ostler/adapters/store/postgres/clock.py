"""The clock of the server, by which leases are given and events are dated on every machine alike."""

import time

DRIFT = 0.001
"""How much faster or slower than the server's this machine may tick; quartz is ten times better."""


class ServerClock:
    """A `Clock` that was set by the server's and goes on by this machine's ticking.

    It does not follow when somebody sets the clock of this machine, and goes on while the machine is suspended. An
    answer that took long says little of the time, however true it is: it only counts if nothing better is known.
    """

    def __init__(self) -> None:
        self._ahead_us = 0
        self._error_us: float | None = None
        self._set_us = 0

    def set(self, server_us: int, *, asked_us: int) -> None:
        """The server said `server_us`, some time between `asked_us` of `monotonic_us` and now: halfway, most likely."""
        answered_us = monotonic_us()
        ahead_us, error_us = server_us - (asked_us + answered_us) // 2, (answered_us - asked_us) / 2
        if self._error_us is not None:
            known_error_us = self._error_us + (answered_us - self._set_us) * DRIFT
            # Where both cannot be true, somebody has set the server's clock, or it is another server.
            agree = abs(ahead_us - self._ahead_us) <= error_us + known_error_us
            if agree and error_us > known_error_us:
                return
        self._ahead_us, self._error_us, self._set_us = ahead_us, error_us, answered_us

    def now_us(self) -> int:
        return monotonic_us() + self._ahead_us


def monotonic_us() -> int:
    """Microseconds since this machine was started, suspension included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
