"""An agent as data: everything that determines how its sessions run, fit to be stored in the log."""

from typing import Literal

import msgspec

from ostler.domain.constraint.policy import Policy
from ostler.domain.model import ModelSettings
from ostler.domain.tool import ToolSpec


class Limits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one session may use; None is no limit. Each ends the session with a reason of its own.

    `steps` model calls; `seconds` since the start, not counting waits for people; `tokens` and `cost_microusd` over all
    model calls, reserved before and settled after each; `tool_calls` performed; `defects` replies in a row that cannot
    be understood; `attempts` tries of one call.
    """

    steps: int | None = 50
    seconds: float | None = None
    tokens: int | None = None
    cost_microusd: int | None = None
    tool_calls: int | None = None
    defects: int = 3
    attempts: int = 5


class AgentSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """A versioned definition (`coder@3`).

    `on_unknown` says what follows when nobody can know whether a call happened: `tell` the model, or `pause` for a
    person. `on_refusal` says what follows when a rule or a person refuses a call: `tell` the model, or `end`.
    `scopes` are what the agent may do at most, whoever it acts for; `hooks` are asked by their names, in this order.
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

    def tool(self, name: str) -> ToolSpec | None:
        for spec in self.tools:
            if spec.name == name:
                return spec
        return None

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"
