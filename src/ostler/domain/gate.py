"""The gate: what every call must pass before it may become an intent. Deterministic, and never skipped.

In this order: resolve the name, validate the arguments, identity and scope, the policy, a person's approval.
"""

import hashlib
from typing import Any

import msgspec

from ostler.domain import constraint
from ostler.domain.agent import AgentSpec
from ostler.domain.identity import Principal
from ostler.domain.model import AskedCall
from ostler.domain.schema import parse_json, validator_for
from ostler.domain.suggest import did_you_mean
from ostler.domain.tool import FailureKind, ToolSpec


class Passed(msgspec.Struct, frozen=True, gc=False):
    """The call may begin, with these arguments (defaults filled in)."""

    arguments: dict[str, Any]
    rule: str


class Refused(msgspec.Struct, frozen=True, gc=False):
    """The call must not begin; `reason` is told to the model."""

    kind: FailureKind
    reason: str
    rule: str = ""


class Asked(msgspec.Struct, frozen=True, gc=False):
    """The call may begin once a person has approved exactly these arguments."""

    arguments: dict[str, Any]
    digest: str
    rule: str
    reason: str
    within_s: float | None


def judge(agent: AgentSpec, by: Principal, call: AskedCall, *, approved: str | None = None) -> Passed | Refused | Asked:
    """Judge one call of `agent` on behalf of `by`. `approved` is the digest that a person has approved, if one has."""
    spec = agent.tool(call.name)
    if spec is None:
        return Refused("not_found", _unknown(agent, call.name))
    written, fault = parse_json(call.arguments or "{}")
    if fault is not None:
        return Refused(
            "invalid", f"the arguments of {call.name} are not valid JSON: {fault.message}. Write one JSON object."
        )
    arguments, problems = validator_for(spec.parameters)(written)
    if problems:
        listed = "; ".join(
            f"{problem.path}: {problem.message}" if problem.path else problem.message for problem in problems
        )
        return Refused("invalid", f"the arguments of {call.name} do not fit: {listed}")
    missing = [scope for scope in spec.scopes if not by.may(scope)]
    if missing:
        return Refused("blocked", f"{by.id} lacks the scope {', '.join(missing)}", rule="scopes")
    return _judge_policy(agent, spec, arguments, approved)


def _judge_policy(
    agent: AgentSpec, spec: ToolSpec, arguments: dict[str, Any], approved: str | None
) -> Passed | Refused | Asked:
    verdict = constraint.judge(agent.policy, spec.name, arguments)
    if verdict.effect == "allow":
        return Passed(arguments, verdict.rule)
    if verdict.effect == "deny":
        return Refused("blocked", verdict.reason or "the policy forbids it", verdict.rule)
    digest = digest_of(arguments)
    if digest == approved:
        return Passed(arguments, verdict.rule)
    return Asked(arguments, digest, verdict.rule, verdict.reason, verdict.within_s)


def digest_of(arguments: dict[str, Any]) -> str:
    """SHA-256, in hexadecimal, of the arguments as JSON with sorted keys."""
    return hashlib.sha256(msgspec.json.encode(arguments, order="sorted")).hexdigest()


def _unknown(agent: AgentSpec, name: str) -> str:
    names = [tool.name for tool in agent.tools]
    near = did_you_mean(name, names)
    if near is not None:
        return f"there is no tool {name!r} (did you mean {near!r}?)"
    return f"there is no tool {name!r}; there are: {', '.join(names) or 'none'}"
