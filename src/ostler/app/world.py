"""The clock and the entropy of the machine."""

import os
import time


class SystemClock:
    def now_us(self) -> int:
        return time.time_ns() // 1000


class SystemEntropy:
    def chance(self, size: int) -> bytes:
        return os.urandom(size)
