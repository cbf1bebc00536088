"""The gate: what every call must pass before it may become an intent. Deterministic, and never skipped.

In this order: resolve the name, validate the arguments, identity and scope, what was found out about the call, the
policies, the approvals of people.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgspec

from ostler.domain.agent import AgentSpec
from ostler.domain.constraint.facts import Facts
from ostler.domain.constraint.history import Past
from ostler.domain.constraint.verdict import Demand, Verdict
from ostler.domain.fitness.target import obstacles
from ostler.domain.flow import with_flow
from ostler.domain.grant import effective
from ostler.domain.guard import Answers, called
from ostler.domain.hook import combine, strictest
from ostler.domain.identity import agent_principal
from ostler.domain.memory.taint import is_echo
from ostler.domain.model import AskedCall
from ostler.domain.schema import parse_json, validator_for
from ostler.domain.session.events import CallExamined
from ostler.domain.session.state import Approval, State, under_way
from ostler.domain.suggest import did_you_mean
from ostler.domain.tool import FailureKind, ToolSpec
from ostler.kernel.canonical import digest
from ostler.kernel.errors import Conflict

END = "end"
"""Under this name the answer is examined that a session is about to end with."""


class Passed(msgspec.Struct, frozen=True, gc=False):
    """The call may begin, with these arguments (defaults filled in).

    `shadow` is what the policies say that are only tried, as `deny name@version#rule`.
    """

    arguments: dict[str, Any]
    verdict: Verdict
    shadow: tuple[str, ...] = ()


class Refused(msgspec.Struct, frozen=True, gc=False):
    """The call must not begin; `reason` is told to the model."""

    kind: FailureKind
    reason: str
    verdict: Verdict = Verdict(effect="deny")
    shadow: tuple[str, ...] = ()


class Asked(msgspec.Struct, frozen=True, gc=False):
    """The call may begin once people have approved exactly these arguments."""

    arguments: dict[str, Any]
    digest: str
    verdict: Verdict
    facts: Facts
    shadow: tuple[str, ...] = ()


class Unexamined(msgspec.Struct, frozen=True, gc=False):
    """The call cannot be judged before something was found out about it (`call.examined`)."""


Judgement = Passed | Refused | Asked | Unexamined


def judge(state: State, call: AskedCall, at_us: int) -> Judgement:
    """Judge a call of a tool that the model has asked for."""
    spec = state.agent.tool(call.name)
    if spec is None:
        return Refused("not_found", _unknown(state.agent, call.name))
    if state.is_trial:
        return Refused("blocked", "in a trial nothing is performed", Verdict(effect="deny", rule="trial"))
    approved = _approved(state, call.id)
    asked, problem = _asked_arguments(spec, call, approved)
    if problem is not None:
        return problem
    missing = _missing_right(state, spec, at_us)
    if missing is not None:
        return Refused("blocked", missing, Verdict(effect="deny", rule="scopes"))
    if needs_examination(state, spec) and not is_examined(state, call.id):
        return Unexamined()
    arguments = asked
    if state.examined is not None and state.examined.arguments is not None:
        if approved is not None and approved.arguments is not None:
            return _rewritten_after_people(state.examined)
        arguments, problem = _validated(spec, state.examined.arguments)
        if problem is not None:
            return problem
    if "remembers" in spec.roles and _only_repeats_memory(state, call.id, arguments):
        return Refused("invalid", "this was recalled, and is remembered already", Verdict(effect="deny", rule="memory"))
    return _judge_by_policies(state, spec, (arguments,) if arguments is asked else (asked, arguments), approved, at_us)


def _only_repeats_memory(state: State, call: str, arguments: dict[str, Any]) -> bool:
    """Whether the model would remember what was only recalled. The runtime leaves that out by itself."""
    is_own = state.mind is not None and state.mind.asked == call
    return not is_own and is_echo(state.provenance, arguments)


def arguments_of(state: State, call: AskedCall) -> dict[str, Any] | None:
    """The arguments that a call would be judged with, defaults filled in; None if the gate refuses them as they are."""
    spec = state.agent.tool(call.name)
    if spec is None:
        return None
    arguments, problem = _asked_arguments(spec, call, _approved(state, call.id))
    return arguments if problem is None else None


def judge_model(state: State, at_us: int) -> Judgement:
    """Judge the next call of the model itself."""
    if needs_examination(state, None) and not is_examined(state, str(state.steps + 1)):
        return Unexamined()
    return judge_model_by_policies(state, at_us)


def judge_model_by_policies(state: State, at_us: int) -> Judgement:
    """As `judge_model`, by what is known now."""
    return _judge_by_policies(state, None, ({},), _approved(state, str(state.steps + 1)), at_us)


def needs_examination(state: State, spec: ToolSpec | None) -> bool:
    """Whether something must be found out about a call of this tool (None: of the model) before it is judged."""
    if state.is_budgeted or state.agent.hooks or (state.grant is not None and spec is not None):
        return True
    if (state.is_routed and spec is None) or (spec is not None and spec.fitness):
        return True
    if state.has_moved and state.guard.own_questions:
        return True
    return bool(state.guard.questions) and state.guard.asks_others_about(called(spec, state.model.name))


def is_examined(state: State, call: str) -> bool:
    """Whether what was found out is about this call, and says all that the policies of today want to know."""
    found = state.examined
    return found is not None and found.call == call and answers_suffice(state, found)


def still_holds(before: State, now: State) -> bool:
    """Whether what was found out about the next call `before` is about that call as it would be judged now."""
    return (
        before.guard == now.guard
        and before.granted == now.granted
        and before.answer == now.answer
        and before.inbox == now.inbox
    )


def answers_suffice(state: State, found: CallExamined) -> bool:
    """Whether every question has its answer; a call that is refused anyway needs none."""
    is_refused = (found.refused is not None and not found.asks) or combine(found.hooks).effect == "deny"
    return is_refused or found.call == END or len(found.answers) == _answers_wanted(state)


def _answers_wanted(state: State) -> int:
    return len(state.guard.questions) + (len(state.guard.own_questions) if state.has_moved else 0)


def unexamined(state: State) -> str | None:
    """The id of the call about which something is to be found out now; None if there is none."""
    is_held_up = state.end is not None or state.pause is not None or state.cancelling_by is not None
    if is_held_up or state.question is not None or state.measuring:
        return None
    if state.asked:
        call = state.asked[0]
        spec = state.agent.tool(call.name)
        if spec is None or (under_way(state) and not runs_beside_others(state, spec)):
            return None
        found = call.id if needs_examination(state, spec) else None
    elif state.open or state.ending is not None:
        return None
    elif state.answer is not None:
        found = END if state.agent.hooks else None
    elif state.steps >= (state.agent.limits.steps or state.steps + 1):
        return None
    else:
        found = str(state.steps + 1) if needs_examination(state, None) else None
    return None if found is not None and is_examined(state, found) else found


def runs_beside_others(state: State, spec: ToolSpec) -> bool:
    """Whether a call may run together with those under way: reads do, any other call runs alone, in order."""
    return spec.effect == "read" and all(
        call.arguments is not None and _is_read(state.agent.tool(call.tool)) for call in under_way(state)
    )


def _is_read(spec: ToolSpec | None) -> bool:
    return spec is not None and spec.effect == "read"


def _approved(state: State, call: str) -> Approval | None:
    return state.granted if state.granted is not None and state.granted.call == call else None


def _asked_arguments(
    spec: ToolSpec, call: AskedCall, approved: Approval | None
) -> tuple[dict[str, Any], Refused | None]:
    """What the model asked for, or what a person has put in its place."""
    if approved is not None and approved.arguments is not None:
        return _validated(spec, approved.arguments)
    written, fault = parse_json(call.arguments or "{}")
    if fault is not None:
        return {}, _invalid(f"are not valid JSON: {fault.message}. Write one JSON object.", spec.name)
    return _validated(spec, written)


def _validated(spec: ToolSpec, written: Any) -> tuple[dict[str, Any], Refused | None]:
    arguments, problems = validator_for(spec.parameters)(written)
    if not problems:
        return arguments, None
    listed = "; ".join(
        f"{problem.path}: {problem.message}" if problem.path else problem.message for problem in problems
    )
    return {}, _invalid(f"do not fit: {listed}", spec.name)


def _invalid(problem: str, tool: str) -> Refused:
    return Refused("invalid", f"the arguments of {tool} {problem}")


def _missing_right(state: State, spec: ToolSpec, at_us: int) -> str | None:
    """Which right the call lacks; those of the principal, the agent and the grant all count."""
    if not spec.scopes and state.grant is None:
        return None
    agent = agent_principal(state.agent.name, state.agent.version, tenant=state.by.tenant, scopes=state.agent.scopes)
    return effective(state.by, agent, state.grant).refusal(spec, at_us) or None


def _rewritten_after_people(found: CallExamined) -> Refused:
    """What a person has put in place of arguments is final, and so a hook that wants other ones refuses it.

    Each hook was only shown what those before it had left: nobody has judged what the person wrote.
    """
    by_hooks = f"hook {', '.join(ruling.hook for ruling in found.hooks)}"
    reason = "hooks would change the arguments that a person has put in place of the others"
    return Refused("blocked", reason, Verdict(effect="deny", rule=by_hooks, reason=reason))


def changed(state: State, tool: str, written: dict[str, Any]) -> dict[str, Any]:
    """The arguments that a person puts in place of others, with defaults. Raises `Conflict` if they do not fit."""
    spec = state.agent.tool(tool)
    if spec is None:
        return {}
    arguments, refused = _validated(spec, written)
    if refused is not None:
        raise Conflict(f"Nothing is approved: {refused.reason}.", hint="Correct them, or approve the call as it is.")
    return arguments


def _judge_by_policies(
    state: State,
    spec: ToolSpec | None,
    versions: Sequence[dict[str, Any]],
    approved: Approval | None,
    at_us: int,
) -> Judgement:
    """The verdict on the last of these `versions` of the arguments, unless one before it is denied.

    What a hook has rewritten is judged as it was asked for, too: nobody can rewrite their way around a DENY.
    """
    guard, arguments = state.guard, versions[-1]
    if state.examined is None and (fixed := guard.fixed(called(spec, state.model.name))) is not None:
        return Passed(arguments, fixed) if fixed.effect == "allow" else Refused("blocked", fixed.reason, fixed)
    if state.examined is not None and len(state.examined.answers) != _answers_wanted(state):
        refused = _examined_verdict(state, Verdict("allow"))
        return Refused("blocked", refused.reason, refused)
    answers = answers_of(state, at_us)
    facts = facts_of(state, spec, arguments, at_us)
    verdict = guard.judge(facts, answers)
    if len(versions) > 1:
        as_asked = guard.judge(facts_of(state, spec, versions[0], at_us), answers)
        verdict = as_asked if as_asked.effect == "deny" else verdict
    shadow = guard.try_out(facts, answers) if guard.shadow else ()
    if verdict.effect == "deny":
        return Refused("blocked", verdict.reason or "the policy forbids it", verdict, shadow)
    verdict = _examined_verdict(state, verdict)
    if verdict.effect == "deny":
        return Refused("blocked", verdict.reason, verdict, shadow)
    if verdict.effect == "allow":
        return Passed(arguments, verdict, shadow)
    try:
        digest_now = digest_of(state, spec.name if spec is not None else "", arguments)
    except ValueError as error:
        return Refused("invalid", f"the call cannot be shown to a person exactly: {error}", verdict, shadow)
    if _has_been_approved(state, digest_now, verdict.demands, approved, at_us):
        return Passed(arguments, verdict, shadow)
    return Asked(arguments, digest_now, verdict, facts, shadow)


def _examined_verdict(state: State, verdict: Verdict) -> Verdict:
    """What hooks and budgets add to a verdict that is no DENY. They can refuse or ask, and never allow."""
    found = state.examined
    if found is None:
        return verdict
    demands = list(verdict.demands)
    hooks = combine(found.hooks)
    by_hooks = f"hook {', '.join(hooks.hooks)}"
    if strictest(verdict.effect, hooks) == "deny":
        return msgspec.structs.replace(verdict, effect="deny", rule=by_hooks, reason=hooks.reason)
    if hooks.effect == "ask":
        demands.append(Demand(by_hooks, reason=hooks.reason))
    for obstacle in obstacles(found.fitness):
        by_fitness = f"fitness {obstacle.target}"
        if obstacle.effect == "deny":
            return msgspec.structs.replace(verdict, effect="deny", rule=by_fitness, reason=obstacle.reason)
        demands.append(Demand(by_fitness, reason=obstacle.reason))
    if found.refused is not None and not found.asks:
        rule = "budget" if found.budgets else "examination"
        return msgspec.structs.replace(verdict, effect="deny", rule=rule, reason=found.refused)
    if found.refused is not None:
        demands.append(Demand(" ".join(("budget", *found.budgets)), reason=found.refused))
    if len(demands) == len(verdict.demands):
        return verdict
    first = demands[0]
    return msgspec.structs.replace(
        verdict,
        effect="require",
        rule=verdict.rule if verdict.effect == "require" else first.rule,
        reason=verdict.reason if verdict.effect == "require" else first.reason,
        demands=tuple(demands),
    )


def _has_been_approved(
    state: State, digest_now: str, demands: Sequence[Demand], approved: Approval | None, at_us: int
) -> bool:
    """Whether people have approved exactly this call, and all that is demanded now was demanded then."""
    if approved is not None and approved.digest == digest_now and _covers(approved.demands, demands):
        return True
    return any(
        lasting.digest == digest_now
        and (lasting.until_us is None or at_us < lasting.until_us)
        and _covers(lasting.demands, demands)
        for lasting in state.lasting
    )


def _covers(then: Sequence[Demand], now: Sequence[Demand]) -> bool:
    met = {(demand.rule, demand.count, demand.roles) for demand in then}
    return all((demand.rule, demand.count, demand.roles) in met for demand in now)


def answers_of(state: State, at_us: int) -> Answers:
    """What the session's own past, and what was found out about others, says to the questions of its policies."""
    questions = state.guard.own_questions
    found = state.examined.answers if state.examined is not None else ()
    if state.has_moved:
        return Answers(found[: len(questions)], found[len(questions) :])
    return Answers((state.past or Past(questions)).answers(at_us) if questions else (), found)


