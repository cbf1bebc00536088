"""What a project brings along: its agents, and the Python functions that they use as tools and hooks."""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ostler.adapters.tools.functions import Tool
from ostler.app import agents
from ostler.app.settings import PROJECT_FILE, Settings
from ostler.app.strategies import Strategy
from ostler.domain.agent import AgentSpec
from ostler.domain.suggest import did_you_mean
from ostler.domain.tool import ToolSpec
from ostler.kernel.errors import DefinitionInvalid, NotFound
from ostler.runtime.hooks import Hook
from ostler.runtime.router import Chooser


class Found(msgspec.Struct, frozen=True):
    """An agent, the model that its definition names, and where that is."""

    spec: AgentSpec
    model: str | Strategy | None
    source: str


class Code(NamedTuple):
    """The functions of a project that agents may use as tools, that are asked at hooks, and that choose models."""

    tools: list[Tool[..., Any]]
    hooks: list[Hook]
    choosers: list[Chooser]


def load_code(paths: Sequence[Path]) -> Code:
    """The `@tool`, `@hook` and `@chooser` functions of these Python files, which are run for it.

    Raises `DefinitionInvalid`.
    """
    found = [one for path in paths for one in _functions_of(path)]
    return Code(
        [one for one in found if isinstance(one, Tool)],
        [one for one in found if isinstance(one, Hook)],
        [one for one in found if isinstance(one, Chooser)],
    )


def find_agent(name: str, settings: Settings, tools: Sequence[ToolSpec]) -> Found:
    """The agent in a file (`x.toml`), else the project's agent of this name, else the built-in one.

    Raises `NotFound`, `DefinitionInvalid`.
    """
    if not name.endswith(".toml") and Path(name).is_dir() and name not in agent_names(settings):
        hint = f"There are: {', '.join(agent_names(settings))}. The folder to work in is named by --workspace."
        raise NotFound(f"{name} is a folder, not an agent.", hint=hint)
    if name.endswith(".toml") or "/" in name:
        return Found(*agents.load(Path(name), tools), source=name)
    path = settings.agents / f"{name}.toml"
    if path.is_file():
        return Found(*agents.load(path, tools), source=str(path))
    found = agents.builtin(name, tools)
    if found is None:
        names = agent_names(settings)
        near = did_you_mean(name, names)
        hint = f"Did you mean {near!r}?" if near else f"There are: {', '.join(names) or 'none'}."
        raise NotFound(f"There is no agent {name!r}.", hint=f"{hint} A file is named by its path: ./{name}.toml.")
    return Found(*found, source="built-in")


def agent_names(settings: Settings) -> list[str]:
    """The agents of the project and the built-in ones."""
    own = {path.stem for path in settings.agents.glob("*.toml")}
    return sorted(own | set(agents.builtin_names()))


def _functions_of(path: Path) -> list[Tool[..., Any] | Hook | Chooser]:
    name = f"ostler_project_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if not path.exists():
        raise DefinitionInvalid(str(path), [("", "does not exist")], hint=f"Correct `tools` in {PROJECT_FILE}.")
    if spec is None or spec.loader is None or not path.is_file():
        raise DefinitionInvalid(str(path), [("", "is not a Python file that can be read")])
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except DefinitionInvalid:
        raise
    except (Exception, SystemExit) as error:
        where = f"line {error.lineno}: " if isinstance(error, SyntaxError) else ""
        raise DefinitionInvalid(str(path), [("", f"{where}{type(error).__name__}: {error}")]) from error
    found = [value for value in vars(module).values() if isinstance(value, Tool | Hook | Chooser)]
    if not found:
        raise DefinitionInvalid(str(path), [("", "has no function with the decorator @tool, @hook or @chooser")])
    return found
