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
    from ostler.domain.agent import Limits
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
    from ostler.domain.model import ModelRef, ModelSettings, Price
    from ostler.domain.screening.detectors import Detectors
    from ostler.domain.tool import ToolOutcome, ToolRequest
    from ostler.kernel.errors import OstlerError
    from ostler.runtime.hooks import hook

__all__ = [
    "Agent",
    "Ask",
    "Continue",
    "Deny",
    "Detectors",
    "Ending",
    "Happening",
    "Limits",
    "ModelAnswered",
    "ModelAsked",
    "ModelRef",
    "ModelSettings",
    "OstlerError",
    "Policy",
    "Price",
    "Principal",
    "Result",
    "Rewrite",
    "Rule",
    "Runtime",
    "Session",
    "Tool",
    "ToolAnswered",
    "ToolAsked",
    "ToolOutcome",
    "ToolRequest",
    "credential",
    "hook",
    "tool",
]

_HOMES = {
    "Agent": "ostler.app.agents",
    "Ask": "ostler.domain.hook",
    "Continue": "ostler.domain.hook",
    "Deny": "ostler.domain.hook",
    "Detectors": "ostler.domain.screening.detectors",
    "Ending": "ostler.domain.hook",
    "Happening": "ostler.app.session",
    "Limits": "ostler.domain.agent",
    "ModelAnswered": "ostler.domain.hook",
    "ModelAsked": "ostler.domain.hook",
    "ModelRef": "ostler.domain.model",
    "ModelSettings": "ostler.domain.model",
    "OstlerError": "ostler.kernel.errors",
    "Policy": "ostler.domain.constraint.policy",
    "Price": "ostler.domain.model",
    "Principal": "ostler.domain.identity",
    "Result": "ostler.app.session",
    "Rewrite": "ostler.domain.hook",
    "Rule": "ostler.domain.constraint.policy",
    "Runtime": "ostler.app.service",
    "Session": "ostler.app.session",
    "Tool": "ostler.adapters.tools.functions",
    "ToolAnswered": "ostler.domain.hook",
    "ToolAsked": "ostler.domain.hook",
    "ToolOutcome": "ostler.domain.tool",
    "ToolRequest": "ostler.domain.tool",
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
