"""Calls that show what is claimed of policies, tried on the very code that judges calls."""

from collections.abc import Callable, Iterable

import msgspec

from ostler.app.policy.case import Case, facts_of_case, question_text
from ostler.domain.constraint.compile import Compiled
from ostler.domain.constraint.facts import Facts
from ostler.domain.constraint.verdict import Demand, Verdict


class Witness(msgspec.Struct, frozen=True, omit_defaults=True):
    """A call and what policies say of it.

    `is_confirmed`: the compiled policies do say so. If not, the solver has left something open that real calls do not
    leave open (a regular expression, what two texts have in common), and the claim may be wrong.
    """

    case: Case
    verdicts: tuple[Verdict, ...]
    is_confirmed: bool


def judged(compiled: Compiled, case: Case) -> Verdict:
    """What a policy says of the call that a case describes."""
    return compiled.judge(facts_for(compiled, case))


def facts_for(compiled: Compiled, case: Case) -> Facts:
    """What the gate would know of the call, as far as it is this policy's to know."""
    facts = facts_of_case(case, tuple(question_text(one) for one in compiled.history))
    return msgspec.structs.replace(
        facts, inputs={name: value for name, value in case.inputs.items() if name in compiled.inputs}
    )


def matched(compiled: Compiled, case: Case) -> tuple[str, ...]:
    """The rules that match the call, in their order."""
    return tuple(one.rule for one in compiled.explain(facts_for(compiled, case)).rules if one.matched)


def witness(case: Case, policies: Iterable[Compiled], claim: Callable[..., bool]) -> Witness:
    """The case, with the verdict of each policy; `claim` is asked whether they are what was claimed."""
    verdicts = tuple(judged(compiled, case) for compiled in policies)
    return Witness(case, verdicts, claim(*verdicts))


def lets_more_pass(new: Verdict, old: Verdict) -> bool:
    """Whether a call gets further with the new verdict: from no to maybe, from maybe to yes, with fewer approvals."""
    if old.effect == "deny":
        return new.effect != "deny"
    if old.effect == "require":
        return new.effect == "allow" or (new.effect == "require" and not covers(new.demands, old.demands))
    return False


def covers(demands: Iterable[Demand], others: Iterable[Demand]) -> bool:
    """Whether whoever meets these demands meets the others as well."""
    held = tuple(demands)
    return all(any(is_as_strict(one, other) for one in held) for other in others)


def is_as_strict(one: Demand, other: Demand) -> bool:
    """Whether a demand asks for as many people, of no more roles, within no longer a time."""
    by_role = not other.roles or (bool(one.roles) and set(one.roles) <= set(other.roles))
    in_time = other.within_s is None or (one.within_s is not None and one.within_s <= other.within_s)
    return one.count >= other.count and by_role and in_time
