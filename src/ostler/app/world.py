"""The clock and the entropy of the machine."""

import os
import time


class SystemClock:
    """The machine's wall clock."""

    def now_us(self) -> int:
        return time.time_ns() // 1000


class SystemEntropy:
    """The operating system's random numbers."""

    def chance(self, size: int) -> bytes:
        return os.urandom(size)
