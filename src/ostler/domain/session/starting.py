"""How a session starts."""

from ostler.domain.session import commands as command
from ostler.domain.session.events import AgentStarted
from ostler.kernel.errors import DefinitionInvalid


def started_by(asked: command.Start) -> AgentStarted:
    """The first event of a session. Raises `DefinitionInvalid` with everything that is in its way."""
    if problems := _problems(asked):
        raise DefinitionInvalid(f"the start of {asked.agent}", problems)
    return AgentStarted(
        session=asked.session,
        agent=asked.agent,
        model=asked.model,
        goal=asked.goal,
        by=asked.by,
        workspace=asked.workspace,
        sandbox=asked.sandbox,
        priority=asked.priority,
        layers=asked.layers,
        shadow=asked.shadow,
        inputs=asked.inputs,
        grant=asked.grant,
        is_budgeted=asked.is_budgeted,
        holds=asked.holds,
        gate=asked.gate,
        images=asked.images,
        strategy=asked.strategy,
        candidates=asked.candidates,
    )


def _problems(asked: command.Start) -> list[tuple[str, str]]:
    problems = []
    if not asked.goal.strip():
        problems.append(("goal", "is empty: say what the agent is to reach"))
    models = [card.model for card in asked.candidates] or [asked.model]
    for model in models:
        if asked.agent.limits.cost_microusd is not None and model.kind == "live" and model.price is None:
            problems.append(("limits.cost_microusd", f"cannot be kept: the price of {model} is not known"))
    if len({model.tools for model in models}) > 1:
        problems.append(("strategy", "chooses among models with native tool calling and models without: take one kind"))
    if len({card.name for card in asked.candidates}) < len(asked.candidates):
        problems.append(("strategy", "has two candidates of one name"))
    return problems
