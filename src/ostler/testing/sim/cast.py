"""The agents of simulated sessions: few, but with every effect class, rule and limit among them."""

from ostler.domain.agent import AgentSpec, Limits
from ostler.domain.constraint.policy import Policy, Rule
from ostler.domain.model import ModelSettings
from ostler.testing.sim.outside import MODEL_TIMEOUT_S, TOOLS

_SETTINGS = ModelSettings(max_tokens=64, timeout_s=MODEL_TIMEOUT_S)
_SPECS = tuple(TOOLS.specs())
_STRICT = Policy(
    "strict",
    rules=(
        Rule("deny", "*", where={"amount": ("13",)}, because="13 is unlucky"),
        Rule("require", "pay", unless={"amount": ("1*",)}),
        Rule("require", "book", where={"amount": ("2", "3", "4")}, within_s=8.0),
    ),
)

AGENTS = (
    AgentSpec("plain", tools=_SPECS, limits=Limits(steps=8, attempts=4), settings=_SETTINGS),
    AgentSpec("careful", tools=_SPECS, policy=_STRICT, limits=Limits(steps=8), settings=_SETTINGS),
    AgentSpec(
        "thrifty",
        tools=_SPECS,
        policy=_STRICT,
        limits=Limits(steps=10, tokens=700, cost_microusd=4_500, tool_calls=6, attempts=3),
        settings=_SETTINGS,
    ),
    AgentSpec(
        "hasty",
        tools=_SPECS,
        policy=_STRICT,
        limits=Limits(steps=6, seconds=12.0),
        settings=_SETTINGS,
        on_unknown="pause",
        on_refusal="end",
    ),
)