def facts_of(state: State, spec: ToolSpec | None, arguments: dict[str, Any], at_us: int) -> Facts:
    """Everything that rules may ask about a call of this tool (None: of the model itself) in this session now."""
    agent, by, limits = state.agent, state.by, state.agent.limits
    found = state.examined or _NOTHING
    tokens = state.usage.total_tokens
    facts = Facts(
        operation="model" if spec is None else "tool",
        tool=state.model.name if spec is None else spec.name,
        effect="read",
        args=arguments,
        agent=agent.name,
        agent_version=agent.version,
        principal=by.id,
        principal_kind=by.kind,
        principal_roles=frozenset(by.roles),
        principal_scopes=frozenset(by.scopes),
        tenant=by.tenant,
        session=state.session,
        steps=state.steps,
        tool_calls=state.tool_calls,
        tokens=tokens,
        cost_microusd=state.cost_microusd,
        elapsed_us=max(0, at_us - state.started_us - state.waited_us),
        tokens_left=_least(limits.tokens, tokens, found.tokens_left),
        cost_left_microusd=_least(limits.cost_microusd, state.cost_microusd, found.cost_left_microusd),
        calls_left=_least(limits.tool_calls, state.tool_calls, found.calls_left),
        at_us=at_us,
        labels=state.provenance.labels,
        inputs=state.inputs,
        sources=state.provenance,
    )
    return facts if spec is None else with_flow(facts, spec, state.provenance, state.guard.uses)


