"""What is known of a model that may answer."""

from typing import Literal

import msgspec

from ostler.domain.model import ModelRef, Usage, cost_microusd

Ability = Literal["tools", "images", "structured", "reasoning"]
"""What not every model can: call tools, see images, keep to a JSON Schema, think before it answers."""

DataClass = Literal["public", "internal", "confidential", "restricted"]
"""How far data must be kept from others, the least first."""

DATA_CLASSES: tuple[DataClass, ...] = ("public", "internal", "confidential", "restricted")


class Card(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model that may answer, under the name by which its users know it. None is what is not known.

    Its price and its window are those of `model`. `quality` is a score of the user's own, 0 to 1; `latency_s` is how
    long a reply usually takes. `region` is where data goes, and `data_class` the most that it may be shown.
    """

    name: str
    model: ModelRef
    reply_tokens_max: int | None = None
    abilities: tuple[Ability, ...] | None = None
    quality: float | None = None
    latency_s: float | None = None
    region: str | None = None
    data_class: DataClass | None = None

    def cost_microusd(self, input_tokens: int, reply_tokens: int) -> int | None:
        """What such a call costs; None if nobody knows. What is no model over the network costs nothing."""
        if self.model.price is None:
            return None if self.model.kind == "live" else 0
        return cost_microusd(Usage(input_tokens, reply_tokens), self.model.price)

    @property
    def window_tokens(self) -> int | None:
        """How many tokens a request and its reply may have together."""
        return self.model.window_tokens
