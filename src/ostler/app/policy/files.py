"""Policies from files of rules, and what they say."""

from collections.abc import Sequence

from ostler.app.policies import rules_of
from ostler.domain.constraint.check import check
from ostler.domain.constraint.implied import with_implied
from ostler.domain.constraint.parser import parse
from ostler.domain.constraint.policy import Policy
from ostler.domain.constraint.prepare import with_risk
from ostler.domain.constraint.problems import refusal
from ostler.domain.constraint.syntax import Parsed
from ostler.domain.tool import ToolSpec
from ostler.kernel.errors import PolicyInvalid, UsageError


def load_policy(place: str) -> Policy:
    """The policy in a file, or one that comes with Ostler. Raises `NotFound`, `PolicyInvalid` with every mistake."""
    text, name = rules_of(place)
    return policy_from(text, name, source=place)


def policy_from(text: str, name: str, *, source: str = "", tools: Sequence[ToolSpec] | None = None) -> Policy:
    """The policy that a text of rules is, by its own name and version if it gives them.

    With `tools`, also rules that these tools do not fit are mistakes. Raises `PolicyInvalid` with every mistake.
    """
    parsed = parse(text, name)
    problems = check(with_implied(parsed), tools)
    if problems:
        raise refusal(source or name, text, problems)
    if not text.strip():
        raise PolicyInvalid(
            source or name, [("line 1, column 1", "the file is empty (write rules, or a `policy` line)")]
        )
    return Policy(name=parsed.name, version=parsed.version, default=parsed.default, text=text)


def parsed_of(policy: Policy) -> Parsed:
    """What a policy says, with the parts of the risk score that hold where it names none.

    Raises `UsageError` for rules that are not in the language of rules.
    """
    if not policy.text:
        raise UsageError(
            f"The rules of {policy.name}@{policy.version} are a table, not text in the language of rules.",
            hint="Write them into a .rules file to compare or analyse them.",
        )
    parsed = with_implied(parse(policy.text, policy.name))
    return with_risk(Parsed(policy.name, policy.version, parsed.default, parsed.statements))