_NOTHING = CallExamined("")


def _least(limit: int | None, used: int, left: int | None) -> int | None:
    """What the tighter of a limit and a budget leaves."""
    own = None if limit is None else limit - used
    return left if own is None else own if left is None else min(own, left)


def digest_of(state: State, tool: str, arguments: Mapping[str, Any]) -> str:
    """What an approval is bound to: SHA-256 over canonical JSON of everything that makes this call what it is.

    Raises `ValueError` for arguments that have no canonical JSON.
    """
    if state.gate < 2:
        return digest_of_arguments(arguments)
    what = {
        "agent": str(state.agent),
        "principal": state.by.id,
        "tenant": state.by.tenant,
        "tool": tool,
        "arguments": arguments,
    }
    if state.is_routed and not tool:
        what["model"] = f"{state.model.provider}:{state.model.name}"
    return digest(what)


def digest_of_arguments(arguments: Mapping[str, Any]) -> str:
    """What approvals of the first gate were bound to: SHA-256 of the arguments as JSON with sorted keys."""
    return sha256(msgspec.json.encode(arguments, order="sorted")).hexdigest()


def recorded(state: State, judgement: Passed | Refused | Asked) -> dict[str, Any]:
    """How a judgement is written into its event."""
    verdict = judgement.verdict
    if state.gate < 2:
        return {"rule": verdict.rule}
    policy = f"{verdict.policy}/{verdict.digest}" if verdict.policy else ""
    return {"rule": verdict.rule, "policy": policy, "risk": verdict.risk, "shadow": judgement.shadow}


def shown(state: State, asked: Asked) -> dict[str, Any]:
    """What people are shown who decide about a call, beyond the call and the rule."""
    spec = state.agent.tool(asked.facts.tool)
    return {
        "demands": asked.verdict.demands,
        "risk_parts": state.guard.risk_parts(asked.facts, answers_of(state, asked.facts.at_us)),
        "effect": None if spec is None else spec.effect,
        "cost_microusd": state.cost_microusd,
        "evidence": state.provenance.evidence(asked.arguments),
    }


def _unknown(agent: AgentSpec, name: str) -> str:
    names = [tool.name for tool in agent.tools]
    near = did_you_mean(name, names)
    if near is not None:
        return f"there is no tool {name!r} (did you mean {near!r}?)"
    return f"there is no tool {name!r}; there are: {', '.join(names) or 'none'}"
