"""How much one process does at a time, and who is let in last."""

from typing import Annotated

import msgspec

Positive = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]


class Pressure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many calls of models and of tools one process has under way at once; any more are shed, and tried later.

    The share `kept` of each is for sessions with a priority above 0. At the share `warn_at` a warning is given, once
    until it has come down to half of that.
    """

    model_calls: Positive = 10_000
    tool_calls: Positive = 10_000
    kept: Share = 0.1
    warn_at: Share = 0.8

    def room(self, most: int, priority: int) -> int:
        """How many of `most` there are for a session of this priority: one at least."""
        return most if priority > 0 else max(1, most - int(most * self.kept))
