"""Strategies as people write them, and that operators can put others in their place without touching an agent."""

from pathlib import Path
from typing import Any

import pytest

from ostler import Agent, Limits, ModelSettings, ModelWanted, Price, Runtime, Strategy, chooser, tool
from ostler.app import definition
from ostler.app.agents import parse
from ostler.app.budgets import BudgetTables
from ostler.app.cards import ModelTable
from ostler.app.providers import ProviderTable
from ostler.app.settings import ProjectFile, Settings, resolve
from ostler.app.strategies import StrategyTable
from ostler.domain.model import ModelRef, Reply, Usage
from ostler.domain.session.events import AgentFailed, AgentStarted, CallExamined, ModelRequested
from ostler.domain.strategy.choice import Preference, StrategySpec
from ostler.kernel.errors import ConfigurationError, DefinitionInvalid, ProviderOverloaded
from ostler.testing import Scripted, calls
from ostler.testing.wire import WireServer
from tests.runtime.watching import events, only

FILE = """
name = "asker"
instructions = "Answer."
"""


@pytest.mark.parametrize(
    ("written", "spec", "models"),
    [
        ('models = ["a:x", "b:y"]', StrategySpec(), ("a:x", "b:y")),
        ('[strategy]\nmodels = ["a:x", "b:y"]', StrategySpec(), ("a:x", "b:y")),
        (
            '[strategy]\nkind="cheapest"\nmodels=["a:x", "b:y"]\nquality=0.5\nregions=["eu"]\ndata_class="internal"',
            StrategySpec("cheapest", 0.5, ("eu",), "internal"),
            ("a:x", "b:y"),
        ),
        (
            '[strategy]\nkind = "rules"\nmodels = ["a:x", "b:y"]\nrules = [{ if = "session.steps > 3", use = "b:y" }]',
            StrategySpec("rules", rules=(Preference("session.steps > 3", "b:y"),)),
            ("a:x", "b:y"),
        ),
    ],
)
def test_an_agents_file_names_several_models_and_how_one_is_chosen(
    written: str, spec: StrategySpec, models: tuple[str, ...]
) -> None:
    _, found = parse(FILE + written, [], source="asker.toml")
    assert isinstance(found, Strategy)
    assert (found.spec, found.models) == (spec, models)


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ('model = "a:x"\nmodels = ["a:x"]', "models: is one too many"),
        ("[strategy]\nmodels = []", "strategy.models: is empty"),
        ('[strategy]\nmodels = ["a:x", "a:x"]', "'a:x' is there twice"),
        ('[strategy]\nkind = "best-of"\nmodels = ["a:x"]', "strategy.kind: 'best-of' is none of 'fallback', "),
        ('[strategy]\nkind = "rules"\nmodels = ["a:x", "b:y"]', "strategy.rules: is missing"),
        ('[strategy]\nkind = "function"\nmodels = ["a:x", "b:y"]', "function: is missing"),
        ('[strategy]\nmodels = ["a:x"]\nfunction = "pick"', "is for the kind 'function', and this is 'fallback'"),
        (
            '[strategy]\nkind = "rules"\nmodels = ["a:x"]\nrules = [{ if = "steps > 3", use = "b:y" }]',
            "strategy.rules[0].if: there is no 'steps'",
        ),
        (
            '[strategy]\nkind = "rules"\nmodels = ["a:x"]\nrules = [{ if = "1 > 2", use = "b:y" }]',
            "'b:y' is none of: a:x",
        ),
        ('[strategy]\nmodels = ["a:x"]\nquality = 3', "quality: must be between 0 and 1, got 3"),
        ('[strategy]\nmodels = ["a:x"]\nhalf_life_s = 0', "half_life_s: must be positive, got 0"),
    ],
)
def test_mistakes_in_a_strategy_are_told_with_their_places(written: str, problem: str) -> None:
    with pytest.raises(DefinitionInvalid) as invalid:
        parse(FILE + written, [], source="asker.toml")
    assert problem in invalid.value.message


def test_a_strategy_in_python_is_checked_like_one_in_a_file() -> None:
    with pytest.raises(DefinitionInvalid, match=r"budget\.cost_left"):
        Strategy("rules", "a:x", "b:y", rules={"budget.cost_lef < USD 1": "b:y"})
    with pytest.raises(DefinitionInvalid, match="is there twice"):
        Agent("asker", model=["a:x", "a:x"])
    with pytest.raises(DefinitionInvalid, match="neither a name"):
        Agent("asker", model=["a:x", 5])  # type: ignore[list-item]


HOUSE = StrategyTable(models=("house:big", "house:small"), kind="cheapest")


