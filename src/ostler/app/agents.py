"""Agents with their code, and agents from files."""

import re
import tomllib
from collections.abc import Iterable, Sequence
from copy import copy
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import msgspec

from ostler.adapters.tools.functions import Tool
from ostler.adapters.tools.signature import schema_of
from ostler.app import definition
from ostler.app.agent_memory import NAMES as MEMORY_TOOL_NAMES
from ostler.app.agent_memory import memory_tools, problems_in_agent_memory
from ostler.app.models import Wanted
from ostler.app.policy.files import load_policy, policy_from
from ostler.app.strategies import ModelObject, Strategy, StrategyTable, strategy_of
from ostler.domain.agent import AgentSpec, ContextSettings, Limits
from ostler.domain.constraint.policy import Policy, Rule
from ostler.domain.constraint.thresholds import are_thresholds, thresholds
from ostler.domain.memory.settings import MemorySettings
from ostler.domain.model import ModelRef, ModelSettings
from ostler.domain.registers import RESERVED
from ostler.domain.schema import compile_schema, validator_for
from ostler.domain.suggest import did_you_mean
from ostler.domain.tool import Isolation, Role, ToolSpec, is_at_least
from ostler.kernel.errors import DefinitionInvalid, NotFound
from ostler.runtime.hooks import Hook


class Agent:
    """An agent and its code: what it is told, the functions it may call, the model that drives it.

    `name` may say the version (`clerk@3`). `model` is a name (`anthropic:claude-…`, see `ostler.app.models`), a
    `ModelRef`, or an object that answers itself (such as `ostler.testing.Scripted`); None takes what the environment
    offers. `rules` are a policy, the path of a file of rules, the name of a policy that comes with Ostler, or a few
    rules on their own, which allow what none of them speaks of. `hooks` are asked in their order. `returns` makes the
    answer JSON: a JSON Schema, or a type that has one (a dataclass, a TypedDict, a msgspec or pydantic model …).
    """

    def __init__(
        self,
        name: str,
        instructions: str = "You are a helpful agent.",
        *,
        tools: Sequence[Tool[..., Any]] = (),
        model: Wanted | Sequence[str | ModelRef | ModelObject] | None = None,
        rules: Sequence[Rule] | Policy | Path | str = (),
        hooks: Sequence[Hook] = (),
        limits: Limits | None = None,
        returns: Any = None,
    ) -> None:
        name, version = _name_and_version(name)
        source = f"agent {name!r}"
        self.tools = _functions(tools, source)
        self.model = _model(model, source)
        self.hooks = tuple(hooks)
        written = AgentSpec(
            name=name,
            version=version,
            instructions=instructions,
            tools=tuple(tool.spec for tool in self.tools),
            policy=_policy(rules, name, version),
            limits=limits or Limits(),
            hooks=tuple(dict.fromkeys(hook.name for hook in hooks)),
            returns=_returns(returns, source),
        )
        # Read like a file: what is stored is what was meant (1 s is 1.0 s), and mistakes are told with their paths.
        self.spec = definition.read(msgspec.to_builtins(written), AgentSpec, source=source)
        check(self.spec, source)

    def with_settings(self, *settings: ModelSettings | ContextSettings | MemorySettings) -> "Agent":
        """The same agent, with these settings of how its model replies, of what it still sees in a long session, or of
        what it remembers from session to session.
        """
        source = f"agent {self.spec.name!r}"
        other = copy(self)
        written = self.spec
        for one in settings:
            match one:
                case ModelSettings():
                    written = msgspec.structs.replace(written, settings=one)
                case ContextSettings():
                    written = msgspec.structs.replace(written, context=one)
                case MemorySettings():
                    own = [tool for tool in written.tools if tool.name not in MEMORY_TOOL_NAMES]
                    written = msgspec.structs.replace(written, memory=one, tools=(*own, *memory_tools(one)))
        other.spec = definition.read(msgspec.to_builtins(written), AgentSpec, source=source)
        check(other.spec, source)
        return other


