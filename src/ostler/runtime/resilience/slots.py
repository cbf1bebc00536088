"""Places for calls under way in this process, counted and never waited for."""

import math
from collections.abc import Callable

from ostler.domain.resilience.pressure import Pressure
from ostler.kernel.errors import OstlerError, Shed


class Slots:
    """At most `most` calls of one kind at once. `warn` is told when they become scarce."""

    def __init__(self, what: str, most: int, settings: Pressure, warn: Callable[[OstlerError], None]) -> None:
        self.depth = 0
        self._what = what
        self._most = most
        self._settings = settings
        self._warn = warn
        self._warn_at = max(1, math.ceil(most * settings.warn_at)) if settings.warn_at else most + 1
        self._has_warned = False

    def take(self, priority: int) -> None:
        """Take a place, which must be given back. Raises `Shed` at once if there is none for this priority."""
        capacity = self._settings.room(self._most, priority)
        if self.depth >= capacity:
            raise Shed(
                f"This process has {self.depth} {self._what} under way, of {capacity} that there may be.",
                depth=self.depth,
                capacity=capacity,
                hint="It is tried again later. More workers, or larger numbers under [pressure], take on more at once.",
            )
        self.depth += 1
        if self.depth >= self._warn_at and not self._has_warned:
            self._has_warned = True
            self._warn(
                OstlerError(
                    f"Of {self._what}, {self.depth} are under way in this process, and {self._most} may be.",
                    hint="Any more are shed, and tried again later.",
                )
            )

    def give_back(self) -> None:
        """A call is over."""
        self.depth -= 1
        if self.depth <= self._warn_at // 2:
            self._has_warned = False
