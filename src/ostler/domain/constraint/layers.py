"""Judges a call by several policies at once, such as a tenant's and an agent's."""

from collections.abc import Sequence

import msgspec

from ostler.domain.constraint.compile import Compiled
from ostler.domain.constraint.facts import Facts
from ostler.domain.constraint.verdict import Verdict


def judge_layers(policies: Sequence[Compiled], facts: Facts) -> Verdict:
    """The verdict of all policies together, the outermost first.

    Any denial wins, and the outermost is the one that is cited; what is demanded is demanded by all; a call is allowed
    only if every policy allows it. So no policy can undo what one above it refuses. `facts.history` holds the answers
    of each policy after those of the one before it, and `facts.inputs` the inputs of all. No policies allow nothing.
    """
    verdicts = [policy.judge(own) for policy, own in zip(policies, facts_by_layer(policies, facts), strict=True)]
    for verdict in verdicts:
        if verdict.effect == "deny":
            return verdict
    asking = [verdict for verdict in verdicts if verdict.effect == "require"]
    risks = [verdict.risk for verdict in verdicts if verdict.risk is not None]
    risk = max(risks, default=None)
    if asking:
        demands = tuple(demand for verdict in asking for demand in verdict.demands)
        return msgspec.structs.replace(asking[0], demands=demands, risk=risk)
    if not verdicts:
        return Verdict("deny", "#error", "there is no policy that allows it (policy.error.no_policy)")
    return verdicts[-1] if verdicts[-1].risk == risk else msgspec.structs.replace(verdicts[-1], risk=risk)


def facts_by_layer(policies: Sequence[Compiled], facts: Facts) -> list[Facts]:
    """The facts as each policy is given them: the answers to its own questions, and the inputs that it declares.

    An input that no policy declares is given to all of them, and so refused.
    """
    declared = {name for policy in policies for name in policy.inputs}
    found, start = [], 0
    for policy in policies:
        end = start + len(policy.history)
        inputs = {name: value for name, value in facts.inputs.items() if name in policy.inputs or name not in declared}
        if len(inputs) == len(facts.inputs) and (start, end) == (0, len(facts.history)):
            found.append(facts)
        else:
            found.append(msgspec.structs.replace(facts, inputs=inputs, history=facts.history[start:end]))
        start = end
    return found