def _returns(returns: Any, source: str) -> dict[str, Any] | None:
    """The schema of what an agent returns. Raises `DefinitionInvalid`."""
    if returns is None or isinstance(returns, dict):
        return returns
    try:
        return schema_of(returns)
    except (TypeError, ValueError) as error:
        problem = f"is neither a JSON Schema nor a type that has one: {str(error).splitlines()[-1]}"
        raise DefinitionInvalid(source, [("returns", problem)]) from error


def _name_and_version(name: str) -> tuple[str, int]:
    """`clerk@3` is version 3 of `clerk`; without it, it is the first."""
    bare, _, version = name.partition("@")
    return (bare, int(version)) if version.isdecimal() else (name, 1)


def _policy(rules: Sequence[Rule] | Policy | Path | str, name: str, version: int) -> Policy:
    if isinstance(rules, Policy):
        return rules
    if isinstance(rules, Path | str):
        return load_policy(str(rules))
    return Policy(name=name, version=version, rules=tuple(rules))


class ToolTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an agent's file says of one of its tools; None is what the tool says itself."""

    roles: tuple[Role, ...] | None = None
    destinations: tuple[str, ...] | None = None
    isolation: Isolation | None = None
    timeout_s: float | None = None
    attempts: int | None = None
    share_s: float | None = None
    compensate: str | None = None

    def of(self, spec: ToolSpec) -> ToolSpec:
        """The tool, as this agent has it. It can ask for more isolation, and not for less; and whether a tool remembers
        or recalls, which is what labels go by, it does not say.
        """
        said = {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}
        if self.roles is not None:
            own = [role for role in spec.roles if role in ("remembers", "recalls")]
            said["roles"] = tuple(dict.fromkeys((*own, *self.roles)))
        if self.isolation is not None and not is_at_least(self.isolation, spec.isolation):
            del said["isolation"]
        return msgspec.structs.replace(spec, **said)


class AgentFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An agent as its TOML file has it: an `AgentSpec` whose tools are names or globs of the tools at hand.

    `policy` may also be the path of a file of rules, relative to this file, the name of a policy that comes with
    Ostler, or a table of thresholds (`max_risk_score = 0.7`). `tool` says more of some of its tools, by their names.
    `returns_file` is the path of a JSON Schema, for `returns`. With `memory` it also has those tools of memory.
    """

    name: str
    version: int = 1
    instructions: str = "You are a helpful agent."
    tools: tuple[str, ...] = ()
    model: str | None = None
    models: tuple[str, ...] = ()
    strategy: StrategyTable | None = None
    policy: Policy = Policy()
    limits: Limits = Limits()
    settings: ModelSettings = ModelSettings()
    protocol: Literal["react"] = "react"
    on_unknown: Literal["tell", "pause"] = "tell"
    on_refusal: Literal["tell", "end"] = "tell"
    scopes: tuple[str, ...] = ("*",)
    hooks: tuple[str, ...] = ()
    tool: dict[str, ToolTable] = {}
    returns: dict[str, Any] | None = None
    returns_file: str | None = None
    context: ContextSettings = ContextSettings()
    memory: MemorySettings | None = None


def load(path: Path, tools: Sequence[ToolSpec]) -> tuple[AgentSpec, str | Strategy | None]:
    """The agent that a TOML file defines, and the model it names. Raises `DefinitionInvalid` with every problem."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise NotFound(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DefinitionInvalid(str(path), [("", f"is not UTF-8 text: {error.reason}")]) from error
    return parse(text, tools, source=str(path), folder=path.parent)


def builtin(name: str, tools: Sequence[ToolSpec]) -> tuple[AgentSpec, str | Strategy | None] | None:
    """An agent that comes with Ostler."""
    file = resources.files("ostler.app") / "builtin" / f"{name}.toml"
    return parse(file.read_text(), tools, source=f"the built-in agent {name}") if file.is_file() else None


