"""A change of what drives an agent: another model, or the same one asked in another way.

Nothing else about the agent need change for it to do other things; so that is a fact of its own.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

from ostler.domain.agent import AgentSpec
from ostler.domain.model import ModelRef, ModelSettings
from ostler.domain.strategy.card import Card
from ostler.domain.strategy.choice import StrategySpec
from ostler.kernel.codec import Codec
from ostler.kernel.event import Event

MODELS = "models"
"""The stream of each tenant that these events stand in, its queue and its status. No agent's name may be this."""


class Driver(msgspec.Struct, frozen=True, omit_defaults=True):
    """What drives an agent: a model, how it is asked, and the strategy that chooses it, if there are several.

    Of the model it is what says who answers; prices and other facts about it change without it.
    """

    model: ModelRef
    settings: ModelSettings = ModelSettings()
    strategy: StrategySpec | None = None
    candidates: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.strategy is None:
            return f"{self.model.provider}:{self.model.name}"
        return f"{self.strategy.kind} of {', '.join(self.candidates)}"


class Driven(Protocol):
    """The start of a session."""

    @property
    def model(self) -> ModelRef: ...
    @property
    def agent(self) -> AgentSpec: ...
    @property
    def strategy(self) -> StrategySpec | None: ...
    @property
    def candidates(self) -> tuple[Card, ...]: ...


def driver_of(start: Driven) -> Driver:
    """What drives a session that starts so."""
    model = start.model
    return Driver(
        ModelRef(model.kind, model.provider, model.name, model.tools, model.base_url),
        start.agent.settings,
        start.strategy,
        tuple([card.name for card in start.candidates]),
    )


class ModelChanged(Event, tag="model.changed"):
    """A session of this agent starts with another driver than the one before it; `by` started it."""

    agent: str
    before: Driver
    after: Driver
    session: str
    by: str


CHANGES_CODEC: Codec[ModelChanged] = Codec(ModelChanged)

Drivers = Mapping[str, Driver]
"""What drives each agent since its last change; an agent without one has ever been driven by the same."""


def evolve(drivers: Drivers, events: Iterable[ModelChanged]) -> Drivers:
    """What drives each agent after these events."""
    return {**drivers, **{event.agent: event.after for event in events}}


def differences(before: Driver, after: Driver) -> list[str]:
    """What is not the same, each in a few words."""
    found = []
    if str(before) != str(after):
        found.append(f"{before} to {after}")
    for field in ("kind", "tools", "base_url"):
        old, new = getattr(before.model, field), getattr(after.model, field)
        if old != new:
            found.append(f"{field} {old} to {new}")
    for field in ModelSettings.__struct_fields__:
        old, new = getattr(before.settings, field), getattr(after.settings, field)
        if old != new:
            found.append(f"{field} {old} to {new}")
    if not found and before != after:
        found.append(f"the strategy {after}, with other terms")
    return found
