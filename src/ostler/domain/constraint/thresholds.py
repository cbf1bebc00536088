"""Policies in a few numbers, for those who need no rules of their own: `{"max_risk_score": 0.7, …}`."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from ostler.domain.constraint.compile import policy_of
from ostler.domain.constraint.policy import Policy
from ostler.domain.constraint.prepare import DEFAULT_RISK
from ostler.domain.suggest import did_you_mean
from ostler.kernel.errors import DefinitionInvalid

_INPUTS = {
    "max_risk_score": "input assessed_risk: number = 0",
    "compliance_required": "input compliant: boolean",
}
_RISK = 'RISK assessed_risk BECAUSE "as assessed by whoever started the session"\n'


def thresholds(given: Mapping[str, Any], name: str = "thresholds") -> Policy:
    """The policy that these thresholds are; everything that they do not refuse is allowed.

    `max_risk_score` (0 to 1) denies calls whose risk score is above it; the input `assessed_risk` is a part of that
    score. `compliance_required` denies every call unless the input `compliant` is given and true.
    `approval_above_risk_score` asks a person above that score. `max_session_cost_usd` and `max_tool_calls` deny what
    would go on beyond. Raises `DefinitionInvalid` with every unknown name and every wrong type.
    """
    problems = [(key, problem) for key, value in given.items() if (problem := _problem(key, value))]
    if problems:
        raise DefinitionInvalid("the thresholds", problems)
    rules = [_RULES[key][1](value) for key, value in given.items() if value is not False]
    uses_risk = "max_risk_score" in given or "approval_above_risk_score" in given
    inputs = [_INPUTS["max_risk_score"]] if uses_risk else []
    inputs += [_INPUTS["compliance_required"]] if given.get("compliance_required") else []
    text = "\n".join([f"policy {name}", "default allow", *inputs, (_RISK + DEFAULT_RISK) if uses_risk else "", *rules])
    return policy_of(text + "\n", name)


def are_thresholds(given: Mapping[str, Any]) -> bool:
    """Whether a table of a policy is one of thresholds, rather than of rules."""
    return any(key in _RULES for key in given)


def _problem(key: str, value: Any) -> str:
    if key not in _RULES:
        near = did_you_mean(key, _RULES)
        return f"is no threshold ({f'did you mean {near!r}?' if near else 'there are: ' + ', '.join(_RULES)})"
    return _RULES[key][0](value)


def _share(value: Any) -> str:
    if type(value) not in (int, float) or not 0 <= value <= 1:
        return f"must be a number between 0 and 1, got {value!r}"
    return ""


def _switch(value: Any) -> str:
    return "" if type(value) is bool else f"must be true or false, got {value!r}"


def _amount(value: Any) -> str:
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0 or value > 1e12:
        return f"must be a number that is not negative, got {value!r}"
    return ""


_RULES: dict[str, tuple[Callable[[Any], str], Callable[[Any], str]]] = {
    "max_risk_score": (
        _share,
        lambda value: (
            f'DENY * IF risk_score > {value!r} BECAUSE "the risk score is above {value!r}" AS "max_risk_score"'
        ),
    ),
    "compliance_required": (
        _switch,
        lambda value: 'DENY * UNLESS compliant BECAUSE "compliance is not confirmed" AS "compliance_required"',
    ),
    "approval_above_risk_score": (
        _share,
        lambda value: (
            f"REQUIRE approval FOR * IF risk_score > {value!r} "
            f'BECAUSE "the risk score is above {value!r}" AS "approval_above_risk_score"'
        ),
    ),
    "max_session_cost_usd": (
        _amount,
        lambda value: (
            f"DENY * IF session.cost >= USD {value:.6f} "
            'BECAUSE "the session has cost as much as it may" AS "max_session_cost_usd"'
        ),
    ),
    "max_tool_calls": (
        _amount,
        lambda value: (
            f"DENY tool.* IF session.tool_calls >= {value!r} "
            'BECAUSE "the session has made as many calls as it may" AS "max_tool_calls"'
        ),
    ),
}