def builtin_names() -> list[str]:
    """The names of the agents that come with Ostler."""
    folder = resources.files("ostler.app") / "builtin"
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))


def parse(
    text: str, tools: Sequence[ToolSpec], *, source: str, folder: Path | None = None
) -> tuple[AgentSpec, str | Strategy | None]:
    """The agent that a TOML text defines, and the model it names. Raises `DefinitionInvalid` with every problem.

    A file of rules that it names is relative to `folder`.
    """
    try:
        data: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DefinitionInvalid(source, [("", f"is not valid TOML: {error}")]) from error
    if isinstance(place := data.get("policy"), str):
        is_file = "." in place or "/" in place
        policy = load_policy(str((folder or Path()) / place) if is_file else place)
        data["policy"] = msgspec.to_builtins(policy)
    elif isinstance(place, dict) and are_thresholds(place):
        data["policy"] = msgspec.to_builtins(thresholds(place, "thresholds"))
    problems = definition.problems_in(data, AgentFile)
    wanted = data.get("tools", [])
    chosen = _choose(wanted, tools, problems) if isinstance(wanted, list) else []
    if problems:
        raise DefinitionInvalid(source, problems)
    file = msgspec.convert(data, AgentFile)
    chosen += memory_tools(file.memory)
    if unknown := [(f"tool.{name}", "is none of its tools") for name in file.tool if name not in _names(chosen)]:
        raise DefinitionInvalid(source, unknown)
    chosen = [file.tool.get(spec.name, ToolTable()).of(spec) for spec in chosen]
    spec = AgentSpec(
        name=file.name,
        version=file.version,
        instructions=file.instructions,
        tools=tuple(chosen),
        policy=file.policy,
        limits=file.limits,
        settings=file.settings,
        protocol=file.protocol,
        on_unknown=file.on_unknown,
        on_refusal=file.on_refusal,
        scopes=file.scopes,
        hooks=file.hooks,
        returns=file.returns if file.returns_file is None else _schema_in(file, folder or Path(), source),
        context=file.context,
        memory=file.memory,
    )
    check(spec, source)
    return spec, _model_in(file, source)


def _model_in(file: AgentFile, source: str) -> str | Strategy | None:
    """The model that a file names, or the models and how one is chosen. Raises `DefinitionInvalid`."""
    said = [name for name in ("model", "models", "strategy") if getattr(file, name)]
    if len(said) > 1:
        raise DefinitionInvalid(source, [(said[1], f"is one too many: there is `{said[0]}` already")])
    try:
        if file.strategy is not None:
            return strategy_of(file.strategy)
        return Strategy("fallback", *file.models) if file.models else file.model
    except DefinitionInvalid as error:
        place = "" if file.strategy is None else "strategy."
        raise DefinitionInvalid(source, [(f"{place}{path}", what) for path, what in error.problems]) from error


def _schema_in(file: AgentFile, folder: Path, source: str) -> dict[str, Any]:
    """The JSON Schema that an agent's file names. Raises `DefinitionInvalid`."""
    assert file.returns_file is not None, "it was looked at"
    if file.returns is not None:
        raise DefinitionInvalid(source, [("returns_file", "is one too many: there is `returns` already")])
    path = folder / file.returns_file
    try:
        schema: dict[str, Any] = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except OSError as error:
        raise DefinitionInvalid(source, [("returns_file", f"{path} cannot be read: {error.strerror}")]) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DefinitionInvalid(source, [("returns_file", f"{path} holds no JSON object: {error}")]) from error
    return schema


def _names(tools: Iterable[ToolSpec]) -> set[str]:
    return {tool.name for tool in tools}


