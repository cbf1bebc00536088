"""The conversation so far, as the model is shown it. All that was ever said is in the log."""

import msgspec

from ostler.domain.growing import Growing
from ostler.domain.model import Message
from ostler.domain.tokens import NOTHING, Counts


class Transcript(Growing[Message]):
    """What a model is shown of what it has seen and said, in order; the goal is always the first."""

    __slots__ = ()


class Context(msgspec.Struct, frozen=True, gc=False):
    """How large the transcript is, and what was left out of it.

    `counts` are those of the transcript where it `is_counted`, which is where there is a bound to its size; `fixed` are
    those of the system prompt, the tools and working memory. For a request that was `estimated` at so many tokens for
    models of this `family`, its provider has `reported` so many.
    `summary` stands for what was left out after it was written, `left_out` counts the turns that nothing stands for;
    with either, the second message says so. `reached` is the estimate after the last of the `compactions`. `draft` is a
    summary of the first messages, as many as it `covers`, that are still shown; empty, it could not be had. A request
    that was estimated at `too_long` tokens was refused as longer than the window, and none that was as long has passed.
    """

    counts: Counts = NOTHING
    fixed: Counts = NOTHING
    family: str = ""
    reported: int = 0
    estimated: int = 0
    summary: str = ""
    left_out: int = 0
    compactions: int = 0
    reached: int = 0
    draft: str | None = None
    covers: int = 0
    too_long: int = 0
    is_counted: bool = False

    @property
    def leading(self) -> int:
        """How many messages stand before the first turn: the goal, and what is said of turns that were left out."""
        return 2 if self.summary or self.left_out else 1
