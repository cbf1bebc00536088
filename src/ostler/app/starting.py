"""What a session stands on when it starts; whatever would keep it from working is found out before there is one."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ostler.app.bootstrap import Parts
from ostler.app.governance import in_force
from ostler.app.identity import grant_problems
from ostler.app.models import Choice
from ostler.app.policy.files import load_policy
from ostler.domain.agent import AgentSpec
from ostler.domain.constraint.policy import Policy
from ostler.domain.grant import Grant
from ostler.domain.guard import Guard
from ostler.domain.identity import Principal, agent_id
from ostler.domain.screening.screen import screen_goal
from ostler.domain.strategy.card import Ability
from ostler.domain.strategy.choice import Needs, StrategySpec, misfit
from ostler.kernel.errors import DefinitionInvalid

PRIORITY_MAX = 1_000
"""Priorities go from minus this to this; each that is in use is a lane of its own in the queue."""


class Ground(NamedTuple):
    """The policies above an agent's own, those that are only tried, and the values of what they declare."""

    layers: tuple[Policy, ...]
    shadow: tuple[Policy, ...]
    inputs: dict[str, Any]


async def ground_of(
    parts: Parts,
    spec: AgentSpec,
    chosen: Choice,
    by: Principal,
    *,
    policy: Policy | str | None,
    inputs: Mapping[str, Any],
    grant: Grant | None,
) -> Ground:
    """What holds for a session of this agent, beyond the agent. Raises `DefinitionInvalid`, `Halted`."""
    held = await in_force(parts, by.tenant, spec.name)
    above = () if policy is None else (policy if isinstance(policy, Policy) else load_policy(policy),)
    ground = Ground((*held.layers, *above), held.shadow, dict(inputs))
    guard = Guard(spec.policy, ground.layers, ground.shadow)
    problems = guard.problems_with(ground.inputs) + _problems_with_model(parts, guard, spec, chosen)
    if grant is not None:
        actor = agent_id(spec.name, spec.version)
        problems += [("grant", problem) for problem in await grant_problems(parts, grant, by, actor)]
    if problems:
        raise DefinitionInvalid("the start", problems)
    return ground


def _problems_with_model(parts: Parts, guard: Guard, spec: AgentSpec, chosen: Choice) -> list[tuple[str, str]]:
    """What keeps the model from driving the agent, as far as its card says; of several, that is looked at later."""
    problems = [("policy", missing) for missing in _missing_detectors(parts, guard, spec, chosen)]
    if chosen.candidates:
        name = chosen.strategy.function if chosen.strategy is not None else ""
        is_known = not name or name in parts.choosers.names
        return (
            problems if is_known else [*problems, ("strategy", f"asks the function {name!r}, which is not known here")]
        )
    wanted: list[Ability] = []
    if spec.tools and chosen.model.tools == "native":
        wanted.append("tools")
    if spec.returns is not None:
        wanted.append("structured")
    card = parts.models.cards.of(chosen.model).card
    wrong = misfit(StrategySpec(), card, Needs(abilities=tuple(wanted)))
    if wrong is None:
        return problems
    known = f"`ostler models show {card.name}` says what is known of it"
    return [*problems, ("model", f"{chosen.model} cannot drive {spec}: {wrong} ({known})")]


def _missing_detectors(parts: Parts, guard: Guard, spec: AgentSpec, chosen: Choice) -> Sequence[str]:
    """The detectors that the policies name for the agent's tools and models, and nobody here knows."""
    models = [card.model for card in chosen.candidates] or [chosen.model]
    wanted = dict.fromkeys(name for model in models for name in guard.detectors(spec.tools, model.name))
    return parts.detectors.missing(tuple(wanted))


def problems_with_request(goal: object, priority: int) -> list[tuple[str, str]]:
    """What is wrong with what a session is to be started for, whoever runs it."""
    if not isinstance(goal, str):
        return [("goal", f"expected text, got {type(goal).__name__}")]
    problems = screen_goal(goal)
    if abs(priority) > PRIORITY_MAX:
        problems.append(("priority", f"is not between -{PRIORITY_MAX} and {PRIORITY_MAX}: {priority}"))
    return problems