def check(spec: AgentSpec, source: str) -> None:
    """What types cannot say of an agent. Raises `DefinitionInvalid` with every problem."""
    problems: list[definition.Problem] = []
    if not _NAME.fullmatch(spec.name) or spec.name in RESERVED:
        problems.append(("name", f"{spec.name!r} is not a name: lower-case letters, digits, '-' and '_'"))
    seen: set[str] = set()
    for tool in spec.tools:
        if tool.name in seen:
            problems.append(("tools", f"{tool.name!r} is there twice"))
        seen.add(tool.name)
        validator_for(tool.parameters)
        if tool.attempts < 1:
            problems.append((f"tool.{tool.name}.attempts", f"counts the first one, too, and is {tool.attempts}"))
        if tool.share_s is not None and (tool.effect != "read" or tool.share_s < 0):
            problems.append((f"tool.{tool.name}.share_s", "is not negative, and only for tools with effect 'read'"))
        elif tool.share_s is not None and "recalls" in tool.roles:
            problems.append((f"tool.{tool.name}.share_s", "is not for tools that recall: each session has its own"))
    problems += [
        (f"tool.{tool.name}.compensate", f"{tool.compensate!r} is none of its other tools")
        for tool in spec.tools
        if tool.compensate and (tool.compensate == tool.name or spec.tool(tool.compensate) is None)
    ]
    if spec.returns is not None:
        compile_schema(spec.returns, f"what {source} returns")
    if not spec.instructions.strip():
        problems.append(("instructions", "is empty: say what the agent is to do, and how"))
    problems += _problems_in_numbers(spec)
    problems += [] if spec.memory is None else problems_in_agent_memory(spec.memory)
    problems += _problems_in_rules(spec)
    if problems:
        raise DefinitionInvalid(source, problems)


def _problems_in_numbers(spec: AgentSpec) -> list[definition.Problem]:
    retries = spec.limits.retries
    counted = [field for field in Limits.__struct_fields__ if field != "retries"]
    numbers = {f"limits.{field}": getattr(spec.limits, field) for field in counted}
    numbers |= {f"limits.retries.{field}": getattr(retries, field) for field in ("base_s", "cap_s", "for_s")}
    for number, kind in enumerate(retries.kinds):
        at = f"limits.retries.kinds[{number}]"
        numbers |= {f"{at}.{field}": getattr(kind, field) for field in ("base_s", "cap_s", "attempts")}
    numbers |= {f"settings.{field}": getattr(spec.settings, field) for field in ("max_tokens", "timeout_s")}
    numbers |= {"version": spec.version, "policy.version": spec.policy.version}
    numbers |= {"context.window_tokens": spec.context.window_tokens}
    numbers["limits.repairs"] = spec.limits.repairs + 1  # none at all is one way to have it
    problems = [
        (path, f"must be positive, got {value}") for path, value in numbers.items() if not (value is None or value > 0)
    ]
    problems += [
        (path, f"must be at most {RETRY_S_MAX:g}, got {value:g}")
        for path, value in numbers.items()
        if path.startswith("limits.retries.") and value is not None and value > RETRY_S_MAX
    ]
    if "" in spec.settings.stop:
        problems.append(("settings.stop", "has an empty text, which every reply would end with"))
    if spec.settings.share_s is not None and not spec.settings.share_s >= 0:
        problems.append(("settings.share_s", f"must not be negative, got {spec.settings.share_s:g}"))
    if not 0 < spec.context.down_to < spec.context.above < 1:
        shares = f"got {spec.context.down_to:g} and {spec.context.above:g}"
        problems.append(("context", f"down_to and above must be shares of the window, down_to the smaller: {shares}"))
    temperature = spec.settings.temperature
    if temperature is not None and not 0 <= temperature <= 2:
        problems.append(("settings.temperature", f"must be between 0 and 2, got {temperature:g}"))
    return problems


