"""An agent as data: everything that determines how its sessions run, fit to be stored in the log."""

from typing import Any, Literal

import msgspec

from ostler.domain.constraint.policy import Policy
from ostler.domain.memory.settings import MemorySettings
from ostler.domain.model import ModelSettings
from ostler.domain.resilience.retry import Retries
from ostler.domain.tool import ToolSpec


class Limits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one session may use; None is no limit. Each ends the session with a reason of its own.

    `steps` model calls; `seconds` since the start, not counting waits for people; `tokens` and `cost_microusd` over all
    model calls, reserved before and settled after each; `tool_calls` performed; `defects` replies in a row that cannot
    be understood; `attempts` tries of one call, which `retries` say more of (None: 5, or 10 where the provider is down
    or busy, which costs nothing); `repairs` answers in a row that do not fit, of which the model is told.
    """

    steps: int | None = 50
    seconds: float | None = None
    tokens: int | None = None
    cost_microusd: int | None = None
    tool_calls: int | None = None
    defects: int = 3
    attempts: int | None = None
    repairs: int = 2
    retries: Retries = Retries()


ContextStep = Literal["references", "trim", "summarise"]
"""How room is made: bulky results become one line each, the oldest turns go, or a summary takes their place."""


class ContextSettings(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the model still sees when the transcript outgrows its window.

    Once the next request is estimated at more than `above` of the window, these `steps` are taken in their order until
    it is at most `down_to` of it. Turns with calls of `pinned` tools (names or globs) always stay, with their results.
    `window_tokens` bounds the window, whatever the model could take.
    """

    steps: tuple[ContextStep, ...] = ("references", "trim")
    above: float = 0.8
    down_to: float = 0.5
    pinned: tuple[str, ...] = ()
    window_tokens: int | None = None


class AgentSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """A versioned definition (`coder@3`).

    `on_unknown` says what follows when nobody can know whether a call happened: `tell` the model, or `pause` for a
    person. `on_refusal` says what follows when a rule or a person refuses a call: `tell` the model, or `end`.
    `scopes` are what the agent may do at most, whoever it acts for; `hooks` are asked by their names, in this order.
    With `returns` the answer is JSON that fits this JSON Schema. `context` says what the model still sees when the
    transcript outgrows its window. With `memory` its sessions remember, and recall what earlier ones remembered.
    """

    name: str
    version: int = 1
    instructions: str = "You are a helpful agent."
    tools: tuple[ToolSpec, ...] = ()
    policy: Policy = Policy()
    limits: Limits = Limits()
    settings: ModelSettings = ModelSettings()
    protocol: str = "react"
    on_unknown: Literal["tell", "pause"] = "tell"
    on_refusal: Literal["tell", "end"] = "tell"
    scopes: tuple[str, ...] = ("*",)
    hooks: tuple[str, ...] = ()
    returns: dict[str, Any] | None = None
    context: ContextSettings = ContextSettings()
    memory: MemorySettings | None = None

    def tool(self, name: str) -> ToolSpec | None:
        for spec in self.tools:
            if spec.name == name:
                return spec
        return None

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"
