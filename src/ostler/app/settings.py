"""Every setting, where it comes from, and the only place that reads the environment."""

import os
import pwd
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec

from ostler.app import definition
from ostler.app.breakers import BreakerTables, problems_in_breakers
from ostler.app.budgets import BudgetTables, problems_in_budgets
from ostler.app.cards import ModelTable, problems_in_models
from ostler.app.limits import LimitTables, problems_in_limits
from ostler.app.memory_settings import MemoryTable, problems_in_memory
from ostler.app.providers import Keys, ProviderTable, ProviderTarget, problems_in_providers
from ostler.app.strategies import StrategyTable, problems_in_strategies
from ostler.app.targets import RelayTable, RelayTarget, kind_of, problems_in_relays
from ostler.domain.model import Price
from ostler.domain.resilience.pressure import Pressure
from ostler.kernel.errors import ConfigurationError, DefinitionInvalid

PROJECT_FILE = "ostler.toml"
FITNESS_FILE = "fitness.yaml"
STORE_HINT = "Write sqlite:///relative/path.db, sqlite:////absolute/path.db, postgresql://user@host/database or memory:"


class ProjectFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`ostler.toml`: what holds for a folder and everything below it. Paths are relative to the file.

    `agents` is the folder of agent files, `tools` Python files whose `@tool` functions agents may use, `prices` maps
    a model (`anthropic:claude-…`) to its price, `relays` are where the log is handed on to, `limits` are what tenants,
    agents and providers may have of all workers together, `budgets` what may be used within a time, `breakers`
    when those who fail are left alone, `pressure` how much one process does at a time. `remote` is a sandbox of the
    user's own (`module:Class`), and `hosts` are those that commands may reach (`api.example.com:443`).
    `detectors` are regular expressions by the names of what they find (`"acme.ticket" = "ACME-[0-9]{6}"`), `providers`
    are servers of models, `models` what you know of models, and `strategies` how one of several is chosen
    (`route:NAME`). `fitness` is the file of fitness targets, `fitness.yaml` if it is there. `memory` says how long what
    agents remember lasts, and what is made of it.
    """

    store: str | None = None
    model: str | None = None
    agents: str = "agents"
    tools: tuple[str, ...] = ()
    sandbox: Literal["bwrap", "landlock", "remote", "none"] | None = None
    remote: str | None = None
    hosts: tuple[str, ...] = ()
    detectors: dict[str, str] = {}
    prices: dict[str, Price] = {}
    relays: dict[str, RelayTable] = {}
    limits: LimitTables = LimitTables()
    budgets: BudgetTables = BudgetTables()
    breakers: BreakerTables = BreakerTables()
    pressure: Pressure = Pressure()
    providers: dict[str, ProviderTable] = {}
    models: dict[str, ModelTable] = {}
    strategies: dict[str, StrategyTable] = {}
    fitness: str | None = None
    memory: MemoryTable = MemoryTable()


class Variables(msgspec.Struct, frozen=True):
    """The variables of the environment that begin with `OSTLER_`, secrets among them. Never printed, never stored."""

    values: Mapping[str, str] = {}

    def __repr__(self) -> str:
        return "Variables(…)"


class Settings(msgspec.Struct, frozen=True):
    """What a process runs with. `folder` is where the project file was found, or the working folder.

    `is_store_named`: an option or the environment names the store, so that one which is not there is a slip. Exchanges
    with models are recorded in the file `record`; those in the file `replay` stand for all models.
    """

    store: str
    folder: Path
    model: str | None = None
    agents: Path = Path("agents")
    tools: tuple[Path, ...] = ()
    sandbox: str = "bwrap"
    remote: str | None = None
    hosts: tuple[str, ...] = ()
    detectors: dict[str, str] = {}
    prices: dict[str, Price] = {}
    relays: dict[str, RelayTarget] = {}
    limits: LimitTables = LimitTables()
    budgets: BudgetTables = BudgetTables()
    breakers: BreakerTables = BreakerTables()
    pressure: Pressure = Pressure()
    keys: Keys = Keys()
    providers: dict[str, ProviderTarget] = {}
    models: dict[str, ModelTable] = {}
    strategies: dict[str, StrategyTable] = {}
    newer_prices: Path = Path("prices.json")
    record: Path | None = None
    replay: Path | None = None
    fitness: Path | None = None
    memory: MemoryTable = MemoryTable()
    variables: Variables = Variables()
    is_project: bool = False
    is_store_named: bool = False


def resolve(
    environ: Mapping[str, str], folder: Path, *, store: str | None = None, project: ProjectFile | None = None
) -> Settings:
    """Options first, then the environment (`OSTLER_STORE`), then `ostler.toml`, then the user's own data folder.

    `project` stands for what is in `ostler.toml`, which is not read then. Raises `DefinitionInvalid`,
    `ConfigurationError`.
    """
    if store == "":
        raise ConfigurationError(
            "The name of the store is empty.",
            hint=STORE_HINT,
        )
    project_folder = _project_folder(folder)
    if project is None:
        project = _read(project_folder / PROJECT_FILE) if project_folder else ProjectFile()
    named = store or environ.get("OSTLER_STORE")
    base = project_folder or folder
    in_project = f"sqlite:///{(base / '.ostler' / 'ostler.db').absolute()}" if project_folder else None
    projects_own = _relative_store(project.store, base) if project.store else in_project
    return Settings(
        store=named or projects_own or _users_store(environ),
        folder=base,
        model=project.model,
        agents=base / project.agents,
        tools=tuple(base / tool for tool in project.tools),
        sandbox=project.sandbox or "bwrap",
        remote=project.remote,
        hosts=project.hosts,
        detectors=project.detectors,
        prices=project.prices,
        relays=_relays(project.relays, environ, base),
        limits=_limits(project.limits, base),
        budgets=_budgets(project.budgets, base),
        breakers=_breakers(project.breakers, base),
        pressure=project.pressure,
        keys=_keys(environ),
        providers=_providers(project.providers, environ, base),
        models=_models(project.models, project.prices, base),
        strategies=_strategies(project.strategies, base),
        newer_prices=_newer_prices(environ, project_folder, folder),
        record=_recording(environ.get("OSTLER_RECORD"), folder),
        replay=_recording(environ.get("OSTLER_REPLAY"), folder),
        fitness=_fitness(project.fitness, project_folder),
        memory=_memory(project.memory, project.providers, base),
        variables=Variables({name: value for name, value in environ.items() if name.startswith("OSTLER_")}),
        is_project=project_folder is not None,
        is_store_named=bool(named),
    )


def shown(store: str) -> str:
    """The URL of a store as it may be shown: without user, password and whatever else is for the driver."""
    parts = urlsplit(store)
    if not parts.netloc:
        return store
    schema = [(name, value) for name, value in parse_qsl(parts.query) if name == "schema"]
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=urlencode(schema)))


def _keys(environ: Mapping[str, str]) -> Keys:
    return Keys(
        anthropic_api_key=environ.get("ANTHROPIC_API_KEY") or None,
        anthropic_base_url=environ.get("ANTHROPIC_BASE_URL") or None,
        openai_api_key=environ.get("OPENAI_API_KEY") or None,
        openai_base_url=environ.get("OPENAI_BASE_URL") or None,
        ollama_host=_with_scheme(environ.get("OLLAMA_HOST") or "127.0.0.1:11434"),
        google_api_key=environ.get("GOOGLE_API_KEY") or environ.get("GEMINI_API_KEY") or None,
        google_base_url=environ.get("GOOGLE_GEMINI_BASE_URL") or None,
    )


def _providers(tables: dict[str, ProviderTable], environ: Mapping[str, str], base: Path) -> dict[str, ProviderTarget]:
    if problems := problems_in_providers(tables):
        raise DefinitionInvalid(str(base / PROJECT_FILE), problems)
    return {
        name: ProviderTarget(table, environ.get(table.key_env) or None if table.key_env else None)
        for name, table in tables.items()
    }


def _models(tables: dict[str, ModelTable], prices: dict[str, Price], base: Path) -> dict[str, ModelTable]:
    if problems := problems_in_models(tables, prices):
        raise DefinitionInvalid(str(base / PROJECT_FILE), problems)
    return tables


def _strategies(tables: dict[str, StrategyTable], base: Path) -> dict[str, StrategyTable]:
    if problems := problems_in_strategies(tables):
        raise DefinitionInvalid(str(base / PROJECT_FILE), problems)
    return tables


def _fitness(named: str | None, folder: Path | None) -> Path | None:
    """The file of fitness targets: the one that is named, or the one that is there."""
    if folder is None:
        return None
    path = folder / (named or FITNESS_FILE)
    return path if named or path.exists() else None


def _recording(path: str | None, folder: Path) -> Path | None:
    return folder / path if path else None


def _relays(tables: dict[str, RelayTable], environ: Mapping[str, str], base: Path) -> dict[str, RelayTarget]:
    if problems := problems_in_relays(tables):
        raise DefinitionInvalid(str(base / PROJECT_FILE), problems)
    targets = {}
    for name, table in tables.items():
        kind = kind_of(table)
        assert kind is not None, "its problems were looked for"
        targets[name] = RelayTarget(name, kind, table, environ.get(table.secret_env) if table.secret_env else None)
    return targets


def _limits(tables: LimitTables, base: Path) -> LimitTables:
    if problems := problems_in_limits(tables):
        raise DefinitionInvalid(str(base / PROJECT_FILE), problems)
    return tables


def _budgets(tables: BudgetTables, base: Path) -> BudgetTables:
    if problems := problems_in_budgets(tables):
        raise DefinitionInvalid(str(base / PROJECT_FILE), problems)
    return tables


def _breakers(tables: BreakerTables, base: Path) -> BreakerTables:
    if problems := problems_in_breakers(tables):
        raise DefinitionInvalid(str(base / PROJECT_FILE), problems)
    return tables


def _memory(table: MemoryTable, providers: dict[str, ProviderTable], base: Path) -> MemoryTable:
    if problems := problems_in_memory(table, providers):
        raise DefinitionInvalid(str(base / PROJECT_FILE), problems)
    return table


def _with_scheme(host: str) -> str:
    return host if "://" in host else f"http://{host}"


def _project_folder(folder: Path) -> Path | None:
    for candidate in (folder.absolute(), *folder.absolute().parents):
        if (candidate / PROJECT_FILE).is_file():
            return candidate
    return None


def _read(path: Path) -> ProjectFile:
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise DefinitionInvalid(str(path), [("", f"is not valid TOML: {error}")]) from error
    except UnicodeDecodeError as error:
        raise DefinitionInvalid(str(path), [("", f"is not UTF-8 text: {error.reason}")]) from error
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from error
    return definition.read(data, ProjectFile, source=str(path))


def _relative_store(url: str, base: Path) -> str:
    scheme, _, path = url.partition(":///")
    return f"{scheme}:///{base / path}" if scheme == "sqlite" and path and not path.startswith("/") else url


def _users_store(environ: Mapping[str, str]) -> str:
    return f"sqlite:///{_users_folder(environ) / 'ostler.db'}"


def _users_folder(environ: Mapping[str, str]) -> Path:
    data = Path(environ.get("XDG_DATA_HOME", ""))
    if not data.is_absolute():  # to be ignored, says the XDG Base Directory Specification
        data = _home(environ) / ".local" / "share"
    return data / "ostler"


def _newer_prices(environ: Mapping[str, str], project_folder: Path | None, folder: Path) -> Path:
    """Where `ostler models refresh` keeps what it fetches: with the project, or else with the user."""
    try:
        held = project_folder / ".ostler" if project_folder else _users_folder(environ)
    except ConfigurationError:
        held = folder / ".ostler"
    return held / "prices.json"


def _home(environ: Mapping[str, str]) -> Path:
    home = Path(environ.get("HOME", ""))
    if home.is_absolute():
        return home
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError as error:
        raise ConfigurationError(
            "There is no home folder to keep sessions in.", hint="Set HOME or OSTLER_STORE, or give --store."
        ) from error