def _problems_in_rules(spec: AgentSpec) -> list[definition.Problem]:
    """A rule that can never match protects nobody, and looks as if it did. Raises `PolicyInvalid`."""
    if spec.policy.text:
        policy_from(spec.policy.text, spec.policy.name, tools=spec.tools)
    problems: list[definition.Problem] = []
    names = [tool.name for tool in spec.tools]
    seen: set[str] = set()
    for number, rule in enumerate(spec.policy.rules):
        path = f"policy.rules[{number}]"
        if not any(fnmatchcase(name, rule.tool) for name in names):
            near = did_you_mean(rule.tool, names)
            hint = f"did you mean {near!r}?" if near else f"there are: {', '.join(names) or 'none'}"
            problems.append((f"{path}.tool", f"matches no tool of this agent: {rule.tool!r} ({hint})"))
        for table, globs in (("where", rule.where), ("unless", rule.unless)):
            problems += [(f"{path}.{table}.{key}", "is empty, and matches nothing") for key in globs if not globs[key]]
        if rule.within_s is not None and rule.effect != "require":
            problems.append((f"{path}.within_s", "only a 'require' can expire"))
        if rule.within_s is not None and not rule.within_s > 0:
            problems.append((f"{path}.within_s", f"must be positive, got {rule.within_s:g}"))
        if rule.name and rule.name in seen:
            problems.append((f"{path}.name", f"{rule.name!r} is the name of another rule, too"))
        seen.add(rule.name)
    return problems


def _functions(tools: object, source: str) -> tuple[Tool[..., Any], ...]:
    """The tools, if that is what they are. Raises `DefinitionInvalid`."""
    if isinstance(tools, str) or not isinstance(tools, Iterable):
        raise DefinitionInvalid(source, [("tools", f"expected a list of tools, got {type(tools).__name__}")])
    functions, problems = [], []
    for number, one in enumerate(tools):
        if isinstance(one, Tool):
            functions.append(one)
        else:
            name = getattr(one, "__name__", repr(one))
            is_function = callable(one) and not isinstance(one, type)
            what = f"{name} is a plain function: write @tool above it" if is_function else f"{name} is not a tool"
            problems.append((f"tools[{number}]", what))
    if problems:
        raise DefinitionInvalid(source, problems)
    return tuple(functions)


def _model(model: Any, source: str) -> Wanted | None:
    """The model or models, if it is something that can be. Raises `DefinitionInvalid`."""
    if isinstance(model, list | tuple):
        return Strategy("fallback", *[_one_model(one, source) for one in model])
    if model is None or isinstance(model, Strategy):
        return model
    return _one_model(model, source)


def _one_model(model: Any, source: str) -> str | ModelRef | ModelObject:
    if isinstance(model, str | ModelRef):
        return model
    if hasattr(model, "ref") and hasattr(model, "complete"):
        own: ModelObject = model
        return own
    problem = f"{model!r} is neither a name such as 'anthropic:claude-…' nor a model object"
    raise DefinitionInvalid(source, [("model", problem)])


_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
RETRY_S_MAX = 1e8
"""Three years; a moment that is much later does not fit into a store."""


def _choose(wanted: list[Any], tools: Sequence[ToolSpec], problems: list[definition.Problem]) -> list[ToolSpec]:
    """The tools that names and globs select, in the order given, each once. Those of memory belong to its settings."""
    tools = [tool for tool in tools if tool.name not in MEMORY_TOOL_NAMES]
    chosen: dict[str, ToolSpec] = {}
    for number, pattern in enumerate(wanted):
        if not isinstance(pattern, str):
            continue  # its type is a problem that is known already
        found = [tool for tool in tools if fnmatchcase(tool.name, pattern)]
        if pattern in MEMORY_TOOL_NAMES:
            problems.append((f"tools[{number}]", f"{pattern!r} is a tool of memory: name it in `tools` of `[memory]`"))
        elif not found:
            names = [tool.name for tool in tools]
            near = did_you_mean(pattern, names)
            hint = f"did you mean {near!r}?" if near else f"there are: {', '.join(names)}"
            problems.append((f"tools[{number}]", f"no tool is called {pattern!r} ({hint})"))
        chosen.update({tool.name: tool for tool in found})
    return list(chosen.values())