def settings(folder: Path, url: str = "http://127.0.0.1:9", **more: Any) -> Settings:
    prices = {"house:big": Price(5_000_000, 5_000_000), "house:small": Price(1_000_000, 1_000_000)}
    project = ProjectFile(
        providers={"house": ProviderTable(f"{url}/v1")}, prices=prices, **{"strategies": {"house": HOUSE}, **more}
    )
    return resolve({"HOME": str(folder)}, folder, store="memory:", project=project)


async def test_operators_swap_the_strategy_of_a_project_without_touching_an_agent(tmp_path: Path) -> None:
    async with WireServer() as server:
        server.answers(*[Reply("hello", usage=Usage(100, 100))] * 4)
        asker = Agent("asker", "Answer.")
        expected = [("route:house", "house:small"), ("house:big", None)]
        for model, chosen in expected:
            async with Runtime.open(settings(tmp_path, server.url, model=model)) as runtime:
                session = await runtime.start(asker, "Hello?")
                assert (await session.result(timeout_s=10)).text == "hello"
                requested = await only(session, ModelRequested)
                assert (requested.choice.model if requested.choice else None) == chosen
        async with Runtime.open(settings(tmp_path, server.url, model="house:big")) as runtime:
            session = await runtime.start(asker, "Hello?", model="route:house")
            await session.result(timeout_s=10)
            started, state = await only(session, AgentStarted), await session.state()
    assert [card.name for card in started.candidates] == ["house:big", "house:small"]
    assert (started.strategy, state.model.name) == (StrategySpec("cheapest"), "small")
    assert state.cost_microusd == 200


async def test_a_strategy_that_is_not_there_says_which_are(tmp_path: Path) -> None:
    async with Runtime.open(settings(tmp_path)) as runtime:
        with pytest.raises(ConfigurationError, match="no strategy 'hose'") as unknown:
            await runtime.start(Agent("asker", "Answer."), "Hello?", model="route:hose")
    assert unknown.value.hint == "Did you mean 'house'?"


async def test_a_mistake_in_a_strategy_of_the_project_is_told_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(DefinitionInvalid, match=r"strategies\.house\.rules"):
        settings(tmp_path, strategies={"house": StrategyTable(models=("a:x",), kind="rules")})


async def test_a_strategy_over_one_model_is_a_fixed_model_and_costs_nothing(tmp_path: Path) -> None:
    one = Scripted("hello", name="one")
    async with Runtime.open(settings(tmp_path)) as runtime:
        session = await runtime.start(Agent("asker", "Answer.", model=[one]), "Hello?")
        await session.result(timeout_s=10)
        seen = await events(session)
    assert [type(event).__name__ for event in seen] == [
        *("AgentStarted", "ModelRequested", "ModelCompleted", "AgentCompleted")
    ]
    assert isinstance(seen[0], AgentStarted)
    assert (seen[0].strategy, seen[0].candidates) == (None, ())


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (StrategyTable(("house:big", "house:small"), regions=("eu",)), "its region is not known, not eu"),
        (
            StrategyTable(("house:big",), data_class="restricted"),
            "whether it may be shown restricted data is not known",
        ),
        (StrategyTable(("house:big", "house:small"), kind="best"), "its quality is not known"),
    ],
)
async def test_models_of_which_none_can_ever_be_asked_are_refused_before_there_is_a_session(
    table: StrategyTable, problem: str, tmp_path: Path
) -> None:
    async with Runtime.open(settings(tmp_path, strategies={"house": table})) as runtime:
        with pytest.raises(DefinitionInvalid, match=problem):
            await runtime.start(Agent("asker", "Answer."), "Hello?", model="route:house")
        assert await runtime.sessions() == []


@tool(effect="read")
def look() -> str:
    """Look."""
    return "a wall"


async def test_a_model_that_cannot_do_what_the_agent_needs_is_refused_at_the_start(tmp_path: Path) -> None:
    known = settings(tmp_path, models={"house:small": ModelTable(abilities=("images",))})
    async with Runtime.open(known) as runtime:
        problem = r"house:small \(live\) cannot drive looker@1: it has no tools \(`ostler models show house:small` says"
        with pytest.raises(DefinitionInvalid, match=problem):
            await runtime.start(Agent("looker", "Look.", tools=[look]), "Look!", model="house:small")


async def test_a_limit_of_cost_is_refused_if_the_price_of_any_candidate_is_not_known(tmp_path: Path) -> None:
    async with Runtime.open(settings(tmp_path)) as runtime:
        asker = Agent("asker", "Answer.", model=["house:big", "house:else"], limits=Limits(cost_microusd=1_000))
        with pytest.raises(DefinitionInvalid, match="the price of house:else"):
            await runtime.start(asker, "Hello?")


