"""What other rules would have said of the calls of the past."""

from collections import Counter
from collections.abc import Callable

import msgspec

from ostler.app.policy.past import PastCall, Reader
from ostler.domain.constraint.compile import compile_policy
from ostler.domain.constraint.policy import Policy
from ostler.domain.constraint.verdict import Decision, Verdict
from ostler.kernel.event import timestamp
from ostler.ports import EventStore

CHANGED_MAX = 1_000
"""Changed calls that are listed; all are counted."""


class Changed(msgspec.Struct, frozen=True, omit_defaults=True):
    """A call of which the other rules would have said something else. `rule` decided then, `new_rule` would have."""

    session: str
    seq: int
    at: str
    tool: str
    then: Decision
    now: Decision
    rule: str = ""
    new_rule: str = ""
    reason: str = ""


class Backtest(msgspec.Struct, frozen=True, omit_defaults=True):
    """How many calls were judged, and how many otherwise by these rules: by `allow to deny` and so on.

    `changed` lists the first of them; the content of `unreadable` sessions is erased, or of another version.
    """

    policy: str
    digest: str
    calls: int
    same: int
    changes: dict[str, int]
    changed: tuple[Changed, ...] = ()
    unreadable: int = 0


async def backtest(
    store: EventStore,
    policy: Policy,
    *,
    since_us: int = 0,
    agent: str | None = None,
    tenant: str | None = None,
    progress: Callable[[int], None] = lambda position: None,
) -> Backtest:
    """Judge every call since a moment by this policy alone, with the facts that were known then.

    The whole log is read, because rules may ask about the past; `agent` and `tenant` narrow down what is judged. What
    another policy of the session denied stays denied. Raises `PolicyInvalid`.
    """
    compiled = compile_policy(policy)
    reader = Reader(store, compiled)
    calls = 0
    changes: Counter[str] = Counter()
    changed: list[Changed] = []
    async for call in reader.calls(after_us=since_us, progress=progress):
        if not _is_wanted(call, agent, tenant):
            continue
        calls += 1
        verdict = compiled.judge(call.facts)
        if verdict.effect == call.judged.decision or _is_anothers(call, policy):
            continue
        changes[f"{call.judged.decision} to {verdict.effect}"] += 1
        if len(changed) < CHANGED_MAX:
            changed.append(_changed(call, verdict))
    same = calls - changes.total()
    unreadable = len(reader.unreadable)
    return Backtest(str(compiled), compiled.digest, calls, same, dict(changes), tuple(changed), unreadable)


def _is_wanted(call: PastCall, agent: str | None, tenant: str | None) -> bool:
    is_by = agent is None or agent in (call.state.agent.name, str(call.state.agent))
    return is_by and tenant in (None, call.record.stream.tenant)


def _is_anothers(call: PastCall, policy: Policy) -> bool:
    """Whether a policy beside this one has denied the call, which it would still."""
    names = [one.name for one in call.state.guard.policies]
    decided_by = call.judged.policy.partition("@")[0]
    return call.judged.decision == "deny" and policy.name in names and decided_by not in ("", policy.name)


def _changed(call: PastCall, verdict: Verdict) -> Changed:
    return Changed(
        session=call.record.stream.name,
        seq=call.record.seq,
        at=timestamp(call.record.at_us),
        tool=call.judged.tool.name if call.judged.tool is not None else "",
        then=call.judged.decision,
        now=verdict.effect,
        rule=call.judged.rule,
        new_rule=verdict.rule,
        reason=verdict.reason,
    )
