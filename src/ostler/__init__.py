"""Ostler: a runtime for AI agents. One gate, one log.

Nothing an agent does reaches the world except through the gate, and nothing is true unless it is in the log.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str
    from ostler.adapters.tools.functions import Tool, tool
    from ostler.adapters.tools.lending import credential
    from ostler.app.agents import Agent
    from ostler.app.service import Runtime
    from ostler.app.session import Happening, Result, Session
    from ostler.app.strategies import Strategy
    from ostler.domain.agent import ContextSettings, Limits
    from ostler.domain.constraint.policy import Policy, Rule
    from ostler.domain.hook import (
        Ask,
        Continue,
        Deny,
        Ending,
        ModelAnswered,
        ModelAsked,
        Rewrite,
        ToolAnswered,
        ToolAsked,
    )
    from ostler.domain.identity import Principal
    from ostler.domain.live import Piece
    from ostler.domain.memory.settings import MemorySettings
    from ostler.domain.model import ModelRef, ModelSettings, Price
    from ostler.domain.resilience.retry import Backoff, Retries
    from ostler.domain.screening.detectors import Detectors
    from ostler.domain.strategy.choice import ModelWanted
    from ostler.domain.tool import ToolOutcome, ToolRequest
    from ostler.kernel.errors import OstlerError
    from ostler.runtime.hooks import hook
    from ostler.runtime.router import chooser

__all__ = [
    "Agent",
    "Ask",
    "Backoff",
    "ContextSettings",
    "Continue",
    "Deny",
    "Detectors",
    "Ending",
    "Happening",
    "Limits",
    "MemorySettings",
    "ModelAnswered",
    "ModelAsked",
    "ModelRef",
    "ModelSettings",
    "ModelWanted",
    "OstlerError",
    "Piece",
    "Policy",
    "Price",
    "Principal",
    "Result",
    "Retries",
    "Rewrite",
    "Rule",
    "Runtime",
    "Session",
    "Strategy",
    "Tool",
    "ToolAnswered",
    "ToolAsked",
    "ToolOutcome",
    "ToolRequest",
    "chooser",
    "credential",
    "hook",
    "tool",
]

_HOMES = {
    "Agent": "ostler.app.agents",
    "Ask": "ostler.domain.hook",
    "ContextSettings": "ostler.domain.agent",
    "Continue": "ostler.domain.hook",
    "Deny": "ostler.domain.hook",
    "Detectors": "ostler.domain.screening.detectors",
    "Ending": "ostler.domain.hook",
    "Happening": "ostler.app.session",
    "Backoff": "ostler.domain.resilience.retry",
    "Retries": "ostler.domain.resilience.retry",
    "Limits": "ostler.domain.agent",
    "MemorySettings": "ostler.domain.memory.settings",
    "ModelAnswered": "ostler.domain.hook",
    "ModelAsked": "ostler.domain.hook",
    "ModelRef": "ostler.domain.model",
    "ModelSettings": "ostler.domain.model",
    "ModelWanted": "ostler.domain.strategy.choice",
    "OstlerError": "ostler.kernel.errors",
    "Piece": "ostler.domain.live",
    "Policy": "ostler.domain.constraint.policy",
    "Price": "ostler.domain.model",
    "Principal": "ostler.domain.identity",
    "Result": "ostler.app.session",
    "Rewrite": "ostler.domain.hook",
    "Rule": "ostler.domain.constraint.policy",
    "Runtime": "ostler.app.service",
    "Session": "ostler.app.session",
    "Strategy": "ostler.app.strategies",
    "Tool": "ostler.adapters.tools.functions",
    "ToolAnswered": "ostler.domain.hook",
    "ToolAsked": "ostler.domain.hook",
    "ToolOutcome": "ostler.domain.tool",
    "ToolRequest": "ostler.domain.tool",
    "chooser": "ostler.runtime.router",
    "credential": "ostler.adapters.tools.lending",
    "hook": "ostler.runtime.hooks",
    "tool": "ostler.adapters.tools.functions",
}


def __getattr__(name: str) -> object:
    """Imports a public name when it is first used, so that a command pays only for what it needs."""
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("ostler")
    if name not in _HOMES:
        raise AttributeError(f"module 'ostler' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