def two() -> tuple[Scripted, Scripted]:
    ask = calls(("look", {}))
    return Scripted(ask, "from a", name="a"), Scripted(ask, "from b", name="b")


async def test_a_function_of_ones_own_chooses_and_where_it_fails_the_order_does(tmp_path: Path) -> None:
    seen: list[ModelWanted] = []

    @chooser()
    def pick(wanted: ModelWanted) -> str:
        seen.append(wanted)
        return "scripted:b" if wanted.step == 1 else "scripted:none"

    agent = Agent("looker", "Look.", tools=[look], model=Strategy("function", *two(), function=pick))
    async with Runtime.open(settings(tmp_path)) as runtime:
        session = await runtime.start(agent, "Look!")
        assert (await session.result(timeout_s=10)).text == "from a"
        requested = [event for event in await events(session) if isinstance(event, ModelRequested)]
    assert [one.choice.because for one in requested if one.choice] == [
        "the function pick says so",
        "the function pick says 'scripted:none', which cannot be asked: the first that can",
    ]
    assert [(one.step, one.agent, one.goal, one.needs.abilities) for one in seen] == [
        (number, "looker", "Look!", ("tools",)) for number in (1, 2)
    ]


async def test_a_function_that_nobody_knows_here_is_refused_at_the_start(tmp_path: Path) -> None:
    agent = Agent("asker", "Answer.", model=Strategy("function", *two(), function="pick"))
    async with Runtime.open(settings(tmp_path)) as runtime:
        with pytest.raises(DefinitionInvalid, match="asks the function 'pick', which is not known here"):
            await runtime.start(agent, "Hello?")


async def test_a_session_goes_on_in_another_process_with_the_models_of_its_strategy(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/ostler.db"
    busy = ProviderOverloaded("busy", retry_after_s=3_600)
    async with Runtime.open(store, worker=False) as runtime:
        first = Strategy("fallback", Scripted(busy, name="a"), Scripted("from b", name="b"))
        session = await runtime.start(Agent("asker", "Answer.", model=first), "Hello?")
    again = Strategy("fallback", Scripted(busy, name="a"), Scripted("from b", name="b"))
    async with Runtime.open(store, agents=[Agent("asker", "Answer.", model=again)]) as runtime:
        result = await (await runtime.session(session.id)).result(timeout_s=10)
    assert result.text == "from b"


async def test_no_model_left_ends_the_session_and_says_of_each_why(tmp_path: Path) -> None:
    one, other = two()
    small = ModelRef("scripted", "scripted", "b", window_tokens=10)
    other.ref = small
    one.ref = ModelRef("scripted", "scripted", "a", window_tokens=5)
    async with Runtime.open(settings(tmp_path)) as runtime:
        session = await runtime.start(Agent("asker", "Answer.", model=[one, other]), "Hello? " * 40)
        result = await session.result(timeout_s=10)
        seen = await events(session)
    assert (result.status, result.reason) == ("failed", "no_model")
    assert "scripted:a: about" in result.text
    assert "scripted:b: about" in result.text
    assert [type(event) for event in seen] == [AgentStarted, CallExamined, AgentFailed]


def priced(name: str, price: Price, *turns: Any) -> Scripted:
    model = Scripted(*turns, name=name)
    model.ref = ModelRef("scripted", "scripted", name, price=price)
    return model


async def test_the_best_that_the_budget_of_the_tenant_still_pays_for_is_asked(tmp_path: Path) -> None:
    ask = calls(("look", {}), usage=Usage(10, 400))
    big = priced("big", Price(10_000_000, 100_000_000), ask, ask)
    small = priced("small", Price(100_000, 1_000_000), ask, "from small")
    qualities = {"scripted:big": ModelTable(quality=0.9), "scripted:small": ModelTable(quality=0.2)}
    budgets = definition.read({"tenants": {"*": {"usd": 0.045}}}, BudgetTables, source="budgets")
    agent = Agent("looker", "Look.", tools=[look], model=Strategy("best", big, small)).with_settings(
        ModelSettings(max_tokens=100)
    )
    async with Runtime.open(settings(tmp_path, models=qualities, budgets=budgets)) as runtime:
        session = await runtime.start(agent, "Look!")
        result = await session.result(timeout_s=10)
        seen = await events(session)
    assert result.text == "from small"
    asked = [event.choice for event in seen if isinstance(event, ModelRequested) and event.choice]
    assert [one.model for one in asked] == ["scripted:big", "scripted:small"]
    ((name, reason),) = asked[1].excluded
    assert name == "scripted:big"
    assert reason.startswith("it would cost about ")
    assert reason.endswith("and 0.0049 are left")
