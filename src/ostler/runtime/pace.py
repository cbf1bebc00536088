"""A bound on how often something is done in a second."""

LEAST_S = 0.02
"""The shortest rest: whoever is out of breath takes a few at once afterwards."""


class Pace:
    """Lets `per_s` through in a second, and as many at once after a second of rest. Moments are seconds of one clock.

    A token bucket; its content is `per_s` times the seconds since `_empty_at`, at most one second's worth.
    """

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._empty_at = 0.0

    def allowed(self, now: float) -> int:
        """How many may be let through now."""
        return int(min(1.0, now - self._empty_at) * self._per_s)

    def take(self, count: int, now: float) -> None:
        """So many were let through."""
        self._empty_at = max(self._empty_at, now - 1.0) + count / self._per_s

    def rest_s(self, now: float) -> float:
        """How long to wait before the next; 0 if it may be let through now."""
        if self.allowed(now):
            return 0.0
        return max(LEAST_S, self._empty_at + 1 / self._per_s - now)
