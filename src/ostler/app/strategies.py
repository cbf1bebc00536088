"""Strategies as people write them: in Python, in an agent's file, in `ostler.toml`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from ostler.app import definition
from ostler.app.definition import Problem
from ostler.domain.model import ModelRef
from ostler.domain.strategy.card import DataClass
from ostler.domain.strategy.choice import HALF_LIFE_S, Kind, Preference, StrategySpec
from ostler.domain.strategy.rules import problem_with
from ostler.kernel.errors import DefinitionInvalid
from ostler.ports import ModelProvider

if TYPE_CHECKING:
    from ostler.runtime.router import Chooser

ROUTE = "route:"
"""What the name of a strategy of `ostler.toml` begins with, where a model is named."""


class ModelObject(ModelProvider, Protocol):
    """A model that is an object of the user's own program, and says which one it is."""

    ref: ModelRef


class StrategyTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[strategy]` of an agent's file, and `[strategies.NAME]` of a project: a `StrategySpec` and its models by name.

    The models are in the order in which they are preferred, if nothing else counts.
    """

    models: tuple[str, ...]
    kind: Kind = "fallback"
    quality: float | None = None
    regions: tuple[str, ...] = ()
    data_class: DataClass | None = None
    rules: tuple[Preference, ...] = ()
    function: str = ""
    half_life_s: float = HALF_LIFE_S


class Strategy:
    """Which of several models answers, request by request.

        Strategy("fallback", "anthropic:claude-…", "openai:gpt-…")
        Strategy("cheapest", "openai:a", "openai:b", quality=0.7, regions=["eu"])
        Strategy("rules", "openai:big", "openai:small", rules={"budget.cost_left < USD 0.10": "openai:small"})

    `kind` is what counts among the models that can answer: their order (`fallback`), the price (`cheapest`), the
    quality that can be paid for (`best`), how long they take (`fastest`), `rules`, what came of earlier calls
    (`adaptive`), or a `function` of your own (see `chooser`).
    """

    def __init__(
        self,
        kind: Kind,
        *models: str | ModelRef | ModelObject,
        quality: float | None = None,
        regions: tuple[str, ...] | list[str] = (),
        data_class: DataClass | None = None,
        rules: Mapping[str, str] | None = None,
        function: "Chooser | str" = "",
        half_life_s: float = HALF_LIFE_S,
    ) -> None:
        """`rules` are models by the conditions under which they answer, in their order. Raises `DefinitionInvalid`."""
        self.models = models
        self.chooser = None if isinstance(function, str) else function
        written = StrategySpec(
            kind,
            quality,
            tuple(regions),
            data_class,
            tuple(Preference(condition, use) for condition, use in (rules or {}).items()),
            function if isinstance(function, str) else function.name,
            half_life_s,
        )
        source = f"strategy {kind!r}"
        self.spec = definition.read(msgspec.to_builtins(written), StrategySpec, source=source)
        if problems := problems_in(self.spec, [name_of(model) for model in models]):
            raise DefinitionInvalid(source, problems)

    def __repr__(self) -> str:
        return f"Strategy({self.spec.kind!r}, {', '.join(map(name_of, self.models))})"


def strategy_of(table: StrategyTable) -> Strategy:
    """The strategy that a table is. Raises `DefinitionInvalid`."""
    return Strategy(
        table.kind,
        *table.models,
        quality=table.quality,
        regions=table.regions,
        data_class=table.data_class,
        rules={rule.condition: rule.use for rule in table.rules},
        function=table.function,
        half_life_s=table.half_life_s,
    )


def with_names(strategy: Strategy, names: list[str]) -> StrategySpec:
    """What is recorded of a strategy whose models turned out to be called so."""
    called = dict(zip(map(name_of, strategy.models), names, strict=True))
    rules = tuple(Preference(rule.condition, called[rule.use]) for rule in strategy.spec.rules)
    return msgspec.structs.replace(strategy.spec, rules=rules)


def objects_in(model: str | ModelRef | ModelObject | Strategy | None) -> list[ModelObject]:
    """The objects of the user's own program among models."""
    named = model.models if isinstance(model, Strategy) else (model,)
    return [one for one in named if one is not None and not isinstance(one, str | ModelRef)]


def name_of(model: str | ModelRef | ModelObject) -> str:
    """What a model is called."""
    if isinstance(model, str):
        return model
    ref = model if isinstance(model, ModelRef) else model.ref
    return f"{ref.provider}:{ref.name}"


def problems_in(spec: StrategySpec, models: list[str]) -> list[Problem]:
    """Everything that is wrong with a strategy over models of these names."""
    problems: list[Problem] = []
    if not models:
        problems.append(("models", "is empty: name those that may answer"))
    problems += [("models", f"{name!r} is there twice") for name in {name for name in models if models.count(name) > 1}]
    for number, rule in enumerate(spec.rules):
        if wrong := problem_with(rule.condition):
            problems.append((f"rules[{number}].if", wrong))
        if rule.use not in models:
            problems.append((f"rules[{number}].use", f"{rule.use!r} is none of: {', '.join(models)}"))
    needed: dict[Literal["rules", "function"], Any] = {"rules": spec.rules, "function": spec.function}
    for field, value in needed.items():
        if bool(value) != (spec.kind == field):
            what = "is missing" if spec.kind == field else f"is for the kind {field!r}, and this is {spec.kind!r}"
            problems.append((field, what))
    if spec.quality is not None and not 0 <= spec.quality <= 1:
        problems.append(("quality", f"must be between 0 and 1, got {spec.quality:g}"))
    if not spec.half_life_s > 0:
        problems.append(("half_life_s", f"must be positive, got {spec.half_life_s:g}"))
    return problems


def problems_in_strategies(tables: Mapping[str, StrategyTable]) -> list[Problem]:
    """Everything that is wrong with the tables, by its place in the file."""
    problems: list[Problem] = []
    for name, table in tables.items():
        try:
            strategy_of(table)
        except DefinitionInvalid as error:
            problems += [(f"strategies.{name}.{path}", what) for path, what in error.problems]
    return problems
